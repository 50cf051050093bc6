"""Seal: write the prediction down before the target's first step; once, and never again.

    python -m sweep.seal sweeps/NAME

Reads plan.json, contamination.json, records.csv, passes.json and fit.json, writes seal.json: the predictions with
their intervals, what they assume, and the hashes of all that they rest on. The target's first row of metrics.jsonl
then names the seal's own hash, so neither can be exchanged later without the other.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from sweep.capability import capability_of, sealed_part
from sweep.claims import above_cut_off, has_started, wrong_capability, wrong_contamination, wrong_records, wrong_terms
from sweep.contamination import contamination_counts, read_contamination
from sweep.cut_offs import cut_off_text
from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import HASH_KEY, SweepFolder, open_sweep, read_json, sha256_of_file, write_json
from sweep.provenance import code_version, fitting_code, fitting_code_sha256_at, library_versions, utc_now
from sweep.records import Record, fitted_records, read_records
from sweep.refit import refit_loss, refit_passes
from sweep.run_spec import Plan, read_plan

log = logging.getLogger("sweep")

FROM_FIT = (
    *("law", "coefficients", "target_flops", "prediction", "low", "high", "level"),
    *("forecastable", "not_forecastable_because", "warnings", "extrapolation_ratio", "cut_offs"),
)


def seen_before(plan: Plan, folder: SweepFolder) -> list[str]:
    """Where the target has been started already, here or in a sweep beside this one; empty if nowhere."""
    target = plan.target.run_id
    here = [f"{folder.path} (here)"] if has_started(folder.run(target)) else []
    elsewhere = [run for run in folder.same_run_elsewhere(target) if has_started(run)]
    return here + [str(run.path.parent.parent) for run in elsewhere]


def seal_sweep(folder: SweepFolder, thorough: bool = True) -> dict[str, Any]:
    """Write seal.json and return it.

    ``thorough``: the bootstraps of pass rates are made again too, as ``sweep.verify`` means it. A launch has made them
    just before and need not.

    Raises:
        SweepError: there is a seal already; the target has been started; records, fit and runs disagree; a run is
            above the cut-off.
    """
    if folder.seal.exists():
        raise SweepError(
            f"{folder.path} is sealed already",
            "one seal per sweep, written once",
            "nothing: verify it with python -m sweep.verify; another forecast needs another name",
        )
    plan = read_plan(folder)
    seen = seen_before(plan, folder)
    if seen:
        raise SweepError(
            f"the target {plan.target.run_id} has been started already, in {', '.join(seen)}",
            "a seal before the target's first step: afterwards it is no forecast",
            "plan a target that nobody has seen, with another grid.target_seed or grid.target_flops",
        )
    try:
        fit = read_json(folder.fit)
    except CorruptFile as error:
        raise SweepError(str(error), "fit.json as it was written", "make it anew with python -m sweep.fit") from error
    records = read_records(folder.records)
    pass_rates = fit["capability"] and sealed_part(fit["capability"])
    passes = read_json(folder.passes) if folder.passes.exists() else None
    wrong = [
        *wrong_records(plan, records, folder),
        *above_cut_off(plan, records),
        *wrong_terms(fit, fit["phase"]["phase"], plan, records),
        *wrong_capability(pass_rates, plan, passes, folder),
        *wrong_contamination(plan, folder),
    ]
    if not wrong:
        refits = refit_loss(fit, plan, records)
        spec = capability_of(plan)
        if spec is not None and passes is not None:
            refits += refit_passes(pass_rates, plan, spec, passes, thorough)
        wrong = [f"does not follow: {line}" for refit in refits for line in refit.differences]
    if wrong:
        raise SweepError(
            f"{folder.path} can't be sealed: " + "; ".join(wrong),
            "records.csv as the runs' own files give it, all of it under the cut-off, and fit.json as they give that",
            "remove records.csv and fit.json and launch again; runs above the cut-off need another plan and name",
        )
    used = fitted_records(records)
    largest = max(record.flops for record in used)
    seal = {
        "sweep": plan.name,
        "sealed_utc": utc_now(),
        "target_run_id": plan.target.run_id,
        "target_progress": "not started",
        **{key: fit[key] for key in FROM_FIT},
        "cut_off": {"max_flops_fraction": plan.fit.max_flops_fraction, "largest_fitted_flops": largest},
        "pass_rates": pass_rates,
        "contamination": contamination_counts(read_contamination(folder)),
        "phase_assumed": fit["phase"]["phase"],
        "copy_scores": copy_scores(used),
        "falsified_by": falsified_by(fit, pass_rates),
        "code": code_version(),
        "fitting": fitting_code(),
        "libraries": library_versions(),
        "files": {path.name: sha256_of_file(path) for path in folder.sealed_files},
        "runs": {record.run_id: record.eval_sha256 for record in used},
    }
    write_json(folder.seal, seal)
    _warn_of_uncommitted_code(seal)
    return read_json(folder.seal)


def _warn_of_uncommitted_code(seal: dict[str, Any]) -> None:
    commit = seal["code"]["commit"]
    if commit and fitting_code_sha256_at(commit) not in (None, seal["fitting"]["code_sha256"]):
        log.warning(
            "SEALED WITH FITTING CODE THAT THE COMMIT %s DOES NOT HOLD: nobody can make this fit again, and verify"
            " refuses the seal as soon as the code is another one; commit sweep/ before the next forecast",
            commit[:12],
        )


def copy_scores(used: list[Record]) -> list[dict[str, Any]]:
    """The phase probe of every rung: copy scores in nats, one per run."""
    return [
        {"budget_flops": budget, "nats": [r.copy_score_nats for r in used if r.budget_flops == budget]}
        for budget in sorted({record.budget_flops for record in used})
    ]


def falsified_by(fit: dict[str, Any], pass_rates: dict[str, Any] | None) -> list[str]:
    """What would show each sealed forecast to be wrong, a sentence for each; nothing where nothing is forecast."""

    def outside(low: float, high: float) -> str:
        return f"below {low:.4g} or above {high:.4g}"

    phase, limit = fit["phase"]["phase"], fit["phase"]["copying_nats"]
    sentences = [
        f"the target's copy score is {'below' if phase == 'copying' else 'at least'} {limit:g} nats: it is in another"
        f" phase than its ladder ({phase}), so every forecast is a miss"
    ]
    if fit["forecastable"]:
        sentences.append(f"the target's held-out loss is {outside(fit['low'], fit['high'])} nats per token")
    sentences += [
        f"from {cut_off_text(row['max_flops_fraction'])} of the compute: the target's held-out loss is"
        f" {outside(row['low'], row['high'])} nats per token"
        for row in fit["cut_offs"]
        if row["forecastable"]
    ]
    for part in [pass_rates, *pass_rates["cut_offs"]] if pass_rates else []:
        sentences += [
            f"from {cut_off_text(part['cut_off']['max_flops_fraction'])} of the compute: the mean of -log pass rate in"
            f" bucket {bucket['bucket']} is {outside(bucket['low'], bucket['high'])} nats, beyond its sampling noise"
            for bucket in part["buckets"]
            if bucket["forecastable"]
        ]
    return sentences


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.seal", description="Seal the forecast of a fitted sweep.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    seal = seal_sweep(open_sweep(parser.parse_args().sweep))
    print(f"sealed at {seal['sealed_utc']}: {seal[HASH_KEY]}")
    return 0


if __name__ == "__main__":
    run_main(main)
