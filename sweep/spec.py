"""The configuration of a sweep as typed dataclasses: one page that shows all that can be set.

Hydra fills these from ``configs/``. There are no defaults here, so a value has one home. All but
``MachineSpec`` decides results and enters the runs' identities; the machine never does. Not frozen,
only because Hydra refuses to fill a frozen class; nothing changes them afterwards.
"""

import re
from dataclasses import dataclass, is_dataclass
from typing import Any

from sweep.data_spec import DataSpec, check_data
from sweep.errors import SweepError


@dataclass
class ModelSpec:
    """How the shape of a model follows from its compute budget."""

    context_length: int
    depth: int
    mlp_ratio: int
    conv_taps: int
    width_at_reference: float  # width at reference_flops
    reference_flops: float
    width_exponent: float  # width grows as the budget to this power, so parameters to twice of it
    straight_from_flops: float  # the smallest budget from which this recipe's law was measured to be straight
    head_width: int  # heads are as near this width as divides the model


@dataclass
class RecipeSpec:
    """How a model is trained; the same at every scale."""

    optimizer: str  # adamw, or muon for the hidden matrices with AdamW for the rest
    learning_rate: float  # of embedding, gains and taps
    hidden_learning_rate: float  # of the hidden matrices, at base width and depth; models/parametrization.py scales it
    base_width: int
    base_depth: int
    adam_beta1: float
    adam_beta2: float
    adam_eps: float
    grad_clip_norm: float
    weight_decay_horizons: float  # share of a weight that its decay would take over the run at peak rate; 0: none
    warmup_fraction: float  # of the run's tokens
    decay_fraction: float  # of the run's tokens, linear to zero at its end; the rate is constant in between
    batch_tokens_per_sqrt_token: float  # batch = this * sqrt(tokens of the run)
    min_batch_rows: int


@dataclass
class GridSpec:
    """Budgets in training FLOPs, times seeds, and the target of the forecast.

    A ladder has one size and one rate per budget. An isoFLOP grid has several sizes, a tuning grid
    several rates; these have no target and end with the best value per budget.
    """

    budgets_flops: list[float]
    num_seeds: list[int]  # one entry per budget
    target_flops: float | None
    target_seed: int
    width_factors: list[float]  # times the budget's own width
    learning_rate_factors: list[float]  # times both learning rates
    share_trunks: bool  # runs of one size share their constant-rate part and branch off to decay


@dataclass
class EvaluationSpec:
    """What every finished run is measured on."""

    held_out_tokens: int
    position_bins: int
    copy_sequences: int
    copy_length: int  # tokens of a shuffled sequence, shown twice


@dataclass
class CapabilitySpec:
    """How often a run writes correct functions: problems, samples, and the second law's own cut-off."""

    problems: str  # micro, humaneval, a file in HumanEval's format, or none
    temperature: float
    max_new_tokens: int
    seed: int
    stop_at: int  # a half of a problem's samples ends at so many that pass
    max_samples: int  # of each half, at most
    first_round: int  # of each half; later rounds are as long as what is still needed
    num_buckets: int  # of problems, by how the small models do on them
    hardest_left_out: int
    max_flops_fraction: float  # cut-off: largest run that pass rates are fitted on over target
    more_cut_offs: list[float]  # further forecasts, each from runs under a stricter cut-off


@dataclass(frozen=True)
class SamplingSpec:
    """What decides the samples of a run, beside its weights; numbers of samples are per half."""

    temperature: float
    max_new_tokens: int
    seed: int
    stop_at: int  # successes
    max_samples: int
    first_round: int


@dataclass
class FitSpec:
    """What the forecast may rest on and how sure it has to be."""

    max_flops_fraction: float  # cut-off: largest fitted run over target
    more_cut_offs: list[float]  # further forecasts, each from runs under a stricter cut-off
    level: float  # of the prediction interval
    copying_nats: float  # copy score from which a model counts as copying from its context


@dataclass
class SlurmSpec:
    """What Slurm is asked for. Whatever else a cluster wants goes into ``extra``."""

    partition: str | None
    account: str | None
    extra: list[str]  # further options of sbatch, for all jobs
    cpus: int  # of an element of the array: machine.num_workers runs go side by side in it
    gres: str | None
    memory: str | None
    max_running: int | None  # elements at once
    max_minutes: int  # the longest limit that the partition allows; a longer run is queued again and goes on
    element_minutes: float  # tiny runs share an element up to so long
    seconds_per_run: float  # start, evaluation and sampling
    signal_seconds: int  # before the limit: save and be queued again
    target_cpus: int  # of each of its machine.devices tasks on a node
    target_gres: str | None  # of a node
    target_memory: str | None


@dataclass
class MachineSpec:
    """Where and how runs execute; never part of a run's identity."""

    num_workers: int  # 0: one per core
    target_threads: int  # the target trains alone; 0: all cores. The other runs have one thread each
    accelerator: str
    precision: str
    strategy: str  # of a target on several devices: ddp, fsdp (each holds a part of the model) or auto, which is ddp
    devices: int  # of one node that the target trains on; the other runs have one device each
    num_nodes: int  # that the target trains on
    rows_per_pass: int | None  # that a device takes at once; null: all of its own, fewer if they do not fit
    device_memory_bytes: float | None  # that runs side by side may take together, by estimate; null: no limit
    cache_dir: str
    compile_from_flops: float | None  # runs of at least so many FLOPs are compiled; null: none is
    checkpoint_seconds: float
    flops_per_second: float  # of one run: for estimates of time, until finished runs tell
    log_rows_per_run: int
    peak_flops_per_second: float | None  # of a device, of a core on a CPU, for MFU; null: if lightning knows it
    tracking: str  # auto (wandb, offline without a key), offline or none
    wandb_project: str
    slurm: SlurmSpec | None  # null: this machine


@dataclass
class SweepSpec:
    name: str
    sweeps_dir: str
    until: str  # plan: print what it would cost, do nothing; seal: stop before the target starts; verdict: all of it
    data: DataSpec
    model: ModelSpec
    recipe: RecipeSpec
    grid: GridSpec
    evaluation: EvaluationSpec
    capability: CapabilitySpec
    fit: FitSpec
    machine: MachineSpec


MIN_VARIED = 3  # sizes or rates: a best one has a worse one on either side
MIN_BUDGETS = 5  # three coefficients and two degrees of freedom left to measure the noise with


def check(spec: SweepSpec) -> None:
    """Refuse what can be seen to be wrong before any data is read.

    Raises:
        SweepError: a length that does not match, a target inside the fitted range, too few budgets
            under the cut-off, a warm-up longer than a run, a value out of its range.
    """
    grid, recipe = spec.grid, spec.recipe
    _check_positive(spec)
    _check_choice("until", spec.until, ["plan", "seal", "verdict"])
    if spec.until == "seal" and spec.machine.slurm is not None:
        raise SweepError(
            "until=seal with machine=slurm",
            "a chain of jobs that goes on by itself, or a launch on this machine that stops",
            "leave until out and keep the target waiting until its seal is published: scontrol hold its job id, later"
            " scontrol release",
        )
    _check_choice("machine.tracking", spec.machine.tracking, ["auto", "offline", "none"])
    _check_choice("machine.strategy", spec.machine.strategy, ["auto", "ddp", "fsdp"])
    _check_choice("recipe.optimizer", recipe.optimizer, ["adamw", "muon"])
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
    _check_kind(grid)
    if grid.target_flops is not None:
        _check_target(grid.budgets_flops, grid.target_flops, spec.fit)
        _check_more_cut_offs("fit", spec.fit)
        _check_more_cut_offs("capability", spec.capability)
    model, evaluation, vocab_size = spec.model, spec.evaluation, spec.data.vocab_size
    _check_range("data.vocab_size", vocab_size, 257, 2**24, "all bytes and the end of a document")
    _check_range("model.conv_taps", model.conv_taps, 2, model.context_length, "keys shift by one token")
    longest = (model.context_length + 1) // 2
    _check_range("evaluation.copy_length", evaluation.copy_length, 2, longest, "two showings fit into the context")
    _check_range("evaluation.position_bins", evaluation.position_bins, 1, model.context_length, "one position a bin")
    _check_range(
        "evaluation.held_out_tokens", evaluation.held_out_tokens, 2 * model.context_length, 10**12, "two windows"
    )
    _check_range("capability.stop_at", spec.capability.stop_at, 2, 10**9, "from one success no rate is known")
    if recipe.warmup_fraction + recipe.decay_fraction > 1 + 1e-9:
        raise SweepError(
            f"recipe.warmup_fraction and recipe.decay_fraction add up to"
            f" {recipe.warmup_fraction + recipe.decay_fraction:g}: longer than the run",
            "fractions of the run's tokens that add up to at most 1: a loss counts only at the end of a decay to zero",
            "lower one of the two",
        )
    check_data(spec.data)


def _check_target(budgets: list[float], target_flops: float, fit: FitSpec) -> None:
    largest = max(budgets)
    if target_flops <= largest:
        raise SweepError(
            f"grid.target_flops is {target_flops:.3g}, the largest fitted budget {largest:.3g}",
            "a target above every fitted budget: a forecast reaches beyond what was measured",
            "raise grid.target_flops or drop the budgets at and above it",
        )
    allowed_flops = fit.max_flops_fraction * target_flops
    allowed = [budget for budget in budgets if budget <= allowed_flops * (1 + 1e-9)]
    if len(allowed) < MIN_BUDGETS:
        raise SweepError(
            f"{len(allowed)} of {len(budgets)} budgets lie under the cut-off,"
            f" {allowed_flops:.3g} FLOPs (fit.max_flops_fraction={fit.max_flops_fraction:g} of the target)",
            f"at least {MIN_BUDGETS} budgets under the cut-off",
            "add budgets below it, raise the target, or state another cut-off in fit.max_flops_fraction",
        )
    if len(allowed) < len(budgets):
        raise SweepError(
            f"budgets {[b for b in budgets if b not in allowed]} lie above the cut-off,"
            f" {allowed_flops:.3g} FLOPs (fit.max_flops_fraction={fit.max_flops_fraction:g} of the target)",
            "a ladder of which every run may be used by the forecast",
            "drop them, raise the target, or state another cut-off in fit.max_flops_fraction",
        )


def _check_more_cut_offs(group: str, spec: FitSpec | CapabilitySpec) -> None:
    more = spec.more_cut_offs
    if len(set(more)) < len(more) or any(fraction >= spec.max_flops_fraction for fraction in more):
        raise SweepError(
            f"{group}.more_cut_offs is {more}, {group}.max_flops_fraction {spec.max_flops_fraction:g}",
            "different cut-offs that are all stricter than the main one",
            f"make {group}.max_flops_fraction the largest of them and name each once",
        )


def _check_kind(grid: GridSpec) -> None:
    varied = [key for key in ("width_factors", "learning_rate_factors") if getattr(grid, key) != [1.0]]
    if varied and (len(varied) > 1 or grid.target_flops is not None):
        raise SweepError(
            f"the grid varies {' and '.join(varied)}" + (f", target {grid.target_flops}" if grid.target_flops else ""),
            "one size and one rate per budget with a target (a ladder), or several of one of the two without",
            "set the other factors to [1.0] and, to look for the best of several, grid.target_flops=null",
        )
    for key in varied:
        if len(getattr(grid, key)) < MIN_VARIED or len(set(getattr(grid, key))) < len(getattr(grid, key)):
            raise SweepError(
                f"grid.{key} is {getattr(grid, key)}",
                "three different factors or more: a best value has a worse one on either side",
                f"add factors to grid.{key}",
            )
    if grid.share_trunks and varied != ["width_factors"]:
        raise SweepError(
            "grid.share_trunks is true and the grid does not vary the size",
            "trunks shared by the budgets of one size, in an isoFLOP grid",
            "set grid.share_trunks=false, or several grid.width_factors",
        )
    if not varied and grid.target_flops is None:
        raise SweepError(
            "the grid has no target and varies nothing",
            "a target to forecast, or several sizes or rates to choose from",
            "set grid.target_flops, grid.width_factors or grid.learning_rate_factors",
        )


def _check_range(key: str, value: int, least: int, most: int, why: str) -> None:
    if not least <= value <= most:
        raise SweepError(f"{key} is {value}", f"{least} to {most}: {why}", f"set {key} within that range")


def _check_choice(key: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise SweepError(f"{key} is {value!r}", f"one of {', '.join(choices)}", f"set {key} to one of these")


_MAY_BE_ZERO = {
    *("num_workers", "target_threads", "shuffle_seed", "target_seed", "warmup_fraction", "weight_decay_horizons"),
    *("checkpoint_seconds", "seed", "hardest_left_out", "micro_fraction", "held_out_fraction"),
}
_MAY_BE_EMPTY = {"extra", "held_out_groups", "more_cut_offs"}
_BELOW_ONE = {
    *("max_flops_fraction", "more_cut_offs", "level", "adam_beta1", "adam_beta2"),
    *("max_shared_line_fraction", "micro_fraction", "held_out_fraction"),
}


def _check_positive(spec: SweepSpec) -> None:
    groups = {**vars(spec), "machine.slurm": spec.machine.slurm}
    for group_name, group in groups.items():
        if not is_dataclass(group):
            continue
        for key, value in vars(group).items():
            for number in value if isinstance(value, list) else [value]:
                _check_number(f"{group_name}.{key}", key, number)
            if isinstance(value, list) and not value and key not in _MAY_BE_EMPTY:
                raise SweepError(f"{group_name}.{key} is empty", "at least one entry", f"fill {group_name}.{key}")


def _check_number(path: str, key: str, number: Any) -> None:
    if not isinstance(number, int | float) or isinstance(number, bool):
        return
    if not 0 <= number < float("inf") or (number == 0 and key not in _MAY_BE_ZERO):
        least = "0 or more" if key in _MAY_BE_ZERO else "a finite number above 0"
        raise SweepError(f"{path} is {number!r}", least, f"set {path} to such a number")
    if key in _BELOW_ONE and number >= 1:
        raise SweepError(f"{path} is {number!r}", "a number between 0 and 1", f"set {path} to such a number")
