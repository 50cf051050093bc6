"""The same question for AdamW where its forecasts lean low, between the ladder and the target of ``wheels-above-knee``.

    make wheels && python -m benchmarks.recipe_at_scale_wheels

At 1e13 FLOPs, on that sweep's packages and split. Beside what ``benchmarks/recipe_at_scale.py`` changes: higher rates
and a depth of two.
"""

from benchmarks.recipe_at_scale import ADAMW, VARIANTS, Variant, rates, study

MORE = {
    "learning rate twice": rates(0.02, 0.02),
    "learning rate 2.83 times": rates(0.0283, 0.0283),
    "depth 2": Variant(("model.depth=2",), width_factor=1.2),
}
SETTINGS = (
    "data.held_out_fraction=0.2",
    "data.shuffle_seed=1",
    "evaluation.held_out_tokens=400_000",
    "machine.compile_from_flops=1.5e12",
)

if __name__ == "__main__":
    study("recipe_at_scale_wheels", 1e13, VARIANTS | ADAMW | MORE, *SETTINGS, data="data=wheels")
