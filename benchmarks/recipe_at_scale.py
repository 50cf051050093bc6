"""Is the recipe at its optimum well above the budget that it was tuned at? One setting changed at a time, one seed.

    python -m benchmarks.recipe_at_scale

At 2.8e12 FLOPs, 25 times the proxy of ``experiment=tune``: learning rate, weight decay, batch, depth, and width against
tokens. The shapes of a changed depth keep about the parameters of the recipe's own.
"""

import sys
from dataclasses import dataclass

from benchmarks.study import MORE_CODE, Trial, configured, corpus_of, run_trials, write_result
from sweep.plan import plan_run, shape_for_budget


@dataclass(frozen=True)
class Variant:
    """What differs from the recipe: settings, the width over the recipe's, the budget over the study's."""

    settings: tuple[str, ...] = ()
    width_factor: float = 1.0
    budget_factor: float = 1.0


def rates(all_groups: float, hidden: float) -> Variant:
    return Variant((f"recipe.learning_rate={all_groups}", f"recipe.hidden_learning_rate={hidden}"))


# Of any optimizer; the first is what the others are compared with.
VARIANTS = {
    "the recipe": Variant(),
    "batch a half": Variant(("recipe.batch_tokens_per_sqrt_token=0.25",)),
    "batch twice": Variant(("recipe.batch_tokens_per_sqrt_token=1",)),
    "depth 5": Variant(("model.depth=5",), width_factor=0.8),
    "1.3 times as wide": Variant(width_factor=1.3),
    "0.75 times as wide": Variant(width_factor=0.75),
}
ADAMW = {
    "learning rate 0.5 times": rates(0.005, 0.005),
    "learning rate 1.41 times": rates(0.0141, 0.0141),
    "no weight decay": Variant(("recipe.weight_decay_horizons=0",)),
    "weight decay twice": Variant(("recipe.weight_decay_horizons=4",)),
}


def study(name: str, budget_flops: float, variants: dict[str, Variant], *settings: str, data: str = MORE_CODE) -> None:
    """Train every variant of the recipe with ``settings`` on ``data``, and write how they compare with the first."""
    recipe = configured(*settings, data=data)
    corpus = corpus_of(recipe)
    trials = []
    for label, variant in variants.items():
        spec = configured(*settings, *variant.settings, data=data)
        flops = budget_flops * variant.budget_factor
        shape = shape_for_budget(flops, spec.model, spec.data.vocab_size, variant.width_factor)
        trials.append(Trial(label, plan_run(shape, flops, 0, "fit", spec, corpus.info["sha256"])))
    rows = run_trials(trials, corpus, recipe)
    for row in rows:
        row["against_the_recipe"] = row["loss_nats"] / rows[0]["loss_nats"] - 1
        print(f"{row['label']:34} {row['loss_nats']:.4f} {row['against_the_recipe']:+.2%}", file=sys.stderr)
    write_result(name, {"budget_flops": budget_flops, "runs": rows})


if __name__ == "__main__":
    study("recipe_at_scale", 2.8e12, VARIANTS | ADAMW)
