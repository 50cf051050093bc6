"""What a forecast claims, checked against the plan, the records and the runs' own files.

Asked twice, by ``seal`` before anything is written and by ``verify`` afterwards. Every function returns a
line for each thing that does not agree; an empty list is a clean bill. Whether the numbers come out again is
asked in ``sweep/refit.py``.
"""

from dataclasses import asdict
from typing import Any

from sweep.capability import NONE, capability_of, wrong_passes
from sweep.contamination import clean_loss_of, read_contamination
from sweep.folder import RunFolder, SweepFolder, read_json
from sweep.phase import above_knee, phase_of
from sweep.records import MEASURED, Record, fitted_records, planned_fields
from sweep.run_spec import Plan


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


def wrong_terms(claim: dict[str, Any], phase: str, plan: Plan, records: list[Record]) -> list[str]:
    """What a fit or a seal (``claim``) says of its own terms: target, level, cut-offs, phase."""
    used = fitted_records(records)
    said = {key: claim[key] for key in ("level", "target_flops")}
    reasons = [
        f"does not follow: the plan gives {key} = {value}, the claim is {said[key]}"
        for key, value in (("level", plan.fit.level), ("target_flops", plan.target.flops))
        if said[key] != value
    ]
    terms = [(row["max_flops_fraction"], row["level"], row["largest_fitted_flops"]) for row in claim["cut_offs"]]
    expected = [(fraction, plan.fit.level, _largest_under(fraction, plan, used)) for fraction in plan.fit.more_cut_offs]
    if terms != expected:
        reasons.append(f"does not follow: the plan's further cut-offs are {expected}, the claim's {terms}")
    measured = phase_of(above_knee(used)[0], plan.fit.copying_nats)
    if phase != measured["phase"] or (measured["straddles"] and claim["forecastable"]):
        reasons.append(f"does not follow: the records' phase is {measured['phase']}, the claim is {phase}")
    return reasons


def _largest_under(fraction: float, plan: Plan, used: list[Record]) -> float | None:
    return max((record.flops for record in used if record.flops <= fraction * plan.target.flops), default=None)


def wrong_capability(
    claim: dict[str, Any] | None, plan: Plan, passes: dict[str, Any] | None, folder: SweepFolder
) -> list[str]:
    """What forecasts of pass rates (``claim``: the sealed part) rest on, if it is not what plan and runs give."""
    spec = capability_of(plan)
    if spec is None or passes is None:
        return [] if claim is None else ["does not follow: pass rates are forecast and there are no counts"]
    if claim is None:
        return ["does not follow: there are counts and no forecast of pass rates"]
    flops = [run.flops for run in plan.fit_runs if run.run_id in passes["runs"]]
    fractions = [spec.max_flops_fraction, *spec.more_cut_offs]
    expected = [(each, max((f for f in flops if f <= each * plan.target.flops), default=0.0)) for each in fractions]
    parts = [part["cut_off"] for part in (claim, *claim["cut_offs"])]
    terms = [(part["max_flops_fraction"], part["largest_fitted_flops"]) for part in parts]
    reasons = wrong_passes(plan, passes, folder)
    if terms != expected:
        reasons.append(f"does not follow: the counts' cut-offs are {expected}, the claim's {terms}")
    return reasons
