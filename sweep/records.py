"""records.csv: one row per planned run. Written by ``collect``, read by every later stage.

A value that is missing is an empty cell, and ``reason`` says why; it is never a number.
"""

import csv
import io
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import SweepError
from sweep.folder import write_whole
from sweep.run_spec import PlannedRun
from sweep.table import Table


@dataclass(frozen=True)
class Record:
    """One planned run and what was measured on it; measured values are None until it is done."""

    run_id: str
    role: str
    status: str
    reason: str
    marks: str  # what is odd about a run that counts nevertheless (sweep/gates.py)
    budget_flops: float
    flops: float  # exact training FLOPs
    flops_6nd: float
    num_params: int
    num_params_non_embedding: int
    num_tokens: int
    batch_tokens: int
    num_steps: int
    width: int
    depth: int
    seed: int
    learning_rate: float  # of the recipe, before the rules for groups and sizes
    loss_nats: float | None  # per held-out token
    loss_se_nats: float | None
    bits_per_byte: float | None
    train_loss_nats: float | None
    loss_repeated_nats: float | None  # over tokens that follow as they did earlier in their window
    loss_new_nats: float | None  # over all others
    copy_first_nats: float | None  # loss on the first showing of a shuffled sequence
    copy_second_nats: float | None  # and on its second
    copy_score_nats: float | None  # first less second
    loss_first_positions_nats: float | None  # mean over the first bin of positions in the context
    loss_last_positions_nats: float | None
    train_seconds: float | None
    eval_sha256: str | None
    code_sha256: str | None
    # Columns that older tables lack have a default.
    clean_loss_nats: float | None = None  # loss without the held-out documents that stand in the training data


MEASURED = (
    *("loss_nats", "loss_se_nats", "bits_per_byte", "loss_repeated_nats", "loss_new_nats"),
    *("copy_first_nats", "copy_second_nats", "copy_score_nats"),
)


def planned_fields(run: PlannedRun) -> dict[str, Any]:
    """The part of a row that stands in the plan."""
    spec = run.spec
    return {
        "run_id": run.run_id,
        "role": run.role,
        "budget_flops": run.budget_flops,
        "flops": run.flops,
        "flops_6nd": run.flops_6nd,
        "num_params": run.num_params,
        "num_params_non_embedding": run.num_params_non_embedding,
        "num_tokens": run.num_tokens,
        "batch_tokens": spec.batch_tokens,
        "num_steps": spec.num_steps,
        "width": spec.model.width,
        "depth": spec.model.depth,
        "seed": spec.seed,
        "learning_rate": spec.learning_rate,
    }


def write_records(records: list[Record], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Record)], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: "" if value is None else value for key, value in asdict(record).items()})
    write_whole(path, text.getvalue().encode())


def read_records(path: Path) -> list[Record]:
    """The rows of records.csv, floats to the last bit as they were measured.

    Raises:
        SweepError: the file is not one that ``write_records`` wrote.
    """
    try:
        with path.open(newline="") as file:
            return [_parse(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SweepError(
            f"{path} can't be read as a table of runs ({type(error).__name__}: {error})",
            "the table as python -m sweep.launch wrote it",
            "before the seal: remove it and launch again, it is made anew; after the seal: restore it from a copy",
        ) from error


def _parse(row: dict[str, str]) -> Record:
    def value(name: str, kind: object) -> object:
        text = row[name]
        if kind is str:
            return text
        if text == "" and kind in (float | None, str | None):
            return None
        if kind == str | None:
            return text
        return int(text) if kind is int else float(text)

    known = [field for field in fields(Record) if field.name in row or field.default is MISSING]
    return Record(**{field.name: value(field.name, field.type) for field in known})  # type: ignore[arg-type]


def fitted_records(records: list[Record]) -> list[Record]:
    """The rows that a fit rests on: finished small runs."""
    return [record for record in records if record.role == "fit" and record.status == "done"]


def points(records: list[Record]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FLOPs and loss of finished runs."""
    losses = [record.loss_nats for record in records]
    return np.array([record.flops for record in records]), np.array(losses, dtype=float)


def as_table(records: list[Record], source: str = "records.csv") -> Table:
    """Finished runs for the fit. Sizes go with budgets in a ladder and tell a fit nothing of their own."""
    return Table(source, [record.run_id for record in records], *points(records))
