"""Do pass rates on the micro problems follow a law, and what does mixing their examples in cost the loss on code?

    python -m benchmarks.micro_study

Trains the default ladder's recipe on code with a share of micro documents and measures -log p of every problem's
canonical solution, exactly. That is -log of the pass rate as far as only the canonical text passes. Problems are put
into six buckets by their mean over the runs that a forecast may use (up to 1/30 of the largest), the hardest left out;
E[-log p] = alpha C^-k is fitted to those runs and compared with the larger ones. Then the loss on held-out code at one
budget for several shares.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.study import Trial, configured, corpus_of, planned, run_trials, write_result
from sweep.corpus import Corpus
from sweep.micro.problems import micro_problems

SHARE = 0.2
BUDGETS = (2e10, 6.4e10, 1.1e11, 2e11, 6.4e11, 2e12, 7.4e12, 1.99e13)  # the last just below what is compiled
SEEDS = (3, 3, 2, 2, 1, 1, 1, 1)
COST_SHARES = (0.0, 0.05, 0.1, 0.2)
COST_BUDGET = 2e11
COST_SEEDS = 2
FIT_FRACTION = 1 / 30  # of the largest budget
NUM_BUCKETS = 6
NUM_LEFT_OUT = 15
NUM_RESAMPLES = 500  # of a bucket's problems


def canonical_nats(trial: Trial, corpus: Corpus) -> list[float]:
    """-log p of each problem's canonical solution after its prompt, which follows the end of another document."""
    import torch
    from tokenizers import Tokenizer

    from models.transformer import Decoder
    from sweep.evaluate import token_losses

    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    model = Decoder(trial.run.spec.model, trial.run.spec.parametrization)
    model.load_state_dict(torch.load(trial.folder.checkpoint_state(), weights_only=True)["model"])
    model.eval()
    end = corpus.end_token
    nats = []
    for problem in micro_problems():
        prompt = [end, *tokenizer.encode(problem["prompt"]).ids]
        solution = tokenizer.encode(problem["canonical_solution"]).ids
        losses_BT = token_losses(model, torch.tensor([prompt + solution]))
        nats.append(round(float(losses_BT[0, len(prompt) - 1 :].sum()), 4))
    return nats


def buckets_by_difficulty(nats_RP: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Problems in order of their mean over the runs R, the hardest left out, in buckets of one size."""
    order = np.argsort(nats_RP.mean(axis=0))
    return np.array_split(order[: len(order) - NUM_LEFT_OUT], NUM_BUCKETS)


def forecast(runs: list[dict[str, Any]], first_flops: float, last_flops: float) -> list[dict[str, Any]]:
    """Per bucket, and last for all problems, the law from the runs between two budgets and what larger ones show."""
    budgets = sorted({run["budget_flops"] for run in runs if run["budget_flops"] >= first_flops})
    nats_BP = np.array([np.mean([r["nats"] for r in runs if r["budget_flops"] == b], axis=0) for b in budgets])
    log_flops_B = np.log([np.mean([r["flops"] for r in runs if r["budget_flops"] == b]) for b in budgets])
    fitted_B = np.array(budgets) <= last_flops * (1 + 1e-9)
    generator = np.random.default_rng(0)
    rows = []
    for problems in [*buckets_by_difficulty(nats_BP[fitted_B]), np.arange(nats_BP.shape[1])]:
        k, ratio_B = fit_power_law(log_flops_B, nats_BP[:, problems], fitted_B)
        drawn = [generator.choice(problems, len(problems)) for _ in range(NUM_RESAMPLES)]
        ratios = [fit_power_law(log_flops_B, nats_BP[:, again], fitted_B)[1] for again in drawn]
        spread_B = np.log(ratios).std(axis=0)
        mean_B = nats_BP[:, problems].mean(axis=1)
        larger = [index for index, is_fitted in enumerate(fitted_B) if not is_fitted]
        rows.append(
            {
                "problems": len(problems),
                "budgets_flops": budgets,
                "mean_nats": mean_B.tolist(),
                "local_k": (-np.diff(np.log(mean_B)) / np.diff(log_flops_B)).tolist(),
                "k": k,
                "measured_over_predicted": {f"{budgets[index]:.2g}": float(ratio_B[index]) for index in larger},
                "spread_over_problems": {f"{budgets[index]:.2g}": float(spread_B[index]) for index in larger},
            }
        )
    return rows


def fit_power_law(
    log_flops_B: NDArray[np.float64], nats_BP: NDArray[np.float64], fitted_B: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64]]:
    """k of E[-log p] = alpha C^-k by least squares in logarithms, and measured over predicted at every budget B."""
    log_mean_B = np.log(nats_BP.mean(axis=1))
    slope, intercept = np.polyfit(log_flops_B[fitted_B], log_mean_B[fitted_B], 1)
    return -float(slope), np.exp(log_mean_B - intercept - slope * log_flops_B)


def share_spec(share: float) -> Any:
    return configured(f"data.micro_fraction={share}", "data.sources.0.train_bytes=24_000_000")


def main() -> None:
    spec = share_spec(SHARE)
    corpus = corpus_of(spec)
    trials = [
        Trial("micro", planned(spec, corpus, budget, seed))
        for budget, seeds in zip(BUDGETS, SEEDS, strict=True)
        for seed in range(seeds)
    ]
    rows = run_trials(trials, corpus, spec)
    runs = [{**row, "nats": canonical_nats(trial, corpus)} for row, trial in zip(rows, trials, strict=True)]
    last = FIT_FRACTION * max(BUDGETS)
    forecasts = {f"{first:.2g}": forecast(runs, first, last) for first in BUDGETS[:2]}

    cost = []
    for share in COST_SHARES:
        mixed = share_spec(share)
        code = corpus_of(mixed)
        trained = [Trial(f"share {share}", planned(mixed, code, COST_BUDGET, seed)) for seed in range(COST_SEEDS)]
        losses = [row["loss_nats"] for row in run_trials(trained, code, mixed)]
        cost.append({"share": share, "budget_flops": COST_BUDGET, "code_loss_nats": losses})

    task_ids = [problem["task_id"] for problem in micro_problems()]
    write_result("micro_study", {"share": SHARE, "tasks": task_ids, "forecasts": forecasts, "cost": cost, "runs": runs})
    for first, found in forecasts.items():
        for bucket in found:
            spread = bucket["spread_over_problems"]
            ratios = [f"{b}: {r:.2f} ({spread[b]:.2f})" for b, r in bucket["measured_over_predicted"].items()]
            nats = " ".join(f"{value:.2f}" for value in bucket["mean_nats"])
            print(
                f"from {first}: k {bucket['k']:.2f}; {nats}; measured / predicted {', '.join(ratios)}", file=sys.stderr
            )
    for row in cost:
        print(f"share {row['share']}: code loss {row['code_loss_nats']}", file=sys.stderr)


if __name__ == "__main__":
    main()
