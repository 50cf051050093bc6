"""The order of the stages on this machine: plan, train, collect, fit, seal, train the target, verify, report.

The only module that knows it. Going through it again does only what is not done: every finished stage is on disk,
and a finished run in a sweep beside this one (same id, so same result) is taken over, not trained again.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.capability import capability_of, is_sampled, sealed_part
from sweep.collect import collect
from sweep.data import Corpus, prepare_corpus
from sweep.devices import check_devices
from sweep.errors import SweepError
from sweep.fit import fit_folder
from sweep.folder import HASH_KEY, CorruptFile, RunFolder, SweepFolder, locked, read_json, set_aside
from sweep.forecast_text import summary as fit_summary
from sweep.optimum import find_optimum
from sweep.optimum import summary as optimum_summary
from sweep.plan import freeze_plan, make_plan
from sweep.report import write_report
from sweep.run_spec import Plan, PlannedRun
from sweep.seal import seal_sweep, seen_before
from sweep.spec import CapabilitySpec, SweepSpec, check
from sweep.status import status_of
from sweep.tracking import decide_mode, track_sweep
from sweep.verify import summary as verdict_summary
from sweep.verify import verify_sweep
from sweep.workers import Job, check_disk, run_all

log = logging.getLogger("sweep")

_LOCK_WAIT_SECONDS = 15.0  # workers of a killed launch notice within a step that it is gone
EXIT_INTERRUPTED = 130


def run_pipeline(spec: SweepSpec) -> int:
    """Run every stage that is not done yet; returns the exit code.

    Raises:
        SweepError: bad input, found before anything is trained; or runs that failed.
    """
    check(spec)
    check_devices(spec.machine)
    folder = SweepFolder(Path(spec.sweeps_dir) / spec.name)
    with locked_sweep(folder):
        corpus = prepare_corpus(spec.data, Path(spec.machine.cache_dir))
        plan = make_plan(spec, corpus.info)
        check_disk([run for run in plan.runs if not folder.run(run.run_id).eval.exists()], folder)
        freeze_plan(plan, folder)
        return _run_stages(spec, plan, folder, corpus)


def _run_stages(spec: SweepSpec, plan: Plan, folder: SweepFolder, corpus: Corpus) -> int:
    if not plan.has_target:
        return _run_without_target(spec, plan, folder, corpus)
    capability = capability_of(plan)
    left_at_start = pending(plan.runs, folder, capability)
    if not left_at_start and folder.verdict.exists() and folder.report.exists():
        log.info("nothing to train: all %d runs of %s are done", len(plan.runs), folder.path)
        verdict = verify_sweep(folder)
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
    if not folder.seal.exists():
        collect(plan, folder)
        log.info("fit:\n%s", fit_summary(fit_folder(folder)))
        if seen := seen_before(plan, folder):
            log.warning(
                "NOT SEALED: the target %s was started before this forecast, in %s; what follows is a backtest",
                plan.target.run_id,
                ", ".join(seen),
            )
        else:
            log.info("seal: %s, written before the target's first step", seal_sweep(folder)[HASH_KEY])
    if not train([plan.target], seal_hash(folder)):
        return _interrupted(folder)
    refuse_failures([plan.target], folder, capability)
    verdict = verify_sweep(folder)
    log.info("verdict: %s", verdict_summary(folder, verdict))
    report = write_report(folder)
    track_sweep(plan, folder, mode, spec.machine, sweep_results(folder, verdict))
    log.info("report: %s", report)
    return int(verdict["status"] == "refused" and folder.seal.exists())


def _run_without_target(spec: SweepSpec, plan: Plan, folder: SweepFolder, corpus: Corpus) -> int:
    """Train an isoFLOP or a tuning grid and find the best size or rate: there is nothing to forecast."""
    left = pending(take_over(plan.runs, folder), folder)
    if left:
        mode = decide_mode(spec.machine.tracking)
        log.info("train: %d of %d runs to go, tracking %s%s", len(left), len(plan.runs), mode, _saved_by_trunks(plan))
        if not run_all(left, Job(plan, folder, corpus, spec.machine, mode, None)):
            return _interrupted(folder)
    refuse_failures(plan.runs, folder)
    collect(plan, folder)
    log.info("%s", optimum_summary(find_optimum(folder)))
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


# ---- which runs are left ----------------------------------------------------------------------


def pending(runs: list[PlannedRun], folder: SweepFolder, capability: CapabilitySpec | None = None) -> list[PlannedRun]:
    """Runs to be trained, evaluated or sampled; damaged results are set aside, failed ones tried again."""
    left = []
    for run in runs:
        files = folder.run(run.run_id)
        for path in (files.train, files.eval, files.counts):
            try:
                if path.exists():
                    read_json(path)
            except CorruptFile as error:
                log.warning("run %s: %s; set aside as %s, made again", run.run_id, error, set_aside(path).name)
        state = files.state()
        unsampled = state.status == "done" and not is_sampled(folder, run.run_id, capability)
        if unsampled or (state.status == "running" and files.train.exists()):
            _check_checkpoint(run, files)
            state = files.state()
        if state.status == "failed":
            files.train.unlink()
        if unsampled or state.status not in ("done", "diverged"):
            left.append(run)
    return left


def _check_checkpoint(run: PlannedRun, files: RunFolder) -> None:
    """A trained run that is still to be evaluated or sampled needs its weights; without them it is trained again."""
    try:
        files.checkpoint_state()
    except CorruptFile as error:
        for path in (files.train, files.eval, files.checkpoint):
            if path.exists():
                log.warning("run %s: %s; %s set aside as %s", run.run_id, error, path, set_aside(path).name)


def take_over(runs: list[PlannedRun], folder: SweepFolder) -> list[PlannedRun]:
    """Copy finished runs with the same ids from the sweeps beside this one; returns ``runs``."""
    for run in runs:
        here = folder.run(run.run_id)
        if here.path.exists():
            continue
        for there in folder.same_run_elsewhere(run.run_id):
            try:
                if there.state().status in ("done", "diverged"):
                    partial = here.path.with_name(f"{run.run_id}.partial")
                    shutil.rmtree(partial, ignore_errors=True)
                    shutil.copytree(there.path, partial)
                    partial.rename(here.path)
                    log.info("train: %s taken over from %s", run.run_id, there.path.parent.parent)
                    break
            except CorruptFile:
                continue
    return runs


def refuse_failures(runs: list[PlannedRun], folder: SweepFolder, capability: CapabilitySpec | None = None) -> None:
    """Stop if a run failed, or could not be sampled: a forecast of pass rates would go without it.

    Raises:
        SweepError: names the runs and why.
    """
    failed = {run.run_id: folder.run(run.run_id).state() for run in runs}
    lines = [f"\n    {run_id}: {s.reason}" for run_id, s in failed.items() if s.status not in ("done", "diverged")]
    lines += [
        f"\n    {run_id}: trained, not sampled to the end; the reason stands above"
        for run_id, s in failed.items()
        if s.status == "done" and not is_sampled(folder, run_id, capability)
    ]
    if lines:
        raise SweepError(
            f"{len(lines)} runs in {folder.path} did not end:" + "".join(lines),
            "every planned run done or diverged",
            "mend the cause and launch again: finished runs stay, these go on or start again",
        )


@contextmanager
def locked_sweep(folder: SweepFolder) -> Iterator[None]:
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
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
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


def sweep_results(folder: SweepFolder, verdict: dict[str, Any]) -> dict[str, Any]:
    """What the sweep's own wandb run shows."""
    rows = status_of(folder)["runs"]
    fit = read_json(folder.fit)
    keys = ("law", "coefficients", "prediction", "low", "high", "level", "target_flops", "warnings")
    pass_rates = fit["capability"] and sealed_part(fit["capability"])
    return {
        "columns": list(rows[0]),
        "rows": [list(row.values()) for row in rows],
        "summary": {"fit": {**{key: fit[key] for key in keys}, "pass_rates": pass_rates}, "verdict": verdict},
    }
