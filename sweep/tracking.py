"""wandb as a mirror of what is on disk: it never blocks, never asks, and nothing is read back from it.

One wandb run per training (its id is the run's id, its rows those of metrics.jsonl) and one for
the sweep. Whether wandb is online is decided once per launch, by ``decide_mode``. Rows carry ``step``,
``tokens`` and ``flops`` as values and never wandb's own step, which can't go back after a resume.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sweep.folder import SweepFolder
from sweep.run_spec import Plan, PlannedRun
from sweep.spec import MachineSpec

log = logging.getLogger("sweep")

_ROW_KEYS = ("step", "tokens", "flops", "train_loss_nats", "learning_rate", "grad_norm", "tokens_per_second")


def decide_mode(tracking: str) -> str:
    """``online``, ``offline`` or ``disabled``, without asking: online needs a key and a server that answers."""
    if tracking == "none":
        return "disabled"
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if tracking == "offline":
        return "offline"
    try:
        return "online" if wandb.login(prompt=False, timeout=5) else "offline"
    except Exception as error:  # whatever is wrong with key, server or network: the sweep goes on
        log.warning("wandb: %s; logging offline", error)
        return "offline"


class Mirror:
    """One wandb run. Everything it is given is on disk already, so no failure of it is fatal."""

    def __init__(self, mode: str, machine: MachineSpec, folder: Path, **init: Any) -> None:
        self._run: Any = None
        self._last_step = -1
        if mode == "disabled":
            return
        if mode == "offline":  # an interrupted fragment would repeat rows; all of them are replayed anyway
            for fragment in (folder / "wandb").glob(f"offline-run-*-{init['id']}"):
                shutil.rmtree(fragment, ignore_errors=True)
        self._run = _init(mode, machine.wandb_project, folder, init)
        if self._run is not None:
            self._last_step = int(self._run.summary.get("step", -1)) if mode == "online" else -1
            self._run.define_metric("*", step_metric="flops")

    def replay(self, rows: Iterable[dict[str, Any]]) -> None:
        """Log the rows of metrics.jsonl that this wandb run has not got yet."""
        for row in rows:
            self.log(row)

    def log(self, row: dict[str, Any]) -> None:
        if "event" not in row and row["step"] > self._last_step:
            self._tell(lambda run: run.log({key: row[key] for key in _ROW_KEYS}))
            self._last_step = row["step"]

    def summarise(self, values: dict[str, Any]) -> None:
        self._tell(lambda run: run.summary.update(values))

    def log_media(self, values: dict[str, Any]) -> None:
        self._tell(lambda run: run.log(values))

    def finish(self) -> None:
        self._tell(lambda run: run.finish())

    def _tell(self, message: Callable[[Any], object]) -> None:
        if self._run is None:
            return
        try:
            message(self._run)
        except Exception as error:
            log.warning("wandb: %s; the rest of this run is on disk only", error)
            self._run = None


def _init(mode: str, project: str, folder: Path, init: dict[str, Any]) -> Any:
    import wandb

    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(x_disable_stats=True, console="off", silent=True, init_timeout=30, finish_timeout=60)
    try:
        return wandb.init(
            project=project, dir=str(folder), mode=mode, resume="allow", settings=settings, reinit="create_new", **init
        )  # type: ignore[call-overload]
    except Exception as error:
        if mode == "offline":
            log.warning("wandb: %s; this run is on disk only", error)
            return None
        log.warning("wandb: %s; this run is logged offline", error)
        return _init("offline", project, folder, init)


def training_mirror(plan: Plan, run: PlannedRun, mode: str, machine: MachineSpec, folder: SweepFolder) -> Mirror:
    """The wandb run of one training; its id is that of the run in this sweep, so a resumed run goes on."""
    return Mirror(
        mode,
        machine,
        folder.path,
        id=f"{plan.name}-{run.run_id}",
        name=run.run_id,
        group=plan.name,
        job_type="target" if run.role == "target" else "train",
        tags=[run.role, f"budget {run.budget_flops:.1e}", f"width {run.spec.model.width}", f"seed {run.spec.seed}"],
        config=run_config(run),
    )


def run_config(run: PlannedRun) -> dict[str, Any]:
    model = vars(run.spec.model)
    spec = {key: value for key, value in vars(run.spec).items() if key not in ("model", "evaluation")}
    planned = {key: value for key, value in vars(run).items() if key != "spec"}
    return {**planned, **spec, "model": model}


def track_sweep(plan: Plan, folder: SweepFolder, mode: str, machine: MachineSpec, results: dict[str, Any]) -> None:
    """The sweep's own wandb run: law and forecast in its summary, the table of runs, figures, verdict."""
    mirror = Mirror(
        mode,
        machine,
        folder.path,
        id=f"{plan.name}-forecast",
        name=plan.name,
        group=plan.name,
        job_type="forecast",
        config=plan.config,
    )
    if mode != "disabled":
        import wandb

        table = wandb.Table(columns=results["columns"], data=results["rows"])
        figures = {path.stem: wandb.Image(str(path)) for path in sorted(folder.figures.glob("*.png"))}
        mirror.log_media({"runs": table, **figures})
        mirror.summarise(results["summary"])
    mirror.finish()
