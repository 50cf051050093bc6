"""Is the recipe at its optimum well above the budget that it was tuned at? One setting changed at a time, one seed.

    python -m benchmarks.recipe_at_scale

At 2.8e12 FLOPs, 25 times the proxy of ``experiment=tune``: learning rate, weight decay, batch, depth, and width against
tokens. The shapes of a changed depth keep about the parameters of the recipe's own.
"""

import sys
from typing import Any

from benchmarks.study import Trial, configured, corpus_of, run_trials, write_result
from sweep.plan import plan_run, shape_for_budget

BUDGET_FLOPS = 2.8e12


def _rate(value: float) -> list[str]:
    return [f"recipe.learning_rate={value}", f"recipe.hidden_learning_rate={value}"]


# Name: settings that differ from the recipe's, and the width over the recipe's.
VARIANTS: dict[str, tuple[list[str], float]] = {
    "the recipe": ([], 1.0),
    "learning rate 0.5 times": (_rate(0.005), 1.0),
    "learning rate 1.41 times": (_rate(0.0141), 1.0),
    "no weight decay": (["recipe.weight_decay_horizons=0"], 1.0),
    "weight decay twice": (["recipe.weight_decay_horizons=4"], 1.0),
    "batch a half": (["recipe.batch_tokens_per_sqrt_token=0.25"], 1.0),
    "batch twice": (["recipe.batch_tokens_per_sqrt_token=1"], 1.0),
    "depth 5": (["model.depth=5"], 0.8),
    "1.3 times as wide": ([], 1.3),
    "0.75 times as wide": ([], 0.75),
}


def main() -> None:
    rows: list[dict[str, Any]] = []
    for name, (settings, width_factor) in VARIANTS.items():
        spec = configured(*settings)
        corpus = corpus_of(spec)
        shape = shape_for_budget(BUDGET_FLOPS, spec.model, spec.data.vocab_size, width_factor)
        run = plan_run(shape, BUDGET_FLOPS, 0, "fit", spec, corpus.info["sha256"])
        rows += run_trials([Trial(name, run)], corpus, spec)
    reference = rows[0]["loss_nats"]
    for row in rows:
        row["against_the_recipe"] = row["loss_nats"] / reference - 1
        print(f"{row['label']:26} {row['loss_nats']:.4f} {row['against_the_recipe']:+.2%}", file=sys.stderr)
    write_result("recipe_at_scale", {"budget_flops": BUDGET_FLOPS, "runs": rows})


if __name__ == "__main__":
    main()
