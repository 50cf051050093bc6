"""Cost: what a sweep would train, in FLOPs, tokens and hours, before any data is read (``until=plan``)."""

from typing import Any

from sweep.plan import make_plan
from sweep.progress import time_text
from sweep.run_spec import Plan, PlannedRun
from sweep.spec import SweepSpec

_ANY: dict[str, Any] = {"tokens": 10**18, "documents": 0, "bytes": 0}
_ANY_CORPUS = {
    **{"sha256": "0" * 64, "files": {}, "near_duplicates": 0, "train": _ANY, "held_out": _ANY},
    "mixture": [{"source": "any", "tokens": _ANY["tokens"], "weight": None}],
}


def cost_table(spec: SweepSpec) -> str:
    """A line per budget with its shape, tokens and FLOPs, the sums, and the hours at a stated speed.

    Raises:
        SweepError: the plan can't be made.
    """
    plan = make_plan(spec, _ANY_CORPUS)
    speed = spec.machine.flops_per_second
    groups: dict[tuple[float, int, str], list[PlannedRun]] = {}
    for run in plan.runs:
        groups.setdefault((run.budget_flops, run.spec.model.width, run.role), []).append(run)
    head = (
        f"{'':>7} {'runs':>4} {'FLOPs each':>11} {'width':>6} {'depth':>5} {'parameters':>14} {'tokens':>15}  time each"
    )
    return "\n".join([head, *(_line(runs, speed) for runs in groups.values()), *_sums(plan, spec)])


def _line(runs: list[PlannedRun], speed: float) -> str:
    run = runs[0]
    model = run.spec.model
    return (
        f"{run.role:>7} {len(runs):>4} {run.flops:>11.3g} {model.width:>6} {model.depth:>5} {run.num_params:>14,}"
        f" {run.num_tokens:>15,}  {time_text(run.flops / speed)}"
    )


def _sums(plan: Plan, spec: SweepSpec) -> list[str]:
    small = sum(run.flops for run in plan.fit_runs) - plan.flops_shared
    target = plan.target.flops if plan.has_target else 0.0
    speed = spec.machine.flops_per_second
    longest = max(run.num_tokens for run in plan.runs)
    share = f", {small / target:.1%} of the target's" if target else ""
    lines = [
        f"small runs: {len(plan.fit_runs)}, {small:.4g} FLOPs{share}, {time_text(small / speed)} one after another"
    ]
    if target:
        lines.append(f"target: {target:.4g} FLOPs, {time_text(target / speed)}")
    return [
        *lines,
        f"times: training alone, at machine.flops_per_second={speed:g}; evaluation and sampling come on top",
        f"data: the longest run takes {longest:,} tokens, none twice; no data was read for this",
    ]
