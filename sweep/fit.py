"""Fit: from finished runs to the law and a forecast with its interval.

    python -m sweep.fit sweeps/NAME                                   reads records.csv, writes fit.json
    python -m sweep.fit TABLE.csv --target-flops 1e21 [--json]        any table with flops and loss columns

The law is L(C) = a C^b + c (``sweep/laws.py``), C relative to the target's compute. The target is never
looked at: what it is fitted with are rows of role ``fit`` and status ``done``, and every other row is listed.
"""

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import SweepError, run_main
from sweep.folder import SweepFolder, open_sweep, write_json
from sweep.laws import NUM_COEFFICIENTS, FitError, Forecast, budget_groups, floor_profile, forecast
from sweep.phase import phase_of
from sweep.records import Record, fitted_records, points, read_records
from sweep.run_spec import Plan, read_plan
from sweep.spec import MIN_BUDGETS

LAW = "L(C) = a * (C / C_target)^b + c"
_WIDE = 0.25  # half-width of the interval over the prediction from which a forecast says nothing
_NEAR = 2.0  # a target less than this many times the largest run is hardly an extrapolation
_CURVE_POINTS = 13
_BACKTEST_CUTS = 5


def fit_points(
    flops: NDArray[np.float64], loss: NDArray[np.float64], target_flops: float, level: float
) -> dict[str, Any]:
    """The forecast for one target as plain data: see the keys below.

    Raises:
        SweepError: the target lies within the fitted range, or no fit exists.
    """
    largest = float(flops.max())
    if target_flops <= largest:
        raise SweepError(
            f"the target's {target_flops:.4g} FLOPs lie within the fitted range, which ends at {largest:.4g}",
            "a target above every fitted run",
            "raise the target, or leave out the runs at and above it",
        )
    try:
        best = forecast(flops, loss, target_flops, level)
    except FitError as error:
        raise SweepError(
            f"there is no forecast: {error}",
            f"losses that fall over at least {MIN_BUDGETS} budgets",
            "look at the runs: add budgets if there are too few, mend the recipe if more compute did not help",
        ) from error
    profile = floor_profile(flops, loss, best)
    reasons = _reasons_against(best)
    law = best.fitted.law.relative_to(target_flops)
    return {
        "law": LAW,
        "coefficients": {"a": law.a, "b": law.b, "c": law.c, "reference_flops": target_flops},
        "target_flops": target_flops,
        "prediction": best.prediction,
        "low": best.low,
        "high": best.high if math.isfinite(best.high) else None,
        "level": level,
        "forecastable": not reasons,
        "not_forecastable_because": reasons,
        "warnings": _warnings(flops, best, profile),
        "extrapolation_ratio": target_flops / largest,
        "num_runs": len(flops),
        "num_budgets": int(budget_groups(flops).max()) + 1,
        "noise": vars(best.noise),
        "floor_profile": profile,
        "backtests": backtests(flops, loss, level),
        "forms_tried": _forms_tried(best, profile),
        "curve": _curve(flops, loss, target_flops, level),
    }


def _reasons_against(best: Forecast) -> list[str]:
    reasons = []
    half_width = (best.high - best.low) / 2 / best.prediction
    if half_width > _WIDE:
        reasons.append(f"the interval is wider than {_WIDE:.0%} of the prediction to either side")
    if best.fitted.at_bound and "exponent" in best.fitted.at_bound:
        reasons.append(best.fitted.at_bound)
    return reasons


def _warnings(flops: NDArray[np.float64], best: Forecast, profile: list[dict[str, Any]]) -> list[str]:
    warnings = []
    num_budgets = int(budget_groups(flops).max()) + 1
    if num_budgets < MIN_BUDGETS:
        warnings.append(f"{num_budgets} budgets; with fewer than {MIN_BUDGETS} the interval rests on almost nothing")
    ratio = best.target_flops / float(flops.max())
    if ratio < _NEAR:
        warnings.append(f"the target is only {ratio:.2f} times the largest run")
    if best.fitted.at_bound:
        warnings.append(best.fitted.at_bound)
    if best.noise.replicate_sd is None:
        warnings.append("no budget has more than one run: noise between seeds is taken from the residuals alone")
    as_well = [point for point in profile if point["fits_as_well"]]
    if as_well:
        low, high = as_well[0], as_well[-1]
        spread = abs(high["prediction"] - low["prediction"]) / best.prediction
        if spread > 0.01:
            warnings.append(
                f"a floor c anywhere from {low['c']:.2f} to {high['c']:.2f} fits as well;"
                f" at this target that is {spread:.1%}"
            )
    return warnings


def _forms_tried(best: Forecast, profile: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The law with and without a floor; the first entry of the profile is c = 0."""
    return [
        {"form": "a*C^b + c", "sse": best.fitted.sse, "prediction": best.prediction, "used": True},
        {"form": "a*C^b", "sse": profile[0]["sse"], "prediction": profile[0]["prediction"], "used": False},
    ]


def backtests(flops: NDArray[np.float64], loss: NDArray[np.float64], level: float) -> list[dict[str, float]]:
    """Forecasts of larger budgets from smaller ones, at cuts that leave enough to fit; a handful for long tables.

    ``measured`` is the mean over a budget's seeds, so the interval (for one run) is a little wide for it.
    """
    groups = budget_groups(flops)
    last = int(groups.max())
    results = []
    for cut in _spread(NUM_COEFFICIENTS, last - 1):
        known = groups <= cut
        for ahead in _spread(cut + 1, last):
            flops_ahead, measured = float(flops[groups == ahead].mean()), float(loss[groups == ahead].mean())
            try:
                test = forecast(flops[known], loss[known], flops_ahead, level)
            except FitError:
                continue
            results.append(
                {
                    "largest_fitted_flops": float(flops[known].max()),
                    "flops": flops_ahead,
                    "ratio": flops_ahead / float(flops[known].max()),
                    "prediction": test.prediction,
                    "measured": measured,
                    "error": test.prediction / measured - 1,
                    "inside": bool(test.low <= measured <= test.high),
                }
            )
    return results


def _spread(first: int, last: int) -> list[int]:
    """Whole numbers from ``first`` to ``last``, at most ``_BACKTEST_CUTS`` of them and evenly spread."""
    if first > last:
        return []
    return sorted({round(number) for number in np.linspace(first, last, min(_BACKTEST_CUTS, last - first + 1))})


def _curve(
    flops: NDArray[np.float64], loss: NDArray[np.float64], target_flops: float, level: float
) -> list[dict[str, float | None]]:
    """Law and interval from the smallest run to the target, for the figure."""
    curve: list[dict[str, float | None]] = []
    for at in np.geomspace(float(flops.min()), target_flops, _CURVE_POINTS):
        here = forecast(flops, loss, float(at), level)
        high = here.high if math.isfinite(here.high) else None
        curve.append({"flops": float(at), "prediction": here.prediction, "low": here.low, "high": high})
    return curve


# ---- a sweep's folder -------------------------------------------------------------------------


def fit_sweep(plan: Plan, records: list[Record]) -> dict[str, Any]:
    """What goes into fit.json.

    Raises:
        SweepError: the plan has no target; fewer than five budgets have a finished run; no fit exists.
    """
    target_flops = plan.target.flops
    used = fitted_records(records)
    if len({record.budget_flops for record in used}) < MIN_BUDGETS:
        unfinished = [f"{r.run_id}: {r.status}, {r.reason}" for r in records if r.role == "fit" and r.status != "done"]
        raise SweepError(
            f"runs of {len({r.budget_flops for r in used})} budgets are done in the sweep {plan.name}"
            + "".join(f"\n    {line}" for line in unfinished),
            f"finished runs at {MIN_BUDGETS} budgets at least",
            "launch again to train what is missing; a diverged run needs another recipe, so another name",
        )
    result = fit_points(*points(used), target_flops, plan.fit.level)
    phase = phase_of(used, plan.fit.copying_nats)
    set_aside = [
        {"run_id": record.run_id, "status": record.status, "reason": record.reason}
        for record in records
        if record.role == "fit" and record.status != "done"
    ]
    warnings = [*result["warnings"], *phase["warnings"]]
    if set_aside:
        names = ", ".join(f"{run['run_id']} ({run['status']})" for run in set_aside)
        warnings.append(f"planned runs that are not in the fit: {names}")
    warnings += [f"run {record.run_id} is in the fit and marked: {record.marks}" for record in used if record.marks]
    warnings += _below_straight(used, plan.config.get("model", {}).get("straight_from_flops", 0.0))
    if len({record.code_sha256 for record in used}) > 1:
        warnings.append("the runs were trained by different versions of the code")
    if phase["straddles"]:
        result["forecastable"] = False
        result["not_forecastable_because"].append("the ladder straddles a phase change")
    return {
        **result,
        "warnings": warnings,
        "runs_used": [record.run_id for record in used],
        "runs_set_aside": set_aside,
        "phase": phase,
    }


def fit_folder(folder: SweepFolder) -> dict[str, Any]:
    """Fit the sweep and write fit.json.

    Raises:
        SweepError: the sweep is sealed, or there is no fit.
    """
    if folder.seal.exists():
        raise SweepError(
            f"{folder.path} is sealed",
            "fit.json as the seal found it",
            f"nothing: the forecast stands; fit {folder.records} as a table to look at it again",
        )
    result = fit_sweep(read_plan(folder), read_records(folder.records))
    write_json(folder.fit, result)
    return result


def _below_straight(used: list[Record], straight_from_flops: float) -> list[str]:
    below = sorted({record.budget_flops for record in used if record.budget_flops < straight_from_flops})
    if not below:
        return []
    return [
        f"THE LADDER BEGINS BELOW {straight_from_flops:.3g} FLOPs, from where this recipe's law was measured to be"
        f" straight: the budgets {', '.join(f'{budget:.3g}' for budget in below)} can bend the forecast"
    ]


# ---- anybody's table --------------------------------------------------------------------------


def read_table(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """FLOPs and loss of a CSV table, and a line for each row that was left out and why.

    Rows of a sweep's records.csv whose role is not ``fit`` or whose status is not ``done`` are left out.

    Raises:
        SweepError: no such file or column, or a value that is no positive number; row and column are named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SweepError(f"{path} can't be read ({error})", "a CSV table", "check the path") from error
    loss_column = next((name for name in ("loss", "loss_nats") if name in columns), None)
    if "flops" not in columns or loss_column is None:
        raise SweepError(
            f"{path} has the columns {', '.join(columns) or '(none)'}",
            "a column 'flops' (training FLOPs of a run) and a column 'loss' (its final loss)",
            "rename the columns in the table's first line",
        )
    flops, loss, left_out = [], [], []
    for number, row in rows:
        if None in row:
            raise SweepError(
                f"{path}, line {number} goes on after its last column, {columns[-1]}: {row[None]!r}",
                f"{len(columns)} cells, as in the table's first line",
                "write decimals with a point, and quote text that holds a comma",
            )
        if row.get("role", "fit") != "fit" or row.get("status", "done") != "done":
            left_out.append(f"line {number} left out: role {row.get('role')}, status {row.get('status')}")
            continue
        flops.append(_positive(row["flops"], path, number, "flops"))
        loss.append(_positive(row[loss_column], path, number, loss_column))
    if not flops:
        raise SweepError(f"{path} has no runs to fit", "a row for each finished run", "add rows")
    return np.array(flops), np.array(loss), left_out


def _positive(text: str | None, path: Path, line: int, column: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise SweepError(
            f"{path}, line {line}, column {column}: {text!r}",
            "a positive finite number",
            "mend the value or remove the row; nothing is left out silently",
        )
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.fit", description="Fit L(C) = a*C^b + c and forecast.")
    parser.add_argument("source", type=Path, help="a sweep's folder, or a CSV table with columns flops and loss")
    parser.add_argument("--target-flops", type=float, help="compute to forecast for (a sweep has its own target)")
    parser.add_argument("--level", type=float, default=0.9, help="of the interval for a table (default 0.9)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.source.is_dir():
        result = fit_folder(open_sweep(options.source))
    else:
        if not (options.target_flops and 0 < options.target_flops < math.inf):
            parser.error("a table needs --target-flops, a positive number")
        if not 0 < options.level < 1:
            parser.error("--level lies between 0 and 1")
        flops, loss, left_out = read_table(options.source)
        result = fit_points(flops, loss, options.target_flops, options.level)
        result["warnings"] += left_out
    print(json.dumps(result, indent=1, allow_nan=False) if options.json else summary(result))
    return 0


def summary(result: dict[str, Any]) -> str:
    """The forecast in a few lines."""
    law = result["coefficients"]
    high = "no upper bound" if result["high"] is None else f"{result['high']:.4f}"
    lines = [
        f"law         L(C) = {law['a']:.4f} * (C / {law['reference_flops']:.4g})^{law['b']:.4f} + {law['c']:.4f}",
        f"forecast    {result['prediction']:.4f} at {result['target_flops']:.4g} FLOPs,"
        f" {result['extrapolation_ratio']:.4g} times the largest of {result['num_runs']} runs",
        f"interval    {result['low']:.4f} to {high} ({result['level']:.0%})",
        f"noise       {result['noise']['relative_sd']:.2%} per run ({result['noise']['source']})",
    ]
    lines += [f"NOT FORECASTABLE: {reason}" for reason in result["not_forecastable_because"]]
    lines += [f"warning: {warning}" for warning in result["warnings"]]
    return "\n".join(lines)


if __name__ == "__main__":
    run_main(main)
