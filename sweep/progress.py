"""Live progress of a pool of runs, or of steps of one kind: bars on a terminal, a plain line now and then elsewhere."""

import json
import logging
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sweep.errors import CorruptFile
from sweep.folder import SweepFolder
from sweep.run_spec import PlannedRun

log = logging.getLogger("sweep")

_LINE_SECONDS = 15.0


def last_row(path: Path) -> dict[str, float]:
    """The last whole row of a metrics.jsonl, read from its end; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            return json.loads(line)
        except ValueError:
            continue
    return {}


def time_text(seconds: float) -> str:
    if seconds >= 36_000:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s" if seconds >= 60 else f"{seconds:.0f} s"


class Steps:
    """Shows how much of something is done and the time to go; ``total`` None: it is not known how much there is."""

    def __init__(self, what: str, total: float | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._start = self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._status = console.status(what) if console.is_terminal else None

    def __enter__(self) -> "Steps":
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()

    def update(self, done: float) -> None:
        """Show that so much is ``done``, counted from where this began."""
        now = time.monotonic()
        text = f"{self._what}: {done:,.0f} {self._unit}"
        if self._total and done:
            left = (self._total - done) * (now - self._start) / done
            text = f"{self._what}: {done:,.0f} of {self._total:,.0f} {self._unit}, {time_text(left)} to go"
        if self._status:
            self._status.update(text)
        elif now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            log.info("%s", text)


class Progress:
    """Shows runs done, running and left, and the time to go from the FLOPs per second so far."""

    def __init__(self, runs: list[PlannedRun], folder: SweepFolder) -> None:
        self._runs, self._folder = runs, folder
        self._start = time.monotonic()
        self._flops_at_start = {run.run_id: self._flops(run) for run in runs}
        self._last_line = self._start
        console = Console(stderr=True)
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def _flops(self, run: PlannedRun) -> float:
        folder = self._folder.run(run.run_id)
        if folder.eval.exists():
            return run.flops
        return last_row(folder.metrics).get("flops", 0.0)

    def _is_over(self, run: PlannedRun, working: set[str]) -> bool:
        if run.run_id in working:
            return False
        try:
            return self._folder.run(run.run_id).state().status in ("done", "diverged", "failed")
        except CorruptFile:
            return False

    def update(self, working: set[str]) -> None:
        """Show the state now; ``working`` are the ids of the runs with a live worker."""
        now = time.monotonic()
        if self._live is None and now - self._last_line < _LINE_SECONDS:
            return
        self._last_line = now
        over = sum(self._is_over(run, working) for run in self._runs)
        flops = {run.run_id: self._flops(run) for run in self._runs}
        made = sum(flops.values()) - sum(self._flops_at_start.values())
        left = sum(run.flops - flops[run.run_id] for run in self._runs)
        to_go = time_text(left * (now - self._start) / made) + " to go" if made > 0 else "starting"
        head = f"{over} of {len(self._runs)} runs done, {len(working)} running, {to_go}"
        if self._live is None:
            log.info("train: %s", head)
            return
        table = Table(title=head, title_justify="left", box=None, pad_edge=False)
        for column in ("run", "done", "train loss", "tokens/s"):
            table.add_column(column, justify="left" if column == "run" else "right")
        for run in self._runs:
            if run.run_id in working:
                row = last_row(self._folder.run(run.run_id).metrics)
                loss, speed = row.get("train_loss_nats"), row.get("tokens_per_second")
                table.add_row(
                    run.run_id,
                    f"{flops[run.run_id] / run.flops:.0%}",
                    f"{loss:.3f}" if loss else "",
                    f"{speed:,.0f}" if speed else "",
                )
        self._live.update(table)
