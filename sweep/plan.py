"""Plan: from the configuration and a corpus to one row per run, frozen in plan.json.

Everything a run's result depends on is decided here and carried along: the shape for its budget,
the number of steps, the batch, the warm-up and the learning rates (``models/parametrization.py``
holds the rules; ``train`` only obeys). The target's row is fixed here too, before any loss is seen.
"""

import math
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

from models.config import DecoderConfig, count_params, flops_6nd, train_flops_per_token
from sweep.corpus import mixture_of
from sweep.errors import SweepError
from sweep.folder import SweepFolder, write_json
from sweep.run_spec import Plan, PlannedRun, Role, RunSpec, read_plan
from sweep.spec import MIN_VARIED, ModelSpec, RecipeSpec, SweepSpec

_NOT_RESULTS = ("name", "sweeps_dir", "until", "machine")  # parts of the configuration that decide no result
MIN_STEPS = 20  # below this a schedule with warm-up and decay is no schedule


def shape_for_budget(budget_flops: float, spec: ModelSpec, vocab_size: int, width_factor: float) -> DecoderConfig:
    """The compute-optimal shape: width grows as a power of the budget, rounded to what splits into whole heads.

    (Hoffmann et al. 2022 found N ~ C^0.5 for large models, so width ~ C^0.25; constant and exponent of the
    configuration were measured on this model, docs/LOG.md.)
    """
    growth = (budget_flops / spec.reference_flops) ** spec.width_exponent
    return shape_for_width(width_factor * spec.width_at_reference * growth, spec, vocab_size)


def shape_for_width(width: float, spec: ModelSpec, vocab_size: int) -> DecoderConfig:
    """The shape whose width is nearest to ``width`` among those that split into whole heads."""
    num_heads = max(1, int(width // spec.head_width))
    step = 2 * num_heads
    return DecoderConfig(
        width=max(2 * step, step * round(width / step)),
        depth=spec.depth,
        num_heads=num_heads,
        mlp_ratio=spec.mlp_ratio,
        conv_taps=spec.conv_taps,
        vocab_size=vocab_size,
        context_length=spec.context_length,
    )


def batch_rows_for(num_tokens: float, recipe: RecipeSpec, context_length: int) -> int:
    """Batch size that grows with the square root of the run's tokens (critical batch size, McCandlish et al. 2018)."""
    batch_tokens = recipe.batch_tokens_per_sqrt_token * num_tokens**0.5
    return max(recipe.min_batch_rows, round(batch_tokens / context_length))


def plan_run(
    model: DecoderConfig,
    budget_flops: float,
    seed: int,
    role: Role,
    spec: SweepSpec,
    corpus_sha256: str,
    *,
    horizon_flops: float | None = None,
    learning_rate_factor: float = 1.0,
) -> PlannedRun:
    """One row: a whole number of steps that does not exceed a fitted run's budget nor fall short of the target's.

    So a budget under the cut-off is a run under the cut-off. Batch, warm-up and weight decay follow the tokens
    that ``horizon_flops`` would buy: the budget itself, unless runs of several budgets share a trunk.

    Raises:
        SweepError: the budget is too small to train on.
    """
    recipe = spec.recipe
    flops_per_token = train_flops_per_token(model)
    budget_tokens, horizon_tokens = budget_flops / flops_per_token, (horizon_flops or budget_flops) / flops_per_token
    batch_rows = batch_rows_for(horizon_tokens, recipe, model.context_length)
    batch_tokens = batch_rows * model.context_length
    num_steps = (math.ceil if role == "target" else math.floor)(budget_tokens / batch_tokens)
    if num_steps < MIN_STEPS:
        raise SweepError(
            f"a budget of {budget_flops:.3g} FLOPs buys {num_steps} steps of a model of width {model.width}",
            f"at least {MIN_STEPS} steps",
            "raise the budget, or lower model.width_at_reference or recipe.min_batch_rows",
        )
    num_tokens = num_steps * batch_tokens
    horizon_tokens = num_tokens if horizon_flops is None else horizon_tokens
    warmup_tokens = round(recipe.warmup_fraction * horizon_tokens)
    decay_tokens = round(recipe.decay_fraction * num_tokens)
    if warmup_tokens + decay_tokens > num_tokens + batch_tokens:
        raise SweepError(
            f"a run of {budget_flops:.3g} FLOPs and width {model.width} has {num_tokens:,} tokens; the warm-up that it"
            f" shares with longer runs takes {warmup_tokens:,}, its decay {decay_tokens:,}",
            "budgets near enough to share a trunk: warm-up and decay within the shortest run",
            "choose budgets closer together, a shorter recipe.warmup_fraction, or grid.share_trunks=false",
        )
    run_spec = RunSpec(
        corpus_sha256=corpus_sha256,
        model=model,
        seed=seed,
        num_steps=num_steps,
        batch_rows=batch_rows,
        warmup_tokens=warmup_tokens,
        decay_tokens=min(decay_tokens, num_tokens - warmup_tokens),
        optimizer=recipe.optimizer,  # type: ignore[arg-type]  # checked by spec.check
        learning_rate=recipe.learning_rate * learning_rate_factor,
        hidden_learning_rate=recipe.hidden_learning_rate * learning_rate_factor,
        weight_decay_per_step=recipe.weight_decay_horizons * batch_tokens / horizon_tokens,
        base_width=recipe.base_width,
        base_depth=recipe.base_depth,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_eps=recipe.adam_eps,
        grad_clip_norm=recipe.grad_clip_norm,
        evaluation=spec.evaluation,
    )
    return planned_run(run_spec, budget_flops, role)


def planned_run(run_spec: RunSpec, budget_flops: float, role: Role) -> PlannedRun:
    """The plan's row for a run: its id and what else follows from all that decides it."""
    model, counts = run_spec.model, count_params(run_spec.model)
    return PlannedRun(
        run_id=f"c{budget_flops:.1e}-w{model.width}-s{run_spec.seed}-{run_spec.sha256[:10]}".replace("+", ""),
        role=role,
        budget_flops=budget_flops,
        flops=train_flops_per_token(model) * run_spec.num_tokens,
        flops_6nd=flops_6nd(model, run_spec.num_tokens),
        num_params=counts["total"],
        num_params_non_embedding=counts["non_embedding"],
        num_tokens=run_spec.num_tokens,
        learning_rates=run_spec.parametrization.learning_rate,
        spec=run_spec,
    )


def make_plan(spec: SweepSpec, corpus_info: dict[str, Any]) -> Plan:
    """All runs of the sweep, the target (if there is one) last.

    Raises:
        SweepError: the corpus is too small for the largest run without repeating tokens, or for the
            evaluation; a run is too short.
    """
    grid, corpus_sha256 = spec.grid, corpus_info["sha256"]

    def shape(budget: float, factor: float) -> DecoderConfig:
        return shape_for_budget(budget, spec.model, spec.data.vocab_size, factor)

    runs = (
        _grid_with_trunks(spec, corpus_sha256)
        if grid.share_trunks
        else [
            plan_run(shape(budget, width), budget, seed, "fit", spec, corpus_sha256, learning_rate_factor=rate)
            for budget, num_seeds in zip(grid.budgets_flops, grid.num_seeds, strict=True)
            for width in grid.width_factors
            for rate in grid.learning_rate_factors
            for seed in range(num_seeds)
        ]
    )
    runs = list({run.run_id: run for run in runs}.values())  # rounding can make two widths one
    if len(grid.width_factors) > 1:
        _check_sizes(runs)
    if grid.target_flops is not None:
        target = grid.target_flops
        runs.append(plan_run(shape(target, 1.0), target, grid.target_seed, "target", spec, corpus_sha256))
    _check_tokens(runs, spec, corpus_info)
    config = {key: value for key, value in asdict(spec).items() if key not in _NOT_RESULTS}
    description = {
        key: corpus_info[key] for key in ("sha256", "files", "train", "held_out", "near_duplicates", "mixture")
    }
    return Plan(name=spec.name, config=config, corpus=description, fit=spec.fit, runs=runs)


def _grid_with_trunks(spec: SweepSpec, corpus_sha256: str) -> list[PlannedRun]:
    """Every size at every budget, so that a size is trained once up to its longest run's decay.

    The sizes are those around the budgets' geometric mean, whose tokens also set batch and warm-up of a size.
    """
    grid = spec.grid
    mean_log = sum(math.log(budget) for budget in grid.budgets_flops) / len(grid.budgets_flops)
    middle = float(f"{math.exp(mean_log):.6g}")  # no last bit of a sum may decide a run's id
    runs = [
        plan_run(model, budget, seed, "fit", spec, corpus_sha256, horizon_flops=middle)
        for model in dict.fromkeys(
            shape_for_budget(middle, spec.model, spec.data.vocab_size, factor) for factor in grid.width_factors
        )
        for budget, num_seeds in zip(grid.budgets_flops, grid.num_seeds, strict=True)
        for seed in range(num_seeds)
    ]
    return share_trunks(runs)


def share_trunks(runs: list[PlannedRun]) -> list[PlannedRun]:
    """Let each run start from the kept state of the next shorter one that begins in the same way."""
    families: dict[str, list[PlannedRun]] = {}
    for run in runs:
        families.setdefault(run.spec.trunk_sha256, []).append(run)
    shared: list[PlannedRun] = []
    for family in families.values():
        chain = sorted(family, key=lambda run: run.spec.num_steps)
        keeps = [0 < run.spec.branch_step < later.spec.num_steps for run, later in pairwise(chain)] + [False]
        for index, run in enumerate(chain):
            before = chain[index - 1] if index and keeps[index - 1] else None
            shared.append(
                replace(
                    run,
                    branches_from=before.run_id if before else None,
                    branches_at_step=before.spec.branch_step if before else 0,
                    keeps_step=run.spec.branch_step if keeps[index] else None,
                )
            )
    return shared


def _check_sizes(runs: list[PlannedRun]) -> None:
    for budget in sorted({run.budget_flops for run in runs}):
        widths = sorted({run.spec.model.width for run in runs if run.budget_flops == budget})
        if len(widths) < MIN_VARIED:
            raise SweepError(
                f"grid.width_factors come to the widths {widths} at {budget:.3g} FLOPs, once rounded to whole heads",
                f"at least {MIN_VARIED} different sizes",
                "spread grid.width_factors further, or raise the budgets",
            )


def _check_tokens(runs: list[PlannedRun], spec: SweepSpec, corpus_info: dict[str, Any]) -> None:
    largest = max(runs, key=lambda run: run.num_tokens)
    mixture = mixture_of(corpus_info, spec.model.context_length)
    available = mixture.longest * spec.model.context_length
    if largest.num_tokens > available:
        part = corpus_info["mixture"][mixture.scarcest]
        share = "" if part["weight"] is None else f" of the share {float(Fraction(part['weight'])):g}"
        raise SweepError(
            f"run {largest.run_id} trains on {largest.num_tokens:,} tokens, the corpus holds {available:,}: its source"
            f" {part['source']}{share} has {part['tokens']:,}",
            "a corpus in which no token has to be seen twice",
            "give that source more (train_bytes and train_packages, or max_bytes and paths), lower its weight, or lower"
            " the largest budget",
        )
    held_out = corpus_info["held_out"]["tokens"] - 1
    if spec.evaluation.held_out_tokens > held_out:
        raise SweepError(
            f"evaluation.held_out_tokens is {spec.evaluation.held_out_tokens:,}, {held_out:,} tokens are held out",
            "an evaluation set within the held-out tokens",
            "lower evaluation.held_out_tokens, or hold out more (held_out_bytes of a source, data.held_out_fraction)",
        )


def freeze_plan(plan: Plan, folder: SweepFolder) -> None:
    """Write plan.json, or check that the folder's plan is this one.

    Raises:
        SweepError: the folder was made by another plan.
    """
    if not folder.plan.exists():
        write_json(folder.plan, plan.to_json())
        return
    there = read_plan(folder)
    if there != plan:
        raise SweepError(
            f"{folder.path} was made by another plan ({'; '.join(_differences(there, plan))})",
            "one folder, one plan: a forecast rests on the plan as it was first written",
            f"launch under another name, such as name={plan.name}-2; finished runs that both plans share"
            f" ({_num_shared(there, plan)} of {len(plan.runs)}) are taken over, only the others are trained",
        )


def _num_shared(a: Plan, b: Plan) -> int:
    return len({run.run_id for run in a.runs} & {run.run_id for run in b.runs})


def _differences(there: Plan, here: Plan) -> list[str]:
    found = []
    for group in sorted(set(there.config) | set(here.config)):
        old, new = there.config.get(group, {}), here.config.get(group, {})
        found += [
            f"{group}.{key}: {old.get(key)} there, {new.get(key)} now"
            for key in sorted(set(old) | set(new))
            if old.get(key) != new.get(key)
        ]
    if there.corpus["sha256"] != here.corpus["sha256"] and not any(item.startswith("data.") for item in found):
        found.append("the installed packages, and so the corpus, have changed")
    return found or ["the planning code has changed"]
