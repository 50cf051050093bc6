"""What to quote of a target: the worse of its numbers with and without what stands in the training data.

A forecast is judged on the number that was forecast, with the hits (``sweep/contamination.py``).
"""

from typing import Any

from sweep.capability import measured_bucket, measured_clean
from sweep.contamination import clean_loss_of, contamination_summary, hit_tasks
from sweep.spec import CapabilitySpec


def quoted_numbers(
    measured: dict[str, Any],
    counts: dict[str, Any] | None,
    spec: CapabilitySpec | None,
    contamination: dict[str, Any] | None,
) -> dict[str, Any]:
    """The ``contamination`` part of a verdict, from the target's eval.json and, if it was sampled, its counts."""
    passes = counts["problems"] if counts is not None else None
    return {
        "found": contamination_summary(contamination),
        **_quoted_loss(measured, contamination),
        **(quoted_pass_rate(passes, spec.stop_at, hit_tasks(contamination)) if spec is not None and passes else {}),
    }


def _quoted_loss(measured: dict[str, Any], contamination: dict[str, Any] | None) -> dict[str, Any]:
    """The loss without the held-out documents that are hit, and the higher of the two losses."""
    clean = clean_loss_of(measured, contamination)
    return {
        "clean_loss_nats": clean,
        "clean_tokens": measured["clean_tokens"] if clean is not None else None,
        "clean_reason": "" if clean is not None else measured.get("clean_reason") or "measured with another search",
        "quoted_loss_nats": measured["loss_nats"] if clean is None else max(measured["loss_nats"], clean),
    }


def quoted_pass_rate(problems: dict[str, Any], stop_at: int, hits: frozenset[str]) -> dict[str, Any]:
    """The mean pass rate over the problems that were sampled, without those that are hit, and the lower of the two."""
    tasks = sorted(task for task, counts in problems.items() if min(counts["n"]) > 0)
    every, clean = measured_bucket(tasks, problems, stop_at), measured_clean(tasks, problems, stop_at, hits)
    return {
        "pass_rate": every["pass_rate_measured"],
        "clean_pass_rate": clean["clean_pass_rate_measured"],
        "quoted_pass_rate": clean["quoted_pass_rate"],
        "sampled_problems": len(tasks),
        "num_problems": len(problems),
    }


def quoted_lines(verdict: dict[str, Any]) -> list[str]:
    """What stands in the training data and, if it is anything of the target's evaluation, the numbers to quote."""
    found, measured = verdict["contamination"], verdict["measured"]
    quoted = []
    if found["clean_loss_nats"] not in (None, measured):
        quoted.append(f"loss {found['quoted_loss_nats']:.4f} ({_both(measured, found['clean_loss_nats'], '.4f')})")
    if found.get("clean_pass_rate") not in (None, found.get("pass_rate")):
        both = _both(found["pass_rate"], found["clean_pass_rate"], ".3f")
        quoted.append(f"{mean_pass_rate(found)} {found['quoted_pass_rate']:.3f} ({both})")
    lines = [f"  to quote  {', '.join(quoted)}"] if quoted else []
    if found["clean_loss_nats"] is None:
        lines.append(f"  no loss without what stands in the training data: {found['clean_reason']}")
    return [*lines, *(f"  {line}" for line in found["found"])]


def mean_pass_rate(found: dict[str, Any]) -> str:
    """What the mean pass rate is of: a problem that is too long for the model's context is not sampled."""
    sampled, every = found.get("sampled_problems"), found.get("num_problems")
    return "mean pass rate" if sampled == every else f"mean pass rate of the {sampled} of {every} problems sampled"


def _both(every: float, clean: float, form: str) -> str:
    return f"{every:{form}} with and {clean:{form}} without what stands in the training data"
