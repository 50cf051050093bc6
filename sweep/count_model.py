"""The likelihood of counts under a power law of -log p, with everything that scatters about it.

    c_im ~ Bin(n_im, p_im)        log(-log p_im) = a - k x_m + w(x_m) + u_m + b_i + d_i x_m + e_im

for problem i and run m, x the logarithm of compute over the runs' (geometric) mean. All else is normal about 0: w is
what the law itself strays by, a random walk that starts at 0 in the smallest budget, u_m what the whole run is off by
(its seed), b_i and d_i a problem's level and slope, e_im what one problem in one run is off by. Any stopping rule of
the sampling gives the same likelihood of p.

Why the law strays: no ladder shows that its law is straight beyond it. Real ones miss their line by more than seeds do,
and by more the farther they go, as a random walk does; a parabola that fits a short ladder does not go on
(``benchmarks/pass_bends.py``).

Why b_i is no free parameter: a problem never solved would have an infinite one. Problems are drawn from one normal
distribution whose spread is estimated (empirical Bayes). Why the overdispersion is no beta-binomial: then the law would
be that of the log of a mean of p and not of the mean of log p; Jensen's inequality keeps them apart.

Fit: Gaussian variational approximation (Ormerod and Wand 2012, "Gaussian variational approximate inference for
generalized linear mixed models"). For given spreads the normal distribution nearest to the posterior has as its mean
where the expected gradient of the log likelihood balances the prior's, and as its precision the prior's and the
expected curvature. The joint mode (Laplace, PQL) takes both at the mean alone and is biased by several per cent where
most counts are zero, since zeros bound a problem from one side only. The likelihood is log-concave in log(-log p), so
there is one solution. Newton's method finds it; problems are eliminated from its equations two by two.

Spreads are the fixed point of restricted maximum likelihood (Schall 1991) with a Rayleigh prior each, which keeps them
from 0 and from infinity (Chung et al. 2013, "A nondegenerate penalized likelihood estimator for variance parameters").
The walk's prior is an inverse chi-squared distribution of its variance: a ladder of few budgets that looks straight is
little evidence of a straight law, and the prior is what other ladders showed.

Shape suffixes: B batch (fits of one design at once), P problems, R runs, K budgets, S = K - 1 steps of the walk,
Q level and slope, of the law or of a problem, G = Q + R + S shared effects.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_LAW_SD = np.array([10.0, 1.0])  # of a and k about 0: no more than that the equations can be solved
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_LEAST, _LARGEST = -50.0, 6.0  # of log(-log p): pass rates that are 1 and 0 for every number of samples
_LARGEST_VARIANCE = 4.0  # of log(-log p) where expectations are taken; five nodes see no further
_LONGEST_STEP = 2.0
_STEPS = 300
_CLOSE, _EXACT = 3e-4, 1e-10  # last change of anything: with the spreads estimated, and with given ones
_AT_ONCE = 50  # fits of a batch, as many as stay in the cache


class Spreads(NamedTuple):
    """Standard deviations of log(-log p), (B) each; slope per e-fold of compute, walk after one e-fold."""

    problem: Array
    slope: Array
    run: Array
    cell: Array
    walk: Array


# What the spreads are beforehand. The first four are the commonest values of Rayleigh priors that weigh as much as one
# observed deviation each; the walk's weighs as much as WALK_STEPS observed steps.
PRIOR_SCALES = Spreads(*(np.array([scale]) for scale in (1.0, 0.1, 0.3, 0.3, 0.11)))
WALK_STEPS = 4.0


class CountModel(NamedTuple):
    """The fitted law: means of all effects; problems' covariances are those given the shared effects."""

    law_BQ: Array  # a and -k
    law_sd_BQ: Array
    run_effect_BR: Array
    walk_BK: Array  # w at the budgets
    problem_BPQ: Array
    problem_covariance_BPQQ: Array
    cell_BPR: Array  # log(-log p) of the runs that were fitted: its mean
    cell_variance_BPR: Array
    spreads: Spreads
    budget_K: Array  # x

    @property
    def exponent(self) -> Array:
        """k."""
        return -self.law_BQ[:, 1]

    def line(self, x: Array | float) -> Array:
        """(B, points): a - k x."""
        return self.law_BQ @ np.stack([np.ones(np.size(x)), np.ravel(x)])

    def log_nats(self, x: float) -> tuple[Array, Array]:
        """Mean and standard deviation, (B, P), of log(-log p) in a new run without an effect of its own.

        The walk is where the fitted runs have it, as is its expectation beyond them.
        """
        row_Q = np.array([1.0, x])
        walk_B = self.walk_BK @ walk_at(self.budget_K, x)[0]
        mean_BP = self.line(x) + walk_B[:, None] + self.problem_BPQ @ row_Q
        variance_BP = row_Q @ self.problem_covariance_BPQQ @ row_Q + self.spreads.cell[:, None] ** 2
        return mean_BP, np.sqrt(variance_BP)


def walk_at(budget_K: Array, x: float) -> tuple[Array, float]:
    """A random walk that is known at the budgets: the weight of each in its mean at x, and its variance per step of 1.

    Between two budgets it is a Brownian bridge, beyond the outermost it walks on from there.
    """
    mean_K = np.array([np.interp(x, budget_K, unit_K) for unit_K in np.eye(len(budget_K))])
    above = int(np.searchsorted(budget_K, x))
    if 0 < above < len(budget_K):
        low, high = budget_K[above - 1 : above + 1]
        return mean_K, float((x - low) * (high - x) / (high - low))
    return mean_K, float(max(budget_K[0] - x, x - budget_K[-1]))


def fit_counts(
    correct_BPR: Counts,
    samples_PR: Counts,
    x_R: Array,
    spreads: Spreads = PRIOR_SCALES,
    estimate_spreads: bool = True,
) -> CountModel:
    """Fit the model to every batch of counts; ``samples`` of 0 say that a run did not try a problem.

    ``x_R`` has mean 0; runs of one budget have the same. ``spreads`` are where their estimation starts, or are kept if
    ``estimate_spreads`` is off.
    """
    parts = [
        _fit(correct_BPR[first : first + _AT_ONCE], samples_PR, x_R, spreads, estimate_spreads)
        for first in range(0, len(correct_BPR), _AT_ONCE)
    ]
    columns = [np.concatenate(each) for each in zip(*(part[:-2] for part in parts), strict=True)]
    all_spreads = [np.concatenate(each) for each in zip(*(part.spreads for part in parts), strict=True)]
    return CountModel._make([*columns, Spreads._make(all_spreads), parts[0].budget_K])


def _fit(correct: Counts, samples: Counts, x_R: Array, spreads: Spreads, estimate_spreads: bool) -> CountModel:
    correct_BPR, samples_BPR = correct.astype(float), np.broadcast_to(samples, correct.shape).astype(float)
    spreads = Spreads(*(np.broadcast_to(sd, len(correct)) for sd in spreads))
    estimate_BPR = digamma(samples_BPR + 1) - digamma(correct_BPR + 1)
    eta_BPR = np.log(np.maximum(estimate_BPR, 0.5 / (samples_BPR + 1)))  # no failure counts for half of one
    variance_BPR = np.zeros(correct.shape)
    budget_K = np.unique(x_R)
    step_S = np.sqrt(np.diff(budget_K))
    walk_RS = (x_R[:, None] >= budget_K[1:]) * step_S  # a run has taken all steps up to its budget
    shared_RG = np.concatenate([np.vander(x_R, 2, increasing=True), np.eye(len(x_R)), walk_RS], axis=1)
    for _ in range(_STEPS):
        gradient_BPR, curvature_BPR = expected_derivatives(correct_BPR, samples_BPR, eta_BPR, variance_BPR)
        solution = _solve(eta_BPR, gradient_BPR, curvature_BPR, shared_RG, spreads)
        step_BPR = solution.eta_BPR - eta_BPR
        longest_B = np.abs(step_BPR).max(axis=(1, 2))
        changes = [longest_B, solution.variance_BPR - variance_BPR]
        eta_BPR = eta_BPR + step_BPR / np.maximum(1, longest_B / _LONGEST_STEP)[:, None, None]
        variance_BPR = (variance_BPR + solution.variance_BPR) / 2  # all the way, it swings for problems never solved
        if estimate_spreads:
            better = _better_spreads(solution, spreads)
            changes += [new - old for new, old in zip(better, spreads, strict=True)]
            spreads = better
        if max(float(np.abs(change).max()) for change in changes) < (_CLOSE if estimate_spreads else _EXACT):
            break
    law, runs, steps = _shared_parts(len(x_R))
    walk_BS = np.cumsum(solution.shared_BG[:, steps] * step_S, axis=1)
    return CountModel(
        solution.shared_BG[:, law],
        np.sqrt(np.diagonal(solution.shared_covariance_BGG, axis1=1, axis2=2)[:, law]),
        solution.shared_BG[:, runs],
        np.pad(walk_BS, ((0, 0), (1, 0))),
        solution.problem_BPQ,
        solution.problem_given_shared_BPQQ,
        solution.eta_BPR,
        solution.variance_BPR,
        spreads,
        budget_K,
    )


def _shared_parts(num_runs: int) -> tuple[slice, slice, slice]:
    """Where the shared effects have the law, the runs and the steps of the walk."""
    return slice(2), slice(2, 2 + num_runs), slice(2 + num_runs, None)


def log_likelihood_derivatives(correct: Array, samples: Array, eta: Array) -> tuple[Array, Array]:
    """First derivative of c log p + (n-c) log(1-p) by eta = log(-log p), and minus the second, never negative."""
    nats = np.exp(np.clip(eta, _LEAST, _LARGEST))
    miss = -np.expm1(-nats)
    odds = nats * np.exp(-nats) / miss  # of -log p times p / (1 - p): 1 for p near 1
    return (samples - correct) * odds - correct * nats, correct * nats + (samples - correct) * odds * (nats / miss - 1)


def expected_derivatives(correct: Array, samples: Array, eta: Array, variance: Array) -> tuple[Array, Array]:
    """``log_likelihood_derivatives`` averaged over a normal distribution of log(-log p) (Gauss-Hermite)."""
    sd = np.sqrt(np.minimum(variance, _LARGEST_VARIANCE))
    gradient, curvature = np.zeros(eta.shape), np.zeros(eta.shape)
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        first, second = log_likelihood_derivatives(correct, samples, eta + node * sd)
        gradient += weight * first
        curvature += weight * second
    return gradient, curvature


# ---- one step ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Solution:
    """The normal distribution that one Newton step comes to."""

    eta_BPR: Array
    variance_BPR: Array  # of eta
    shared_BG: Array  # a and -k, then u, then the steps of the walk, each over the square root of its length
    shared_covariance_BGG: Array
    problem_BPQ: Array
    problem_given_shared_BPQQ: Array
    problem_variance_BPQ: Array
    cell_BPR: Array
    cell_precision_B: Array  # sum over cells of the restricted likelihood's weight of e


def _solve(eta_BPR: Array, gradient_BPR: Array, curvature_BPR: Array, shared_RG: Array, spreads: Spreads) -> _Solution:
    """The linear mixed model of the working responses eta + gradient / curvature, of variance 1 / curvature.

    Cells are eliminated first: a response has weight curvature / (1 + cell variance * curvature) about the sum of
    all other effects. Then problems: two by two. What is left are the G equations of the shared effects.
    """
    num_batch, size = len(eta_BPR), shared_RG.shape[1]
    row_RQ, x_R = shared_RG[:, :2], shared_RG[:, 1]
    cell_variance = spreads.cell[:, None, None] ** 2
    shrink_BPR = 1 + cell_variance * curvature_BPR
    weight_BPR = curvature_BPR / shrink_BPR
    response_BPR = weight_BPR * eta_BPR + gradient_BPR / shrink_BPR  # times its weight

    given_BPQQ = _inverse_2x2(
        weight_BPR.sum(axis=2) + spreads.problem[:, None] ** -2,
        weight_BPR @ x_R,
        weight_BPR @ x_R**2 + spreads.slope[:, None] ** -2,
    )
    cross_BPQG = (weight_BPR[:, :, None, :] * row_RQ.T) @ shared_RG
    follow_BPQG = given_BPQQ @ cross_BPQG  # how a problem's effects give way to the shared ones

    precision_BGG = (shared_RG.T * weight_BPR.sum(axis=1)[:, None, :]) @ shared_RG
    diagonal_BG = np.einsum("bgg->bg", precision_BGG)  # a view
    priors = (_LAW_SD, spreads.run[:, None], spreads.walk[:, None])
    for part, sd in zip(_shared_parts(len(x_R)), priors, strict=True):
        diagonal_BG[:, part] += sd**-2.0
    cross_BFG, follow_BFG = (each.reshape(num_batch, -1, size) for each in (cross_BPQG, follow_BPQG))
    covariance_BGG = np.linalg.inv(precision_BGG - cross_BFG.transpose(0, 2, 1) @ follow_BFG)

    own_BPQ = response_BPR @ row_RQ
    pull_BG = response_BPR.sum(axis=1) @ shared_RG - np.einsum("bfg,bf->bg", follow_BFG, own_BPQ.reshape(num_batch, -1))
    shared_BG = np.einsum("bgh,bh->bg", covariance_BGG, pull_BG)
    problem_BPQ = np.einsum("bpqr,bpr->bpq", given_BPQQ, own_BPQ) - np.einsum("bpqg,bg->bpq", follow_BPQG, shared_BG)
    sum_BPR = (shared_BG @ shared_RG.T)[:, None] + problem_BPQ @ row_RQ.T
    cell_BPR = cell_variance * (response_BPR - weight_BPR * sum_BPR)

    # Variance of a cell's sum of effects: of the problem's given the shared ones, and of those with what follows them,
    # s' V s - 2 s' V F' r + r' F V F' r for the run's rows s and r and the problem's F.
    spread_BPQG = (follow_BFG @ covariance_BGG).reshape(follow_BPQG.shape)
    of_follow_BPQQ = spread_BPQG @ follow_BPQG.transpose(0, 1, 3, 2)
    of_shared_BR = ((shared_RG @ covariance_BGG) * shared_RG).sum(axis=2)
    between_BPR = ((spread_BPQG @ shared_RG.T) * row_RQ.T).sum(axis=2)
    of_problem_BPR = ((row_RQ @ (given_BPQQ + of_follow_BPQQ)) * row_RQ).sum(axis=3)
    sum_variance_BPR = of_shared_BR[:, None] - 2 * between_BPR + of_problem_BPR
    return _Solution(
        eta_BPR=sum_BPR + cell_BPR,
        variance_BPR=cell_variance / shrink_BPR + sum_variance_BPR / shrink_BPR**2,
        shared_BG=shared_BG,
        shared_covariance_BGG=covariance_BGG,
        problem_BPQ=problem_BPQ,
        problem_given_shared_BPQQ=given_BPQQ,
        problem_variance_BPQ=np.diagonal(given_BPQQ + of_follow_BPQQ, axis1=2, axis2=3),
        cell_BPR=cell_BPR,
        cell_precision_B=(weight_BPR - weight_BPR**2 * sum_variance_BPR).sum(axis=(1, 2)),
    )


def _inverse_2x2(first: Array, between: Array, second: Array) -> Array:
    """Inverses of the symmetric matrices ((first, between), (between, second))."""
    determinant = first * second - between**2
    entries = np.stack([second, -between, -between, first], axis=-1) / determinant[..., None]
    return entries.reshape(*first.shape, 2, 2)


def _better_spreads(solution: _Solution, old: Spreads) -> Spreads:
    """One step of Schall's fixed point: squares of the effects over the number of them that the counts determine."""
    _, num_problems, num_runs = solution.eta_BPR.shape
    squares_BQ, variance_BQ = (solution.problem_BPQ**2).sum(axis=1), solution.problem_variance_BPQ.sum(axis=1)
    _, runs, steps = _shared_parts(num_runs)
    square_BG = solution.shared_BG**2
    variance_BG = np.diagonal(solution.shared_covariance_BGG, axis1=1, axis2=2)
    cell_squares_B = (solution.cell_BPR**2).sum(axis=(1, 2))
    squares = (
        squares_BQ[:, 0],
        squares_BQ[:, 1],
        square_BG[:, runs].sum(axis=1),
        cell_squares_B,
        square_BG[:, steps].sum(axis=1),
    )
    determined = (
        num_problems - variance_BQ[:, 0] / old.problem**2,
        num_problems - variance_BQ[:, 1] / old.slope**2,
        num_runs - variance_BG[:, runs].sum(axis=1) / old.run**2,
        old.cell**2 * solution.cell_precision_B,
        variance_BG[:, steps].shape[1] - variance_BG[:, steps].sum(axis=1) / old.walk**2,
    )
    rayleigh = [(sd**2, (sd / scale) ** 2) for sd, scale in zip(old[:-1], PRIOR_SCALES, strict=False)]
    priors = [*rayleigh, (WALK_STEPS * PRIOR_SCALES.walk**2, WALK_STEPS)]
    return Spreads(
        *(
            np.sqrt((square + prior_square) / (np.maximum(number, 0) + prior_number))
            for square, number, (prior_square, prior_number) in zip(squares, determined, priors, strict=True)
        )
    )
