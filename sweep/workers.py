"""Run the planned runs on this machine: forked single-threaded workers, one run each, longest first.

A worker is forked from a process that has imported torch and lightning but done no work with
them: it is ready in a tenth of a second and shares the libraries' memory. It holds its run's lock, stops
at a step boundary when it is asked to, and ends by itself when the process that started it is gone.
"""

import ctypes
import logging
import multiprocessing
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from sweep.capability import capability_of, problems_of, solved_summary
from sweep.cluster.lease import Fenced, Holder, fenced, holder_of, take
from sweep.contamination import read_contamination
from sweep.corpus import Corpus
from sweep.devices import Devices, devices_of, fork_ranks
from sweep.folder import RunFolder, SweepFolder, locked, read_json, write_json
from sweep.memory import fit_together
from sweep.progress import Progress
from sweep.provenance import utc_now
from sweep.run_spec import Plan, PlannedRun
from sweep.spec import MachineSpec

log = logging.getLogger("sweep")

EXIT_STOPPED = 75  # EX_TEMPFAIL: not done, run me again
EXIT_FENCED = 76  # the run is another process's now
_POLL_SECONDS = 0.1
_LOCK_TRIES = 20
_LEASE_TRIES = 600
_MIN_FREE_BYTES = 1 << 20
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last is Slurm's, ahead of a time limit
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h


@dataclass(frozen=True)
class Job:
    """What a worker needs; ``seal_sha256`` is given for the target only."""

    plan: Plan
    folder: SweepFolder
    corpus: Corpus
    machine: MachineSpec
    wandb_mode: str
    seal_sha256: str | None
    holder: Holder | None = None  # on a cluster, where file locks may not reach


def run_all(runs: list[PlannedRun], job: Job) -> bool:
    """Train and evaluate all ``runs``; returns False if it was interrupted or lost a run to another process.

    How each ended is in its folder. An interrupt (Ctrl-C, SIGTERM) reaches the workers, which save
    and stop; what is not done goes on at the next launch.
    """

    import lightning.fabric  # noqa: F401  (before the fork: every worker would import it again)
    import torch  # noqa: F401

    if job.wandb_mode != "disabled":
        import wandb.apis.public  # noqa: F401  (half of what wandb.init imports)

    if (capability := capability_of(job.plan)) is not None:
        problems_of(capability)  # making them takes seconds; every worker inherits them

    num_workers = job.machine.num_workers or os.cpu_count() or 1
    waiting = sorted(runs, key=lambda run: -run.flops)
    working: dict[str, BaseProcess] = {}
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True

    parent_pid = os.getppid()
    before = {number: signal.signal(number, interrupt) for number in _STOP_SIGNALS}
    progress = Progress(runs, job.folder)
    try:
        with progress:
            while working or (waiting and not interrupted):
                # On a cluster nobody could warn of the time limit any more; here a terminal may well be closed.
                interrupted |= job.holder is not None and os.getppid() != parent_pid
                while len(working) < num_workers and not interrupted:
                    at_work = [run for run in runs if run.run_id in working]
                    if (run := _next(waiting, at_work, job.machine)) is None:
                        break
                    waiting.remove(run)
                    working[run.run_id] = _fork(run, job)
                time.sleep(_POLL_SECONDS)
                for run_id, process in list(working.items()):
                    if interrupted and process.is_alive() and process.pid is not None:
                        os.kill(process.pid, signal.SIGTERM)
                    if not process.is_alive():
                        process.join()
                        del working[run_id]
                        interrupted |= process.exitcode == EXIT_FENCED
                        _report_end(run_id, process.exitcode, job.folder)
                progress.update(set(working))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return not interrupted


def _next(waiting: list[PlannedRun], at_work: list[PlannedRun], machine: MachineSpec) -> PlannedRun | None:
    """The first run whose trunk is not still to come, once there is memory for it; no shorter one goes before it."""
    to_come = {run.run_id for run in (*waiting, *at_work)}
    run = next((run for run in waiting if run.branches_from not in to_come), None)
    fits = run is not None and (not at_work or fit_together([run, *at_work], machine))
    return run if fits else None


def _fork(run: PlannedRun, job: Job) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_worker, args=(run, job, os.getpid()))
    process.start()
    return process


def _report_end(run_id: str, exit_code: int | None, folder: SweepFolder) -> None:
    if exit_code not in (0, EXIT_STOPPED, EXIT_FENCED):
        state = folder.run(run_id).state()
        log.warning("run %s ended with exit code %s: %s %s", run_id, exit_code, state.status, state.reason)


def _worker(run: PlannedRun, job: Job, parent_pid: int) -> None:
    should_stop = stop_when_asked(parent_pid)
    folder = job.folder.run(run.run_id)
    if job.holder is not None:
        try:
            take(folder.lease, job.holder)
        except Fenced as fence:
            os._exit(_leave(run, job, fence))
    # Whoever held the run may need a moment to let go; on a cluster an older holder sees the lease after its step.
    for _ in range(_LOCK_TRIES if job.holder is None else _LEASE_TRIES):
        with locked(folder.lock) as free:
            if free:
                os._exit(do_run(run, job, should_stop))
        time.sleep(_POLL_SECONDS)
    log.warning("run %s is held by another process", run.run_id)
    os._exit(EXIT_STOPPED)


def stop_when_asked(parent_pid: int) -> Callable[[], bool]:
    """Whether this process was asked to stop since, by SIGTERM or SIGUSR1, or its parent is gone."""
    stop_asked = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop_asked
        stop_asked = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGUSR1, ask_to_stop)  # Slurm sends it to every process of a job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends Ctrl-C to all; the parent passes it on
    return lambda: stop_asked or os.getppid() != parent_pid


def do_run(run: PlannedRun, job: Job, should_stop: Callable[[], bool]) -> int:
    """Train and evaluate, as one rank if srun started this process as such, else on all devices of the run.

    Returns the exit code: of several ranks forked here 1 if one failed, else ``EXIT_FENCED`` or ``EXIT_STOPPED`` if one
    ended so.
    """
    devices = devices_of(run, job.machine)
    if devices.num_ranks == 1 or devices.started_by_srun:
        return _train_and_evaluate(run, job, devices, should_stop)
    own_pid = os.getpid()

    def be_rank() -> int:
        return _train_and_evaluate(run, job, devices, stop_when_asked(own_pid))

    good_codes = (0, EXIT_STOPPED, EXIT_FENCED)
    codes = fork_ranks(devices, be_rank, should_stop, good_codes)
    return max(codes) if set(codes) <= set(good_codes) else 1


def keep_freed_memory() -> None:
    """Tell glibc to reuse freed blocks instead of returning them to the system after every step.

    A step frees and asks again for the same few megabytes; fresh pages cost more than the arithmetic
    done in them (docs/LOG.md has the figures). Elsewhere than on glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def _train_and_evaluate(run: PlannedRun, job: Job, devices: Devices, should_stop: Callable[[], bool]) -> int:
    """The exit code of a worker, or of one of a run's ranks: they train together, the first does all the rest.

    A failure is written to train.json with its last words.
    """
    import torch

    from sweep.evaluate import evaluate
    from sweep.solve import solve
    from sweep.tracking import ended_summary, evaluated_summary, training_mirror
    from sweep.train import Stopped, train

    # By role, never by what happens to be idle: thread counts can change the last bits of a sum.
    target_threads = (job.machine.target_threads or os.cpu_count() or 1) // devices.per_node
    torch.set_num_threads(max(1, target_threads) if run.role == "target" else 1)
    keep_freed_memory()
    folder, is_first = job.folder.run(run.run_id), devices.rank == 0
    if job.holder is not None:
        should_stop = fenced(should_stop, folder.lease, job.holder)
    wandb_mode = job.wandb_mode if is_first else "disabled"
    mirror = training_mirror(job.plan.name, run, wandb_mode, job.machine.wandb_project, job.folder.path)
    mirror.summarise({"status": "running", "reason": ""})
    try:
        if not folder.train.exists():
            train(run, folder, job.corpus, job.machine, mirror, should_stop, job.seal_sha256)
        else:
            mirror.replay(folder.rows())
        if not is_first:
            return 0
        if folder.state().status != "diverged":
            evaluated = folder.eval.exists()  # and only samples are missing
            result = (
                read_json(folder.eval)
                if evaluated
                else evaluate(run, folder, job.corpus, job.machine, read_contamination(job.folder))
            )
            mirror.summarise(evaluated_summary(result))
        capability = capability_of(job.plan)
        if capability is not None and folder.state().status == "done":
            counts = solve(run, folder, job.corpus, capability, should_stop)
            if counts is None:
                raise Stopped(f"{run.run_id} stopped while it was sampled")
            mirror.summarise(solved_summary(counts))
        mirror.summarise(ended_summary(read_json(folder.train)))
        mirror.finish()
        return 0
    except Stopped as stop:
        mirror.summarise({"status": "stopped", "reason": str(stop)})
        mirror.finish()
        return EXIT_STOPPED
    except Fenced as fence:
        return _leave(run, job, fence)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        if disk_is_full := _disk_is_full(folder):
            reason = f"the disk that holds {folder.path} is full ({reason})"
        log.error("run %s failed: %s\n%s", run.run_id, reason, traceback.format_exc())
        lost = job.holder is not None and holder_of(folder.lease) != job.holder
        if not is_first or lost:
            return 1
        failure = {"run_id": run.run_id, "status": "failed", "reason": reason, "step": 0, "finished_utc": utc_now()}
        if not folder.train.exists():  # else it trained well: only the evaluation has to be made again
            with suppress(OSError):  # nothing can be written: the log has said why
                write_json(folder.train, failure)
        if not disk_is_full:  # wandb writes to it too
            mirror.summarise({key: failure[key] for key in ("status", "reason")})
            mirror.finish(exit_code=1)
        return 1


def _leave(run: PlannedRun, job: Job, fence: Fenced) -> int:
    log.warning("run %s: %s; this process (%s) leaves it alone", run.run_id, fence, job.holder)
    return EXIT_FENCED


def _disk_is_full(folder: RunFolder) -> bool:
    return shutil.disk_usage(folder.path).free < _MIN_FREE_BYTES
