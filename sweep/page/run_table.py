"""The table of runs with what its filters go by, and what the runs cost."""

from sweep.page.evidence import Evidence, RunEvidence
from sweep.page.tables import Row, Table, number, table
from sweep.records import Record

_ROLES = (("fit", "small runs"), ("target", "target"))
_HEAD = (
    *("run", "role", "status", "remarks", "budget", "FLOPs", "parameters", "tokens", "loss (nats/token)"),
    *("std. error", "bits/byte", "copy score (nats)", "train s", "loss by position"),
)


def run_table(evidence: Evidence) -> Table:
    """One row per planned run, whatever became of it."""
    by_id = {record.run_id: record for record in evidence.records}
    return Table(list(_HEAD), [_row(row, by_id.get(row.run.run_id)) for row in evidence.runs])


def _row(row: RunEvidence, record: Record | None) -> Row:
    run, measured = row.run, row.measured
    budget = f"{run.budget_flops:.3g}"
    loss = measured.get("loss_nats", record.loss_nats if record else None)
    cells = [
        *(run.run_id, run.role, row.status, "; ".join(part for part in (row.reason, *row.marks) if part)),
        *(budget, f"{run.flops:.4g}", f"{run.num_params:,}", f"{run.num_tokens:,}"),
        *(number(loss), number(measured.get("loss_se_nats")), number(measured.get("bits_per_byte"))),
        *(number(measured.get("copy_score_nats"), ".2f"), number(row.train.get("train_seconds"), ",.0f")),
        " ".join(number(value, ".2f") for value in measured.get("loss_by_position_nats", [])),
    ]
    return Row(cells, {"role": run.role, "status": row.status, "budget": budget})


def filters(runs: Table) -> dict[str, list[str]]:
    """The values of each filter, in the order of the rows."""
    return {name: list(dict.fromkeys(row.data[name] for row in runs.rows)) for name in ("role", "status", "budget")}


def cost_table(evidence: Evidence) -> Table:
    """FLOPs and hours by role; hours are those in training steps, times the devices that a run had."""
    rows = []
    for role, name in _ROLES:
        of_role = [row for row in evidence.runs if row.run.role == role]
        if of_role:
            rows.append((name, *_cost(of_role)))
    if len(rows) > 1:
        rows.append(("together", *_cost(evidence.runs)))
    head = ("role", "runs done", "FLOPs planned", "FLOPs trained", "device hours", "FLOP/s of a device", "device")
    return table(head, rows)


def _cost(rows: list[RunEvidence]) -> tuple[str, ...]:
    trained = [row for row in rows if row.train]
    flops, seconds = sum(row.train["flops"] for row in trained), sum(map(_device_seconds, trained))
    kinds = sorted({row.train["machine"]["accelerator"] for row in trained})
    return (
        f"{sum(row.status == 'done' for row in rows)} of {len(rows)}",
        f"{sum(row.run.flops for row in rows):.3g}",
        f"{flops:.3g}",
        f"{seconds / 3600:,.3g}",
        f"{flops / seconds:.3g}" if seconds else "",
        ", ".join(kinds),
    )


def _device_seconds(row: RunEvidence) -> float:
    machine = row.train["machine"]
    return float((row.train["train_seconds"] or 0.0) * machine["per_node"] * machine["num_nodes"])
