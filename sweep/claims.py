"""What a forecast claims, checked against the plan, the records and the runs' own files.

Asked twice, by ``seal`` before anything is written and by ``verify`` afterwards. Every function returns a
line for each thing that does not agree; an empty list is a clean bill.
"""

import math
from dataclasses import asdict
from typing import Any

from sweep.capability import NONE, PREDICTED, capability_of, forecast_passes, sealed_part, wrong_passes
from sweep.contamination import clean_loss_of, read_contamination
from sweep.folder import RunFolder, SweepFolder, read_json
from sweep.forecast import forecast
from sweep.ladder import make_ladder
from sweep.laws import FitError
from sweep.phase import phase_of
from sweep.records import MEASURED, Record, as_table, fitted_records, planned_fields
from sweep.run_spec import Plan

_SAME = 1e-6  # relative; other processors and library versions round otherwise in the last bits


def has_started(run: RunFolder) -> bool:
    """Whether anything of the run is there: weights without a log are a start too."""
    return any(path.exists() for path in (run.metrics, run.train, run.eval, run.checkpoint.parent))


def wrong_records(plan: Plan, records: list[Record], folder: SweepFolder) -> list[str]:
    """Rows that are not the plan's runs, or not what was measured on them.

    Where a run's own folder is left out, as a published forecast may do, its row is compared with the plan alone.
    """
    by_id = {record.run_id: record for record in records}
    contamination = read_contamination(folder)
    reasons = [f"records.csv has a run that is not planned: {run_id}" for run_id in by_id.keys() - _ids(plan)]
    for run in plan.runs:
        record = by_id.get(run.run_id)
        if record is None:
            reasons.append(f"records.csv has no row for the planned run {run.run_id}")
            continue
        row, expected = asdict(record), planned_fields(run)
        evaluated = folder.run(run.run_id).eval
        if run.role == "fit" and evaluated.exists():
            measured = read_json(evaluated)
            expected |= {key: measured[key] for key in MEASURED} | {"status": "done"}
            expected["clean_loss_nats"] = clean_loss_of(measured, contamination)
        reasons += [
            f"records.csv has {key} = {row[key]} for run {run.run_id}, its own files say {value}"
            for key, value in expected.items()
            if row[key] != value
        ]
    return reasons


def wrong_contamination(plan: Plan, folder: SweepFolder) -> list[str]:
    """Signs that contamination.json, if there is one, is not of this plan's data and problems."""
    contamination = read_contamination(folder)
    if contamination is None:
        return []
    spec = capability_of(plan)
    said = {key: contamination[key] for key in ("corpus_sha256", "problems")}
    found = {"corpus_sha256": plan.corpus["sha256"], "problems": NONE if spec is None else spec.problems}
    return [
        f"contamination.json is of {key} {said[key]}, the plan's is {found[key]}"
        for key in said
        if said[key] != found[key]
    ]


def _ids(plan: Plan) -> set[str]:
    return {run.run_id for run in plan.runs}


def above_cut_off(plan: Plan, records: list[Record]) -> list[str]:
    """Fitted runs with more compute than the plan's cut-off allows."""
    allowed = plan.fit.max_flops_fraction * plan.target.flops
    return [
        f"above the cut-off: run {record.run_id} has {record.flops:.4g} FLOPs, more than"
        f" {plan.fit.max_flops_fraction:g} of the target's {plan.target.flops:.4g}"
        for record in fitted_records(records)
        if record.flops > allowed
    ]


def does_not_follow(claim: dict[str, Any], phase: str, plan: Plan, records: list[Record]) -> list[str]:
    """Numbers of ``claim`` (a fit or a seal) that refitting the records does not give, and a phase they are not in."""
    used = fitted_records(records)
    try:
        again = forecast(make_ladder(as_table(used)), plan.target.flops, plan.fit.level)
    except FitError as error:
        return [f"no forecast follows from the records: {error}"]
    law = again.law.relative_to(plan.target.flops)
    said = {f"coefficient {name}": claim["coefficients"][name] for name in "abc"}
    found = {f"coefficient {name}": getattr(law, name) for name in "abc"}
    for name in ("prediction", "low", "high", "level", "target_flops"):
        said[name], found[name] = claim[name], getattr(again, name)
    reasons = [
        f"does not follow: the records give {name} = {found[name]}, the claim is {said[name]}"
        for name in said
        if not _same(said[name], found[name])
    ]
    measured = phase_of(used, plan.fit.copying_nats)
    if phase != measured["phase"] or (measured["straddles"] and claim["forecastable"]):
        reasons.append(f"does not follow: the records' phase is {measured['phase']}, the claim is {phase}")
    return reasons


def wrong_capability(claim: dict[str, Any] | None, plan: Plan, folder: SweepFolder) -> list[str]:
    """Forecasts of pass rates (``claim``: the sealed part) that the plan and the counts do not give."""
    spec = capability_of(plan)
    if spec is None or not folder.passes.exists():
        return [] if claim is None else ["does not follow: pass rates are forecast and there are no counts"]
    passes = read_json(folder.passes)
    reasons = wrong_passes(plan, passes, folder)
    found = sealed_part(forecast_passes(plan, spec, passes))
    if claim is None or claim["cut_off"] != found["cut_off"]:
        return [*reasons, "does not follow: the counts give another forecast of pass rates than the claim"]
    said, again = (
        [(bucket["bucket"], bucket["tasks"], bucket["forecastable"]) for bucket in each["buckets"]]
        for each in (claim, found)
    )
    if said != again:
        return [*reasons, "does not follow: the counts sort the problems into other buckets"]
    for bucket, once_more in zip(claim["buckets"], found["buckets"], strict=True):
        reasons += [
            f"does not follow: the counts give {key} = {once_more[key]} in bucket {bucket['bucket']},"
            f" the claim is {bucket[key]}"
            for key in PREDICTED
            if bucket["forecastable"] and not _same(bucket[key], once_more[key])
        ]
    return reasons


def _same(said: float, found: float) -> bool:
    return math.isclose(said, found, rel_tol=_SAME, abs_tol=1e-9)
