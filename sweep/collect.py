"""Collect: from the runs' own files to records.csv, one row per planned run, whatever its state, and to passes.json."""

from typing import Any

from sweep.capability import capability_of, gather_passes
from sweep.contamination import clean_loss_of, read_contamination
from sweep.errors import SweepError
from sweep.folder import RunFolder, SweepFolder, read_json, write_json
from sweep.records import MEASURED, Record, planned_fields, write_records
from sweep.run_spec import Plan, PlannedRun


def record_of(run: PlannedRun, folder: RunFolder, contamination: dict[str, Any] | None) -> Record:
    """The row of one run; ``contamination`` is what its loss without hits has to rest on.

    Raises:
        CorruptFile: one of its files is damaged.
    """
    state = folder.state()
    train = read_json(folder.train) if folder.train.exists() else {}
    measured: dict[str, Any] = read_json(folder.eval) if state.status == "done" else {}
    by_position = measured.get("loss_by_position_nats", [None])
    from_eval: dict[str, Any] = {key: measured.get(key) for key in MEASURED}
    return Record(
        **planned_fields(run),
        status=state.status,
        reason=state.reason,
        marks="; ".join(train.get("marks", [])),
        **from_eval,
        train_loss_nats=train.get("train_loss_nats"),
        loss_first_positions_nats=by_position[0],
        loss_last_positions_nats=by_position[-1],
        train_seconds=train.get("train_seconds"),
        eval_sha256=measured.get("content_sha256"),
        code_sha256=train.get("code_sha256"),
        clean_loss_nats=clean_loss_of(measured, contamination),
    )


def collect(plan: Plan, folder: SweepFolder) -> list[Record]:
    """Write records.csv and the small runs' counts of samples; the target's row stays ``planned``, as it was then.

    Raises:
        SweepError: the sweep is sealed, so its records are frozen.
    """
    if folder.seal.exists():
        raise SweepError(
            f"{folder.path} is sealed",
            "records.csv as the seal found it",
            "nothing: python -m sweep.status shows the runs' state now; another forecast needs another name",
        )
    contamination = read_contamination(folder)
    records = [record_of(run, folder.run(run.run_id), contamination) for run in plan.runs]
    write_records(records, folder.records)
    capability = capability_of(plan)
    if capability is not None:
        write_json(folder.passes, gather_passes(plan, capability, folder))
    return records
