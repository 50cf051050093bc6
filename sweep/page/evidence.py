"""What a sweep's folder holds at this moment, read once: values, what is missing, and what is damaged."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.capability import capability_of, read_counts
from sweep.errors import CorruptFile, SweepError
from sweep.folder import SweepFolder, read_json
from sweep.records import Record, read_records
from sweep.run_spec import Plan, PlannedRun, read_plan

Content = dict[str, Any]


@dataclass(frozen=True)
class RunEvidence:
    """A planned run and what its own files say; ``train``, ``measured``, ``counts`` are empty where there is none."""

    run: PlannedRun
    status: str
    reason: str  # empty for a run that is done
    train: Content
    measured: Content
    counts: Content

    @property
    def marks(self) -> list[str]:
        return self.train.get("marks", [])


@dataclass(frozen=True)
class Evidence:
    """The files of a sweep; None stands for a file that is missing or damaged, and ``damaged`` says which."""

    folder: SweepFolder
    plan: Plan
    records: list[Record]
    runs: list[RunEvidence]
    fit: Content | None
    optimum: Content | None
    passes: Content | None
    seal: Content | None
    verdict: Content | None
    contamination: Content | None
    damaged: dict[str, str]  # file's name: what is wrong with it

    @property
    def target(self) -> RunEvidence | None:
        return next((row for row in self.runs if row.run.role == "target"), None)

    @property
    def small_runs(self) -> list[RunEvidence]:
        return [row for row in self.runs if row.run.role == "fit"]


def read_evidence(folder: SweepFolder) -> Evidence:
    """Everything that a report shows.

    Raises:
        SweepError: plan.json is damaged; nothing can be shown without it.
    """
    plan, damaged = read_plan(folder), dict[str, str]()

    def read(path: Path) -> Content | None:
        try:
            return read_json(path) if path.exists() else None
        except CorruptFile as error:
            damaged[path.name] = str(error)
            return None

    def records() -> list[Record]:
        try:
            return read_records(folder.records) if folder.records.exists() else []
        except SweepError as error:
            damaged[folder.records.name] = error.args[0]
            return []

    return Evidence(
        folder=folder,
        plan=plan,
        records=records(),
        runs=[_read_run(run, plan, folder) for run in plan.runs],
        fit=read(folder.fit),
        optimum=read(folder.optimum),
        passes=read(folder.passes),
        seal=read(folder.seal),
        verdict=read(folder.verdict),
        contamination=read(folder.contamination),
        damaged=damaged,
    )


def _read_run(run: PlannedRun, plan: Plan, folder: SweepFolder) -> RunEvidence:
    files = folder.run(run.run_id)
    train: Content = {}
    measured: Content = {}
    try:
        state = files.state()
        train = read_json(files.train) if files.train.exists() else {}
        measured = read_json(files.eval) if state.status == "done" else {}
        counts = read_counts(folder, run.run_id) or {}
    except CorruptFile as error:
        return RunEvidence(run, "failed", f"damaged: {error}", train, measured, {})
    if state.status == "done" and capability_of(plan) is not None and not counts:
        return RunEvidence(run, "running", "trained and evaluated, not sampled to the end yet", train, measured, {})
    return RunEvidence(run, state.status, state.reason, train, measured, counts)


def counted(rows: list[RunEvidence]) -> str:
    """How many of the runs are in which state: "3 done, 1 diverged"."""
    counts = Counter(row.status for row in rows)
    order = ("done", "running", "planned", "diverged", "failed")
    return ", ".join(f"{counts[status]} {status}" for status in order if counts[status])
