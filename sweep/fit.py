"""Fit: from finished runs to a forecast with its interval.

    python -m sweep.fit sweeps/NAME                                   reads records.csv, writes fit.json
    python -m sweep.fit TABLE --target-flops 1e21 [1e22 ...] [--json]    anybody's runs: CSV, JSON lines, parquet

How: ``sweep/table.py`` reads, ``sweep/ladder.py`` finds the least loss at each compute, ``sweep/laws.py`` and
``sweep/surface.py`` hold the forms, ``sweep/forecast.py`` tries them on the ladder and mixes them. The target is
never looked at: what a sweep is fitted with are rows of role ``fit`` and status ``done``, and every other row is
listed.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from sweep.capability import capability_of, forecast_passes
from sweep.cut_offs import forecast_cut_offs
from sweep.errors import SweepError, run_main
from sweep.folder import SweepFolder, open_sweep, read_json, write_json
from sweep.forecast import SURFACE_TEXT, Forecast, forecast, mix_of, too_wide
from sweep.forecast_text import summary
from sweep.ladder import Ladder, make_ladder
from sweep.laws import FLOOR_PRIOR, FORMS, FitError, Points, best_law
from sweep.phase import NOT_ONE_PHASE, above_knee, phase_of
from sweep.records import Record, as_table, fitted_records, read_records
from sweep.run_spec import Plan, read_plan
from sweep.spec import MIN_BUDGETS
from sweep.table import Table, read_table

LAW = "L(C) = a * (C / C_target)^b + c"
_NEAR = 2.0  # a target less than this many times the largest run is hardly an extrapolation
_CURVE_POINTS = 25
_WILD, _WILD_AT_LEAST = 6.0, 0.01  # times the median residual, and relative: a budget to look at
_RATIO_DRIFT = 3.0  # of tokens per parameter over a ladder
_UNTESTED = 30.0  # times the largest ratio of a backtest
_LIKELY = 0.9  # of the weight: floors within it fit as well as the best
_FLOOR_MATTERS = 0.01  # change of the forecast over those floors that is worth a warning
_SAME_CONVENTION = 1e-3  # spread of log(FLOPs / 6ND) below which the two are the same


def fit_table(table: Table, target_flops: float, level: float) -> dict[str, Any]:
    """The forecast for one target as plain data: see the keys below.

    Raises:
        SweepError: the target lies within the fitted range, or no forecast exists.
    """
    try:
        ladder = make_ladder(table)
        largest = float(ladder.points.flops.max())
        if target_flops <= largest:
            raise SweepError(
                f"the target's {target_flops:.4g} FLOPs lie within the fitted range, which ends at {largest:.4g}",
                "a target above every fitted run",
                "raise the target, or leave out the runs at and above it",
            )
        found = forecast(ladder, target_flops, level)
    except FitError as error:
        raise SweepError(
            f"{table.source}: there is no forecast: {error}",
            f"losses that fall over at least {MIN_BUDGETS} budgets",
            "look at the runs: add budgets if there are too few, mend the recipe if more compute did not help",
        ) from error
    return _as_data(found, table)


def _as_data(found: Forecast, table: Table) -> dict[str, Any]:
    ladder, target_flops = found.ladder, found.target_flops
    law = found.law.relative_to(target_flops)
    floors = _floor_profile(found)
    reasons = too_wide(found)
    return {
        "law": LAW,
        "form": found.leading.form.text,
        "unit": table.unit,
        "coefficients": vars(law),
        "target_flops": target_flops,
        "prediction": found.prediction,
        "low": found.low,
        "high": found.high,
        "level": found.level,
        "forecastable": not reasons,
        "not_forecastable_because": reasons,
        "warnings": [*_warnings(found, floors), *_doubts_about_runs(found, table)],
        "extrapolation_ratio": target_flops / float(ladder.points.flops.max()),
        "num_runs": ladder.num_runs,
        "num_budgets": len(ladder.points),
        "ladder": {
            "kind": ladder.kind,
            "flops": ladder.points.flops.tolist(),
            "loss": ladder.points.loss.tolist(),
        },
        "noise": {"relative_sd": found.leading.mean_noise(), "replicate_sd": ladder.replicate_sd},
        "forms_tried": _forms_tried(found),
        "interval_widened": found.widened,
        "backtests": found.backtests,
        "what_would_change_it": _sensitivity(found),
        "floor_profile": floors,
        "curve": _curve(found),
        "notes": [*ladder.notes, *_compare_conventions(table, ladder)],
        "set_aside": ladder.set_aside,
    }


def _warnings(found: Forecast, floors: list[dict[str, Any]]) -> list[str]:
    warnings = []
    ladder = found.ladder
    if len(ladder.points) < MIN_BUDGETS:
        warnings.append(
            f"{len(ladder.points)} budgets; with fewer than {MIN_BUDGETS} the forecast rests on what published laws"
            " have in common"
        )
    ratio = found.target_flops / float(ladder.points.flops.max())
    if ratio < _NEAR:
        warnings.append(f"the target is only {ratio:.2f} times the largest run")
    law = found.law
    if law.c == 0 and found.leading.form.has_floor:
        warnings.append("the irreducible loss c is at its bound, 0: these runs can't tell it from none")
    if ladder.replicate_sd is None and ladder.kind == "budgets":
        warnings.append("no budget has more than one run: noise between seeds is taken from the residuals alone")
    as_well = [row for row in floors if row["fits_as_well"]]
    spread = abs(as_well[-1]["prediction"] - as_well[0]["prediction"]) / found.prediction
    if spread > _FLOOR_MATTERS:
        warnings.append(
            f"a floor c anywhere from {as_well[0]['c']:.2f} to {as_well[-1]['c']:.2f} fits as well;"
            f" at this target that is {spread:.1%}"
        )
    missed = [test for test in found.backtests if not test["inside"]]
    if len(missed) > (1 - found.level) * len(found.backtests) + 1:
        warnings.append(
            f"{len(missed)} of {len(found.backtests)} backtests on these runs missed their {found.level:.0%} interval"
        )
    return warnings


def _doubts_about_runs(found: Forecast, table: Table) -> list[str]:
    """What the runs show that a law of compute alone can't: a wild one, a ratio that drifts, a top left out."""
    doubts = []
    points, top = found.ladder.points, float(found.ladder.points.flops.max())
    residual = np.log(points.loss / found.law(points.flops))
    usual = float(np.median(np.abs(residual)))
    doubts += [
        f"the budget {flops:.3g} lies {off:+.1%} off the law, {abs(off) / usual:.0f} times the usual: look at its runs"
        for flops, off in zip(points.flops, residual, strict=True)
        if abs(off) > max(_WILD * usual, _WILD_AT_LEAST)
    ]
    if found.ladder.kind == "budgets" and table.params is not None and table.tokens is not None:
        ratio = table.tokens / table.params
        if ratio.max() / ratio.min() > _RATIO_DRIFT:
            doubts.append(
                f"tokens per parameter go from {ratio[np.argmin(table.flops)]:.3g} at the smallest run to"
                f" {ratio[np.argmax(table.flops)]:.3g} at the largest: one law holds only for one way to spend compute"
            )
    if table.flops.max() > 1.01 * top:
        doubts.append(
            f"the table has runs of up to {table.flops.max():.4g} FLOPs that do not count (set aside); the ladder ends"
            f" at {top:.4g}"
        )
    tested = max((test["ratio"] for test in found.backtests), default=1.0)
    if found.target_flops / top > _UNTESTED * tested:
        doubts.append(
            f"the target is {found.target_flops / top:.3g} times the largest run; inside these runs no more than"
            f" {tested:.3g} times could be tested"
        )
    return doubts


def _floor_profile(found: Forecast) -> list[dict[str, float | bool]]:
    """For each floor that is not ruled out: its share of the weight and the loss it forecasts, other things free."""
    rows = found.posteriors["floor"].floors(found.target_flops)
    heaviest_first = sorted(rows, key=lambda row: -row[1])
    share, likely = 0.0, set()
    for c, weight, _ in heaviest_first:
        likely.add(c)
        share += weight
        if share >= _LIKELY:
            break
    low, high = min(likely), max(likely)
    return [
        {"c": c, "share": weight, "prediction": prediction, "fits_as_well": bool(low <= c <= high)}
        for c, weight, prediction in rows
    ]


def _forms_tried(found: Forecast) -> list[dict[str, Any]]:
    text = {form.name: form.text for form in FORMS} | {"surface": SURFACE_TEXT}
    rows = []
    for name, part in found.parts.items():
        low, median, high = (
            math.exp(part.quantile(share)) for share in ((1 - found.level) / 2, 0.5, (1 + found.level) / 2)
        )
        rows.append(
            {
                "form": text[name],
                "prediction": median,
                "low": low,
                "high": high,
                "weight": found.weights[name],
                "used": found.weights[name] >= 0.01,
            }
        )
    return rows


def _sensitivity(found: Forecast) -> list[dict[str, Any]]:
    """The forecast without the smallest and without the largest budget, with the same weights."""
    pts = found.ladder.points
    order = np.argsort(pts.flops)
    rows = []
    for change, kept in (("without the smallest budget", order[1:]), ("without the largest budget", order[:-1])):
        fewer = Points(pts.flops[kept], pts.loss[kept], pts.variance[kept], pts.run_variance)
        prediction = math.exp(mix_of(fewer, found.weights, found.target_flops).quantile(0.5))
        rows.append({"change": change, "prediction": prediction, "by": prediction / found.prediction - 1})
    return rows


def _curve(found: Forecast) -> list[dict[str, float]]:
    """Forecast and interval from the smallest run to the target, for the figure."""
    rows = []
    for flops in np.geomspace(float(found.ladder.points.flops.min()), found.target_flops, _CURVE_POINTS):
        prediction, low, high = found.at(float(flops))
        rows.append({"flops": float(flops), "prediction": prediction, "low": low, "high": high})
    return rows


def _compare_conventions(table: Table, ladder: Ladder) -> list[str]:
    """How straight the law is against the table's FLOPs and against 6ND, where the two differ and both are known."""
    if table.params is None or table.tokens is None or ladder.kind != "budgets":
        return []
    six_nd = 6 * table.params * table.tokens
    if np.ptp(np.log(six_nd / table.flops)) < _SAME_CONVENTION:
        return []
    try:
        other = make_ladder(Table(table.source, table.where, six_nd, table.loss)).points
        exact, usual = (math.sqrt(best_law(each, FLOOR_PRIOR, 0.003)[1] / len(each)) for each in (ladder.points, other))
    except FitError:  # counted so, the runs are no ladder
        return []
    return [f"residuals of a*C^b + c: {exact:.2%} against the table's FLOPs, {usual:.2%} against 6ND"]


# ---- a sweep's folder -------------------------------------------------------------------------


def fit_sweep(plan: Plan, records: list[Record], passes: dict[str, Any] | None = None) -> dict[str, Any]:
    """What goes into fit.json: both laws where the runs were sampled (``passes``), else that of the loss.

    Raises:
        SweepError: the plan has no target; fewer than five budgets have a finished run; no fit exists.
    """
    target_flops = plan.target.flops
    finished = fitted_records(records)
    if len({record.budget_flops for record in finished}) < MIN_BUDGETS:
        unfinished = [f"{r.run_id}: {r.status}, {r.reason}" for r in records if r.role == "fit" and r.status != "done"]
        raise SweepError(
            f"runs of {len({r.budget_flops for r in finished})} budgets are done in the sweep {plan.name}"
            + "".join(f"\n    {line}" for line in unfinished),
            f"finished runs at {MIN_BUDGETS} budgets at least",
            "launch again to train what is missing; a diverged run needs another recipe, so another name",
        )
    used, below_knee = above_knee(finished)
    result = fit_table(as_table(used), target_flops, plan.fit.level)
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
    if below_knee:
        warnings.append(
            f"{len(below_knee)} budgets lie below the knee of copying and are set aside: the law is that of the others,"
            f" from {min(record.budget_flops for record in used):.3g} FLOPs up"
        )
    warnings += [f"run {record.run_id} is in the fit and marked: {record.marks}" for record in used if record.marks]
    warnings += _below_straight(used, plan.config.get("model", {}).get("straight_from_flops", 0.0))
    if len({record.code_sha256 for record in used}) > 1:
        warnings.append("the runs were trained by different versions of the code")
    if phase[NOT_ONE_PHASE]:
        result["forecastable"] = False
        result["not_forecastable_because"] += phase[NOT_ONE_PHASE]
    return {
        **result,
        "warnings": warnings,
        "set_aside": [*result["set_aside"], *below_knee],
        "runs_used": make_ladder(as_table(used)).where,
        "runs_set_aside": set_aside,
        "phase": phase,
        "cut_offs": forecast_cut_offs(finished, plan),
        "capability": _fit_capability(plan, passes),
    }


def _fit_capability(plan: Plan, passes: dict[str, Any] | None) -> dict[str, Any] | None:
    capability = capability_of(plan)
    return forecast_passes(plan, capability, passes) if capability is not None and passes is not None else None


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
    passes = read_json(folder.passes) if folder.passes.exists() else None
    result = fit_sweep(read_plan(folder), read_records(folder.records), passes)
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


# ---- the command ------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.fit", description="Forecast the loss of a larger run.")
    parser.add_argument("source", type=Path, help="a sweep's folder, or a table with columns flops and loss")
    parser.add_argument("--target-flops", type=float, nargs="+", help="compute to forecast for (a sweep has its own)")
    parser.add_argument("--level", type=float, default=0.9, help="of the interval for a table (default 0.9)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, or a list of one per target")
    options = parser.parse_args(arguments)
    if not options.source.exists():
        raise SweepError(f"there is no {options.source}", "a sweep's folder or a table", "check the path")
    if options.source.is_dir():
        results = [fit_folder(open_sweep(options.source))]
    else:
        targets = options.target_flops or []
        if not targets or not all(0 < target < math.inf for target in targets):
            parser.error("a table needs --target-flops, a positive number")
        if not 0 < options.level < 1:
            parser.error("--level lies between 0 and 1")
        table = read_table(options.source)
        results = [fit_table(table, target, options.level) for target in targets]
    if options.json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=1, allow_nan=False))
    else:
        print("\n\n".join(map(summary, results)))
    return 0


if __name__ == "__main__":
    run_main(main)
