"""How often a sweep's models write correct functions: the counts of its runs, the forecast per bucket, the comparison.

Between the runs' own ``counts.json`` (written while they are sampled, ``sweep/sample.py``) and the second law
(``sweep/pass_law.py``). ``passes.json`` holds the counts of the small runs as the forecast found them.
"""

import functools
import math
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from sweep.buckets import make_buckets
from sweep.errors import SweepError
from sweep.folder import HASH_KEY, SweepFolder, read_json
from sweep.humaneval.guard import die_with_parent
from sweep.humaneval.problems import Problem, problems_sha256, read_problems
from sweep.pass_counts import PassCounts
from sweep.pass_forecast import point_nats
from sweep.pass_law import PassLaw, pass_law
from sweep.pass_rates import log_pass_rate, pass_rate
from sweep.run_spec import Plan
from sweep.spec import CapabilitySpec, SamplingSpec

NONE, MICRO, HUMAN_EVAL = "none", "micro", "humaneval"
BUCKET_HALF, FIT_HALF = 0, 1  # problems are sorted by one half of the samples, the law sees the other


def capability_of(plan: Plan) -> CapabilitySpec | None:
    """What the sweep's runs are sampled on; None if they are not, as in a grid without a target."""
    settings = plan.config.get("capability", {"problems": NONE})
    if settings["problems"] == NONE or not plan.has_target:
        return None
    return CapabilitySpec(**settings)


def problems_of(spec: CapabilitySpec) -> dict[str, Problem]:
    """The problems by task id: the graded set, HumanEval, or those of a file in its format.

    Raises:
        SweepError: the file is not of that format, or a problem has no canonical solution.
    """
    return _problems_named(spec.problems)


@functools.cache
def _problems_named(name: str) -> dict[str, Problem]:
    if name == MICRO:
        from sweep.micro.problems import micro_problems

        return {fields["task_id"]: Problem(**fields) for fields in micro_problems()}
    problems = read_problems(None if name == HUMAN_EVAL else Path(name))
    without = [task for task, problem in problems.items() if problem.canonical_solution is None]
    if without:
        raise SweepError(
            f"{name}: no canonical_solution for {', '.join(without[:5])}",
            "a canonical solution for every problem: its log-likelihood stands beside the pass rates",
            "add them, or leave these problems out",
        )
    return problems


def read_counts(folder: SweepFolder, run_id: str) -> dict[str, Any] | None:
    """The finished counts of a run; None while it is not sampled to the end. Raises CorruptFile."""
    path = folder.run(run_id).counts
    counts = read_json(path) if path.exists() else {"done": False}
    return counts if counts["done"] else None


def is_sampled(folder: SweepFolder, run_id: str, spec: CapabilitySpec | None) -> bool:
    """Whether nothing is left to sample for a run, with these settings."""
    if spec is None:
        return True
    counts = read_counts(folder, run_id)
    wanted = sampling_settings(spec)
    return counts is not None and {key: counts["settings"].get(key) for key in wanted} == wanted


def sampling_of(spec: CapabilitySpec) -> SamplingSpec:
    """What of the settings decides samples; the rest decides what is made of their counts."""
    return SamplingSpec(**{field.name: getattr(spec, field.name) for field in fields(SamplingSpec)})


def sampling_settings(spec: CapabilitySpec) -> dict[str, Any]:
    """The same with the problems, as a run's counts name it."""
    return {**asdict(sampling_of(spec)), "problems_sha256": problems_sha256(problems_of(spec).values())}


def solved_summary(counts: dict[str, Any]) -> dict[str, float | int | None]:
    """One run's counts in a few numbers, for its dashboard."""
    problems = counts["problems"].values()
    samples, correct = (sum(sum(row[key]) for row in problems) for key in ("n", "c"))
    return {
        "samples": samples,
        "samples_passed": correct,
        "problems_solved": sum(sum(row["c"]) > 0 for row in problems),
        "canonical_nats": canonical_mean(counts["problems"]),
    }


def canonical_mean(problems: dict[str, Any]) -> float | None:
    """Mean log-likelihood in nats of the canonical solutions, the companion that is never zero; None if none fits."""
    nats = [row["canonical_nats"] for row in problems.values() if row["canonical_nats"] is not None]
    return float(np.mean(nats)) if nats else None


# ---- counts of the whole sweep ------------------------------------------------------------------


def gather_passes(plan: Plan, spec: CapabilitySpec, folder: SweepFolder) -> dict[str, Any]:
    """What goes into passes.json: counts of every small run that was sampled to the end.

    Raises:
        CorruptFile: one of the runs' files is damaged.
    """
    runs = {}
    for run in plan.fit_runs:
        counts = read_counts(folder, run.run_id)
        if counts is not None and folder.run(run.run_id).state().status == "done":
            runs[run.run_id] = {"counts_sha256": counts[HASH_KEY], "problems": _gathered(counts["problems"])}
    return {"stop_at": spec.stop_at, "problems_sha256": problems_sha256(problems_of(spec).values()), "runs": runs}


def _gathered(problems: dict[str, Any]) -> dict[str, Any]:
    """What of a run's counts the forecast needs: passes.json is published."""
    return {task: {key: row[key] for key in ("n", "c", "canonical_nats")} for task, row in problems.items()}


def wrong_passes(plan: Plan, passes: dict[str, Any], folder: SweepFolder) -> list[str]:
    """A line for each run in ``passes`` that is not planned or not what its own files say."""
    planned = {run.run_id for run in plan.fit_runs}
    reasons = [f"passes.json has a run that is not planned: {run_id}" for run_id in passes["runs"].keys() - planned]
    for run_id, row in passes["runs"].items():
        path = folder.run(run_id).counts
        # A published forecast may leave the runs' own folders out.
        if path.exists():
            counts = read_json(path)
            if counts[HASH_KEY] != row["counts_sha256"] or _gathered(counts["problems"]) != row["problems"]:
                reasons.append(f"passes.json has other counts for run {run_id} than its own files")
    return reasons


def pass_counts(plan: Plan, passes: dict[str, Any]) -> PassCounts:
    """The counts as arrays; a problem without samples in a run, as one too long for its context, has 0 of 0."""
    flops = {run.run_id: run.flops for run in plan.fit_runs}
    run_ids = sorted(passes["runs"])
    tasks = sorted({task for run_id in run_ids for task in passes["runs"][run_id]["problems"]})
    empty = {"n": [0, 0], "c": [0, 0]}
    counts = np.array(
        [
            [
                [passes["runs"][run_id]["problems"].get(task, empty)[key] for task in tasks]
                for run_id in run_ids
            ]
            for key in ("n", "c")
        ],
        dtype=np.int64,
    ).reshape(2, len(run_ids), len(tasks), 2)  # fmt: skip
    samples_2RP, correct_2RP = np.moveaxis(counts, -1, 1)
    compute = np.array([flops[run_id] for run_id in run_ids])
    return PassCounts(tuple(run_ids), tuple(tasks), compute, samples_2RP, correct_2RP, passes["stop_at"])


# ---- the forecast -------------------------------------------------------------------------------


def forecast_passes(plan: Plan, spec: CapabilitySpec, passes: dict[str, Any]) -> dict[str, Any]:
    """The second law per bucket, from runs under its own cut-off; what can't be forecast says why.

    A result without buckets has a reason: too few runs or problems to sort. ``cut_offs`` holds the same for the further
    cut-offs, in short: each sorts the problems anew, since its runs are all that it may know.
    """
    fractions = (spec.max_flops_fraction, *spec.more_cut_offs)
    parts = [_sorted_under(fraction, plan, spec, passes) for fraction in fractions]
    laws = iter(_pass_laws(plan, [(counts, tasks) for _, counts, buckets in parts for tasks in buckets]))
    main, *further = (
        {
            **found,
            "buckets": [
                {"bucket": number, "tasks": list(tasks), **prediction(law), **law.as_json()}
                for number, (tasks, law) in enumerate(zip(buckets, islice(laws, len(buckets)), strict=True), 1)
            ],
        }
        for found, _, buckets in parts
    )
    return {**main, "cut_offs": [sealed_part(found) for found in further]}


def _sorted_under(
    fraction: float, plan: Plan, spec: CapabilitySpec, passes: dict[str, Any]
) -> tuple[dict[str, Any], PassCounts, tuple[tuple[str, ...], ...]]:
    """What is known under a cut-off before any law is fitted, its counts, and the problems of its buckets."""
    counts = pass_counts(plan, passes).up_to(fraction * plan.target.flops)
    found: dict[str, Any] = {
        "problems": spec.problems,
        "num_problems": len(counts.tasks),
        "num_samples": int(counts.samples_2RP.sum()),
        "cut_off": {
            "max_flops_fraction": fraction,
            "largest_fitted_flops": float(counts.flops_R.max(initial=0.0)),
        },
        "runs": list(counts.run_ids),
        "left_out": {},
        "no_buckets_because": "",
        "canonical_nats": {run_id: canonical_mean(row["problems"]) for run_id, row in passes["runs"].items()},
    }
    try:
        buckets = make_buckets(counts, BUCKET_HALF, spec.num_buckets, spec.hardest_left_out)
    except SweepError as error:
        return found | {"no_buckets_because": error.args[0]}, counts, ()
    return found | {"left_out": buckets.left_out}, counts, buckets.tasks


def _pass_laws(plan: Plan, wanted: list[tuple[PassCounts, tuple[str, ...]]]) -> list[PassLaw]:
    """The law of each bucket, a process for each: their bootstraps take long and know nothing of one another.

    Raises:
        SweepError: one of them was killed.
    """
    if not wanted:
        return []
    number = min(len(wanted), len(os.sched_getaffinity(0)))  # of a cluster's node a job may have one core
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(number, fork, initializer=_end_with_parent) as pool:
        laws = [
            pool.submit(pass_law, counts, tasks, plan.target.flops, plan.fit.level, FIT_HALF)
            for counts, tasks in wanted
        ]
        try:
            return [law.result() for law in laws]
        except BrokenProcessPool as error:
            raise SweepError(
                "a process that fitted pass rates was killed",
                f"memory for {number} of them at a time (a kernel that is out of it kills without a word)",
                "launch again: what is done is kept; under taskset -c 0 they are fitted one after the other",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # none of those that wait is begun
            raise


def _end_with_parent() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches all: the parent speaks for them


def point_forecasts(
    plan: Plan, spec: CapabilitySpec, passes: dict[str, Any], fraction: float, wanted: set[int]
) -> list[dict[str, Any]]:
    """The buckets under a cut-off: their problems and, of those ``wanted``, the estimate before the bootstrap."""
    counts = pass_counts(plan, passes).up_to(fraction * plan.target.flops)
    try:
        buckets = make_buckets(counts, BUCKET_HALF, spec.num_buckets, spec.hardest_left_out)
    except SweepError:
        return []
    return [
        {"bucket": number, "tasks": list(tasks)}
        | ({"uncorrected": point_nats(counts.of(tasks), FIT_HALF, plan.target.flops)} if number in wanted else {})
        for number, tasks in enumerate(buckets.tasks, 1)
    ]


PREDICTED = ("prediction", "low", "high", "pass_rate_prediction", "pass_rate_low", "pass_rate_high")


def prediction(law: PassLaw) -> dict[str, float | None]:
    """-E_P[log pass_rate] and E_P[pass_rate] at the target with their intervals; None where it is not forecastable.

    ``uncorrected`` is the first before the bootstrap's correction: what can be computed again in no time.
    """
    if law.likelihood is None or not law.forecastable:
        return dict.fromkeys((*PREDICTED, "uncorrected"))
    nats, rate = law.likelihood.nats, law.likelihood.pass_rate
    numbers = (nats.prediction, nats.low, nats.high, rate.prediction, rate.low, rate.high)
    return {
        **dict(zip(PREDICTED, numbers, strict=True)),
        "uncorrected": nats.prediction / law.likelihood.bias_correction,
    }


def sealed_part(found: dict[str, Any]) -> dict[str, Any]:
    """What of a forecast of pass rates is claimed: everything that a verdict needs, and nothing else."""
    return {
        "problems": found["problems"],
        "cut_off": found["cut_off"],
        "left_out": found["left_out"],
        "buckets": [
            {key: bucket[key] for key in ("bucket", "tasks", "forecastable", "level", *PREDICTED, "uncorrected")}
            for bucket in found["buckets"]
        ],
        **({"cut_offs": found["cut_offs"]} if "cut_offs" in found else {}),
    }


# ---- the comparison -----------------------------------------------------------------------------


def judge_buckets(
    buckets: list[dict[str, Any]], target: dict[str, Any], stop_at: int, hits: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """Predicted against measured per sealed bucket; ``target`` is the ``problems`` part of the target's counts.

    Measured once more without the problems ``hits``, which stand in the training data; the lower pass rate is quoted.

    Both halves of the target's samples count: nothing was chosen by them. ``inside_interval`` allows for the
    sampling noise of the measurement, which the sealed interval does not know: both add up as squares.
    """
    rows = []
    for bucket in buckets:
        measured = measured_bucket(bucket["tasks"], target, stop_at)
        inside = _inside(bucket, measured) if bucket["forecastable"] else None
        said = {key: bucket[key] for key in ("bucket", "forecastable", "level", *PREDICTED)}
        rows.append(
            {**said, **measured, **measured_clean(bucket["tasks"], target, stop_at, hits), "inside_interval": inside}
        )
    return rows


def _inside(bucket: dict[str, Any], measured: dict[str, Any]) -> bool | None:
    """None where it can't be told: nothing was measured, or only that the value is no less than one in the interval."""
    value = measured["measured"]
    if value is None:
        return None
    noise = float(ndtri((1 + bucket["level"]) / 2)) * measured["measured_se"]
    low = bucket["prediction"] - math.hypot(bucket["prediction"] - bucket["low"], noise)
    high = bucket["prediction"] + math.hypot(bucket["high"] - bucket["prediction"], noise)
    if measured["never_solved"] and value <= high:
        return None
    return bool(low <= value <= high)


def measured_clean(
    tasks: list[str], target: dict[str, Any], stop_at: int, hits: frozenset[str]
) -> dict[str, float | int | None]:
    """Both measures without the problems that are hit, None where none is left, and the lower pass rate of the two."""
    every, left = (
        measured_bucket(some, target, stop_at) for some in (tasks, [task for task in tasks if task not in hits])
    )
    known = [each["pass_rate_measured"] for each in (every, left) if each["pass_rate_measured"] is not None]
    return {
        "hit_problems": len(hits.intersection(tasks)),
        "clean_measured": left["measured"],
        "clean_pass_rate_measured": left["pass_rate_measured"],
        "quoted_pass_rate": min(known, default=None),
    }


def measured_bucket(tasks: list[str], target: dict[str, Any], stop_at: int) -> dict[str, Any]:
    """-E_P[log pass_rate] and E_P[pass_rate] of one run over a bucket, by the unbiased estimators of both halves.

    With problems that were never solved the first is a lower bound (``sweep/pass_rates.py``). Its standard error is
    that of the samples, (1 - p)/c per count (delta method); half a success is added so that none is infinite.
    """
    counted = [target[task] for task in tasks if task in target and min(target[task]["n"]) > 0]
    if not counted:
        return {"measured": None, "measured_se": None, "pass_rate_measured": None, "never_solved": None}
    samples, correct = (np.array([counts[key] for counts in counted]) for key in ("n", "c"))
    stopped = correct == stop_at
    variance = (1 - correct / samples) / (correct + 0.5)
    return {
        "measured": float(-log_pass_rate(samples, correct, stopped).mean()),
        "measured_se": float(np.sqrt(variance.sum()) / variance.size),
        "pass_rate_measured": float(pass_rate(samples, correct, stopped).mean()),
        "never_solved": int((correct.sum(axis=1) == 0).sum()),
    }
