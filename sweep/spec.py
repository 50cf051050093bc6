"""The configuration of a sweep as typed dataclasses: one page that shows all that can be set.

Hydra fills these from ``configs/``. There are no defaults here, so a value has one home. All but
``MachineSpec`` decides results and enters the runs' identities; the machine never does. Not frozen,
only because Hydra refuses to fill a frozen class; nothing changes them afterwards.
"""

import re
from dataclasses import dataclass
from typing import Any

from sweep.errors import SweepError


@dataclass
class DataSpec:
    """Python source installed on this machine, split by whole packages."""

    train_packages: list[str]  # import names; "stdlib" stands for the standard library
    held_out_packages: list[str]
    train_bytes: int  # source bytes read for training, picked over all packages alike
    held_out_bytes: int
    max_file_bytes: int
    max_line_chars: int
    max_shared_line_fraction: float  # a file with more lines than this already seen is a near-duplicate
    vocab_size: int
    tokenizer_bytes: int  # source bytes the tokenizer is trained on
    shuffle_seed: int


@dataclass
class ModelSpec:
    """How the shape of a model follows from its compute budget."""

    context_length: int
    depth: int
    mlp_ratio: int
    conv_taps: int
    width_at_reference: float  # width at reference_flops; grows with the fourth root of the budget
    reference_flops: float
    head_width: int  # heads are as near this width as divides the model


@dataclass
class RecipeSpec:
    """How a model is trained; the same at every scale."""

    learning_rate: float  # at base width and depth; models/parametrization.py scales it
    base_width: int
    base_depth: int
    adam_beta1: float
    adam_beta2: float
    adam_eps: float
    grad_clip_norm: float
    warmup_fraction: float  # of the run's tokens; then linear to zero
    batch_tokens_per_sqrt_token: float  # batch = this * sqrt(tokens of the run)
    min_batch_rows: int


@dataclass
class GridSpec:
    """The ladder and its target, in training FLOPs."""

    budgets_flops: list[float]
    num_seeds: list[int]  # one entry per budget
    target_flops: float
    target_seed: int


@dataclass
class EvaluationSpec:
    """What every finished run is measured on."""

    held_out_tokens: int
    position_bins: int
    copy_sequences: int
    copy_length: int  # tokens of a shuffled sequence, shown twice


@dataclass
class FitSpec:
    """What the forecast may rest on and how sure it has to be."""

    max_flops_fraction: float  # cut-off: largest fitted run over target
    level: float  # of the prediction interval
    copying_nats: float  # copy score from which a model counts as copying from its context


@dataclass
class MachineSpec:
    """Where and how runs execute; never part of a run's identity."""

    num_workers: int  # 0: one per core
    target_threads: int  # the target trains alone; 0: all cores. The other runs have one thread each
    accelerator: str
    precision: str
    cache_dir: str
    checkpoint_seconds: float
    log_rows_per_run: int
    tracking: str  # auto (wandb, offline without a key), offline or none
    wandb_project: str


@dataclass
class SweepSpec:
    name: str
    sweeps_dir: str
    data: DataSpec
    model: ModelSpec
    recipe: RecipeSpec
    grid: GridSpec
    evaluation: EvaluationSpec
    fit: FitSpec
    machine: MachineSpec


MIN_BUDGETS = 5  # three coefficients and two degrees of freedom left to measure the noise with


def check(spec: SweepSpec) -> None:
    """Refuse what can be seen to be wrong before any data is read.

    Raises:
        SweepError: a length that does not match, a target inside the fitted range, too few budgets
            under the cut-off, a warm-up longer than a run, a value out of its range.
    """
    grid, fit, recipe = spec.grid, spec.fit, spec.recipe
    _check_positive(spec)
    _check_choice("machine.tracking", spec.machine.tracking, ["auto", "offline", "none"])
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", spec.name):
        raise SweepError(
            f"name is {spec.name!r}",
            "letters, digits, '-', '_' and '.', as it names a folder",
            f"choose a name of that kind; it is made inside {spec.sweeps_dir}/",
        )
    if len(grid.num_seeds) != len(grid.budgets_flops):
        raise SweepError(
            f"grid.num_seeds has {len(grid.num_seeds)} entries for {len(grid.budgets_flops)} budgets",
            "one number of seeds for each of grid.budgets_flops",
            f"give grid.num_seeds {len(grid.budgets_flops)} entries",
        )
    if len(set(grid.budgets_flops)) != len(grid.budgets_flops):
        raise SweepError(
            f"grid.budgets_flops names a budget twice: {grid.budgets_flops}",
            "every budget once",
            "repeat a budget through grid.num_seeds",
        )
    largest = max(grid.budgets_flops)
    if grid.target_flops <= largest:
        raise SweepError(
            f"grid.target_flops is {grid.target_flops:.3g}, the largest fitted budget {largest:.3g}",
            "a target above every fitted budget: a forecast reaches beyond what was measured",
            "raise grid.target_flops or drop the budgets at and above it",
        )
    allowed_flops = fit.max_flops_fraction * grid.target_flops
    allowed = [budget for budget in grid.budgets_flops if budget <= allowed_flops * (1 + 1e-9)]
    if len(allowed) < MIN_BUDGETS:
        raise SweepError(
            f"{len(allowed)} of {len(grid.budgets_flops)} budgets lie under the cut-off,"
            f" {allowed_flops:.3g} FLOPs (fit.max_flops_fraction={fit.max_flops_fraction:g} of the target)",
            f"at least {MIN_BUDGETS} budgets under the cut-off",
            "add budgets below it, raise the target, or state another cut-off in fit.max_flops_fraction",
        )
    if len(allowed) < len(grid.budgets_flops):
        raise SweepError(
            f"budgets {[b for b in grid.budgets_flops if b not in allowed]} lie above the cut-off,"
            f" {allowed_flops:.3g} FLOPs (fit.max_flops_fraction={fit.max_flops_fraction:g} of the target)",
            "a ladder of which every run may be used by the forecast",
            "drop them, raise the target, or state another cut-off in fit.max_flops_fraction",
        )
    model, evaluation, vocab_size = spec.model, spec.evaluation, spec.data.vocab_size
    _check_range("data.vocab_size", vocab_size, 257, 65_536, "all bytes and the end marker, within uint16")
    _check_range("model.conv_taps", model.conv_taps, 2, model.context_length, "keys shift by one token")
    longest = (model.context_length + 1) // 2
    _check_range("evaluation.copy_length", evaluation.copy_length, 2, longest, "two showings fit into the context")
    _check_range("evaluation.position_bins", evaluation.position_bins, 1, model.context_length, "one position a bin")
    _check_range(
        "evaluation.held_out_tokens", evaluation.held_out_tokens, 2 * model.context_length, 10**12, "two windows"
    )
    if recipe.warmup_fraction >= 1:
        raise SweepError(
            f"recipe.warmup_fraction is {recipe.warmup_fraction:g}: the warm-up is as long as the run or longer",
            "a fraction of the run's tokens below 1 (0.2 is usual here), so that the rate can decay to zero",
            "lower recipe.warmup_fraction",
        )
    shared = set(spec.data.train_packages) & set(spec.data.held_out_packages)
    if shared:
        raise SweepError(
            f"{sorted(shared)} are in data.train_packages and in data.held_out_packages",
            "whole packages held out: none is trained on",
            "take them out of one of the two lists",
        )


def _check_range(key: str, value: int, least: int, most: int, why: str) -> None:
    if not least <= value <= most:
        raise SweepError(f"{key} is {value}", f"{least} to {most}: {why}", f"set {key} within that range")


def _check_choice(key: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise SweepError(f"{key} is {value!r}", f"one of {', '.join(choices)}", f"set {key} to one of these")


_MAY_BE_ZERO = {"num_workers", "target_threads", "shuffle_seed", "target_seed", "warmup_fraction", "checkpoint_seconds"}
_BELOW_ONE = {"max_flops_fraction", "level", "adam_beta1", "adam_beta2", "max_shared_line_fraction"}


def _check_positive(spec: SweepSpec) -> None:
    for group_name, group in vars(spec).items():
        if isinstance(group, str):
            continue
        for key, value in vars(group).items():
            for number in value if isinstance(value, list) else [value]:
                _check_number(f"{group_name}.{key}", key, number)
            if isinstance(value, list) and not value:
                raise SweepError(f"{group_name}.{key} is empty", "at least one entry", f"fill {group_name}.{key}")


def _check_number(path: str, key: str, number: Any) -> None:
    if isinstance(number, str):
        return
    if not 0 <= number < float("inf") or (number == 0 and key not in _MAY_BE_ZERO):
        least = "0 or more" if key in _MAY_BE_ZERO else "a finite number above 0"
        raise SweepError(f"{path} is {number!r}", least, f"set {path} to such a number")
    if key in _BELOW_ONE and number >= 1:
        raise SweepError(f"{path} is {number!r}", "a number between 0 and 1", f"set {path} to such a number")
