"""The second law for a bucket of problems: -E_P[log pass_rate(C)] = alpha * C^-k, C relative to the target's compute.

Source: GPT-4 technical report (OpenAI 2023), section 3.2. Three estimates stand side by side:

- ``report``: the report's own. Mean of -log(c/n) over the problems that every run solved at least once, and a power
  law by least squares in log-log.
- ``digamma``: the same with unbiased estimates of log p (``sweep/pass_rates.py``) on the same problems.
- ``likelihood``: the headline. The likelihood of the counts over all problems of the bucket, zeros included
  (``sweep/count_model.py``), with an interval (``sweep/pass_forecast.py``).

The first two keep problems by their own success: they forecast those that were kept, which are the easier ones, and say
nothing of the rest of the bucket.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.laws import budget_groups
from sweep.pass_counts import PassCounts
from sweep.pass_forecast import BucketFit, Interval, ProblemForecast, RunEstimate, fit_bucket
from sweep.pass_rates import log_pass_rate, pass_rate

Array = NDArray[np.float64]

MIN_PROBLEMS, MIN_BUDGETS, MIN_RARER = 5, 3, 3
WIDE, WIDE_NATS = 2.0, 0.25  # an interval that reaches further than both, on either side, says next to nothing
_BENT = 3.0  # standard deviations
_CURVE_POINTS = 40


@dataclass(frozen=True)
class PowerLaw:
    """A power law through means over the problems that every run solved; None where there is none, with the reason."""

    prediction_nats: float | None  # alpha: -E_P[log pass_rate] at the target
    exponent: float | None  # k
    reason: str


@dataclass(frozen=True)
class CurvePoint:
    flops: float
    prediction: float  # nats
    low: float
    high: float


@dataclass(frozen=True)
class Headline:
    """The estimate from the likelihood of the counts."""

    nats: Interval  # -E_P[log pass_rate] at the target; its prediction is alpha
    pass_rate: Interval  # E_P[pass_rate] at the target
    exponent: float  # k
    exponent_sd: float
    bias_correction: float  # factor that the bootstrap put on nats
    problem_sd: float  # spreads of log(-log p), see sweep/count_model.py
    slope_sd: float
    run_sd: float
    cell_sd: float
    walk_sd: float
    problems: list[ProblemForecast]
    runs: list[RunEstimate]
    curve: list[CurvePoint]


@dataclass(frozen=True)
class Observed:
    """One run's means over the problems that every run solved, and how many of the bucket it never solved."""

    run_id: str
    flops: float
    report_nats: float | None
    digamma_nats: float | None
    mean_pass_rate: float | None  # over all problems that were sampled; unbiased
    never_solved: int


@dataclass(frozen=True)
class Dropped:
    """A problem that the filter of the first two estimates leaves out."""

    task: str
    never_solved_by: list[str]  # run ids; a run that never sampled it is one


@dataclass(frozen=True)
class PassLaw:
    """The forecast for one bucket; plain values, so that ``as_json`` is one call."""

    target_flops: float
    level: float
    extrapolation_ratio: float | None
    num_runs: int
    num_budgets: int
    num_problems: int
    forecastable: bool
    not_forecastable_because: list[str]
    warnings: list[str]
    samples_needed: int | None  # per problem and budget, where more samples would help
    samples_needed_is_least: bool  # nothing was seen from which the number could be read: it takes that many or more
    likelihood: Headline | None
    report: PowerLaw
    digamma: PowerLaw
    dropped: list[Dropped]
    observed: list[Observed]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def pass_law(
    counts: PassCounts, tasks: tuple[str, ...], target_flops: float, level: float = 0.9, half: int = 1
) -> PassLaw:
    """Forecast a bucket from the runs under the cut-off (``PassCounts.up_to``), with one half of the samples.

    What can't be forecast is a result with reasons, never an error.

    Raises:
        SweepError: a task without counts.
    """
    counts = counts.of(tasks).in_order()
    num_budgets = len(set(budget_groups(counts.flops_R).tolist())) if len(counts.run_ids) else 0
    reasons = _too_little(counts, half, num_budgets)
    needed, is_least = _samples_needed(counts, half) if reasons else (None, False)
    headline = None
    if not reasons:
        headline = _headline(fit_bucket(counts, half, level), target_flops)
        reasons = _too_wide(headline.nats)
    solved_P = _solved_by_all(counts, half)
    return PassLaw(
        target_flops=float(target_flops),
        level=level,
        extrapolation_ratio=float(target_flops / counts.flops_R.max()) if len(counts.run_ids) else None,
        num_runs=len(counts.run_ids),
        num_budgets=num_budgets,
        num_problems=len(tasks),
        forecastable=not reasons,
        not_forecastable_because=reasons,
        warnings=_warnings(headline, target_flops),
        samples_needed=needed,
        samples_needed_is_least=is_least,
        likelihood=headline,
        **power_laws(counts, target_flops, half),
        dropped=[
            Dropped(task, [r for r, c in zip(counts.run_ids, counts.correct_2RP[half][:, i], strict=True) if c == 0])
            for i, task in enumerate(counts.tasks)
            if not solved_P[i]
        ],
        observed=_observed(counts, half),
    )


# ---- what the counts can say ------------------------------------------------------------------


def _rarer(counts: PassCounts, half: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By budget and problem: the lesser of successes and failures, and the samples; runs of one budget pooled."""
    group_R = budget_groups(counts.flops_R)
    budgets = range(int(group_R.max()) + 1)
    samples, correct = (
        np.stack([each[half][group_R == budget].sum(axis=0) for budget in budgets])
        for each in (counts.samples_2RP, counts.correct_2RP)
    )
    return np.minimum(correct, samples - correct), samples


def _too_little(counts: PassCounts, half: int, num_budgets: int) -> list[str]:
    if num_budgets < MIN_BUDGETS:
        return [f"{num_budgets} budgets; a law needs {MIN_BUDGETS} at least"]
    if len(counts.tasks) < MIN_PROBLEMS:
        return [f"{len(counts.tasks)} problems; a law of their mean needs {MIN_PROBLEMS} at least"]
    rarer, samples = _rarer(counts, half)
    telling = int(((rarer >= MIN_RARER).sum(axis=0) >= MIN_BUDGETS).sum())
    if telling >= MIN_PROBLEMS:
        return []
    correct = int(counts.correct_2RP[half].sum())
    rare = "successes" if 2 * correct <= samples.sum() else "failures"
    return [
        f"{telling} of {len(counts.tasks)} problems have {MIN_RARER} successes and {MIN_RARER} failures at"
        f" {MIN_BUDGETS} budgets or more, at least {MIN_PROBLEMS} must; {rare} are too rare ({correct} of"
        f" {samples.sum()} samples are correct)"
    ]


def _too_wide(nats: Interval) -> list[str]:
    sides = ((nats.prediction, nats.high), (nats.low, nats.prediction))
    if all(above <= WIDE * below or above - below <= WIDE_NATS for below, above in sides):
        return []
    return [
        f"the interval goes from {nats.low:.3g} to {nats.high:.3g} nats about {nats.prediction:.3g}, a factor of more"
        f" than {WIDE:g} to one side: these counts say next to nothing about the target; more runs, more samples or a"
        " nearer target would"
    ]


def _samples_needed(counts: PassCounts, half: int) -> tuple[int | None, bool]:
    """Samples per problem and budget with which enough problems should qualify; whether that is only a least number."""
    if len(counts.run_ids) == 0 or len(counts.tasks) < MIN_PROBLEMS:
        return None, False
    rarer, samples = _rarer(counts, half)
    if len(rarer) < MIN_BUDGETS or not samples.any():
        return None, False
    # A count of 0 is taken for the 1 that it did not reach, so the number needed can only be higher.
    rate = np.where(samples > 0, np.maximum(rarer, 1) / np.maximum(samples, 1), 0.0)
    of_problem = np.sort(rate, axis=0)[-MIN_BUDGETS]
    decisive = np.sort(of_problem)[-MIN_PROBLEMS]
    if decisive == 0:
        return None, False
    at = np.argwhere(rate == decisive)
    return math.ceil(MIN_RARER / decisive), bool(any(rarer[tuple(place)] == 0 for place in at))


# ---- the two simple estimates -----------------------------------------------------------------


def power_laws(counts: PassCounts, target_flops: float, half: int) -> dict[str, PowerLaw]:
    """The estimates ``report`` and ``digamma``."""
    return {name: _power_law(counts.flops_R, nats_R, target_flops) for name, nats_R in _means(counts, half).items()}


def _solved_by_all(counts: PassCounts, half: int) -> NDArray[np.bool_]:
    return (counts.correct_2RP[half] > 0).all(axis=0)


def _means(counts: PassCounts, half: int) -> dict[str, Array | None]:
    """(R) each: means of -log(c/n) and of the unbiased -log p over the problems that every run solved, if any."""
    solved_P = _solved_by_all(counts, half)
    if not solved_P.any() or len(counts.run_ids) == 0:
        return {"report": None, "digamma": None}
    samples, correct = counts.samples_2RP[half][:, solved_P], counts.correct_2RP[half][:, solved_P]
    unbiased = log_pass_rate(samples, correct, counts.stopped_at_success[half][:, solved_P])
    return {"report": -np.log(correct / samples).mean(axis=1), "digamma": -unbiased.mean(axis=1)}


def _power_law(flops_R: Array, nats_R: Array | None, target_flops: float) -> PowerLaw:
    if nats_R is None:
        return PowerLaw(None, None, "no problem was solved at least once by every run")
    if budget_groups(flops_R).max() == 0:
        return PowerLaw(None, None, "one budget gives no slope")
    if np.any(nats_R <= 0):
        return PowerLaw(None, None, "a run solved all these problems with every sample: log 0")
    slope, log_alpha = np.polyfit(np.log(flops_R / target_flops), np.log(nats_R), 1)
    return PowerLaw(float(np.exp(log_alpha)), float(-slope), "")


def _observed(counts: PassCounts, half: int) -> list[Observed]:
    means = _means(counts, half)
    report_R, digamma_R = means["report"], means["digamma"]
    rows = []
    for run, run_id in enumerate(counts.run_ids):
        tried = counts.samples_2RP[half, run] > 0
        samples, correct = counts.samples_2RP[half, run][tried], counts.correct_2RP[half, run][tried]
        rates = pass_rate(samples, correct, counts.stopped_at_success[half, run][tried])
        rows.append(
            Observed(
                run_id=run_id,
                flops=float(counts.flops_R[run]),
                report_nats=None if report_R is None else float(report_R[run]),
                digamma_nats=None if digamma_R is None else float(digamma_R[run]),
                mean_pass_rate=float(rates.mean()) if tried.any() else None,
                never_solved=int((counts.correct_2RP[half, run] == 0).sum()),
            )
        )
    return rows


# ---- the headline -----------------------------------------------------------------------------


def _headline(fit: BucketFit, target_flops: float) -> Headline:
    nats, rate, correction = fit.predict(target_flops)
    sds = {f"{name}_sd": float(sd[0]) for name, sd in fit.model.spreads._asdict().items()}
    return Headline(
        nats=nats,
        pass_rate=rate,
        exponent=float(fit.model.exponent[0]),
        exponent_sd=float(fit.model.law_sd_BQ[0, 1]),
        bias_correction=correction,
        **sds,
        problems=fit.problems(target_flops),
        runs=fit.runs(),
        curve=_curve(fit, target_flops),
    )


def _warnings(headline: Headline | None, target_flops: float) -> list[str]:
    """The walk knows of bends, not that they go on: what a parabola through the runs would say, if that is far off."""
    if headline is None or len(headline.runs) < 5:
        return []
    log_ratio_R = np.log([run.flops / target_flops for run in headline.runs])
    log_nats_R = np.log([run.nats for run in headline.runs])
    coefficients, covariance = np.polyfit(log_ratio_R, log_nats_R, 2, cov=True)
    bend, sd, parabola = abs(coefficients[0]), np.sqrt(covariance[0, 0]), float(np.exp(coefficients[-1]))
    if bend < _BENT * sd or headline.nats.low <= parabola <= headline.nats.high:
        return []
    return [
        f"the ladder bends: a parabola fits its runs better by {bend / sd:.1f} standard deviations and would forecast"
        f" {parabola:.3g} nats in place of {headline.nats.prediction:.3g}, outside the interval"
    ]


def _curve(fit: BucketFit, target_flops: float) -> list[CurvePoint]:
    """Forecast and interval from the smallest run to the target."""
    rows = []
    for flops in np.geomspace(float(fit.counts.flops_R.min()), target_flops, _CURVE_POINTS):
        nats = fit.predict(float(flops))[0]
        rows.append(CurvePoint(float(flops), nats.prediction, nats.low, nats.high))
    return rows
