"""Verify: recompute all that a seal rests on, then compare the prediction with what was measured.

    python -m sweep.verify sweeps/NAME [sweeps/OTHER ...] [--json]

Writes verdict.json: ``judged`` with the error, ``waiting`` while the target is not done, or ``refused`` with every
reason: an altered seal or file, a forecast that the records do not give, a run above the cut-off, a late seal.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from sweep.capability import capability_of, judge_buckets, measured_bucket, measured_clean, read_counts, sealed_part
from sweep.claims import (
    above_cut_off,
    does_not_follow,
    has_started,
    wrong_capability,
    wrong_contamination,
    wrong_records,
)
from sweep.contamination import (
    clean_loss_of,
    contamination_counts,
    contamination_summary,
    hit_tasks,
    read_contamination,
)
from sweep.errors import SweepError, run_main
from sweep.folder import HASH_KEY, CorruptFile, SweepFolder, open_sweep, read_json, sha256_of_file, write_json
from sweep.phase import phase_name
from sweep.records import fitted_records, read_records
from sweep.run_spec import Plan, plan_from_json


def verify_sweep(folder: SweepFolder) -> dict[str, Any]:
    """Judge the sweep's forecast and write verdict.json."""
    verdict = _judge(folder)
    write_json(folder.verdict, verdict)
    return verdict


def _judge(folder: SweepFolder) -> dict[str, Any]:
    if not folder.seal.exists():
        return {"status": "refused", "reasons": [f"no seal: {folder.seal} does not exist"], **_comparison(folder)}
    try:
        seal = read_json(folder.seal)
    except CorruptFile as error:
        return {"status": "refused", "reasons": [f"altered seal: {error}"]}
    try:
        reasons = [*_altered(folder, seal), *_wrong(folder, seal), *_late(folder, seal)]
    except (CorruptFile, SweepError, KeyError, TypeError, ValueError) as error:
        reasons = [f"altered: what the seal rests on can't be read ({type(error).__name__}: {error})"]
    if reasons:
        return {"status": "refused", "reasons": reasons}
    return _measured(folder, seal)


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
    reasons += does_not_follow(seal, seal["phase_assumed"], plan, records)
    return reasons + wrong_capability(seal["pass_rates"], plan, folder)


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
    hits = hit_tasks(contamination)
    inside = seal["low"] <= loss <= seal["high"]
    same_phase = phase == seal["phase_assumed"]
    return {
        "status": "judged",
        "reasons": [],
        "held": inside and same_phase,
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
        "pass_rates": (
            judge_buckets(seal["pass_rates"]["buckets"], counts["problems"], capability.stop_at, hits)
            if capability is not None and counts is not None
            else None
        ),
        "contamination": {
            "found": contamination_summary(contamination),
            **_quoted_loss(measured, contamination),
            **(overall_pass_rate(counts["problems"], capability.stop_at, hits) if capability and counts else {}),
        },
    }


def _quoted_loss(measured: dict[str, Any], contamination: dict[str, Any] | None) -> dict[str, Any]:
    """The target's loss without the held-out documents that are hit, and the higher of the two losses."""
    clean = clean_loss_of(measured, contamination)
    return {
        "clean_loss_nats": clean,
        "clean_tokens": measured["clean_tokens"] if clean is not None else None,
        "clean_reason": "" if clean is not None else measured.get("clean_reason") or "measured with another search",
        "quoted_loss_nats": measured["loss_nats"] if clean is None else max(measured["loss_nats"], clean),
    }


def overall_pass_rate(problems: dict[str, Any], stop_at: int, hits: frozenset[str]) -> dict[str, Any]:
    """The target's mean pass rate over all problems, without those that are hit, and the lower of the two."""
    tasks = sorted(problems)
    every, clean = measured_bucket(tasks, problems, stop_at), measured_clean(tasks, problems, stop_at, hits)
    return {
        "pass_rate": every["pass_rate_measured"],
        "clean_pass_rate": clean["clean_pass_rate_measured"],
        "quoted_pass_rate": clean["quoted_pass_rate"],
    }


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
    if verdict["status"] != "judged":
        text = f"{folder.path}: no verdict ({verdict['status']})" + "".join(f"\n  {r}" for r in verdict["reasons"])
        if "unsealed_backtest" in verdict:
            both = verdict["unsealed_backtest"]
            text += f"\n  as a backtest: {both['prediction']:.4f} against {both['measured']:.4f} ({both['error']:+.2%})"
        return text
    word = "HELD" if verdict["held"] else "MISSED"
    lines = [
        f"{folder.path}: {word}",
        f"  predicted {verdict['prediction']:.4f} nats per token, {verdict['level']:.0%} interval"
        f" {verdict['low']:.4f} to {verdict['high']:.4f}, sealed {verdict['sealed_utc']}",
        f"  measured  {verdict['measured']:.4f} +- {verdict['measured_se']:.4f}; the prediction is"
        f" {verdict['error']:+.2%} off at {verdict['extrapolation_ratio']:.4g} times the largest fitted run",
    ]
    if not verdict["phase_as_assumed"]:
        lines.append(f"  the target is in another phase than the ladder: {verdict['phase']}")
    return "\n".join([*lines, *_bucket_lines(verdict["pass_rates"] or []), *_quoted_lines(verdict)])


def _quoted_lines(verdict: dict[str, Any]) -> list[str]:
    """What stands in the training data and, if it is anything of the target's evaluation, the numbers to quote."""
    found, measured = verdict["contamination"], verdict["measured"]
    quoted = []
    if found["clean_loss_nats"] not in (None, measured):
        quoted.append(f"loss {found['quoted_loss_nats']:.4f} ({_both(measured, found['clean_loss_nats'], '.4f')})")
    if found.get("clean_pass_rate") not in (None, found.get("pass_rate")):
        both = _both(found["pass_rate"], found["clean_pass_rate"], ".3f")
        quoted.append(f"mean pass rate {found['quoted_pass_rate']:.3f} ({both})")
    lines = [f"  to quote  {', '.join(quoted)}"] if quoted else []
    if found["clean_loss_nats"] is None:
        lines.append(f"  no loss without what stands in the training data: {found['clean_reason']}")
    return [*lines, *(f"  {line}" for line in found["found"])]


def _both(every: float, clean: float, form: str) -> str:
    return f"{every:{form}} with and {clean:{form}} without what stands in the training data"


def _bucket_lines(buckets: list[dict[str, Any]]) -> list[str]:
    lines = []
    for bucket in buckets:
        measured = "not measured" if bucket["measured"] is None else f"measured {bucket['measured']:.3f}"
        if bucket["never_solved"]:
            measured += f" or more ({bucket['never_solved']} problems never solved)"
        name = f"  bucket {bucket['bucket']}, -log p: "
        if not bucket["forecastable"]:
            lines.append(f"{name}not forecast, {measured}")
            continue
        word = {True: "HELD", False: "MISSED", None: "no verdict"}[bucket["inside_interval"]]
        interval = f"{bucket['low']:.3f} to {bucket['high']:.3f}"
        lines.append(f"{name}{word}, predicted {bucket['prediction']:.3f} ({interval}), {measured}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.verify", description="Check seals and judge forecasts.")
    parser.add_argument("sweeps", type=Path, nargs="+", help="folders of sealed sweeps")
    parser.add_argument("--json", action="store_true", help="print one JSON object, keyed by folder")
    options = parser.parse_args()
    verdicts = {}
    for path in options.sweeps:
        folder = open_sweep(path)
        verdicts[str(path)] = verify_sweep(folder)
        if not options.json:
            print(summary(folder, verdicts[str(path)]))
    if options.json:
        print(json.dumps(verdicts, indent=1, allow_nan=False))
    return 0 if all(verdict["status"] != "refused" for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    run_main(main)
