"""Train a group of runs as a Slurm job: an element of an array of small runs, or the target.

It goes on where an earlier life of the job stopped, tries again what failed for a passing reason, waits for a disk
that can't be written, and leaves alone what another job holds.
"""

import logging
import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from sweep.capability import capability_of
from sweep.cluster.lease import Holder, holder_here, holder_of, is_older
from sweep.cluster.life import begin, end, read_life
from sweep.cluster.slurm import queue
from sweep.cluster.submission import TARGET, Submission, in_queue, life_of
from sweep.corpus import open_corpus
from sweep.devices import devices_of
from sweep.errors import CorruptFile, SweepError
from sweep.folder import SweepFolder
from sweep.pending import pending, refuse_failures
from sweep.pipeline import seal_hash
from sweep.run_spec import Plan, PlannedRun
from sweep.tracking import decide_mode
from sweep.workers import EXIT_FENCED, EXIT_STOPPED, Job, do_run, run_all, stop_when_asked

log = logging.getLogger("sweep")

MAX_TRIES = 10
DISK_POLL_SECONDS = 5.0
_DISK_WAIT_SECONDS = 900.0
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
        for _ in range(1 if several else MAX_TRIES):
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
            time.sleep(DISK_POLL_SECONDS)
