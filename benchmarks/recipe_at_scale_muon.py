"""The same question for Muon, where its forecasts begin to lean low.

    make wheels && python -m benchmarks.recipe_at_scale_muon

At 1e13 FLOPs, between the ladder and the target of ``experiment=registered_wheels``, on its data. Beside what
``benchmarks/recipe_at_scale.py`` changes: Muon's own rate, the number of heads (up to width 64 the recipe has one),
and the recipe at 3e13, for the slope there.
"""

from benchmarks.recipe_at_scale import VARIANTS, Variant, rates, study

MUON = {
    "Muon's rate 0.5 times": rates(0.01, 0.01),
    "Muon's rate twice": rates(0.01, 0.04),
    "one head": Variant(("model.head_width=128",)),
    "four heads": Variant(("model.head_width=20",)),
    "depth 2": Variant(("model.depth=2",), width_factor=1.2),
    "the recipe at 3 times the budget": Variant(budget_factor=3.0),
}
SETTINGS = ("recipe=muon", "evaluation.held_out_tokens=400_000", "machine.compile_from_flops=1.5e12")

if __name__ == "__main__":
    study("recipe_at_scale_muon", 1e13, VARIANTS | MUON, *SETTINGS, data="data=wheels")
