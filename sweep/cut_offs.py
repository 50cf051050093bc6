"""Forecasts from less: what the same ladder says of the target if only its runs under a stricter cut-off are asked.

All of them are sealed together with the main one, so one target judges several extrapolation ratios. Each stands on
its own: it has its own fit, interval and phase, and what can't be forecast says why.
"""

from typing import Any

from sweep.forecast import forecast, too_wide
from sweep.ladder import make_ladder
from sweep.laws import FitError
from sweep.phase import NOT_ONE_PHASE, above_knee, phase_of
from sweep.records import Record, as_table
from sweep.run_spec import Plan
from sweep.spec import MIN_BUDGETS

NUMBERS = ("prediction", "low", "high")


def cut_off_text(max_flops_fraction: float) -> str:
    """``1/300`` for 0.003333."""
    return f"1/{float(f'{1 / max_flops_fraction:.4g}'):,.6g}"


def forecast_cut_offs(finished: list[Record], plan: Plan) -> list[dict[str, Any]]:
    """A row per further cut-off of the plan, from those of the finished runs that it allows."""
    return [_row(finished, fraction, plan) for fraction in plan.fit.more_cut_offs]


def _row(finished: list[Record], fraction: float, plan: Plan) -> dict[str, Any]:
    target_flops = plan.target.flops
    below = [record for record in finished if record.flops <= fraction * target_flops]
    largest = max((record.flops for record in below), default=None)
    num_budgets = len({record.budget_flops for record in below})
    row: dict[str, Any] = {
        "max_flops_fraction": fraction,
        "largest_fitted_flops": largest,
        "extrapolation_ratio": target_flops / largest if largest else None,
        "num_runs": len(below),
        "num_budgets": num_budgets,
        "level": plan.fit.level,
        **dict.fromkeys(NUMBERS),
        "phase": None,
        "forecastable": False,
        "not_forecastable_because": [],
    }
    if num_budgets < MIN_BUDGETS:
        reason = f"{num_budgets} budgets lie under this cut-off, {fraction * target_flops:.3g} FLOPs"
        return row | {"not_forecastable_because": [f"{reason}; a forecast needs {MIN_BUDGETS}"]}
    above, _ = above_knee(below)
    try:
        found = forecast(make_ladder(as_table(above)), target_flops, plan.fit.level)
    except FitError as error:
        return row | {"not_forecastable_because": [str(error)]}
    phase = phase_of(above, plan.fit.copying_nats)
    reasons = [*too_wide(found), *phase[NOT_ONE_PHASE]]
    return row | {
        "num_runs": len(above),
        "num_budgets": len({record.budget_flops for record in above}),
        **{name: getattr(found, name) for name in NUMBERS},
        "phase": phase["phase"],
        "forecastable": not reasons,
        "not_forecastable_because": reasons,
    }


def judge_cut_offs(rows: list[dict[str, Any]], loss: float, phase: str) -> list[dict[str, Any]]:
    """Predicted against measured per sealed cut-off; ``held`` is None where nothing was forecast.

    A target in another phase than the runs below the cut-off is a miss, wherever its loss lies.
    """
    judged = []
    for row in rows:
        inside = row["low"] <= loss <= row["high"] if row["forecastable"] else None
        error = row["prediction"] / loss - 1 if row["prediction"] is not None else None
        held = inside and phase == row["phase"] if inside is not None else None
        judged.append({**row, "measured": loss, "error": error, "inside_interval": inside, "held": held})
    return judged


def cut_off_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The forecasts, and if there is one the measurement beside them, in a line each."""
    lines = []
    for row in rows:
        name = f"  from {cut_off_text(row['max_flops_fraction'])}: "
        numbers = f"{row['prediction']:.4f} ({row['low']:.4f} to {row['high']:.4f})" if row["prediction"] else ""
        if row["forecastable"]:
            word = {True: "HELD, ", False: "MISSED, ", None: ""}[row.get("held")]
            off = f", {row['error']:+.2%} off" if "error" in row else ""
            lines.append(f"{name}{word}{numbers}{off} at {row['extrapolation_ratio']:,.4g} times")
        else:
            lines.append(f"{name}not forecastable: {'; '.join(row['not_forecastable_because'])}")
    return lines
