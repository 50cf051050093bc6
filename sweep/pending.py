"""Which runs of a sweep are left to do, and which have ended badly."""

import logging
import shutil

from sweep.capability import is_sampled
from sweep.errors import CorruptFile, SweepError
from sweep.folder import RunFolder, SweepFolder, read_json, set_aside
from sweep.run_spec import PlannedRun
from sweep.spec import CapabilitySpec

log = logging.getLogger("sweep")


def pending(runs: list[PlannedRun], folder: SweepFolder, capability: CapabilitySpec | None = None) -> list[PlannedRun]:
    """Runs to be trained, evaluated or sampled; damaged results are set aside, failed ones tried again."""
    left = []
    for run in runs:
        files = folder.run(run.run_id)
        if not files.path.exists():
            left.append(run)
            continue
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
    beside = {path.name for path in folder.path.resolve().parent.glob("*/runs/*")}
    for run in runs:
        here = folder.run(run.run_id)
        if run.run_id not in beside or here.path.exists():
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


def check_disk(runs: list[PlannedRun], folder: SweepFolder) -> None:
    """Refuse to start on a disk that can't hold what the runs will write.

    Raises:
        SweepError: there is less room than needed.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    # Weights and two Adam moments in fp32; old and new checkpoint side by side, and the state kept for longer runs;
    # logs and reports beside them.
    states = [2 if run.keeps_step is None else 3 for run in runs]
    needed = sum(12 * number * run.num_params + (1 << 20) for number, run in zip(states, runs, strict=True)) + (8 << 20)
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise SweepError(
            f"the disk that holds {folder.path} has {free / 1e6:,.0f} MB free",
            f"{needed / 1e6:,.0f} MB for the checkpoints and logs of {len(runs)} runs",
            "free some space, or set sweeps_dir to another disk; nothing has been trained yet",
        )
