"""Which phase a ladder is in: does every model of it copy from its context, or only some?

A law holds between points of one phase. Where copying sets in between the ladder and the target,
a straight law and its interval are both wrong, and no residual shows it (docs/science.md).
"""

from typing import Any

from sweep.records import Record


def phase_name(copy_score_nats: float, copying_nats: float) -> str:
    return "copying" if copy_score_nats >= copying_nats else "not copying"


def phase_of(records: list[Record], copying_nats: float) -> dict[str, Any]:
    """The phase of the fitted runs: ``phase`` (of the largest budget), ``straddles``, scores and warnings."""
    scores = {record.run_id: record.copy_score_nats for record in records if record.copy_score_nats is not None}
    copying = [run_id for run_id, score in scores.items() if phase_name(score, copying_nats) == "copying"]
    not_copying = [run_id for run_id in scores if run_id not in copying]
    straddles = bool(copying and not_copying)
    warnings = []
    if straddles:
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
    largest = max((record for record in records if record.run_id in scores), key=lambda record: record.flops)
    return {
        "phase": phase_name(scores[largest.run_id], copying_nats),
        "copying_nats": copying_nats,
        "straddles": straddles,
        "copy_score_nats": scores,
        "warnings": warnings,
    }
