"""What each switch of the recipe is worth: the recipe with one thing changed, at two budgets, three seeds each.

    python -m benchmarks.ablations

A switch of the architecture or its start is changed in the freshly built decoder, before any training; one of the
training by its setting. FLOPs stay what they were.
"""

import sys
from typing import Any

import numpy as np

from benchmarks.study import Edit, Trial, configured, corpus_of, planned, run_trials, write_result
from sweep.spec import SweepSpec

BUDGETS, SEEDS = (2e10, 1.1e11), (0, 1, 2)


def keys_not_shifted(model: Any) -> None:
    """The convolution starts as the identity for the keys too."""
    width = model.config.width
    for block in model.blocks:
        block.conv.taps_JC.data[1, width : 2 * width] = 0.0
        block.conv.taps_JC.data[0, width : 2 * width] = 1.0


def no_convolution(model: Any) -> None:
    """The identity for good: an ordinary decoder."""
    keys_not_shifted(model)
    for block in model.blocks:
        block.conv.taps_JC.requires_grad_(False)


def shift_frozen(model: Any) -> None:
    """Keys shifted for good, nothing else convolved."""
    for block in model.blocks:
        block.conv.taps_JC.requires_grad_(False)


def no_copying_at_first(model: Any) -> None:
    """The last block starts silent like the others."""
    model.blocks[-1].attention_out.weight.data.zero_()


def keys_drawn_alone(model: Any) -> None:
    """Keys do not start as queries."""
    width = model.config.width
    for block in model.blocks:
        block.qkv.weight.data[width : 2 * width].normal_(std=width**-0.5)


def plain_attention_scale(model: Any) -> None:
    """1/sqrt(head width) instead of 2.5 times that."""
    for block in model.blocks:
        block.attention_scale = model.config.head_width**-0.5


def rotary_on_whole_heads(model: Any) -> None:
    from models.transformer import rotary_tables

    model.cos_TK, model.sin_TK = rotary_tables(model.config.context_length, 2 * model.config.head_width)


def larger_embedding(model: Any) -> None:
    """Drawn with a standard deviation of 0.5 instead of 0.25."""
    model.embedding.weight.data.mul_(2)


SETTINGS = {
    "no weight decay": ["recipe.weight_decay_horizons=0"],
    "batch 0.7 sqrt(D)": ["recipe.batch_tokens_per_sqrt_token=0.7"],
    "warm-up 10 %": ["recipe.warmup_fraction=0.1", "recipe.decay_fraction=0.9"],
    "muon": ["recipe=muon"],
}
CHANGES: dict[str, Edit] = {
    "keys not shifted": keys_not_shifted,
    "no convolution": no_convolution,
    "shift frozen": shift_frozen,
    "no copying at first": no_copying_at_first,
    "keys drawn alone": keys_drawn_alone,
    "attention scale 1/sqrt(K)": plain_attention_scale,
    "rotary on whole heads": rotary_on_whole_heads,
    "larger embedding": larger_embedding,
}


def main() -> None:
    spec = configured()
    corpus = corpus_of(spec)
    variants: dict[str, tuple[SweepSpec, Edit | None]] = {"the recipe": (spec, None)}
    variants |= {name: (configured(*overrides), None) for name, overrides in SETTINGS.items()}
    variants |= {name: (spec, edit) for name, edit in CHANGES.items()}
    trials = [
        Trial(name, planned(changed, corpus, budget, seed), edit)
        for budget in BUDGETS
        for name, (changed, edit) in variants.items()
        for seed in SEEDS
    ]
    rows = run_trials(trials, corpus, spec)
    table = [
        summary(name, budget, [r for r in rows if r["label"] == name and r["budget_flops"] == budget])
        for budget in BUDGETS
        for name in variants
    ]
    write_result("ablations", {"table": table, "runs": rows})
    for row in table:
        print(row, file=sys.stderr)


def summary(name: str, budget: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("loss_nats", "loss_repeated_nats", "loss_new_nats", "copy_score_nats", "flops")
    means = {key: float(np.mean([row[key] for row in rows])) for key in keys}
    return {"change": name, "budget_flops": budget, **means, "loss_sd": float(np.std([r["loss_nats"] for r in rows]))}


if __name__ == "__main__":
    main()
