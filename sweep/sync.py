"""Sync: bring what nodes without a network have logged to wandb, from a machine that has one.

    python -m sweep.sync sweeps/NAME [--project PROJECT]

The runs are sent from the sweep's own files. ``wandb sync`` is not used: it sends a folder from its first row on
whatever the server holds, so what was broken off, or went on later, would be there twice. Here the server is asked how
many rows of a run it holds, gets the others, and is asked again; only then is the run marked, in wandb/synced.json.
"""

import argparse
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sweep.capability import capability_of, is_sampled, solved_summary
from sweep.cluster.submission import read_submission, submissions
from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import HASH_KEY, RunFolder, SweepFolder, open_sweep, read_json, set_aside, sha256_of, write_json
from sweep.humaneval.guard import die_with_parent
from sweep.run_spec import Plan, PlannedRun, read_plan
from sweep.sweep_run import Content, content_of, is_judged, sweep_id, sweep_mirror
from sweep.tracking import (
    Mirror,
    drop_fragments,
    ended_summary,
    evaluated_summary,
    training_id,
    training_mirror,
    why_no_server,
)
from sweep.witness import witness_seal

log = logging.getLogger("sweep")

_NUM_PROCESSES = 4  # a server turns away more than some fifteen runs at once


@dataclass
class Synced:
    """The wandb runs by what became of them, and why the runs that were passed over were."""

    uploaded: list[str] = field(default_factory=list)
    as_before: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Upload:
    """One wandb run as it is on disk."""

    wandb_id: str
    mark: str  # hash of the content and of where it goes
    open: Callable[[Path], Mirror]  # given a folder for wandb's own files
    num_rows: int
    send: Callable[[Mirror], None]


def sync_sweep(folder: SweepFolder, project: str) -> Synced:
    """Upload every run that has ended, unless it is there as it is; and the sweep's own run from its forecast on.

    Raises:
        SweepError: there is no key or no server, or the server has not got all rows of a run afterwards.
    """
    plan = read_plan(folder)
    marks = _read_marks(folder)
    synced = Synced()
    waiting = []
    for upload in _uploads(plan, folder, project, synced.passed_over):
        if marks.get(upload.wandb_id) == upload.mark:
            synced.as_before.append(upload.wandb_id)
        else:
            waiting.append(upload)
    if waiting and (reason := why_no_server()):
        raise SweepError(
            f"{len(waiting)} runs can't be uploaded to wandb: {reason}",
            "a key (wandb login, or WANDB_API_KEY) and a server that takes it (WANDB_BASE_URL, if not wandb's own)",
            f"run python -m sweep.sync {folder.path} where both are to be had; until then all is safe on disk",
        )
    # Processes: where wandb fails, its service has to be started again, and takes all runs of its process with it.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(_NUM_PROCESSES, mp_context=fork, initializer=die_with_parent) as processes:
        futures = {processes.submit(_send, upload): upload for upload in waiting}
        try:
            for future in as_completed(futures):
                future.result()
                upload = futures[future]
                marks[upload.wandb_id] = upload.mark
                write_json(_marks(folder), marks)
                drop_fragments(folder.path, upload.wandb_id)
                synced.uploaded.append(upload.wandb_id)
                log.info("sync: %d of %d, %s", len(synced.uploaded), len(waiting), upload.wandb_id)
        finally:
            processes.shutdown(cancel_futures=True)
    return synced


def _send(upload: _Upload) -> None:
    """Send what the server lacks, then ask whether it has it all: wandb reports success even if rows were refused.

    Raises:
        SweepError: it has not.
    """
    with tempfile.TemporaryDirectory(prefix="sweep-sync-") as scratch:
        mirror = upload.open(Path(scratch))
        if mirror.num_held_at_start is not None:
            try:
                upload.send(mirror)
            finally:
                mirror.finish()
        asked = upload.open(Path(scratch))
        asked.finish()
    num_held = asked.num_held_at_start
    if num_held is None or num_held < upload.num_rows:
        raise SweepError(
            f"of the {upload.num_rows} rows of {upload.wandb_id} the wandb server has "
            + ("an unknown number: it does not answer" if num_held is None else f"{num_held}"),
            "all of them, after they were sent",
            "run the same command again, later if the server is busy: it goes on with what is missing",
        )


# ---- what was uploaded ------------------------------------------------------------------------


def _marks(folder: SweepFolder) -> Path:
    return folder.path / "wandb" / "synced.json"


def _read_marks(folder: SweepFolder) -> dict[str, str]:
    """The mark of what was uploaded, by wandb id. Without it nothing is sent twice: the server is asked."""
    path = _marks(folder)
    try:
        return {key: value for key, value in read_json(path).items() if key != HASH_KEY} if path.exists() else {}
    except CorruptFile as error:
        log.warning("%s; set aside as %s", error, set_aside(path).name)
        return {}


def _place(project: str) -> list[str | None]:
    """What was uploaded to another project, team or server is not there: a misspelt project can be put right."""
    return [project, os.environ.get("WANDB_ENTITY"), os.environ.get("WANDB_BASE_URL")]


# ---- what there is to upload ------------------------------------------------------------------


def _uploads(plan: Plan, folder: SweepFolder, project: str, passed_over: dict[str, str]) -> Iterator[_Upload]:
    """The wandb runs that may be uploaded; why others may not goes into ``passed_over``."""
    capability = capability_of(plan)
    for run in plan.runs:
        files = folder.run(run.run_id)
        try:
            state = files.state()
            if state.status not in ("done", "diverged"):
                passed_over[run.run_id] = f"{state.status}: {state.reason}"
            elif state.status == "done" and not is_sampled(folder, run.run_id, capability):
                passed_over[run.run_id] = "not sampled to the end"
            else:
                yield _training(plan, run, files, project)
        except CorruptFile as error:
            passed_over[run.run_id] = f"damaged: {error}"
    if not plan.has_target:
        return
    try:
        if not is_judged(folder):
            passed_over[plan.name] = "no verdict yet" + (", the forecast is uploaded" if folder.fit.exists() else "")
        if folder.fit.exists():
            yield _whole_sweep(plan, folder, project)
    except CorruptFile as error:
        passed_over[plan.name] = f"damaged: {error}"


def _training(plan: Plan, run: PlannedRun, files: RunFolder, project: str) -> _Upload:
    results = {path: read_json(path) for path in (files.train, files.eval, files.counts) if path.exists()}
    summary = ended_summary(results[files.train])
    if files.eval in results:
        summary |= evaluated_summary(results[files.eval])
    if files.counts in results:
        summary |= solved_summary(results[files.counts])
    rows = files.rows()
    return _Upload(
        wandb_id=training_id(plan.name, run),
        mark=sha256_of([_place(project), [result[HASH_KEY] for result in results.values()]]),
        open=partial(training_mirror, plan.name, run, "online", project),
        num_rows=sum("event" not in row for row in rows),
        send=partial(_send_training, rows, summary),
    )


def _send_training(rows: list[dict[str, Any]], summary: dict[str, Any], mirror: Mirror) -> None:
    mirror.replay(rows)
    mirror.summarise(summary)


def _whole_sweep(plan: Plan, folder: SweepFolder, project: str) -> _Upload:
    content = content_of(plan, folder)
    tables = {name: vars(table) for name, table in content.tables.items()}
    return _Upload(
        wandb_id=sweep_id(plan),
        mark=sha256_of([_place(project), tables, content.summary]),
        open=partial(sweep_mirror, plan, "online", project),
        num_rows=content.num_rows,
        send=partial(_send_sweep, folder, content),
    )


def _send_sweep(folder: SweepFolder, content: Content, mirror: Mirror) -> None:
    content.send(mirror)
    if folder.seal.exists() and witness_seal(folder, mirror) is None:
        raise SweepError(
            f"the wandb server has not confirmed that it holds {folder.seal}",
            "its word that the artifact is whole, with its time",
            "run the same command again, later if the server is busy",
        )


# ---- the command ------------------------------------------------------------------------------


def project_of(folder: SweepFolder) -> str:
    """The wandb project that the sweep's last submission to Slurm named.

    Raises:
        SweepError: it was never submitted, and the plan does not hold what is the machine's.
    """
    numbers = submissions(folder)
    if not numbers:
        raise SweepError(
            f"{folder.path} was not submitted to Slurm, so its wandb project is not on record",
            "--project with the machine.wandb_project of the launch",
            "add --project scaling-sweep, unless the launch named another",
        )
    return read_submission(folder, numbers[-1]).machine.wandb_project


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sweep.sync", description="Upload to wandb what was logged offline."
    )
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    parser.add_argument("--project", help="wandb project (default: that of the sweep's submission to Slurm)")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    folder = open_sweep(options.sweep)
    synced = sync_sweep(folder, options.project or project_of(folder))
    print(f"uploaded {len(synced.uploaded)} runs; {len(synced.as_before)} were there already")
    if synced.passed_over:
        print(f"passed over {len(synced.passed_over)}; once they have ended, the same command uploads them:")
    for name, reason in synced.passed_over.items():
        print(f"  {name:<40} {reason}")
    return 0


if __name__ == "__main__":
    run_main(main)
