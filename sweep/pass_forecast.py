"""The headline of the second law: the likelihood of the counts, and by bootstrap what it can be off by.

The interval is that of one further run at the target, over these very problems, without sampling noise. It is a
parametric bootstrap over problems and runs: worlds are drawn from the fitted model (new runs, new deviations, problems'
levels and slopes as far as the counts leave them open, new counts), each is fitted again, and the truth of its target
is compared with its forecast. The median of these comparisons also corrects the forecast's bias (Kuk 1995,
"Asymptotically unbiased estimation in generalized linear models with random effects").

Runs are drawn and not resampled: there is often one per budget, and a resample of budgets is another ladder. Problems
are not resampled: the claim is about these. Runs of one budget (seeds) count as runs of their own, each with its own
deviation; what a whole budget shares beyond the law is the walk's.

The walk is drawn afresh in every world, from the smallest budget to the target: that the fitted one came out as it did
says nothing of where the next will go. It shares its mean over the budgets with the fitted one.

Shape suffixes: B bootstrap draws, P problems, R runs, K budgets, Q level and slope.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.count_model import WALK_STEPS, CountModel, fit_counts, walk_at
from sweep.pass_counts import PassCounts

Array = NDArray[np.float64]

_DRAWS = 400
_FAR = 30.0  # of log(-log p): as far as its exponential is taken
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Interval:
    prediction: float
    low: float
    high: float


@dataclass(frozen=True)
class ProblemForecast:
    task: str
    mean_nats: float  # expectation of -log p
    mean_pass_rate: float  # expectation of p
    samples: int  # over all runs, in the half that was fitted
    correct: int


@dataclass(frozen=True)
class RunEstimate:
    """What the fit makes of a run that it saw, all problems counted: comparable with the forecast's curve."""

    run_id: str
    flops: float
    nats: float  # -E_P[log p]


@dataclass(frozen=True)
class Worlds:
    """What was drawn: problems, and each world's target run."""

    problem_BPQ: Array
    walk_BK: Array  # at the small budgets
    further_walk_B: Array  # what it does in a further step of one e-fold
    target_run_B: Array
    target_cell_BP: Array


@dataclass(frozen=True)
class BucketFit:
    """The fitted counts and the bootstrap; forecasts at any compute."""

    counts: PassCounts
    half: int
    level: float
    mean_log_flops: float
    model: CountModel  # one batch
    worlds: Worlds
    refits: CountModel  # one batch per world

    def predict(self, flops: float) -> tuple[Interval, Interval, float]:
        """-E_P[log p] and E_P[p] of one further run of so much compute; the factor that corrected the first.

        The mean rate is compared with worlds as the log of its own -log, so it stays between 0 and 1.
        """
        x = float(np.log(flops)) - self.mean_log_flops
        true_BP = self._true_log_nats(x)
        pairs = (
            (np.log(np.exp(true_BP).mean(axis=1)), _log_mean_nats),
            (_log_nats_of(np.exp(-np.exp(true_BP)).mean(axis=1)), _log_nats_of_mean_rate),
        )
        shares = (0.5, (1 - self.level) / 2, (1 + self.level) / 2)
        quantiles = [
            float(estimate(self.model, x)[0]) + np.quantile(true_B - estimate(self.refits, x), shares)
            for true_B, estimate in pairs
        ]
        nats = Interval(*(float(np.exp(each)) for each in quantiles[0]))
        rate, high, low = (float(np.exp(-np.exp(each))) for each in quantiles[1])
        correction = nats.prediction / float(np.exp(_log_mean_nats(self.model, x)[0]))
        return nats, Interval(rate, low, high), correction

    def problems(self, flops: float) -> list[ProblemForecast]:
        """What the model expects of each problem, the hardest last."""
        x = float(np.log(flops)) - self.mean_log_flops
        nats_P, rate_P = _mean_nats(self.model, x)[0], _mean_rate(self.model, x)[0]
        samples_P, correct_P = (
            each[self.half].sum(axis=0) for each in (self.counts.samples_2RP, self.counts.correct_2RP)
        )
        return [
            ProblemForecast(
                self.counts.tasks[i], float(nats_P[i]), float(rate_P[i]), int(samples_P[i]), int(correct_P[i])
            )
            for i in np.argsort(nats_P, kind="stable")
        ]

    def runs(self) -> list[RunEstimate]:
        """The fitted runs, by compute."""
        nats_R = np.exp(self.model.cell_BPR[0] + self.model.cell_variance_BPR[0] / 2).mean(axis=0)
        known = zip(self.counts.run_ids, self.counts.flops_R.tolist(), nats_R.tolist(), strict=True)
        return [RunEstimate(*row) for row in known]

    def _true_log_nats(self, x: float) -> Array:
        """(B, P): log(-log p) of each drawn world's target run."""
        weight_K, variance = walk_at(self.model.budget_K, x)
        walk_B = self.worlds.walk_BK @ weight_K + np.sqrt(variance) * self.worlds.further_walk_B
        shared_B = self.model.line(x)[0, 0] + walk_B + self.worlds.target_run_B
        total = shared_B[:, None] + self.worlds.problem_BPQ @ np.array([1.0, x]) + self.worlds.target_cell_BP
        return np.clip(total, -_FAR, _FAR)


def fit_bucket(counts: PassCounts, half: int, level: float, draws: int = _DRAWS, seed: int = 0) -> BucketFit:
    """Fit all problems of ``counts`` and bootstrap the fit; at least two budgets."""
    log_flops_R = np.log(counts.flops_R)
    x_R = log_flops_R - log_flops_R.mean()
    samples_PR, correct_PR = counts.samples_2RP[half].T, counts.correct_2RP[half].T
    model = fit_counts(correct_PR[None], samples_PR, x_R)
    random = np.random.default_rng(seed)
    worlds, correct_BPR = _draw(model, samples_PR, x_R, draws, random)
    refits = fit_counts(correct_BPR, samples_PR, x_R, model.spreads)
    return BucketFit(counts, half, level, float(log_flops_R.mean()), model, worlds, refits)


def point_nats(counts: PassCounts, half: int, flops: float) -> float:
    """-E_P[log p] at some compute before the bootstrap's correction: ``fit_bucket`` without its worlds."""
    counts = counts.in_order()
    log_flops_R = np.log(counts.flops_R)
    x_R = log_flops_R - log_flops_R.mean()
    model = fit_counts(counts.correct_2RP[half].T[None], counts.samples_2RP[half].T, x_R)
    return float(np.exp(_log_mean_nats(model, float(np.log(flops) - log_flops_R.mean()))[0]))


def _draw(
    model: CountModel, samples_PR: NDArray[np.int64], x_R: Array, draws: int, random: np.random.Generator
) -> tuple[Worlds, NDArray[np.int64]]:
    """Worlds as the model has them, and the counts that their small runs give, with the samples that were drawn here.

    The spread of runs is known from no more deviations than there are runs beyond the law's two coefficients, so each
    world has its own: sum of squares over a chi-squared number, the sum being (freedom - 1) estimated variances with
    the fit's prior. That of the walk is known from its steps but one, for the slope, and from its prior. Problems are
    drawn from what the counts leave open of them.
    """
    num_problems, num_runs = samples_PR.shape
    problem = model.problem_BPQ[0] + np.einsum(
        "pqr,bpr->bpq",
        np.linalg.cholesky(model.problem_covariance_BPQQ[0]),
        random.standard_normal((draws, num_problems, 2)),
    )
    freedom = max(num_runs - 2, 2)
    run_sd_B = model.spreads.run[0] * np.sqrt((freedom - 1) / random.chisquare(freedom, draws))
    run_BR = run_sd_B[:, None] * random.standard_normal((draws, num_runs + 1))
    length_K = np.diff(model.budget_K, prepend=model.budget_K[0])
    freedom = WALK_STEPS + len(length_K) - 2
    walk_sd_B = model.spreads.walk[0] * np.sqrt(freedom / random.chisquare(freedom, draws))
    step_BK = walk_sd_B[:, None] * np.sqrt(length_K) * random.standard_normal((draws, len(length_K)))
    walk_BK = np.cumsum(step_BK, axis=1)
    walk_BK += (model.walk_BK[0] - walk_BK).mean(axis=1, keepdims=True)
    cell_BPR = model.spreads.cell[0] * random.standard_normal((draws, num_problems, num_runs + 1))
    log_nats = (
        (model.line(x_R)[0] + walk_BK[:, np.searchsorted(model.budget_K, x_R)] + run_BR[:, :-1])[:, None]
        + problem @ np.stack([np.ones(num_runs), x_R])
        + cell_BPR[..., :-1]
    )
    correct = random.binomial(samples_PR, np.exp(-np.exp(np.clip(log_nats, -_FAR, _FAR))))
    further_walk_B = walk_sd_B * random.standard_normal(draws)
    return Worlds(problem, walk_BK, further_walk_B, run_BR[:, -1], cell_BPR[..., -1]), correct


def _mean_nats(model: CountModel, x: float) -> Array:
    """Expectation of -log p: that of a log-normal."""
    mean, sd = model.log_nats(x)
    return np.exp(np.clip(mean + sd**2 / 2, -_FAR, _FAR))


def _mean_rate(model: CountModel, x: float) -> Array:
    mean, sd = model.log_nats(x)
    rates = [w * np.exp(-np.exp(np.clip(mean + z * sd, -_FAR, _FAR))) for z, w in zip(_NODES, _WEIGHTS, strict=True)]
    return np.sum(rates, axis=0)


def _log_mean_nats(model: CountModel, x: float) -> Array:
    return np.log(_mean_nats(model, x).mean(axis=1))


def _log_nats_of_mean_rate(model: CountModel, x: float) -> Array:
    return _log_nats_of(_mean_rate(model, x).mean(axis=1))


def _log_nats_of(rate: Array) -> Array:
    tiny = 1e-300
    return np.log(-np.log(np.clip(rate, tiny, 1 - 1e-15)))
