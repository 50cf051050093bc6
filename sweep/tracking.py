"""wandb as a mirror of what is on disk: it never blocks, never asks, and nothing is read back from it.

One wandb run per training: its id is the run's id, its rows are those of metrics.jsonl, its summary holds what the
evaluation found. The sweep's own run is in ``sweep/sweep_run.py``. Whether wandb is online is decided once per launch,
by ``decide_mode``. Rows carry ``step``, ``tokens`` and ``flops`` as values and never wandb's own step, which can't go
back after a resume.
"""

import logging
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sweep.folder import HASH_KEY
from sweep.run_spec import PlannedRun

log = logging.getLogger("sweep")

Told = TypeVar("Told")

_ASK_SECONDS = 15.0
_NO_KEY = "no key"
_ARTIFACT_SECONDS = 30
_ROW_KEYS = (
    *("step", "tokens", "flops", "train_loss_nats", "learning_rate", "grad_norm"),
    *("tokens_per_second", "flops_per_second", "mfu", "peak_memory_bytes"),
)


def decide_mode(tracking: str) -> str:
    """``online``, ``offline`` or ``disabled``, without asking: online needs a key and a server that answers."""
    if tracking == "none":
        return "disabled"
    reason = "" if tracking == "offline" else why_no_server()
    if reason and reason != _NO_KEY:
        log.warning("wandb: %s; logging offline", reason)
    return "offline" if reason or tracking == "offline" else "online"


def why_no_server() -> str:
    """Why nothing can be uploaded now: there is no key, or no server that takes it; empty if it can."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    try:
        return _server_refuses() if wandb.login(prompt=False, verify=False) else _NO_KEY
    except Exception as error:  # whatever is wrong with key, server or network
        return str(error)


# os._exit: a service process that still tries a broken server again would hold an ordinary exit up for a minute.
_ASK_THE_SERVER = """
import os, wandb
try:
    wandb.Api(timeout=5)
    print("accepted", flush=True)
except Exception as error:
    print(error, flush=True)
os._exit(0)
"""


def _server_refuses() -> str:
    """Why the server does not take the key; empty if it does. Asked by a process that can be given up."""
    command = [sys.executable, "-c", _ASK_THE_SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        answered, _, _ = select.select([process.stdout], [], [], _ASK_SECONDS)
        answer = process.stdout.readline().strip() if answered else ""
        process.kill()
    return "" if answer == "accepted" else answer or f"no answer within {_ASK_SECONDS:g} s"


@dataclass(frozen=True)
class Table:
    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Upload:
    """An artifact as the server holds it; the time is the server's."""

    artifact: str  # entity/project/name:version
    created_at: str
    digest: str


class Mirror:
    """One wandb run. Everything it is given is on disk already, so no failure of it is fatal.

    It is given all rows of metrics.jsonl from the first on, in order; those that wandb holds from before
    an interruption are passed over. They are counted: wandb's summary can be ahead of the rows it holds.

    ``against`` names the column that wandb draws the others against by itself.

    Attributes:
        num_held_at_start: rows that the server held when it was asked; None where none was, or it did not answer.
        project: the wandb project.
    """

    def __init__(self, mode: str, project: str, folder: Path, against: str | None = None, **init: Any) -> None:
        self.project = project
        self._run: Any = None
        self._num_held = 0  # rows that wandb has got already
        self.num_held_at_start: int | None = None
        if mode == "disabled":
            return
        drop_fragments(folder, init["id"])  # all rows are replayed anyway
        self._run = _init(mode, project, folder, init)
        if self._run is not None:
            self._num_held = self._run.starting_step
            self.num_held_at_start = None if self._run.offline else self._num_held
            if against is not None:
                self._tell(lambda run: run.define_metric("*", step_metric=against))

    def replay(self, rows: Iterable[dict[str, Any]]) -> None:
        """Log the rows of metrics.jsonl that this wandb run has not got yet."""
        for row in rows:
            self.log(row)

    def log(self, row: dict[str, Any]) -> None:
        if "event" not in row and not self._is_held():
            # A column may be null (MFU) or, in a file of an older version, missing.
            self._tell(lambda run: run.log({key: row[key] for key in _ROW_KEYS if row.get(key) is not None}))

    def _is_held(self) -> bool:
        """Whether wandb has the next row already."""
        self._num_held -= 1
        return self._num_held >= 0

    def summarise(self, values: dict[str, Any]) -> None:
        self._tell(lambda run: run.summary.update(values))

    def log_tables(self, tables: dict[str, Table], figures: list[Path]) -> None:
        """All of them make one row."""

        def message(run: Any) -> None:
            import wandb

            images = {figure_key(path.stem): wandb.Image(str(path)) for path in figures}
            made = {name: wandb.Table(columns=[*table.columns], data=table.rows) for name, table in tables.items()}
            run.log({**made, **images})

        if not self._is_held():
            self._tell(message)

    def upload(self, path: Path, name: str, kind: str, metadata: dict[str, Any]) -> Upload | None:
        """Send a file as an artifact and wait for the server's word; None if it has not confirmed it or is not asked.

        A file that the server holds with this content makes no second version there.
        """

        def message(run: Any) -> Upload | None:
            import wandb

            if run.offline:
                return None
            artifact = wandb.Artifact(name, type=kind, metadata=metadata)
            artifact.add_file(str(path))
            held = run.log_artifact(artifact).wait(timeout=_ARTIFACT_SECONDS)
            return Upload(held.qualified_name, held.created_at, held.digest)

        return self._tell(message)

    def finish(self, exit_code: int = 0) -> None:
        self._tell(lambda run: run.finish(exit_code=exit_code))

    def _tell(self, message: Callable[[Any], Told]) -> Told | None:
        if self._run is None:
            return None
        try:
            return message(self._run)
        except Exception as error:
            log.warning("wandb: %s; the rest of this run is on disk only", error)
            self._run = None
            return None


def figure_key(name: str) -> str:
    """Under which name a figure is logged: one that no table has."""
    return f"figures/{name}"


def drop_fragments(folder: Path, wandb_id: str) -> None:
    """Remove what was logged offline of a wandb run: to sync it would repeat rows that the server has or will get."""
    for fragment in (folder / "wandb").glob(f"offline-run-*-{wandb_id}"):
        shutil.rmtree(fragment, ignore_errors=True)


def _init(mode: str, project: str, folder: Path, init: dict[str, Any]) -> Any:
    import wandb

    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            if attempt != mode:  # the run that failed keeps its id in wandb's service process: start another
                wandb.teardown()
                os.environ.pop("WANDB_SERVICE", None)
            settings = wandb.Settings(
                x_disable_stats=True,
                console="off",
                silent=True,
                init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", 30)),
                finish_timeout=float(os.environ.get("WANDB_FINISH_TIMEOUT", 60)),
            )
            where: Any = {"project": project, "dir": str(folder), "mode": attempt}
            return wandb.init(**where, resume="allow", settings=settings, reinit="create_new", **init)
        except Exception as error:
            log.warning("wandb: %s; this run is not logged %s", error, attempt)
    return None


def training_mirror(sweep: str, run: PlannedRun, mode: str, project: str, path: Path) -> Mirror:
    """The wandb run of one training, with its files in ``path``/wandb; a run that is resumed goes on in it."""
    return Mirror(
        mode,
        project,
        path,
        against="flops",
        id=training_id(sweep, run),
        name=run.run_id,
        group=sweep,
        job_type="target" if run.role == "target" else "train",
        tags=[run.role, f"budget {run.budget_flops:.1e}", f"width {run.spec.model.width}", f"seed {run.spec.seed}"],
        config=run_config(run),
    )


def training_id(sweep: str, run: PlannedRun) -> str:
    return f"{sweep}-{run.run_id}"


def evaluated_summary(evaluated: dict[str, Any]) -> dict[str, Any]:
    """What a run's eval.json adds to its summary."""
    return {key: value for key, value in evaluated.items() if key not in ("run_id", HASH_KEY)}


def ended_summary(trained: dict[str, Any]) -> dict[str, Any]:
    """How a run ended, from its train.json: for the tables of what went wrong."""
    keys = ("status", "reason", "marks", "train_seconds", "peak_memory_bytes", "machine")
    return {key: trained[key] for key in keys if trained.get(key) is not None}


def run_config(run: PlannedRun) -> dict[str, Any]:
    model = vars(run.spec.model)
    spec = {key: value for key, value in vars(run.spec).items() if key not in ("model", "evaluation")}
    planned = {key: value for key, value in vars(run).items() if key != "spec"}
    return {**planned, **spec, "model": model}
