"""Verify: recompute all that a seal rests on, then compare the prediction with what was measured.

    python -m sweep.verify sweeps/NAME [forecasts/OTHER ...] [--full] [--json]

Writes verdict.json: ``judged`` with the error, ``waiting`` while the target is not done, or ``refused`` with every
reason: an altered seal or file, a forecast that the records do not give, a run above the cut-off, a late seal. In a
published forecast nothing is written; its own verdict.json has to be the one that is found again.

Fits are made again: those of the loss always, those of pass rates up to the bootstrap, with ``--full`` all of it. Where
the fitting code is not the one that sealed, other numbers are a note and not a refusal (``sweep/refit.py``), as long as
the commit that the seal names holds the code that it names.
"""

import argparse
import json
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

from sweep.capability import capability_of, judge_buckets, read_counts, sealed_part
from sweep.claims import above_cut_off, has_started, wrong_capability, wrong_contamination, wrong_records, wrong_terms
from sweep.contamination import contamination_counts, hit_tasks, read_contamination
from sweep.cut_offs import cut_off_lines, cut_off_text, judge_cut_offs
from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import HASH_KEY, SweepFolder, open_sweep, read_json, sha256_of_file, write_json
from sweep.humaneval.guard import die_with_parent
from sweep.phase import phase_name
from sweep.provenance import fitting_code, fitting_code_sha256_at
from sweep.quoted import quoted_lines, quoted_numbers
from sweep.records import fitted_records, read_records
from sweep.refit import TOLERANCE, Refit, refit_loss, refit_passes
from sweep.run_spec import Plan, plan_from_json
from sweep.spec import CapabilitySpec

_HURRIED = (
    "pass rates: sorting and, at the main cut-off, estimates made again; the bootstrap, so correction and interval, and"
    " the other cut-offs' estimates only with --full"
)


def verify_sweep(folder: SweepFolder, thorough: bool = True) -> dict[str, Any]:
    """Judge the sweep's forecast and write verdict.json; that of a published forecast is compared instead.

    ``thorough``: the bootstraps of pass rates are made again too, which takes minutes for a large ladder.
    """
    verdict = _judge(folder, thorough)
    if folder.published.exists():
        reasons = _unlike_published(folder, verdict)
        return {"status": "refused", "reasons": [*verdict["reasons"], *reasons]} if reasons else verdict
    write_json(folder.verdict, verdict)
    return verdict


def _judge(folder: SweepFolder, thorough: bool) -> dict[str, Any]:
    if not folder.seal.exists():
        return {"status": "refused", "reasons": [f"no seal: {folder.seal} does not exist"], **_comparison(folder)}
    try:
        seal = read_json(folder.seal)
    except CorruptFile as error:
        return {"status": "refused", "reasons": [f"altered seal: {error}"]}
    refits: list[Refit] = []
    reasons: list[str] = []
    try:
        reasons += [*_altered(folder, seal), *_wrong(folder, seal), *_late(folder, seal)]
        refits = _refits(folder, seal, thorough)
        reasons += _does_not_follow(seal, refits)
    except (CorruptFile, SweepError, KeyError, TypeError, ValueError) as error:
        reasons.append(f"altered: what the seal rests on can't be read ({type(error).__name__}: {error})")
    if reasons:
        return {"status": "refused", "reasons": reasons}
    return {
        **_measured(folder, seal),
        "reproduced": all(refit.reproduced for refit in refits),
        "notes": _notes(folder, seal, refits, thorough),
    }


# ---- reasons to refuse ------------------------------------------------------------------------


def _altered(folder: SweepFolder, seal: dict[str, Any]) -> list[str]:
    """Files that are not those that were sealed."""
    reasons = []
    for name in sorted({path.name for path in folder.sealed_files} | seal["files"].keys()):
        path = folder.path / name
        if not path.exists():
            reasons.append(f"altered: {path} is missing")
        elif sha256_of_file(path) != seal["files"].get(name):
            reasons.append(f"altered: {path} is not the file that was sealed")
    for run_id, digest in seal["runs"].items():
        path = folder.run(run_id).eval
        # A published forecast may leave the runs' own folders out; records.csv is hashed in any case.
        if path.exists() and read_json(path)[HASH_KEY] != digest:
            reasons.append(f"altered: {path} is not the measurement that was sealed")
    return reasons


def _plan(folder: SweepFolder) -> Plan:
    return plan_from_json(read_json(folder.plan))


def _wrong(folder: SweepFolder, seal: dict[str, Any]) -> list[str]:
    """Claims of the seal that do not follow from the plan and the records."""
    plan, fit = _plan(folder), read_json(folder.fit)
    reasons = [
        f"altered: the seal's {key} is not that of fit.json"
        for key in sorted(set(seal) & set(fit) - {HASH_KEY})
        if seal[key] != fit[key]
    ]
    records = read_records(folder.records)
    if {record.run_id: record.eval_sha256 for record in fitted_records(records)} != seal["runs"]:
        reasons.append("altered: the runs that the seal names are not the finished runs of records.csv")
    if seal["cut_off"]["max_flops_fraction"] != plan.fit.max_flops_fraction:
        reasons.append("altered: the cut-off of the seal is not the plan's")
    if seal["target_run_id"] != plan.target.run_id:
        reasons.append("altered: the seal's target is not the plan's")
    reasons += [f"altered: {reason}" for reason in wrong_records(plan, records, folder)]
    reasons += [f"altered: {reason}" for reason in wrong_contamination(plan, folder)]
    if seal.get("contamination") != contamination_counts(read_contamination(folder)):
        reasons.append("altered: the seal's counts of contamination are not those of contamination.json")
    reasons += above_cut_off(plan, records)
    if seal["pass_rates"] != (fit["capability"] and sealed_part(fit["capability"])):
        reasons.append("altered: the pass rates of the seal are not those of fit.json")
    scores = [score for rung in seal["copy_scores"] for score in rung["nats"]]
    if sorted(scores) != sorted(record.copy_score_nats or 0.0 for record in fitted_records(records)):
        reasons.append("altered: the seal's copy scores are not those of the records")
    reasons += wrong_terms(seal, seal["phase_assumed"], plan, records)
    return reasons + wrong_capability(seal["pass_rates"], plan, _passes(folder), folder)


def _passes(folder: SweepFolder) -> dict[str, Any] | None:
    return read_json(folder.passes) if folder.passes.exists() else None


def _refits(folder: SweepFolder, seal: dict[str, Any], thorough: bool) -> list[Refit]:
    plan, passes = _plan(folder), _passes(folder)
    refits = refit_loss(seal, plan, read_records(folder.records))
    spec = capability_of(plan)
    if spec is not None and passes is not None:
        refits += refit_passes(seal["pass_rates"], plan, spec, passes, thorough)
    return refits


def _does_not_follow(seal: dict[str, Any], refits: list[Refit]) -> list[str]:
    """Numbers that do not come out again, where they have to, and fitting code that nobody can look at."""
    if seal["fitting"] == fitting_code():
        return [f"does not follow: {line}" for refit in refits for line in refit.differences]
    commit, named = seal["code"]["commit"], seal["fitting"]["code_sha256"]
    at_commit = fitting_code_sha256_at(commit) if commit else None
    if named not in (fitting_code()["code_sha256"], at_commit) and at_commit is not None:
        return [
            f"altered: the fitting code that the seal names is neither that of its commit {commit} nor the one here"
        ]
    return []


def _notes(folder: SweepFolder, seal: dict[str, Any], refits: list[Refit], thorough: bool) -> list[str]:
    """What refuses no seal and should be known: what was not asked, refits with other code, both numbers of each."""
    notes = [] if thorough or seal["pass_rates"] is None else [_HURRIED]
    if seal["fitting"] == fitting_code():
        return notes
    differences = [line for refit in refits for line in refit.differences]
    notes += [f"refit with other code or libraries than it was sealed with: {line}" for line in differences]
    notes += [
        f"NOT REPRODUCED BY THIS CODE: {refit.name.removesuffix(': ') or 'the loss'} moves by more than {TOLERANCE:g}"
        " of half its interval"
        for refit in refits
        if not refit.reproduced
    ]
    commit = seal["code"]["commit"]
    if commit is None or fitting_code_sha256_at(commit) is None:
        notes.append(f"the sealed commit {commit} is not in this clone, so nobody can tell here what code sealed it")
    elif differences:
        notes.append(
            f"with the code that sealed it: git worktree add ../sealed {commit} && (cd ../sealed"
            f" && python -m sweep.verify {folder.path.resolve()} --full)"
        )
    return notes


def _unlike_published(folder: SweepFolder, verdict: dict[str, Any]) -> list[str]:
    """Files of a published forecast that are not those that were copied, a verdict that is not the one found again."""
    try:
        index = read_json(folder.published)
        reasons = [
            f"altered: {folder.path / name} is not the file that was published"
            for name, digest in index["files"].items()
            if not (folder.path / name).exists() or sha256_of_file(folder.path / name) != digest
        ]
        published = read_json(folder.verdict) if folder.verdict.exists() else {}
    except (CorruptFile, KeyError, TypeError) as error:
        return [f"altered: {error}"]
    # What later versions add to a verdict is not in it; how the code at hand does is no part of it.
    shared = (published.keys() & verdict.keys()) - {HASH_KEY, "notes", "reproduced"}
    return reasons + [
        f"altered: {folder.verdict} has {key} = {published[key]}, the files give {verdict[key]}"
        for key in sorted(shared)
        if not alike(published[key], verdict[key])
    ]


def alike(published: Any, found: Any) -> bool:
    """Equal, but for the last bits of floats and what a later version has added to a row."""
    if isinstance(published, dict) and isinstance(found, dict):
        return all(alike(value, found.get(key)) for key, value in published.items())
    if isinstance(published, list) and isinstance(found, list):
        return len(published) == len(found) and all(map(alike, published, found))
    if isinstance(published, float) and isinstance(found, float):
        return math.isclose(published, found, rel_tol=1e-9, abs_tol=1e-12)
    return bool(published == found)


def _late(folder: SweepFolder, seal: dict[str, Any]) -> list[str]:
    """Signs that the target was under way before the seal, or was started under another one."""
    reasons = []
    if seal["target_progress"] != "not started":
        reasons.append(f"late: at the seal the target was {seal['target_progress']}")
    for run in folder.same_run_elsewhere(seal["target_run_id"]):
        rows = run.rows()
        if rows and rows[0]["utc"] <= seal["sealed_utc"]:
            reasons.append(f"late: the target was started in {run.path.parent.parent} before the seal")
    target = folder.run(seal["target_run_id"])
    rows = target.rows()
    if not has_started(target):
        return reasons
    if not rows or rows[0].get("event") != "started" or rows[0]["step"] != 0:
        return [*reasons, f"late: {target.path} has no record of the target's start, so it may be older than the seal"]
    start = rows[0]
    if start["utc"] <= seal["sealed_utc"]:
        reasons.append(f"late: the target was started at {start['utc']}, the seal is of {seal['sealed_utc']}")
    if start["seal_sha256"] != seal[HASH_KEY]:
        reasons.append(f"altered seal: the target was started under the seal {start['seal_sha256']}, this is another")
    return reasons


# ---- the verdict ------------------------------------------------------------------------------


def _measured(folder: SweepFolder, seal: dict[str, Any]) -> dict[str, Any]:
    run = folder.run(seal["target_run_id"])
    try:
        state = run.state()
        if state.status == "diverged":
            return {"status": "refused", "reasons": [f"the target diverged: {state.reason}"]}
        if state.status != "done":
            return {"status": "waiting", "reasons": [f"the target is {state.status}: {state.reason}"]}
        measured, train = read_json(run.eval), read_json(run.train)
        counts = read_counts(folder, seal["target_run_id"])
    except CorruptFile as error:
        return {"status": "refused", "reasons": [f"the target's result is damaged: {error}"]}
    if measured["run_id"] != seal["target_run_id"] or train["seal_sha256"] != seal[HASH_KEY]:
        return {"status": "refused", "reasons": [f"altered: {run.path} does not belong to this seal"]}
    plan = _plan(folder)
    capability = capability_of(plan)
    if capability is not None and counts is None:
        return {"status": "waiting", "reasons": ["the target is trained, not sampled to the end yet"]}
    loss = measured["loss_nats"]
    phase = phase_name(measured["copy_score_nats"], plan.fit.copying_nats)
    contamination = read_contamination(folder)
    inside = seal["low"] <= loss <= seal["high"]
    same_phase = phase == seal["phase_assumed"]
    return {
        "status": "judged",
        "reasons": [],
        "forecastable": seal["forecastable"],
        "held": inside and same_phase if seal["forecastable"] else None,
        "inside_interval": inside,
        "phase": phase,
        "phase_as_assumed": same_phase,
        "prediction": seal["prediction"],
        "low": seal["low"],
        "high": seal["high"],
        "level": seal["level"],
        "measured": loss,
        "measured_se": measured["loss_se_nats"],
        "measured_bits_per_byte": measured["bits_per_byte"],
        "error": seal["prediction"] / loss - 1,
        "extrapolation_ratio": seal["extrapolation_ratio"],
        "sealed_utc": seal["sealed_utc"],
        "target_started_utc": train["started_utc"],
        "target_finished_utc": train["finished_utc"],
        "seal_sha256": seal[HASH_KEY],
        "eval_sha256": measured[HASH_KEY],
        "counts_sha256": counts[HASH_KEY] if counts is not None else None,
        "cut_offs": judge_cut_offs(seal["cut_offs"], loss, phase),
        **_judged_pass_rates(seal["pass_rates"], counts, capability, same_phase, hit_tasks(contamination)),
        "contamination": quoted_numbers(measured, counts, capability, contamination),
    }


def _judged_pass_rates(
    sealed: dict[str, Any] | None,
    counts: dict[str, Any] | None,
    spec: CapabilitySpec | None,
    same_phase: bool,
    hits: frozenset[str],
) -> dict[str, Any]:
    """Rows per bucket, at the main cut-off and at the further ones; in another phase than the ladder's none holds."""
    if sealed is None or counts is None or spec is None:
        return {"pass_rates": None, "pass_rate_cut_offs": []}
    parts = []
    for part in (sealed, *sealed["cut_offs"]):
        rows = judge_buckets(part["buckets"], counts["problems"], spec.stop_at, hits)
        for row in rows:
            row["held"] = row["inside_interval"] if same_phase or not row["forecastable"] else False
        parts.append({"max_flops_fraction": part["cut_off"]["max_flops_fraction"], "buckets": rows})
    return {"pass_rates": parts[0]["buckets"], "pass_rate_cut_offs": parts[1:]}


def _comparison(folder: SweepFolder) -> dict[str, Any]:
    """Without a seal nothing is judged; where both numbers are at hand they are shown as a backtest."""
    try:
        fit, target = read_json(folder.fit), folder.run(_plan(folder).target.run_id)
        if target.state().status == "done":
            loss = read_json(target.eval)["loss_nats"]
            both = {"prediction": fit["prediction"], "measured": loss, "error": fit["prediction"] / loss - 1}
            return {"unsealed_backtest": both}
    except CorruptFile:
        pass
    return {}


def summary(folder: SweepFolder, verdict: dict[str, Any]) -> str:
    """The verdict in a few lines, whatever should be known with it last."""
    return "\n".join([_verdict_text(folder, verdict), *(f"  note: {note}" for note in verdict.get("notes", []))])


def _verdict_text(folder: SweepFolder, verdict: dict[str, Any]) -> str:
    if verdict["status"] != "judged":
        text = f"{folder.path}: no verdict ({verdict['status']})" + "".join(f"\n  {r}" for r in verdict["reasons"])
        if "unsealed_backtest" in verdict:
            both = verdict["unsealed_backtest"]
            text += f"\n  as a backtest: {both['prediction']:.4f} against {both['measured']:.4f} ({both['error']:+.2%})"
        return text
    word = {True: "HELD", False: "MISSED", None: "NOT FORECAST, so neither held nor missed"}[verdict["held"]]
    lines = [
        f"{folder.path}: {word}",
        f"  predicted {verdict['prediction']:.4f} nats per token, {verdict['level']:.0%} interval"
        f" {verdict['low']:.4f} to {verdict['high']:.4f}, sealed {verdict['sealed_utc']}",
        f"  measured  {verdict['measured']:.4f} +- {verdict['measured_se']:.4f}; the prediction is"
        f" {verdict['error']:+.2%} off at {verdict['extrapolation_ratio']:.4g} times the largest fitted run",
    ]
    if not verdict["phase_as_assumed"]:
        lines.append(f"  the target is in another phase than the ladder: {verdict['phase']}")
    lines += [*cut_off_lines(verdict["cut_offs"]), *_bucket_lines(verdict["pass_rates"] or [], "")]
    for part in verdict["pass_rate_cut_offs"]:
        lines += _bucket_lines(part["buckets"], f"from {cut_off_text(part['max_flops_fraction'])}, ")
    return "\n".join([*lines, *quoted_lines(verdict)])


def _bucket_lines(buckets: list[dict[str, Any]], where: str) -> list[str]:
    lines = []
    for bucket in buckets:
        measured = "not measured" if bucket["measured"] is None else f"measured {bucket['measured']:.3f}"
        if bucket["never_solved"]:
            measured += f" or more ({bucket['never_solved']} problems never solved)"
        name = f"  {where}bucket {bucket['bucket']}, -log p: "
        if not bucket["forecastable"]:
            lines.append(f"{name}not forecast, {measured}")
            continue
        word = {True: "HELD", False: "MISSED", None: "no verdict"}[bucket["held"]]
        interval = f"{bucket['low']:.3f} to {bucket['high']:.3f}"
        lines.append(f"{name}{word}, predicted {bucket['prediction']:.3f} ({interval}), {measured}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.verify", description="Check seals and judge forecasts.")
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of sealed sweeps")
    parser.add_argument("--full", action="store_true", help="make the bootstraps of pass rates again too: minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object, keyed by folder")
    options = parser.parse_args()
    folders = [open_sweep(path) for path in options.sweeps]
    # With --full each forecast takes all cores by itself.
    number = 1 if options.full else min(len(folders), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(number, multiprocessing.get_context("fork"), initializer=die_with_parent) as pool:
        found = pool.map(verify_sweep, folders, repeat(options.full))
        verdicts = {}
        for path, folder, verdict in zip(options.sweeps, folders, found, strict=True):
            verdicts[str(path)] = verdict
            if not options.json:
                print(summary(folder, verdict))
    if options.json:
        print(json.dumps(verdicts, indent=1, allow_nan=False))
    return 0 if all(verdict["status"] != "refused" for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    run_main(main)
