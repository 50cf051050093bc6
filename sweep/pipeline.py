"""The order of the stages: plan, train, collect, fit, seal, train the target, verify, report.

The only module that knows it. Going through it again does only what is not done: every finished stage is on disk,
and a finished run in a sweep beside this one (same id, so same result) is taken over, not trained again.
"""

import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep.capability import capability_of
from sweep.cluster.submission import in_queue, slurm_folder
from sweep.cluster.submit import submit_sweep
from sweep.collect import collect
from sweep.corpus import Corpus
from sweep.cost import cost_table
from sweep.data import prepare_corpus
from sweep.devices import check_devices
from sweep.errors import CorruptFile, SweepError
from sweep.fit import fit_folder
from sweep.folder import HASH_KEY, SweepFolder, locked, read_json
from sweep.forecast_text import summary as fit_summary
from sweep.optimum import find_optimum
from sweep.optimum import summary as optimum_summary
from sweep.pending import check_disk, pending, refuse_failures, take_over
from sweep.plan import freeze_plan, make_plan
from sweep.run_spec import Plan, PlannedRun
from sweep.seal import seal_sweep, seen_before
from sweep.search.hits import prepare_contamination
from sweep.spec import MachineSpec, SweepSpec, check
from sweep.sweep_run import show_sweep
from sweep.tracking import decide_mode
from sweep.verify import summary as verdict_summary
from sweep.verify import verify_sweep
from sweep.witness import is_witnessed
from sweep.workers import Job, run_all

log = logging.getLogger("sweep")

_LOCK_WAIT_SECONDS = 15.0  # workers of a killed launch notice within a step that it is gone
EXIT_INTERRUPTED = 130


def run_pipeline(spec: SweepSpec) -> int:
    """Run every stage that is not done yet; returns the exit code.

    Raises:
        SweepError: bad input, found before anything is trained; or runs that failed.
    """
    check(spec)
    if spec.until == "plan":
        print(cost_table(spec))
        return 0
    if spec.machine.slurm is None:
        check_devices(spec.machine)
    folder = SweepFolder(Path(spec.sweeps_dir) / spec.name)
    with locked_sweep(folder):
        corpus = prepare_corpus(spec.data, Path(spec.machine.cache_dir), spec.machine.num_workers)
        plan = make_plan(spec, corpus.info)
        check_disk([run for run in plan.runs if not folder.run(run.run_id).eval.exists()], folder)
        freeze_plan(plan, folder)
        prepare_contamination(plan, folder, corpus, spec.machine.num_workers or os.cpu_count() or 1)
        if spec.machine.slurm is not None:
            return _submit(plan, folder, corpus, spec.machine)
        refuse_queued(folder)  # two machines would train one run
        return _run_stages(spec, plan, folder, corpus)


def _submit(plan: Plan, folder: SweepFolder, corpus: Corpus, machine: MachineSpec) -> int:
    """Hand what is neither done nor in the queue to Slurm."""
    command = shlex.join(["python", "-m", "sweep.launch", *sys.argv[1:]])
    submitted = submit_sweep(plan, folder, corpus.folder, machine, command)
    for stage, job_ids in submitted.items():
        log.info("slurm: %s %s", stage, " ".join(job_ids))
    if not submitted:
        left = "what is left is in the queue" if in_queue(folder) else "all is done"
        log.info("slurm: nothing submitted: %s", left)
    log.info("how it goes: python -m sweep.status %s; to end it: python -m sweep.cancel %s", folder.path, folder.path)
    return 0


def _run_stages(spec: SweepSpec, plan: Plan, folder: SweepFolder, corpus: Corpus) -> int:
    if not plan.has_target:
        return _run_without_target(spec, plan, folder, corpus)
    capability = capability_of(plan)
    left_at_start = pending(plan.runs, folder, capability)
    if not left_at_start and folder.verdict.exists() and folder.report.exists():
        log.info("nothing to train: all %d runs of %s are done", len(plan.runs), folder.path)
        verdict = verify_sweep(folder, thorough=False)
        log.info("%s", verdict_summary(folder, verdict))
        return int(verdict["status"] == "refused" and folder.seal.exists())
    mode = decide_mode(spec.machine.tracking)

    def train(runs: list[PlannedRun], seal_sha256: str | None) -> bool:
        # A sealed target is trained here, under its own seal, whatever another sweep has done since.
        left = pending(runs if seal_sha256 else take_over(runs, folder), folder, capability)
        if not left:
            return True
        log.info("train: %d of %d runs to go, tracking %s", len(left), len(runs), mode)
        return run_all(left, Job(plan, folder, corpus, spec.machine, mode, seal_sha256))

    if not train(plan.fit_runs, None):
        return _interrupted(folder)
    refuse_failures(plan.fit_runs, folder, capability)
    forecast(plan, folder)
    show_forecast(plan, folder, mode, spec.machine)
    if spec.until == "seal":
        log.info(
            "stopped before the target: python -m sweep.publish %s, commit, then launch without until", folder.path
        )
        return 0
    if not train([plan.target], seal_hash(folder)):
        return _interrupted(folder)
    refuse_failures([plan.target], folder, capability)
    return conclude(plan, folder, mode, spec.machine)


def forecast(plan: Plan, folder: SweepFolder) -> None:
    """Collect, fit and seal; without a target, find the best size or rate. The fitted runs must have ended."""
    if not plan.has_target:
        collect(plan, folder)
        log.info("%s", optimum_summary(find_optimum(folder)))
        log.info("report: %s", _write_report(folder))
    elif not folder.seal.exists():
        collect(plan, folder)
        log.info("fit:\n%s", fit_summary(fit_folder(folder)))
        if seen := seen_before(plan, folder):
            log.warning(
                "NOT SEALED: the target %s was started before this forecast, in %s; what follows is a backtest",
                plan.target.run_id,
                ", ".join(seen),
            )
        else:
            seal = seal_sweep(folder, thorough=False)  # fitted a moment ago
            log.info("seal: %s, written before the target's first step", seal[HASH_KEY])


def show_forecast(plan: Plan, folder: SweepFolder, mode: str, machine: MachineSpec) -> None:
    """Bring the forecast to wandb before the target's first step: a server that holds the seal is a witness."""
    if not is_witnessed(folder):
        show_sweep(plan, folder, mode, machine.wandb_project)


def conclude(plan: Plan, folder: SweepFolder, mode: str, machine: MachineSpec) -> int:
    """Judge the forecast and write the report, once the target has ended; returns the exit code."""
    verdict = verify_sweep(folder, thorough=False)  # the seal's hashes hold what was fitted
    log.info("verdict: %s", verdict_summary(folder, verdict))
    report = _write_report(folder)
    show_sweep(plan, folder, mode, machine.wandb_project)
    log.info("report: %s", report)
    return int(verdict["status"] == "refused" and folder.seal.exists())


def _write_report(folder: SweepFolder) -> Path:
    from sweep.report import write_report  # matplotlib, which nothing before the end needs

    return write_report(folder)


def _run_without_target(spec: SweepSpec, plan: Plan, folder: SweepFolder, corpus: Corpus) -> int:
    """Train an isoFLOP or a tuning grid and find the best size or rate: there is nothing to forecast."""
    left = pending(take_over(plan.runs, folder), folder)
    if left:
        mode = decide_mode(spec.machine.tracking)
        log.info("train: %d of %d runs to go, tracking %s%s", len(left), len(plan.runs), mode, _saved_by_trunks(plan))
        if not run_all(left, Job(plan, folder, corpus, spec.machine, mode, None)):
            return _interrupted(folder)
    refuse_failures(plan.runs, folder)
    forecast(plan, folder)
    return 0


def _saved_by_trunks(plan: Plan) -> str:
    saved, total = plan.flops_shared, sum(run.flops for run in plan.runs)
    return f", shared trunks save {saved:.3g} of {total:.3g} FLOPs ({saved / total:.0%})" if saved else ""


def seal_hash(folder: SweepFolder) -> str | None:
    """The hash of the sweep's seal; None if it has none.

    Raises:
        SweepError: the seal is damaged or altered.
    """
    try:
        return read_json(folder.seal)[HASH_KEY] if folder.seal.exists() else None
    except CorruptFile as error:
        raise SweepError(
            str(error),
            "the seal as it was written: the target trains under it",
            f"restore {folder.seal} from a copy, or launch under another name with a target that nobody has seen",
        ) from error


def _interrupted(folder: SweepFolder) -> int:
    log.warning("stopped; what was done is kept in %s, the same command goes on from there", folder.path)
    return EXIT_INTERRUPTED


@contextmanager
def locked_sweep(folder: SweepFolder, wait_seconds: float = _LOCK_WAIT_SECONDS) -> Iterator[None]:
    """Hold the sweep's lock, waiting a little for the workers of a killed launch to notice that it is gone.

    Raises:
        SweepError: another launch is at work in the folder.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(
            f"{folder.path} can't be made ({error})",
            "a folder that may be written to",
            "set sweeps_dir to another place",
        ) from error
    deadline = time.monotonic() + wait_seconds
    while True:
        with locked(folder.lock) as held:
            if held:
                yield
                return
        if time.monotonic() > deadline:
            raise SweepError(
                f"another launch is at work in {folder.path}",
                "one launch per sweep",
                f"wait for it (python -m sweep.status {folder.path}) or choose another name=",
            )
        time.sleep(0.2)


def refuse_queued(folder: SweepFolder) -> None:
    """Refuse to train here what a cluster trains, or will.

    Raises:
        SweepError: jobs of the sweep are in the queue, or it can't be asked.
    """
    if not slurm_folder(folder).exists() or shutil.which("squeue") is None:  # such as a copy on another machine
        return
    if queued := in_queue(folder):
        raise SweepError(
            f"{len(queued)} jobs of {folder.path} are in Slurm's queue",
            "one machine at a time at work in a sweep",
            f"wait for them (python -m sweep.status {folder.path}) or end them (python -m sweep.cancel {folder.path})",
        )
