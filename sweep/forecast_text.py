"""A forecast in a few lines for people, from what stands in fit.json."""

from typing import Any

import numpy as np

from sweep.cut_offs import cut_off_lines
from sweep.laws import Law

_SHOWN = 12  # rows that were set aside


def summary(result: dict[str, Any]) -> str:
    """The forecast in a few lines."""
    lines = [
        f"forecast    {result['prediction']:.4f} {result['unit']} at {result['target_flops']:.4g} FLOPs,"
        f" {result['extrapolation_ratio']:.4g} times the largest of {result['num_runs']} runs",
        f"interval    {result['low']:.4f} to {result['high']:.4f} ({result['level']:.0%})",
        f"law         {Law(**result['coefficients'])} (heaviest form alone)",
        f"noise       {result['noise']['relative_sd']:.2%} per run",
        *(
            f"{'forms' if not number else '':11} {form['prediction']:.4f}, weight {form['weight']:4.0%}: {form['form']}"
            for number, form in enumerate(result["forms_tried"])
        ),
        "sensitivity " + "; ".join(f"{row['change']} {row['by']:+.2%}" for row in result["what_would_change_it"]),
    ]
    if result["backtests"]:
        errors = [abs(test["error"]) for test in result["backtests"]]
        inside = sum(test["inside"] for test in result["backtests"])
        lines.append(
            f"backtests   {inside} of {len(errors)} inside their interval, median error {np.median(errors):.2%},"
            f" up to {max(test['ratio'] for test in result['backtests']):.3g} times"
        )
    lines += cut_off_lines(result.get("cut_offs", []))
    if result.get("capability"):
        lines += capability_lines(result["capability"])
    lines += [f"NOT FORECASTABLE: {reason}" for reason in result["not_forecastable_because"]]
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    lines += [f"note: {note}" for note in result["notes"]]
    lines += [f"set aside: {line}" for line in result["set_aside"][:_SHOWN]]
    if len(result["set_aside"]) > _SHOWN:
        lines.append(f"set aside: {len(result['set_aside']) - _SHOWN} more (all of them with --json)")
    return "\n".join(lines)


def capability_lines(found: dict[str, Any]) -> list[str]:
    """The forecast of pass rates in a line per bucket."""
    head = f"{found['num_samples']:,} samples of {found['num_problems']} problems ({found['problems']})"
    lines = [f"pass rates  {head}{': ' if found['no_buckets_because'] else ''}{found['no_buckets_because']}"]
    for bucket in found["buckets"]:
        name = f"  bucket {bucket['bucket']}  "
        if bucket["forecastable"]:
            lines.append(
                f"{name}-log p {bucket['prediction']:.3f} nats ({bucket['low']:.3f} to {bucket['high']:.3f}),"
                f" mean p {bucket['pass_rate_prediction']:.3f}, k {bucket['likelihood']['exponent']:.3f}"
            )
        else:
            needed, least = bucket["samples_needed"], "at least " if bucket["samples_needed_is_least"] else ""
            more = f"; it takes {least}{needed:,} samples per problem and budget" if needed else ""
            lines.append(f"{name}not forecastable: {'; '.join(bucket['not_forecastable_because'])}{more}")
        lines += [f"  warning: bucket {bucket['bucket']}: {warning}" for warning in bucket["warnings"]]
    return lines
