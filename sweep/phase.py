"""Which phase a ladder is in: does every model of it copy from its context, or only some; and is copying formed?

A law holds between points of one phase. Where copying sets in between the ladder and the target,
a straight law and its interval are both wrong, and no residual shows it. Where every model copies, but most of what the
loss falls by is copying getting better, the ladder measures that and not the law; so budgets below the knee of copying,
where it still forms, are set aside as long as enough others are left (docs/science.md).
"""

from pathlib import Path
from typing import Any

import numpy as np

from sweep.errors import SweepError
from sweep.folder import open_sweep
from sweep.ladder import MIN_POINTS
from sweep.records import Record, as_table, fitted_records, read_records
from sweep.table import Table, read_table

NOT_ONE_PHASE = "not_one_phase_because"
FORMING_SHARE = 0.5  # of the loss's fall; with more of it on repeated tokens, copying still forms (docs/LOG.md)
FORMED_RATIO = 0.45  # of the loss on repeated tokens to that on new ones; above it copying has hardly begun (ditto)
SETTLED = 1.25  # times the largest budget's such ratio; a budget above it lies below the knee of copying (ditto)


def phase_name(copy_score_nats: float, copying_nats: float) -> str:
    return "copying" if copy_score_nats >= copying_nats else "not copying"


def phase_of(records: list[Record], copying_nats: float) -> dict[str, Any]:
    """The phase of the fitted runs: ``phase`` (of the largest budget), scores, why they are not one phase, warnings.

    ``not_one_phase_because`` has a reason not to forecast for each thing that is wrong.
    """
    scores = {record.run_id: record.copy_score_nats for record in records if record.copy_score_nats is not None}
    copying = [run_id for run_id, score in scores.items() if phase_name(score, copying_nats) == "copying"]
    not_copying = [run_id for run_id in scores if run_id not in copying]
    straddles = bool(copying and not_copying)
    share, ratio = copying_share(records), copying_ratio(records)
    warnings, reasons = [], []
    if straddles:
        reasons.append("these runs straddle a phase change")
        warnings.append(
            f"PHASE CHANGE INSIDE THE LADDER: {len(copying)} runs copy from their context (copy score at least"
            f" {copying_nats:g} nats), {len(not_copying)} do not ({', '.join(not_copying)}); one law does not"
            " hold for both, so neither forecast nor interval can be trusted: drop the smaller budgets"
        )
    elif not_copying:
        warnings.append(
            "NO RUN OF THE LADDER COPIES FROM ITS CONTEXT: a target that does will be far below"
            " the forecast and its interval"
        )
    if share is not None and share > FORMING_SHARE:
        reasons.append(
            f"copying still forms in these runs: {share:.0%} of what their loss falls by is on tokens that repeat"
            f" (more than {FORMING_SHARE:.0%}), so they do not show the law yet; larger budgets would"
        )
    if copying and ratio is not None and ratio > FORMED_RATIO:
        reasons.append(
            f"copying has hardly formed in these runs: tokens that repeat still cost the largest of them {ratio:.0%} of"
            f" what new ones cost (more than {FORMED_RATIO:.0%}), so they lie below its knee; larger budgets would not"
        )
    largest = max((record for record in records if record.run_id in scores), key=lambda record: record.flops)
    return {
        "phase": phase_name(scores[largest.run_id], copying_nats),
        "copying_nats": copying_nats,
        "straddles": straddles,
        "copying_share": share,
        "copying_ratio": ratio,
        NOT_ONE_PHASE: reasons,
        "copy_score_nats": scores,
        "warnings": warnings,
    }


def copying_share(records: list[Record]) -> float | None:
    """Of what the loss falls by over the upper half of the budgets, the share on tokens that repeat in their window.

    Both falls are slopes of straight lines in the logarithm of compute. None where the parts of the loss were not
    measured or the loss does not fall.
    """
    budgets = sorted({record.budget_flops for record in records})
    rows = [
        (np.log(record.flops), record.loss_nats, record.loss_repeated_nats, record.loss_new_nats)
        for record in records
        if record.budget_flops >= budgets[len(budgets) // 2] and record.loss_repeated_nats is not None
    ]
    log_flops, loss, repeated, new = np.array(rows, dtype=float).reshape(-1, 4).T
    if len(set(log_flops)) < 2 or not np.all(new > repeated):
        return None
    of_repeated = repeated * (new - loss) / (new - repeated)  # what repeated tokens add to the loss of all
    fall, fall_of_repeated = (-np.polyfit(log_flops, each, 1)[0] for each in (loss, of_repeated))
    return float(fall_of_repeated / fall) if fall > 0 else None


def above_knee(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Of finished runs those that a law is fitted to, and a line for each budget below the knee of copying.

    A budget lies below it if repeated tokens cost its runs a larger part of what new ones cost (their mean ratio) than
    ``SETTLED`` times that of the largest budget's runs: above the knee the two losses fall nearly alike. The largest
    budgets that a fit needs, ``MIN_POINTS``, always count; all do where the parts of the loss were not measured.
    """
    ratios = {
        budget: copying_ratio([record for record in records if record.budget_flops == budget])
        for budget in sorted({record.budget_flops for record in records})
    }
    largest = copying_ratio(records) if records else None
    if largest is None:
        return records, []
    lower = list(ratios.items())[:-MIN_POINTS]
    below = {budget: ratio for budget, ratio in lower if ratio is not None and ratio > SETTLED * largest}
    lines = [
        f"the budget {budget:.3g}: copying still forms, repeated tokens cost {ratio:.0%} of new ones, at the largest"
        f" budget {largest:.0%} (more than {SETTLED:g} times as much)"
        for budget, ratio in below.items()
    ]
    return [record for record in records if record.budget_flops not in below], lines


def copying_ratio(records: list[Record]) -> float | None:
    """Mean loss on tokens that repeat in their window over that on new ones, at the largest budget; None if unknown."""
    largest = max(record.budget_flops for record in records)
    top = [record for record in records if record.budget_flops == largest]
    parts = [(record.loss_repeated_nats, record.loss_new_nats) for record in top]
    known = [(repeated, new) for repeated, new in parts if repeated is not None and new]
    return float(np.mean([repeated / new for repeated, new in known])) if known else None


def runs_at(path: Path) -> Table:
    """The runs to fit at a path: a sweep's folder or anybody's table.

    Raises:
        SweepError: neither can be read there, or no run of the sweep is done.
    """
    if not path.is_dir():
        return read_table(path)
    used, _ = above_knee(fitted_records(read_records(open_sweep(path).records)))
    if not used:
        raise SweepError(f"no run of {path} is done", "finished runs", "launch it, then ask again")
    return as_table(used, str(path))
