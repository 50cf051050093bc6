"""What a Slurm job of a sweep does; slurm/*.sbatch call it.

    python -m sweep.job runs SWEEP SUBMISSION GROUP      train, evaluate and sample a group of small runs
    python -m sweep.job forecast SWEEP SUBMISSION        collect, fit, seal
    python -m sweep.job target SWEEP SUBMISSION          train, evaluate and sample the target
    python -m sweep.job report SWEEP SUBMISSION          verify, report

Exit code 75 asks to be queued again: it was told that its time is nearly up, and saved. Forecast and report look at the
files, not at how the jobs before them ended, and submit again what died without saying why.
"""

import argparse
import logging
import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from sweep.capability import capability_of, is_sampled
from sweep.data import open_corpus
from sweep.devices import devices_of
from sweep.errors import SweepError, run_main
from sweep.folder import CorruptFile, SweepFolder, open_sweep
from sweep.lease import Holder, holder_here, holder_of, is_older
from sweep.life import begin, end, how_far, read_life
from sweep.pending import pending, refuse_failures
from sweep.pipeline import conclude, forecast, locked_sweep, seal_hash
from sweep.run_spec import Plan, PlannedRun, read_plan
from sweep.slurm import queue, rename, requeue
from sweep.submission import FORECAST, REPORT, RUNS, TARGET, Submission, in_queue, job_name, life_of, read_submission
from sweep.submit import submit_sweep
from sweep.tracking import decide_mode
from sweep.workers import EXIT_FENCED, EXIT_STOPPED, Job, do_run, run_all, stop_when_asked

log = logging.getLogger("sweep")

_MAX_TRIES = 10
_LOCK_WAIT_SECONDS = 900.0  # a launch may hold the lock, for as long as its corpus takes
_DISK_WAIT_SECONDS, _DISK_POLL_SECONDS = 900.0, 5.0
_PROBE_BYTES = 1 << 16
_RANK_POLL_SECONDS = 0.2


def train_group(
    plan: Plan, folder: SweepFolder, submission: Submission, runs: list[PlannedRun], part: int | str
) -> int:
    """Train, evaluate and sample ``runs``; returns the exit code of the job.

    A run is tried again until it has failed twice for the same reason, or ended three times without a word and without
    a step further. What happened before a disk could be written again does not count.

    Raises:
        SweepError: runs failed, each twice for the same reason; or the corpus is not to be had.
    """
    holder = holder_here()
    capability = capability_of(plan)
    life = begin(life_of(folder, submission.number, part), holder, runs, folder)
    corpus = open_corpus(Path(submission.corpus_folder), plan.corpus["sha256"])
    mode = decide_mode(submission.machine.tracking)
    job = Job(plan, folder, corpus, submission.machine, mode, seal_hash(folder) if part == TARGET else None, holder)
    several = devices_of(runs[0], submission.machine).started_by_srun  # and all ranks at once, so there is one try
    stood: Counter[tuple[str, str]] = Counter()
    try:
        for _ in range(1 if several else _MAX_TRIES):
            if wait_until_writable(folder):
                stood.clear()
            states = {run.run_id: _where(folder, run) for run in runs}
            stood.update(states.items())
            again = [
                run
                for run in _not_held(runs, folder, holder)
                if stood[run.run_id, states[run.run_id]] <= (1 if states[run.run_id].startswith("failed") else 3)
            ]
            left = pending(again, folder, capability)
            if not left:
                break
            log.info("train: %d of %d runs to go, tracking %s", len(left), len(runs), mode)
            if not run_all(left, job):
                if _is_superseded(life[0], holder):
                    log.warning("a later life of %s is at work; this one (%s) ends", holder.element, holder)
                    return EXIT_FENCED
                with suppress(OSError):  # whatever the disk does, it has to be queued again
                    end(life, "cancelled" if _is_cancelled(folder, holder) else "stopped", "told to stop; saved")
                return EXIT_STOPPED
        refuse_failures(runs, folder, capability)
    except SweepError as error:
        end(life, "failed", str(error.args[0]))
        raise
    end(life, "done", "")
    return 0


def follow(plan: Plan, folder: SweepFolder, submission: Submission) -> int:
    """Be one of the target's ranks that srun started, but the first: train with it, write nothing.

    Returns 0 for a stop too: a code of its own would make srun end the first rank while that one saves.
    """
    files = folder.run(plan.target.run_id)
    while _where(folder, plan.target).startswith(("failed", "damaged")):
        time.sleep(_RANK_POLL_SECONDS)  # the first rank clears it away
    if files.train.exists():
        return 0  # evaluation and samples are the first rank's alone
    corpus = open_corpus(Path(submission.corpus_folder), plan.corpus["sha256"])
    job = Job(plan, folder, corpus, submission.machine, "disabled", seal_hash(folder))
    code = do_run(plan.target, job, stop_when_asked(os.getppid()))
    return 0 if code in (EXIT_STOPPED, EXIT_FENCED) else code


def _is_cancelled(folder: SweepFolder, holder: Holder) -> bool:
    """Whether it was scancel that told this job to stop: asked now, since Slurm forgets."""
    try:
        return holder.element in {element.job.job_id for element in in_queue(folder, state="CANCELLED")}
    except SweepError:
        return False


def _is_superseded(life: Path, holder: Holder) -> bool:
    """Whether the element was started again elsewhere: this process has outlived its node's daemon."""
    newest = read_life(life)
    return newest is not None and is_older(holder, newest.element, newest.restart)


def _where(folder: SweepFolder, run: PlannedRun) -> str:
    """Where a run stands, in words that change when it gets further."""
    files = folder.run(run.run_id)
    try:
        state = files.state()
    except CorruptFile as error:
        return f"damaged {error}"
    drawn = files.samples.stat().st_size if files.samples.exists() else 0
    return f"{state.status} {state.reason} {drawn}"


def _not_held(runs: list[PlannedRun], folder: SweepFolder, holder: Holder) -> list[PlannedRun]:
    """Runs that no other job in the queue holds; an earlier life of this element gives way."""
    held = {run.run_id: holder_of(folder.run(run.run_id).lease) for run in runs}
    others = {there.element for there in held.values() if there is not None and there.element != holder.element}
    alive = others & {job.job_id for job in queue("")} if others else set()
    for run_id, there in held.items():
        if there is not None and there.element in alive:
            log.warning("run %s is held by job %s, which is in the queue; left to it", run_id, there.element)
    return [run for run in runs if (there := held[run.run_id]) is None or there.element not in alive]


def wait_until_writable(folder: SweepFolder) -> bool:
    """Wait for a disk that is full or read-only for a while; returns whether it was.

    Raises:
        SweepError: it stays so for a quarter of an hour.
    """
    probe = folder.path / "slurm" / f"probe-{os.getpid()}"
    begun = time.monotonic()
    waited = False
    while True:
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
            probe.unlink()
            return waited
        except OSError as error:
            if time.monotonic() > begun + _DISK_WAIT_SECONDS:
                raise SweepError(
                    f"{folder.path} can't be written ({error}), for {_DISK_WAIT_SECONDS / 60:g} minutes now",
                    "a disk with room that every node may write to",
                    "free some space or see what ails the disk, then launch again: finished runs stay",
                ) from error
            log.warning("%s can't be written (%s); waiting", folder.path, error)
            waited = True
            time.sleep(_DISK_POLL_SECONDS)


def _ended(plan: Plan, folder: SweepFolder, submission: Submission, runs: list[PlannedRun]) -> bool:
    """Whether all ``runs`` have ended; those that died without a word are submitted again.

    Raises:
        SweepError: runs failed, or nothing got any further since the submission.
    """
    capability = capability_of(plan)
    states = [folder.run(run.run_id).state() for run in runs]
    died = [
        run.run_id
        for run, state in zip(runs, states, strict=True)
        if state.status in ("planned", "running")
        or (state.status == "done" and not is_sampled(folder, run.run_id, capability))
    ]
    failed = any(state.status == "failed" for state in states)
    if not died or failed or how_far(plan.runs, folder) == submission.stood:
        refuse_failures(runs, folder, capability)
        return True
    if cancelled := set(died) & _cancelled(folder, submission):
        raise SweepError(
            f"{len(cancelled)} runs are not done since their job was cancelled, such as {min(cancelled)}",
            "runs that come to their own end",
            f"to go on: {submission.command}",
        )
    log.warning("%d runs are not done and nothing says why, such as %s; submitted again", len(died), died[0])
    corpus = Path(submission.corpus_folder)
    ids = submit_sweep(plan, folder, corpus, submission.machine, submission.command)
    log.info("slurm: %s", ids or "nothing submitted: they are in the queue")
    return False


def _cancelled(folder: SweepFolder, submission: Submission) -> set[str]:
    """Runs of the submission whose job somebody cancelled, by what the job wrote on its way out or by Slurm's memory."""
    by_slurm = {
        TARGET if element.stage == TARGET else element.group
        for element in in_queue(folder, state="CANCELLED")
        if element.number == submission.number
    }
    parts: list[tuple[int | str, list[str]]] = [*enumerate(submission.groups), (TARGET, [submission.target])]
    lives = {part: read_life(life_of(folder, submission.number, part)) for part, _ in parts}
    told = {part for part, life in lives.items() if life is not None and life.state == "cancelled"}
    return {run_id for part, run_ids in parts if part in by_slurm | told for run_id in run_ids}


def run_job(stage: str, folder: SweepFolder, submission: Submission, group: int) -> int:
    """Do what a job is for, again if the disk failed meanwhile; returns its exit code."""
    for _ in range(_MAX_TRIES):
        wait_until_writable(folder)
        try:
            return _run_stage(stage, folder, submission, group)
        except OSError as error:
            log.warning("%s: again in %g s", error, _DISK_POLL_SECONDS)
            time.sleep(_DISK_POLL_SECONDS)
    return _run_stage(stage, folder, submission, group)


def _run_stage(stage: str, folder: SweepFolder, submission: Submission, group: int) -> int:
    plan = read_plan(folder)
    if stage == RUNS:
        if not 0 <= group < len(submission.groups):
            raise SweepError(
                f"group {group} of submission {submission.number}",
                f"one of its {len(submission.groups)} groups, counted from 0",
                f"sbatch --array=0-{len(submission.groups) - 1} for all of them",
            )
        run_ids = set(submission.groups[group])
        return train_group(plan, folder, submission, [run for run in plan.runs if run.run_id in run_ids], group)
    if stage == TARGET:
        if devices_of(plan.target, submission.machine).rank > 0:
            os._exit(follow(plan, folder, submission))  # an ordinary end of several ranks can abort in gloo
        return train_group(plan, folder, submission, [plan.target], TARGET)
    life = begin(life_of(folder, submission.number, stage), holder_here(), [], folder)
    try:
        with locked_sweep(folder, _LOCK_WAIT_SECONDS):
            code = _forecast(plan, folder, submission) if stage == FORECAST else _report(plan, folder, submission)
    except Exception as error:
        end(life, "failed", str(error).partition("\n")[0] or repr(error))
        raise
    end(life, "done", "")
    return code


def _forecast(plan: Plan, folder: SweepFolder, submission: Submission) -> int:
    if _ended(plan, folder, submission, plan.fit_runs):
        forecast(plan, folder)
    return 0


def _report(plan: Plan, folder: SweepFolder, submission: Submission) -> int:
    if not folder.fit.exists():
        raise SweepError(
            f"{folder.path} has no forecast",
            "a forecast to compare the target with",
            f"see python -m sweep.status {folder.path} for what failed, mend it and launch again",
        )
    if not _ended(plan, folder, submission, [plan.target]):
        return 0
    return conclude(plan, folder, decide_mode(submission.machine.tracking), submission.machine)


def _take_name(folder: SweepFolder, submission: Submission, stage: str, group: int) -> None:
    """See to it that the job has the name by which the sweep's jobs are known, also if it was submitted by hand."""
    element = holder_here().element
    name = job_name(folder, submission.number, stage, group - int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)))
    if os.environ.get("SLURM_JOB_NAME") != name:
        try:
            rename(element, name)
        except SweepError as error:
            log.warning("job %s can't be named %s, so status and cancel don't know it: %s", element, name, error)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.job", description="The work of one Slurm job of a sweep.")
    parser.add_argument("stage", choices=(RUNS, FORECAST, TARGET, REPORT))
    parser.add_argument("sweep", type=Path, help="the sweep's folder, on a disk that the nodes see")
    parser.add_argument("submission", type=int, help="number of a file in SWEEP/slurm")
    parser.add_argument("group", type=int, nargs="?", default=0, help="which of its groups of runs")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    folder = open_sweep(options.sweep)
    parent_pid = os.getppid()
    submission = read_submission(folder, options.submission)
    _take_name(folder, submission, options.stage, options.group)
    code = run_job(options.stage, folder, submission, options.group)
    if os.getppid() != parent_pid and code != EXIT_FENCED:
        # Slurm's own process for the step was killed: nobody hears how this one ends, and srun would wait for ever.
        requeue(holder_here().element)
    return code


if __name__ == "__main__":
    run_main(main)
