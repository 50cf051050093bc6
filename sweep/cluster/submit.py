"""Submit what is left of a sweep to Slurm, and return: an array of small runs, then forecast, target and report.

What is in the queue already is not submitted again. Every job checks the files that it needs by itself, since a
dependency on a job that Slurm has forgotten counts as fulfilled.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweep.capability import capability_of
from sweep.cluster import slurm
from sweep.cluster.life import how_far
from sweep.cluster.packing import Group, estimate, pack, time_limit_minutes
from sweep.cluster.submission import (
    FORECAST,
    REPORT,
    RUNS,
    TARGET,
    Element,
    Submission,
    in_queue,
    job_name,
    life_of,
    log_of,
    log_pattern,
    runs_in_queue,
    slurm_folder,
    submissions,
    write_submission,
)
from sweep.errors import SweepError
from sweep.folder import SweepFolder
from sweep.pending import pending, take_over
from sweep.provenance import ROOT
from sweep.run_spec import Plan, PlannedRun
from sweep.spec import MachineSpec, SlurmSpec

_LOOK_SECONDS, _POLL_SECONDS = 5.0, 0.3
_STAGE_MINUTES = 60  # fitting and sealing take seconds, bootstraps of many buckets minutes


@dataclass(frozen=True)
class _Job:
    """One call of sbatch; ``after`` is the stage that it waits for."""

    stage: str
    options: list[str]
    first_group: int = 0
    after: str | None = None


def submit_sweep(
    plan: Plan, folder: SweepFolder, corpus_folder: Path, machine: MachineSpec, command: str
) -> dict[str, list[str]]:
    """Submit what is neither done nor in the queue, and the stages after it; returns job ids by stage, if any.

    Stages of an earlier submission that have not begun are replaced, as they would not wait for what is new.
    ``command`` is what launched the sweep.

    Raises:
        SweepError: Slurm refuses a job; those that it took before are cancelled.
    """
    asked = machine.slurm
    assert asked is not None  # only a launch with machine=slurm comes here
    elements = in_queue(folder)
    left = _left(plan, folder, elements)
    small = [run for run in left if run.role == "fit"]
    stages = [element for element in elements if element.stage != RUNS]
    last = REPORT if plan.has_target else FORECAST
    waiting = [element.job.job_id for element in stages if element.job.state == "PENDING"]
    if not small and any(element.stage == last and element.job.job_id in waiting for element in stages):
        return {}
    if not left and not elements and (folder.report if plan.has_target else folder.optimum).exists():
        return {}
    seconds_of = estimate(folder, machine, asked)
    groups = pack(small, seconds_of, machine.num_workers or asked.cpus, 60 * asked.element_minutes)
    target_in_work = [e.job.job_id for e in stages if e.stage == TARGET and e.job.job_id not in waiting]
    jobs = _arrays(groups, asked) + _stages(folder, plan, left, bool(target_in_work), seconds_of, machine, asked)

    number = max(submissions(folder), default=0) + 1
    run_ids = [group.run_ids for group in groups]
    target = plan.target.run_id if plan.has_target else ""
    submission = Submission(
        number, run_ids, machine, str(corpus_folder.resolve()), target, command, how_far(plan.runs, folder)
    )
    for job in jobs:
        slurm.test(*_call(job, folder, submission))
    write_submission(folder, submission)
    (slurm_folder(folder) / "logs").mkdir(exist_ok=True)
    slurm.cancel(waiting)
    in_work = {RUNS: sorted({e.job.array_id for e in elements if e.stage == RUNS}), TARGET: target_in_work}
    ids: dict[str, list[str]] = {}
    try:
        for job in jobs:
            waits_for = [*in_work.get(job.after or "", []), *ids.get(job.after or "", [])]
            ids.setdefault(job.stage, []).append(slurm.submit(*_call(job, folder, submission, waits_for)))
        if groups:
            _watch_first_start(folder, submission, f"{ids[RUNS][0]}_0")
    except SweepError:
        slurm.cancel(
            [job_id for stage in reversed(ids) for job_id in ids[stage]]
        )  # who waits first: else it would start
        raise
    return ids


def _watch_first_start(folder: SweepFolder, submission: Submission, first: str) -> None:
    """Look a moment whether the first element starts; an idle cluster tells at once what is wrong with all of them.

    Raises:
        SweepError: it ended without having written anything.
    """
    deadline = time.monotonic() + _LOOK_SECONDS
    while not life_of(folder, submission.number, 0).exists() and time.monotonic() < deadline:
        job = next((element.job for element in in_queue(folder) if element.job.job_id == first), None)
        if job is not None and job.state == "PENDING" and job.reason not in ("None", ""):
            return  # it has to wait, and so would we
        if job is None and not life_of(folder, submission.number, 0).exists():
            log_file = log_of(folder, submission.number, RUNS, first)
            said = log_file.read_text(errors="replace").strip() if log_file.exists() else "not even a log"
            raise SweepError(
                f"job {first} started and ended at once and left nothing in {slurm_folder(folder)} ({said})",
                f"nodes that see {folder.path.resolve()} and {sys.executable}; all jobs of this launch are cancelled",
                "put sweeps_dir, machine.cache_dir and .venv on a disk that the nodes share, then launch again",
            )
        time.sleep(_POLL_SECONDS)


def _left(plan: Plan, folder: SweepFolder, elements: list[Element]) -> list[PlannedRun]:
    """Runs that are neither done nor in the queue; files of those in the queue are not touched."""
    in_work = set(runs_in_queue(folder, elements))
    if any(element.stage == TARGET and element.job.state != "PENDING" for element in elements):
        in_work.add(plan.target.run_id)
    free = [run for run in plan.runs if run.run_id not in in_work]
    # A sealed target is trained under its own seal, whatever another sweep has done since.
    take_over([run for run in free if run.role == "fit" or not folder.seal.exists()], folder)
    return pending(free, folder, capability_of(plan))


def _arrays(groups: list[Group], asked: SlurmSpec) -> list[_Job]:
    """Arrays no longer than the cluster allows, which share the limit of elements at once."""
    if not groups:
        return []
    size = slurm.max_array_size()
    starts = range(0, len(groups), size)
    jobs = []
    for start in starts:
        part = groups[start : start + size]
        limit = f"%{max(1, asked.max_running // len(starts))}" if asked.max_running else ""
        options = [
            f"--array=0-{len(part) - 1}{limit}",
            f"--time={time_limit_minutes(part[0].seconds, asked)}",  # the first group is the longest
            f"--signal=USR1@{asked.signal_seconds}",
            *_resources(asked.cpus, asked.gres, asked.memory),
        ]
        jobs.append(_Job(RUNS, options, start))
    return jobs


def _stages(
    folder: SweepFolder,
    plan: Plan,
    left: list[PlannedRun],
    target_in_work: bool,
    seconds_of: Callable[[PlannedRun], float],
    machine: MachineSpec,
    asked: SlurmSpec,
) -> list[_Job]:
    """What follows the small runs, as far as it is not done or in work."""
    minutes = [f"--time={min(_STAGE_MINUTES, asked.max_minutes)}", *_resources(1, None, asked.memory)]
    jobs = [] if folder.seal.exists() else [_Job(FORECAST, minutes, after=RUNS)]
    if not plan.has_target:
        return jobs
    if any(run.role == "target" for run in left) and not target_in_work:
        options = [
            f"--time={time_limit_minutes(seconds_of(plan.target), asked)}",
            f"--signal=USR1@{asked.signal_seconds}",
            f"--nodes={machine.num_nodes}",
            f"--ntasks-per-node={machine.devices}",
            *_resources(asked.target_cpus, asked.target_gres, asked.target_memory),
        ]
        jobs.append(_Job(TARGET, options, after=FORECAST))
    has_target_job = target_in_work or any(job.stage == TARGET for job in jobs)
    return [*jobs, _Job(REPORT, minutes, after=TARGET if has_target_job else FORECAST)]


def _resources(cpus: int, gres: str | None, memory: str | None) -> list[str]:
    asked = {"--cpus-per-task": str(cpus), "--gres": gres, "--mem": memory}
    return [f"{option}={value}" for option, value in asked.items() if value is not None]


def _call(
    job: _Job, folder: SweepFolder, submission: Submission, waits_for: list[str] | None = None
) -> tuple[Path, list[str], list[str]]:
    """Script, arguments and options of a job."""
    asked = submission.slurm
    place = {"--partition": asked.partition, "--account": asked.account}
    options = [
        f"--job-name={job_name(folder, submission.number, job.stage, job.first_group)}",
        f"--output={log_pattern(folder, submission.number, job.stage)}",
        f"--chdir={ROOT}",
        *(f"{option}={value}" for option, value in place.items() if value is not None),
        *job.options,
        *asked.extra,
    ]
    if waits_for:
        # Forecast and report are to say what is missing, so they come after jobs that failed too.
        kind = "afterok" if job.stage == TARGET else "afterany"
        options += [f"--dependency={kind}:{':'.join(waits_for)}", "--kill-on-invalid-dep=yes"]
    arguments = [sys.executable, str(folder.path.resolve()), str(submission.number), str(job.first_group)]
    return ROOT / "slurm" / f"{job.stage}.sbatch", arguments, options
