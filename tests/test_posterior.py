"""What a handful of budgets says about a form: the posterior against sampling, curvature and draws; mixtures."""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import t as student

from sweep.laws import (
    BEND,
    BEND_SD,
    FLOOR,
    FLOOR_PRIOR,
    FORMS,
    PRIOR_EXPONENT,
    PRIOR_NOISE,
    PRIOR_NOISE_LOG_SD,
    Array,
    Form,
    Law,
    Mixture,
    Points,
    mix,
    posterior,
)
from tests.planted import BUDGETS, PLANTED, TARGET, noisy_about, points

LONG = np.geomspace(2e10, 2e13, 16)
SHARES = (0.05, 0.5, 0.95)


# ---- posterior --------------------------------------------------------------------------------

SAMPLED = [
    pytest.param(Law(3.5, -0.2, 1.5, 2e10), 0.003, 0.0, id="noise not known"),
    pytest.param(Law(4.0, -0.07, 0.0, 2e10), 0.003, 3e-6, id="noise from three seeds a budget"),
    pytest.param(Law(3.5, -0.2, 1.5, 2e10), 0.01, 0.0, id="noisy"),
]


def by_sampling(pts: Points, form: Form, target_flops: float, num_draws: int = 150_000) -> list[float]:
    """Quantiles of the log loss at the target by importance sampling over all coefficients and the noise.

    The law is drawn by its losses at the first and the last budget; no Laplace, no grid but that of the bends.
    """
    random = np.random.default_rng(0)
    log_flops, y = np.log(pts.flops), np.log(pts.loss)
    x, target = log_flops - log_flops.mean(), np.log(target_flops) - log_flops.mean()
    noise = np.exp(random.uniform(np.log(1e-4), np.log(0.06), num_draws))
    sd = np.sqrt(noise[:, None] ** 2 + pts.variance)
    z, spread = random.standard_t(3, (num_draws, 2)), 1.2 * sd[:, [0, -1]] + 5e-4
    ends = y[[0, -1]] + spread * z
    c = float(pts.loss.min()) * random.random(num_draws) * form.has_floor
    d = BEND_SD * random.standard_normal(num_draws) * form.has_bend
    bend_x = random.choice(np.linspace(np.sort(x)[1], target, 9), num_draws)

    reducible = np.exp(ends) - c[:, None]
    possible = np.all(reducible > 0, axis=1)
    reducible = np.where(possible[:, None], reducible, 1.0)

    def bend(at: float) -> Array:
        return d * 1.15 * np.logaddexp(0, (at - bend_x) / 1.15)

    first, last = np.log(reducible[:, 0]) + bend(x[0]), np.log(reducible[:, 1]) + bend(x[-1])
    exponent = (first - last) / (x[-1] - x[0])
    log_a = first + exponent * x[0]

    def log_loss(at: float) -> Array:
        return np.log(np.exp(log_a - exponent * at - bend(at)) + c)

    log_weight = np.sum(np.log(spread) - student.logpdf(z, 3) + ends - np.log(reducible), 1)  # proposal and Jacobian
    log_weight -= 0.5 * ((log_a - np.log(pts.loss.mean())) / 10) ** 2
    log_weight -= 0.5 * (np.log(noise / PRIOR_NOISE) / PRIOR_NOISE_LOG_SD) ** 2
    log_weight -= 0.5 * ((exponent - PRIOR_EXPONENT) / form.exponent_sd) ** 2
    for index, at in enumerate(x):
        ratio = np.abs(y[index] - log_loss(at)) / sd[:, index]
        log_weight -= np.where(ratio < 2, 0.5 * ratio**2, 2 * (ratio - 1)) + np.log(sd[:, index])
    weight = np.where(possible, np.exp(log_weight - log_weight[possible].max()), 0.0)
    held = weight > 1e-12
    mean, total_sd = log_loss(target)[held], np.sqrt(noise[held] ** 2 + pts.run_variance)
    return [weighted_quantile(weight[held] / weight.sum(), mean, total_sd, share) for share in SHARES]


def weighted_quantile(weight: Array, mean: Array, sd: Array, share: float) -> float:
    low, high = float(mean.min()) - 1, float(mean.max()) + 1
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if weight @ ndtr((middle - mean) / sd) < share else (low, middle)
    return low


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize(("planted", "sd", "variance"), SAMPLED)
def test_prediction_equals_that_of_sampling(planted: Law, sd: float, variance: float, form: Form) -> None:
    """Median and 90 % interval 21 times beyond, to 4 % of the interval's width.

    The sampling errs by 1 %, the normal distribution within a cell by 3 % where the floor is at its bound.
    """
    pts = points(BUDGETS, noisy_about(planted, sd, 5), variance, 3 * variance)
    mixture = posterior(pts, form, TARGET).predict(TARGET)
    sampled = by_sampling(pts, form, TARGET)
    width = sampled[2] - sampled[0]
    assert [mixture.quantile(share) for share in SHARES] == pytest.approx(sampled, abs=0.04 * width)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_covariance_is_the_inverse_curvature(form: Form) -> None:
    """In the heaviest cell, against finite differences of log likelihood and prior in log a, -b and d."""
    pts = points(LONG, Law(2.0, -0.15, 1.0 * form.has_floor, 2e10)(LONG))
    found = posterior(pts, form, 1e15)
    z, c, s = np.unravel_index(int(np.argmax(found.log_weight)), found.log_weight.shape)
    best, floor, noise = found.coefficients[z, c, s], found.floor[c], found.noise[s]
    log_x = np.log(LONG / found.reference_flops)
    bend = 1.15 * np.logaddexp(0, (log_x - found.bend_log_x[z]) / 1.15)
    prior_sd = np.array([10, form.exponent_sd, BEND_SD])[: len(best)]
    prior_mean = np.array([np.log(pts.loss.mean()), PRIOR_EXPONENT, 0])[: len(best)]

    def penalty(p: Array) -> float:
        log_reducible = p[0] - p[1] * log_x - (p[2] * bend if len(p) > 2 else 0)
        ratio = (np.log(pts.loss) - np.log(np.exp(log_reducible) + floor)) / noise
        return float(0.5 * ratio @ ratio + 0.5 * np.sum(((p - prior_mean) / prior_sd) ** 2))

    step = 3e-3 * np.sqrt(np.diag(found.covariance[z, c, s]))
    axes = np.diag(step)
    curvature = [
        [
            (penalty(best + i + j) - penalty(best + i - j) - penalty(best - i + j) + penalty(best - i - j)) / 4
            for j in axes
        ]
        for i in axes
    ] / np.outer(step, step)
    unit = found.covariance[z, c, s] @ curvature
    assert unit == pytest.approx(np.eye(len(best)), abs=0.02)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_draws_are_of_the_posterior(form: Form) -> None:
    """Mean and spread of log losses drawn equal those of the mixture without the noise of a run."""
    pts = points(BUDGETS, noisy_about(PLANTED, 0.003, 1), 1e-6, 1e-6)
    found = posterior(pts, form, TARGET)
    drawn = np.log(found.draw(np.array([BUDGETS[2], TARGET]), 20_000, np.random.default_rng(0)))
    noise = np.broadcast_to(found.noise**2 + 1e-6, found.log_weight.shape).ravel()
    for column, flops in enumerate((float(BUDGETS[2]), TARGET)):
        mixture = found.predict(flops)
        weight = np.exp(mixture.log_weight)
        mean = float(weight @ mixture.mean)
        sd = float(weight @ (mixture.sd**2 - noise + (mixture.mean - mean) ** 2)) ** 0.5
        assert np.mean(drawn[:, column]) == pytest.approx(mean, abs=0.05 * sd)
        assert np.std(drawn[:, column]) == pytest.approx(sd, rel=0.1)


def test_misfit_is_not_hidden_by_many_seeds() -> None:
    """Budgets that all seeds put off the law by 1 % set the noise, however quiet their means are known to be."""
    loss = PLANTED(BUDGETS) * (1 + np.array([0.01, -0.01, 0.01, -0.01, 0.01, -0.01]))
    assert posterior(points(BUDGETS, loss, 1e-8, 5e-7), FLOOR_PRIOR, TARGET).mean_noise() > 0.005


def test_noise_between_seeds_is_not_counted_twice() -> None:
    """Where the means' scatter is what the seeds explain, the noise of a run is that of the seeds and little more."""
    sd = 0.01
    loss = noisy_about(PLANTED, sd / 10, 4, LONG)  # means of a hundred seeds
    noise = posterior(points(LONG, loss, sd**2 / 100, sd**2), FLOOR, 1e15).mean_noise()
    assert sd <= noise < 1.02 * sd


@pytest.mark.parametrize("form", [FLOOR, FLOOR_PRIOR, BEND], ids=lambda form: form.name)
def test_posterior_of_quiet_points_is_their_law(form: Form) -> None:
    """The heaviest cell's law and the median prediction are the planted ones, and the interval is narrow."""
    planted = Law(2.0, -0.18, 1.5, 2e10)
    found = posterior(points(LONG, planted(LONG)), form, 1e15)
    assert found.best()(LONG) == pytest.approx(planted(LONG), rel=1e-4)
    assert found.best().c == pytest.approx(1.5, abs=0.03)
    mixture = found.predict(1e15)
    assert np.exp(mixture.quantile(0.5)) == pytest.approx(float(planted(1e15)), rel=0.005)
    assert mixture.quantile(0.95) - mixture.quantile(0.05) < 0.03


def test_floors_hold_the_planted_floor_and_rule_out_wrong_ones() -> None:
    """A long and quiet ladder tells the planted floor from none and from one just under the least loss."""
    flops = np.geomspace(1e9, 1e12, 12)
    planted = Law(3.0, -0.3, 1.5, 1e9)
    rows = posterior(points(flops, noisy_about(planted, 0.01, 0, flops)), FLOOR, 1e13).floors(1e13)
    floor, share, forecast = (np.array(column) for column in zip(*rows, strict=True))
    assert share.sum() == pytest.approx(1)
    assert share[np.abs(floor - 1.5) < 0.15].sum() > 0.9
    assert np.all(np.diff(forecast[share > 1e-3]) > 0)  # the higher the floor, the higher the forecast
    assert share @ forecast == pytest.approx(float(planted(1e13)), rel=0.03)


# ---- mixtures ---------------------------------------------------------------------------------

PARTS = [
    Mixture(np.zeros(1), np.array([0.3]), np.array([0.02])),
    Mixture(np.log([0.2, 0.8]), np.array([-1.0, 0.5]), np.array([0.3, 0.001])),
]


@pytest.mark.parametrize("mixture", [*PARTS, mix(PARTS, np.array([0.25, 0.75]))], ids=["one", "two", "mixed"])
def test_quantile_share_and_density_agree(mixture: Mixture) -> None:
    """``below`` is the inverse of ``quantile``, ``log_density`` the slope of ``below``; far out neither breaks."""
    for share in (1e-4, 0.05, 0.3, 0.9, 0.999):
        at = mixture.quantile(share)
        assert mixture.below(at) == pytest.approx(share, rel=1e-6)
        slope = (mixture.below(at + 1e-6) - mixture.below(at - 1e-6)) / 2e-6
        assert mixture.log_density(at) == pytest.approx(np.log(slope), abs=1e-4)
    assert np.isfinite(mixture.log_density(1e3)) and mixture.below(1e3) == pytest.approx(1)
    assert mixture.quantile(1e-12) < mixture.quantile(1e-4) < mixture.quantile(0.999) < mixture.quantile(1 - 1e-12)


def test_a_single_part_is_the_normal_distribution() -> None:
    assert PARTS[0].quantile(0.95) == pytest.approx(0.3 + 1.6448536 * 0.02, abs=1e-7)
    assert PARTS[0].log_density(0.32) == pytest.approx(-0.5 - np.log(0.02 * (2 * np.pi) ** 0.5), abs=1e-12)


def test_a_part_without_weight_does_not_count() -> None:
    alone = mix(PARTS, np.array([1.0, 0.0]))
    assert alone.quantile(0.9) == pytest.approx(PARTS[0].quantile(0.9), abs=1e-9)
    assert alone.below(0.31) == pytest.approx(PARTS[0].below(0.31), abs=1e-12)
