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
from sweep.data import END_OF_DOCUMENT, Corpus
from sweep.micro.problems import micro_problems

SHARE = 0.2
BUDGETS = (2e10, 6.4e10, 1.1e11, 2e11, 6.4e11, 2e12, 7.4e12)
SEEDS = (3, 3, 2, 2, 1, 1, 1)
COST_SHARES = (0.0, 0.05, 0.1, 0.2)
COST_BUDGET = 2e11
COST_SEEDS = 2
FIT_FRACTION = 1 / 30  # of the largest budget
NUM_BUCKETS = 6
NUM_LEFT_OUT = 15


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
    end = tokenizer.token_to_id(END_OF_DOCUMENT)
    nats = []
    for problem in micro_problems():
        prompt = [end, *tokenizer.encode(problem["prompt"]).ids]
        solution = tokenizer.encode(problem["canonical_solution"]).ids
        losses_BT = token_losses(model, torch.tensor([prompt + solution]))
        nats.append(float(losses_BT[0, len(prompt) - 1 :].sum()))
    return nats


def buckets_by_difficulty(nats_RP: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Problems in order of their mean over the runs R, the hardest left out, in buckets of one size."""
    order = np.argsort(nats_RP.mean(axis=0))
    return np.array_split(order[: len(order) - NUM_LEFT_OUT], NUM_BUCKETS)


def forecast(runs: list[dict[str, Any]], first_flops: float, last_flops: float) -> list[dict[str, Any]]:
    """Per bucket the law from the runs between two budgets, and what the larger ones show beside it."""
    budgets = sorted({run["budget_flops"] for run in runs if run["budget_flops"] >= first_flops})
    nats_BP = np.array([np.mean([r["nats"] for r in runs if r["budget_flops"] == b], axis=0) for b in budgets])
    flops = np.array([np.mean([r["flops"] for r in runs if r["budget_flops"] == b]) for b in budgets])
    is_fitted = np.array(budgets) <= last_flops * (1 + 1e-9)
    rows = []
    for bucket in buckets_by_difficulty(nats_BP[is_fitted]):
        mean = nats_BP[:, bucket].mean(axis=1)
        slope, intercept = np.polyfit(np.log(flops[is_fitted]), np.log(mean[is_fitted]), 1)
        predicted = np.exp(intercept + slope * np.log(flops))
        rows.append(
            {
                "problems": len(bucket),
                "budgets_flops": budgets,
                "mean_nats": mean.tolist(),
                "k": -float(slope),
                "measured_over_predicted": {
                    f"{b:.2g}": float(m / p)
                    for b, m, p, f in zip(budgets, mean, predicted, is_fitted, strict=True)
                    if not f
                },
                "local_k": (-np.diff(np.log(mean)) / np.diff(np.log(flops))).tolist(),
            }
        )
    return rows


def share_spec(share: float) -> Any:
    return configured(f"data.micro_fraction={share}", "data.train_bytes=24_000_000")


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
            ratios = " ".join(f"{b}: {ratio:.2f}" for b, ratio in bucket["measured_over_predicted"].items())
            nats = " ".join(f"{value:.2f}" for value in bucket["mean_nats"])
            print(f"from {first}: k {bucket['k']:.2f}, {nats}; measured / predicted {ratios}", file=sys.stderr)
    for row in cost:
        print(f"share {row['share']}: code loss {row['code_loss_nats']}", file=sys.stderr)


if __name__ == "__main__":
    main()
