"""Is the recipe at its optimum well above the budget that it was tuned at? One setting changed at a time, one seed.

    python -m benchmarks.recipe_at_scale [adamw | muon]

AdamW at 2.8e12 FLOPs, 25 times the proxy of ``experiment=tune``. Muon at 1e13, between the ladder and the target of
``experiment=registered_wheels``, on its data (``make wheels`` first); the recipe at 3e13 too, for the slope there, and
other numbers of heads: up to width 64 there is one. The shapes of a changed depth keep about the parameters of the
recipe's own.
"""

import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.study import Trial, configured, corpus_of, run_trials, write_result
from sweep.plan import plan_run, shape_for_budget


@dataclass(frozen=True)
class Variant:
    """What differs from the recipe: settings, the width over the recipe's, the budget over the study's."""

    settings: tuple[str, ...] = ()
    width_factor: float = 1.0
    budget_factor: float = 1.0


SHARED_VARIANTS = {
    "the recipe": Variant(),
    "batch a half": Variant(("recipe.batch_tokens_per_sqrt_token=0.25",)),
    "batch twice": Variant(("recipe.batch_tokens_per_sqrt_token=1",)),
    "depth 5": Variant(("model.depth=5",), width_factor=0.8),
    "1.3 times as wide": Variant(width_factor=1.3),
    "0.75 times as wide": Variant(width_factor=0.75),
}


def _rates(all_groups: float, hidden: float) -> Variant:
    return Variant((f"recipe.learning_rate={all_groups}", f"recipe.hidden_learning_rate={hidden}"))


# Optimizer: FLOPs, settings of the study, variants.
STUDIES: dict[str, tuple[float, list[str], dict[str, Variant]]] = {
    "adamw": (
        2.8e12,
        [],
        SHARED_VARIANTS
        | {
            "no weight decay": Variant(("recipe.weight_decay_horizons=0",)),
            "weight decay twice": Variant(("recipe.weight_decay_horizons=4",)),
            "learning rate 0.5 times": _rates(0.005, 0.005),
            "learning rate 1.41 times": _rates(0.0141, 0.0141),
        },
    ),
    "muon": (
        1e13,
        ["data=wheels", "recipe=muon", "evaluation.held_out_tokens=400_000"],
        {
            "the recipe at 3 times the budget": Variant(budget_factor=3.0),
            **SHARED_VARIANTS,
            "Muon's rate 0.5 times": _rates(0.01, 0.01),
            "Muon's rate twice": _rates(0.01, 0.04),
            "one head": Variant(("model.head_width=128",)),
            "four heads": Variant(("model.head_width=20",)),
            "depth 2": Variant(("model.depth=2",), width_factor=1.2),
        },
    ),
}


def main(optimizer: str = "adamw") -> None:
    budget_flops, study, variants = STUDIES[optimizer]
    study = [*study, "machine.compile_from_flops=1.5e12"]
    recipe = configured(*study)
    corpus = corpus_of(recipe)
    trials = []
    for name, variant in variants.items():
        spec = configured(*study, *variant.settings)
        flops = budget_flops * variant.budget_factor
        shape = shape_for_budget(flops, spec.model, spec.data.vocab_size, variant.width_factor)
        trials.append(Trial(name, plan_run(shape, flops, 0, "fit", spec, corpus.info["sha256"])))
    rows: list[dict[str, Any]] = run_trials(trials, corpus, recipe)
    reference = next(row["loss_nats"] for row in rows if row["label"] == "the recipe")
    for row in rows:
        row["against_the_recipe"] = row["loss_nats"] / reference - 1
        print(f"{row['label']:34} {row['loss_nats']:.4f} {row['against_the_recipe']:+.2%}", file=sys.stderr)
    name = "recipe_at_scale" + ("" if optimizer == "adamw" else f"_{optimizer}")
    write_result(name, {"budget_flops": budget_flops, "runs": rows})


if __name__ == "__main__":
    main(*sys.argv[1:])
