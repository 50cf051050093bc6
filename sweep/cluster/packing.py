"""Pack the runs of a sweep into the elements of a job array, longest first.

Tiny runs share an element, since starting one takes longer than training them; long runs stand alone, so that nothing
waits for them. Runs that branch off one trunk stay together: the trunk has to be there first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice

from sweep.errors import CorruptFile, SweepError
from sweep.folder import SweepFolder, read_json
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec, SlurmSpec

_ENOUGH_RUNS = 1000


@dataclass(frozen=True)
class Group:
    """The work of one element."""

    run_ids: list[str]
    seconds: float  # estimated


def pack(
    runs: list[PlannedRun], seconds_of: Callable[[PlannedRun], float], at_once: int, seconds: float
) -> list[Group]:
    """Groups of runs, longest first, that take about ``seconds`` where their runs allow it.

    ``at_once`` runs of a group go side by side. A group takes as long as its longest family of runs, or as all of them
    one after another over ``at_once``.
    """
    families = [(family, sum(map(seconds_of, family))) for family in _families(runs)]
    groups: list[Group] = []
    ids: list[str] = []
    longest = total = 0.0
    for family, needed in sorted(families, key=lambda item: -item[1]):
        if ids and max(longest, (total + needed) / at_once) > seconds:
            groups.append(Group(ids, max(longest, total / at_once)))
            ids, longest, total = [], 0.0, 0.0
        ids = ids + [run.run_id for run in family]
        longest, total = max(longest, needed), total + needed
    return [*groups, Group(ids, max(longest, total / at_once))] if ids else groups


def _families(runs: list[PlannedRun]) -> list[list[PlannedRun]]:
    family_of: dict[str, list[PlannedRun]] = {}
    for run in sorted(runs, key=lambda run: run.spec.num_steps):  # a trunk is shorter than what branches off it
        family = family_of.get(run.branches_from or "", [])
        family.append(run)
        family_of[run.run_id] = family
    return list({id(family): family for family in family_of.values()}.values())


def estimate(folder: SweepFolder, machine: MachineSpec, slurm: SlurmSpec) -> Callable[[PlannedRun], float]:
    """Seconds that a run will take: its FLOPs at the speed of the finished run nearest in size, plus what is constant.

    Finished runs of the sweeps beside this one count if they ran on such a device in such a precision; without any,
    the speed is that of the configuration.
    """
    measured: list[tuple[float, float]] = []
    for path in islice(folder.path.resolve().parent.glob("*/runs/*/train.json"), _ENOUGH_RUNS):
        try:
            run = read_json(path)
        except CorruptFile:
            continue
        there = run.get("machine", {})
        alike = (there.get("accelerator"), there.get("precision")) == (machine.accelerator, machine.precision)
        if run["status"] == "done" and alike and run.get("train_seconds") and run.get("flops"):
            measured.append((run["flops"], run["flops"] / run["train_seconds"]))

    @cache  # a ladder has few sizes
    def flops_per_second(flops: float) -> float:
        nearest = min(
            measured, key=lambda pair: abs(math.log(pair[0] / flops)), default=(flops, machine.flops_per_second)
        )
        return nearest[1]

    return lambda run: run.flops / flops_per_second(run.flops) + slurm.seconds_per_run


def time_limit_minutes(seconds: float, slurm: SlurmSpec) -> int:
    """A limit that an estimate may miss by half; reaching it costs a wait in the queue, no work.

    Raises:
        SweepError: the longest limit leaves no time between two signals.
    """
    if 60 * slurm.max_minutes <= 2 * slurm.signal_seconds:
        raise SweepError(
            f"machine.slurm.max_minutes is {slurm.max_minutes}, the signal comes {slurm.signal_seconds} s earlier",
            "a limit of more than twice the time of the signal: the rest of it is for training",
            "raise machine.slurm.max_minutes or lower machine.slurm.signal_seconds",
        )
    return min(slurm.max_minutes, max(5, round((1.5 * seconds + slurm.signal_seconds) / 60 + 1)))
