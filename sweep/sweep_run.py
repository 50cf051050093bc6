"""The sweep's own wandb run: the laws with their intervals, pass rates per bucket, the table of runs, the verdict.

One run per sweep, of job type ``fit``, beside those of the trainings. Two rows at most: one when the forecast is made
(and sealed) and one when it is judged. Pass rates per bucket are here and not with the trainings: buckets are frozen
by the fit, when all small runs have ended, and opening a thousand of them again would say nothing new.
"""

import logging
import multiprocessing
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.capability import FIT_HALF, capability_of, measured_bucket, read_counts, sealed_part
from sweep.errors import CorruptFile
from sweep.folder import HASH_KEY, SweepFolder, read_json, sha256_of
from sweep.humaneval.guard import die_with_parent
from sweep.run_spec import Plan
from sweep.status import run_rows
from sweep.tracking import Mirror, Table
from sweep.witness import witness_seal

log = logging.getLogger("sweep")

_SECONDS = 180.0
_OF_FIT = ("law", "coefficients", "prediction", "low", "high", "level", "target_flops", "warnings", "forecastable")
_LAWS = (
    *("law", "unit", "prediction", "low", "high", "level", "weight", "exponent", "exponent_sd"),
    *("pass_rate_prediction", "pass_rate_low", "pass_rate_high", "forecastable", "not_forecastable_because"),
)
_PASS_RATES = (
    *("run_id", "role", "flops", "bucket", "problems", "samples", "passed", "never_solved"),
    *("pass_rate", "minus_log_pass_rate", "minus_log_pass_rate_se", "minus_log_pass_rate_at_least"),
)


@dataclass(frozen=True)
class Content:
    """What the sweep's own run is to hold; ``figures`` come with the verdict, in a row of their own."""

    tables: dict[str, Table]
    summary: dict[str, Any]
    figures: list[Path] | None

    @property
    def num_rows(self) -> int:
        return 1 if self.figures is None else 2

    def send(self, mirror: Mirror) -> None:
        """Every row that the run has not got yet, and the summary."""
        mirror.log_tables(self.tables, [])
        if self.figures is not None:
            mirror.log_tables(self.tables, self.figures)
        mirror.summarise(self.summary)


def show_sweep(plan: Plan, folder: SweepFolder, mode: str, project: str) -> None:
    """Bring the sweep's own wandb run to what is on disk, and the seal to the server if it has not got it.

    In a process of its own: a launch that is about to fork the target's worker must have no threads of wandb's, and
    goes on whatever becomes of this, after ``_SECONDS`` at the latest.
    """
    if mode == "disabled" or not folder.fit.exists():
        return
    process = multiprocessing.get_context("fork").Process(target=_show, args=(plan, folder, mode, project))
    process.start()
    process.join(_SECONDS)
    if process.is_alive():
        process.kill()
        log.warning("wandb: no end after %g s; python -m sweep.sync %s sends what is missing", _SECONDS, folder.path)


def _show(plan: Plan, folder: SweepFolder, mode: str, project: str) -> None:
    die_with_parent()
    try:
        content = content_of(plan, folder)
    except CorruptFile as error:  # the stage that needs the file says what to do
        log.warning("wandb: %s; the sweep's own run stays as it is there", error)
        return
    mirror = sweep_mirror(plan, mode, project, folder.path)
    content.send(mirror)
    if folder.seal.exists():
        witness_seal(folder, mirror)
    mirror.finish()


def content_of(plan: Plan, folder: SweepFolder) -> Content:
    """What is on disk of a fitted sweep.

    Raises:
        CorruptFile: one of the files is damaged.
    """
    fit = read_json(folder.fit)
    rows = run_rows(plan, folder)
    tables = {"laws": laws_table(fit), "runs": Table(list(rows[0]), [list(row.values()) for row in rows])}
    if fit["capability"] and fit["capability"]["buckets"]:
        tables["pass_rates"] = pass_rates_table(plan, fit, folder)
    pass_rates = fit["capability"] and sealed_part(fit["capability"])
    summary: dict[str, Any] = {
        "fit": {**{key: fit[key] for key in _OF_FIT}, "pass_rates": pass_rates},
        "runs_by_status": dict(Counter(row["status"] for row in rows)),
    }
    if folder.seal.exists():
        seal = read_json(folder.seal)
        summary["seal"] = {"sealed_utc": seal["sealed_utc"], "sha256": seal[HASH_KEY]}
    if not is_judged(folder):
        return Content(tables, summary, None)
    return Content(tables, {**summary, "verdict": read_json(folder.verdict)}, sorted(folder.figures.glob("*.png")))


def is_judged(folder: SweepFolder) -> bool:
    """Whether there is a verdict and it is final."""
    return folder.verdict.exists() and read_json(folder.verdict)["status"] != "waiting"


def sweep_mirror(plan: Plan, mode: str, project: str, path: Path) -> Mirror:
    """The sweep's own wandb run, with its files in ``path``/wandb."""
    return Mirror(
        mode, project, path, id=sweep_id(plan), name=plan.name, group=plan.name, job_type="fit", config=plan.config
    )


def sweep_id(plan: Plan) -> str:
    return f"{plan.name}-fit-{sha256_of(plan.to_json())[:8]}"


# ---- what it shows ------------------------------------------------------------------------------


def laws_table(fit: dict[str, Any]) -> Table:
    """The forecast of the loss, each form that it was made of, and the law of each bucket, with their intervals."""
    why = "; ".join(fit["not_forecastable_because"])
    whole = {**fit, "law": f"loss: {fit['law']}", "not_forecastable_because": why}
    same = {key: fit[key] for key in ("unit", "level")}
    forms = [{**form, **same, "law": f"loss: {form['form']}"} for form in fit["forms_tried"]]
    buckets = [
        {
            **bucket,
            **{key: (bucket["likelihood"] or {}).get(key) for key in ("exponent", "exponent_sd")},
            "law": f"pass rate, bucket {bucket['bucket']}: alpha * C^-k",
            "unit": "-E log pass rate, nats",
            "not_forecastable_because": "; ".join(bucket["not_forecastable_because"]),
        }
        for bucket in (fit["capability"] or {"buckets": []})["buckets"]
    ]
    return Table([*_LAWS], [[row.get(key) for key in _LAWS] for row in [whole, *forms, *buckets]])


def pass_rates_table(plan: Plan, fit: dict[str, Any], folder: SweepFolder) -> Table:
    """A row per sampled run and bucket, with its counts.

    Of the small runs the half of the samples that the law sees: the other half sorted the problems. Of the target both.
    Where a problem was never solved there is only a least value of -E log pass rate, in a column of its own.
    """
    capability = capability_of(plan)
    assert capability is not None
    rows = []
    for run in plan.runs:
        try:
            counts = read_counts(folder, run.run_id)
        except CorruptFile:
            counts = None  # the table of runs says so
        if counts is None:
            continue
        halves = slice(None) if run.role == "target" else slice(FIT_HALF, FIT_HALF + 1)
        problems = {task: {key: row[key][halves] for key in ("n", "c")} for task, row in counts["problems"].items()}
        for bucket in fit["capability"]["buckets"]:
            measured = measured_bucket(bucket["tasks"], problems, capability.stop_at)
            counted = [problems[task] for task in bucket["tasks"] if task in problems and min(problems[task]["n"]) > 0]
            samples, passed = (sum(sum(row[key]) for row in counted) for key in ("n", "c"))
            where = [run.run_id, run.role, run.flops, bucket["bucket"], len(counted), samples, passed]
            never_solved, nats = measured["never_solved"], measured["measured"]
            logs = [None, None, nats] if never_solved else [nats, measured["measured_se"], None]
            rows.append([*where, never_solved, measured["pass_rate_measured"], *logs])
    return Table([*_PASS_RATES], rows)
