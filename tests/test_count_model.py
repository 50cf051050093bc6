"""The model of counts against dense algebra, a plain maximum of the likelihood, and planted truth."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import norm

from sweep.count_model import (
    PRIOR_SCALES,
    WALK_STEPS,
    CountModel,
    Spreads,
    expected_derivatives,
    fit_counts,
    log_likelihood_derivatives,
    walk_at,
)

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
X = np.log(np.logspace(0, 2, 5))
X = X - X.mean()


def spreads(problem: float, slope: float, run: float, cell: float, walk: float) -> Spreads:
    return Spreads(*(np.array([sd]) for sd in (problem, slope, run, cell, walk)))


def log_likelihood(correct: NDArray[Any], samples: NDArray[Any], eta: Array) -> Array:
    nats = np.exp(eta)
    return -correct * nats + (samples - correct) * np.log(-np.expm1(-nats))


def draw(seed: int, samples: int, problems: int = 6, cell_sd: float = 0.15) -> tuple[Counts, Array]:
    """(P, R) correct counts and the truth; the hardest problems are never solved with few samples."""
    random = np.random.default_rng(seed)
    level = np.log(3.0) + np.linspace(-1, 1, problems)
    eta = level[:, None] - 0.2 * X + cell_sd * random.standard_normal((problems, len(X)))
    return random.binomial(samples, np.exp(-np.exp(eta))), level


# ---- the likelihood ---------------------------------------------------------------------------


@pytest.mark.parametrize(("correct", "samples"), [(0, 50), (50, 50), (3, 50), (0, 0)])
@pytest.mark.parametrize("eta", [-9.0, -1.0, 0.5, 2.5])
def test_derivatives_are_those_of_the_log_likelihood(correct: int, samples: int, eta: float) -> None:
    step = 1e-4
    at = np.array([eta - step, eta, eta + step])
    below, here, above = log_likelihood(np.array(correct), np.array(samples), at)
    gradient, curvature = log_likelihood_derivatives(np.array(correct), np.array(samples), np.array(eta))
    assert float(gradient) == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-6)
    assert float(curvature) == pytest.approx(-(above - 2 * here + below) / step**2, rel=1e-3, abs=1e-4)
    assert float(curvature) >= 0


@pytest.mark.parametrize("eta", [-60.0, 6.0, 40.0])
def test_nothing_overflows_far_out(eta: float) -> None:
    for correct in (0.0, 3.0, 50.0):
        found = log_likelihood_derivatives(np.array(correct), np.array(50.0), np.array(eta))
        assert np.isfinite(found).all()


@pytest.mark.parametrize("correct", [0, 5, 50])
def test_expectations_are_those_of_the_integral(correct: int) -> None:
    eta, sd = 1.0, 0.4

    def integrand(z: float, which: int) -> float:
        at = np.array(eta + sd * z)
        return float(log_likelihood_derivatives(np.array(correct), np.array(50), at)[which] * norm.pdf(z))

    found = expected_derivatives(np.array(float(correct)), np.array(50.0), np.array(eta), np.array(sd**2))
    for which in (0, 1):
        assert float(found[which]) == pytest.approx(quad(integrand, -8, 8, args=(which,))[0], rel=2e-3)


# ---- two roads --------------------------------------------------------------------------------


def dense(correct: Counts, samples: Counts, given: Spreads) -> tuple[Array, Array, list[slice]]:
    """Mean and covariance of all effects by dense algebra: a, -k, runs, levels, slopes, cells, steps.

    The mean maximises the expected log likelihood and the prior, by a general-purpose minimiser.
    """
    num_problems, num_runs = correct.shape
    problem, run = (each.ravel() for each in np.indices(correct.shape))
    rows, c, n = len(problem), correct.ravel().astype(float), samples.ravel().astype(float)
    levels = np.eye(num_problems)[problem]
    blocks = [
        np.ones((rows, 1)),
        X[run][:, None],
        np.eye(num_runs)[run],
        levels,
        levels * X[run][:, None],
        np.eye(rows),
        (X[run][:, None] >= X[1:]) * np.sqrt(np.diff(X)),
    ]
    sds = [10.0, 1.0, given.run[0], given.problem[0], given.slope[0], given.cell[0], given.walk[0]]
    design = np.concatenate(blocks, axis=1)
    precision = np.concatenate([np.full(block.shape[1], sd**-2) for block, sd in zip(blocks, sds, strict=True)])
    ends = np.cumsum([block.shape[1] for block in blocks])
    mean, variance = np.zeros(design.shape[1]), np.full(rows, 0.1)
    mean[0] = 1.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    for _ in range(60):

        def loss(at: Array, variance: Array = variance) -> tuple[float, Array]:
            eta = (design @ at)[:, None] + np.sqrt(variance)[:, None] * nodes
            value = log_likelihood(c[:, None], n[:, None], eta) @ weights
            gradient = log_likelihood_derivatives(c[:, None], n[:, None], eta)[0] @ weights
            return float(-value.sum() + at**2 @ precision / 2), -design.T @ gradient + precision * at

        mean = minimize(loss, mean, jac=True, method="BFGS", options={"gtol": 1e-7}).x
        eta = (design @ mean)[:, None] + np.sqrt(variance)[:, None] * nodes
        curvature = log_likelihood_derivatives(c[:, None], n[:, None], eta)[1] @ weights
        covariance = np.linalg.inv(design.T @ (curvature[:, None] * design) + np.diag(precision))
        change = np.einsum("rk,kl,rl->r", design, covariance, design) - variance
        variance = variance + change / 2
        if np.abs(change).max() < 1e-7:
            break
    return mean, covariance, [slice(*pair) for pair in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize("samples", [40, 2000])
def test_block_by_block_and_dense_agree(samples: int) -> None:
    given = spreads(0.7, 0.05, 0.1, 0.2, 0.1)
    correct, _ = draw(1, samples)
    found = fit_counts(correct[None], np.full(correct.shape, samples), X, given, estimate_spreads=False)
    mean, covariance, parts = dense(correct, np.full(correct.shape, samples), given)
    level, slope, runs, problems, slopes, _, steps = parts
    assert found.law_BQ[0, 0] == pytest.approx(mean[level][0], abs=1e-4)
    assert found.exponent[0] == pytest.approx(-mean[slope][0], abs=1e-4)
    assert found.law_sd_BQ[0, 1] == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-3)
    assert found.run_effect_BR[0] == pytest.approx(mean[runs], abs=1e-4)
    assert found.walk_BK[0] == pytest.approx(np.append(0, np.cumsum(mean[steps] * np.sqrt(np.diff(X)))), abs=1e-4)
    assert found.problem_BPQ[0, :, 0] == pytest.approx(mean[problems], abs=1e-3)
    assert found.problem_BPQ[0, :, 1] == pytest.approx(mean[slopes], abs=1e-4)


def test_spreads_are_the_fixed_point_of_dense_algebra() -> None:
    """sd^2 = (squares + sd^2) / (effects - variance / sd^2 + (sd / prior scale)^2), all from the dense solution.

    That of the walk: (squares + WALK_STEPS prior scale^2) / (steps - variance / sd^2 + WALK_STEPS).
    """
    correct, _ = draw(2, 500, problems=8)
    samples = np.full(correct.shape, 500)
    found = fit_counts(correct[None], samples, X).spreads
    mean, covariance, (_, _, runs, problems, slopes, cells, steps) = dense(correct, samples, found)
    variance = np.diag(covariance)
    for sd, scale, effects in zip(found, PRIOR_SCALES, (problems, slopes, runs, cells, steps), strict=True):
        determined = len(mean[effects]) - variance[effects].sum() / sd[0] ** 2
        prior = (sd[0] ** 2, (sd[0] / scale[0]) ** 2)
        if sd is found.walk:
            prior = (WALK_STEPS * scale[0] ** 2, WALK_STEPS)
        fixed = ((mean[effects] ** 2).sum() + prior[0]) / (determined + prior[1])
        assert np.sqrt(fixed) == pytest.approx(sd[0], rel=0.02)


def test_without_scatter_it_is_the_plain_maximum_of_the_likelihood() -> None:
    """One level per problem and one exponent, by a general-purpose minimiser of the full likelihood."""
    samples = 5000
    correct, level = draw(3, samples, cell_sd=0.0)
    found = fit_counts(
        correct[None], np.full(correct.shape, samples), X, spreads(30.0, 1e-5, 1e-5, 1e-5, 1e-5), estimate_spreads=False
    )

    def loss(at: Array) -> float:
        return -float(log_likelihood(correct, np.full(correct.shape, samples), at[:-1, None] - at[-1] * X).sum())

    best = minimize(loss, np.append(level, 0.1), method="BFGS").x
    assert found.exponent[0] == pytest.approx(best[-1], abs=1e-3)
    assert found.law_BQ[0, 0] + found.problem_BPQ[0, :, 0] == pytest.approx(best[:-1], abs=5e-3)


# ---- planted truth ----------------------------------------------------------------------------


def test_planted_exponent_and_spreads_are_recovered() -> None:
    """The mean over forty drawn ladders; a fifth of the cells has no success. The walk takes a part of the runs'."""
    random = np.random.default_rng(0)
    problems, x = 40, np.log(np.logspace(-1.5, 1.5, 10))
    level = np.log(3.0) + 0.7 * random.standard_normal((40, problems, 1))
    slope = 0.2 + 0.03 * random.standard_normal((40, problems, 1))
    scatter = 0.1 * random.standard_normal((40, 1, 10)) + 0.15 * random.standard_normal((40, problems, 10))
    correct = random.binomial(300, np.exp(-np.exp(level - slope * x + scatter)))
    found = fit_counts(correct, np.full(correct.shape[1:], 300), x)
    assert found.exponent.mean() == pytest.approx(0.2, abs=0.006)
    for sd, planted, off in zip(found.spreads[:4], (0.7, 0.03, 0.1, 0.15), (0.1, 0.1, 0.2, 0.1), strict=True):
        assert sd.mean() == pytest.approx(planted, rel=off)


def test_batches_do_not_touch_one_another() -> None:
    many = np.stack([draw(seed, 100)[0] for seed in range(3)])
    together = fit_counts(many, np.full(many.shape[1:], 100), X)
    for number in range(3):
        alone = fit_counts(many[number : number + 1], np.full(many.shape[1:], 100), X)
        assert together.exponent[number] == pytest.approx(alone.exponent[0], abs=1e-3)


def test_cells_that_were_not_sampled_say_nothing() -> None:
    """Whatever stands in a problem that no run tried, the others are as without it."""
    correct, _ = draw(4, 200)
    samples = np.full(correct.shape, 200)
    given = spreads(0.7, 0.05, 0.1, 0.2, 0.1)
    alone = fit_counts(correct[None], samples, X, given, estimate_spreads=False)
    beside = fit_counts(
        np.vstack([correct, np.zeros((1, len(X)), int)])[None],
        np.vstack([samples, np.zeros((1, len(X)), int)]),
        X,
        given,
        estimate_spreads=False,
    )
    assert beside.exponent == pytest.approx(alone.exponent, abs=1e-8)
    assert beside.problem_BPQ[0, -1] == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_all_or_nothing_stays_finite(rate: float) -> None:
    samples = np.full((5, len(X)), 100)
    found = fit_counts((rate * samples).astype(int)[None], samples, X)
    assert all(np.isfinite(each).all() for each in (*found[:-1], *found.spreads))
    assert isinstance(found, CountModel)


def test_a_planted_walk_is_found() -> None:
    """Forty ladders of ten budgets and two seeds; a straight one strays less than the prior says."""
    random = np.random.default_rng(0)
    budgets = np.log(np.logspace(-1.5, 1.5, 10))
    x = np.repeat(budgets, 2)
    level = np.log(3.0) + 0.7 * random.standard_normal((40, 25, 1))
    steps = np.sqrt(np.diff(budgets, prepend=budgets[0])) * random.standard_normal((40, 10))
    scatter = 0.03 * random.standard_normal((40, 1, 20)) + 0.15 * random.standard_normal((40, 25, 20))
    for planted, least, most in ((0.0, 0.05, 0.09), (0.11, 0.1, 0.12), (0.3, 0.24, 0.31)):
        walk_BK = planted * np.cumsum(steps, axis=1)
        eta = level - 0.2 * x + np.repeat(walk_BK, 2, axis=1)[:, None] + scatter
        correct = random.binomial(1000, np.exp(-np.exp(eta)))
        found = fit_counts(correct, np.full(correct.shape[1:], 1000), x)
        assert least < np.sqrt((found.spreads.walk**2).mean()) < most
        # What the line and the walk say together differs by a ladder's own problems, not along it.
        error_BK = found.line(budgets) + found.walk_BK - (np.log(3.0) - 0.2 * budgets + walk_BK)
        assert (error_BK - error_BK.mean(axis=1, keepdims=True)).std() < 0.06


def test_a_walk_between_and_beyond_what_is_known() -> None:
    """Brownian bridge and Brownian motion, from the covariance min(x, y) of a walk that starts at the first budget."""
    budget_K = np.array([-1.0, 0.5, 1.0, 3.0])
    for x in (-0.4, 0.5, 2.0, 3.0, 7.0):
        known, new = budget_K[1:] + 1, x + 1
        weights = np.linalg.solve(np.minimum.outer(known, known), np.minimum(known, new))
        mean_K, variance = walk_at(budget_K, x)
        assert mean_K[1:] == pytest.approx(weights, abs=1e-12)
        assert variance == pytest.approx(new - np.minimum(known, new) @ weights, abs=1e-12)
