"""The law's fit against planted laws, other optimisers and its own symmetries; the interval against draws."""

import numpy as np
import pytest
from scipy.optimize import differential_evolution, least_squares

from sweep.laws import (
    STEEPEST,
    Array,
    FitError,
    Forecast,
    PowerLaw,
    budget_groups,
    fit_power_law,
    floor_profile,
    forecast,
    measure_noise,
)

BUDGETS = np.array([2e10, 3.6e10, 6.6e10, 1.2e11, 2.2e11, 4e11])
RUNS = np.repeat(BUDGETS, [3, 3, 3, 2, 2, 2])
TARGET = 8.4e12
PLANTED = PowerLaw(2.0, -0.2, 2.0, float(BUDGETS[0]))


def noisy(law: PowerLaw, flops: Array, relative_sd: float, seed: int) -> Array:
    """Losses about a law, with independent noise in proportion to the loss."""
    return law(flops) * (1 + relative_sd * np.random.default_rng(seed).standard_normal(len(flops)))


def relative_sse(law: PowerLaw, flops: Array, loss: Array) -> float:
    return float(np.sum((law(flops) / loss - 1) ** 2))


# ---- planted laws -----------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, 0.5, 1.7, 3.0])
@pytest.mark.parametrize("b", [-0.05, -0.1, -0.2, -0.35, -0.5])
def test_planted_law_is_recovered(b: float, c: float) -> None:
    """From exact points all three coefficients come back, and so does the loss far beyond them."""
    planted = PowerLaw(2.5, b, c, float(BUDGETS[0]))
    law = fit_power_law(BUDGETS, planted(BUDGETS)).law.relative_to(planted.reference_flops)
    assert (law.a, law.b) == pytest.approx((planted.a, planted.b), rel=1e-8)
    assert law.c == pytest.approx(planted.c, abs=1e-8)
    for ratio in (25, 1000):
        assert float(law(ratio * BUDGETS[-1])) == pytest.approx(float(planted(ratio * BUDGETS[-1])), rel=1e-8)


@pytest.mark.parametrize(
    ("planted", "coefficient_tolerance", "prediction_tolerance"),
    [
        # Nearly flat: a and c almost cancel, as x^b is 1 + b log x and only its curvature tells them apart.
        pytest.param(PowerLaw(4.0, -0.01, 0.0, 2e10), 1e-7, 1e-8, id="flat without floor"),
        pytest.param(PowerLaw(2.0, -0.01, 2.0, 2e10), 1e-7, 1e-8, id="flat with floor"),
        # A millionth of the loss depends on compute: rounding, 1e-16 of the loss, is 1e-10 of that part,
        # and its curvature is smaller again. The prediction hardly depends on it.
        pytest.param(PowerLaw(1e-6, -0.2, 3.0, 2e10), 1e-6, 1e-8, id="almost all floor"),
        pytest.param(PowerLaw(1.0, -2.5, 2.0, 2e10), 1e-8, 1e-8, id="steep with floor"),
        # The loss at the far target is 1e-11 of the first one, so rounding of c to 1e-16 is 1e-5 of it.
        pytest.param(PowerLaw(3.0, -2.5, 0.0, 2e10), 1e-8, 1e-4, id="steep without floor"),
    ],
)
def test_extreme_law_is_recovered(planted: PowerLaw, coefficient_tolerance: float, prediction_tolerance: float) -> None:
    """Flat, steep and floor-dominated laws come back as exactly as double precision lets them."""
    law = fit_power_law(BUDGETS, planted(BUDGETS)).law.relative_to(planted.reference_flops)
    assert (law.a, law.b) == pytest.approx((planted.a, planted.b), rel=coefficient_tolerance)
    assert law.c == pytest.approx(planted.c, abs=coefficient_tolerance)
    far = 1000 * BUDGETS[-1]
    assert float(law(far)) == pytest.approx(float(planted(far)), rel=prediction_tolerance)


def test_interior_law_is_not_called_at_bound() -> None:
    assert fit_power_law(BUDGETS, PLANTED(BUDGETS)).at_bound is None


def test_law_outside_the_search_is_called_at_bound() -> None:
    """A law steeper than any that is searched is not passed off as one at the edge."""
    at_bound = fit_power_law(BUDGETS, PowerLaw(1.0, -1.5 * STEEPEST, 2.0, 2e10)(BUDGETS)).at_bound
    assert at_bound is not None and "exponent" in at_bound


def test_floor_stays_nonnegative() -> None:
    """Losses that would ask for a negative floor get the best law with none, and it is said so."""
    loss = PowerLaw(5.0, -0.05, -1.0, 2e10)(BUDGETS)
    fitted = fit_power_law(BUDGETS, loss)
    assert fitted.law.c == 0
    assert fitted.at_bound is not None and "irreducible" in fitted.at_bound


# ---- a second road to the same optimum --------------------------------------------------------

ROADS = [
    pytest.param(PowerLaw(2.0, -0.2, 2.0, 2e10), 0.003, id="usual"),
    pytest.param(PowerLaw(3.0, -0.08, 0.0, 2e10), 0.01, id="floor at or near its bound"),
    pytest.param(PowerLaw(0.5, -0.5, 3.0, 2e10), 0.02, id="noise as large as the signal"),
]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("planted", "sd"), ROADS)
def test_optimum_equals_that_of_many_starts(planted: PowerLaw, sd: float, seed: int) -> None:
    """Least squares in a, b and c from 40 starts finds no smaller error, and at its best the same one."""
    loss = noisy(planted, RUNS, sd, seed)
    fitted = fit_power_law(RUNS, loss)
    other = best_of_many_starts(RUNS, loss, 1 / loss)
    assert fitted.sse == pytest.approx(other, rel=1e-9)
    assert fitted.sse == pytest.approx(relative_sse(fitted.law, RUNS, loss), rel=1e-9)


def best_of_many_starts(flops: Array, loss: Array, root_weight: Array) -> float:
    """Least weighted squared error that a general optimiser finds within the same bounds."""
    x = flops / 2e10
    random = np.random.default_rng(0)

    def residuals(p: Array) -> Array:
        return (p[0] * x ** p[1] + p[2] - loss) * root_weight

    def one_start() -> float:
        start = [random.uniform(0.1, 5), -np.exp(random.uniform(np.log(0.01), np.log(2))), random.uniform(0.01, 3)]
        bounds = ([0, -3, 0], [np.inf, -0.005, np.inf])
        found = least_squares(
            residuals, start, bounds=bounds, method="dogbox", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=3000
        )
        return float(2 * found.cost)

    return min(one_start() for _ in range(40))


@pytest.mark.parametrize("seed", [129, 133])
def test_deeper_of_two_minima_is_taken(seed: int) -> None:
    """In these draws the error has a minimum at the flattest law and a slightly deeper one at a steep law."""
    loss = noisy(PowerLaw(0.3, -0.3, 3.0, 2e10), RUNS, 0.03, seed)
    fitted = fit_power_law(RUNS, loss)
    assert fitted.law.b < -0.5
    assert fitted.sse == pytest.approx(best_of_many_starts(RUNS, loss, 1 / loss), rel=1e-9)


@pytest.mark.parametrize(("planted", "sd"), ROADS)
def test_global_search_finds_nothing_better(planted: PowerLaw, sd: float) -> None:
    """Differential evolution, which needs no start and no gradient, ends at the same error."""
    loss = noisy(planted, RUNS, sd, seed=7)
    log_x = np.log(RUNS / 2e10)

    def sse(p: Array) -> float:
        return float(np.sum(((p[0] * np.exp(p[1] * log_x) + p[2]) / loss - 1) ** 2))

    bounds = [(0, 10), (-3, -0.005), (0, 5)]
    found = differential_evolution(sse, bounds, rng=0, tol=1e-13, maxiter=2000, polish=False, init="sobol")
    assert fit_power_law(RUNS, loss).sse == pytest.approx(found.fun, rel=1e-9)


# ---- symmetries -------------------------------------------------------------------------------


def test_unit_of_compute_does_not_matter() -> None:
    """Petaflops instead of flops: the same prediction and interval.

    The error is flat at its minimum, so rounding moves the optimum by about 1e-8; hence not closer than 1e-6.
    """
    loss = noisy(PLANTED, RUNS, 0.003, seed=3)
    assert_same_forecast(forecast(RUNS, loss, TARGET, 0.9), forecast(RUNS * 1e6, loss, TARGET * 1e6, 0.9))


def test_order_of_runs_does_not_matter() -> None:
    loss = noisy(PLANTED, RUNS, 0.003, seed=4)
    order = np.random.default_rng(0).permutation(len(RUNS))
    assert_same_forecast(forecast(RUNS, loss, TARGET, 0.9), forecast(RUNS[order], loss[order], TARGET, 0.9))


def assert_same_forecast(one: Forecast, other: Forecast) -> None:
    assert (other.prediction, other.low, other.high) == pytest.approx((one.prediction, one.low, one.high), rel=1e-6)
    assert other.noise.relative_sd == pytest.approx(one.noise.relative_sd, rel=1e-6)


def test_duplicated_runs_leave_the_law() -> None:
    """Every run counted twice is the same least-squares problem with twice the error."""
    loss = noisy(PLANTED, RUNS, 0.003, seed=5)
    once, twice = fit_power_law(RUNS, loss), fit_power_law(np.tile(RUNS, 2), np.tile(loss, 2))
    assert float(twice.law(TARGET)) == pytest.approx(float(once.law(TARGET)), rel=1e-6)
    assert twice.sse == pytest.approx(2 * once.sse, rel=1e-9)


def test_unit_of_loss_scales_the_forecast() -> None:
    """Residuals are relative, so bits instead of nats scale prediction and interval and change nothing else."""
    loss = noisy(PLANTED, RUNS, 0.003, seed=6)
    nats, bits = forecast(RUNS, loss, TARGET, 0.9), forecast(RUNS, loss / np.log(2), TARGET, 0.9)
    scaled = tuple(value / np.log(2) for value in (nats.prediction, nats.low, nats.high))
    assert (bits.prediction, bits.low, bits.high) == pytest.approx(scaled, rel=1e-6)


@pytest.mark.parametrize("reference", [1.0, 1e9, 8.4e12, 1e25])
def test_relative_to_is_the_same_law(reference: float) -> None:
    """Another unit of compute changes a alone, to the reducible loss at the new reference."""
    law = PLANTED.relative_to(reference)
    assert law(RUNS) == pytest.approx(PLANTED(RUNS), rel=1e-12)
    assert (law.b, law.c) == (PLANTED.b, PLANTED.c)
    assert law.a + law.c == pytest.approx(float(PLANTED(reference)), rel=1e-12)


# ---- budgets and noise ------------------------------------------------------------------------


def test_budgets_are_grouped_whatever_the_order() -> None:
    """Runs within a hundredth are replicates; groups are numbered by compute, not by row."""
    assert budget_groups(np.array([4e9, 1e9, 1.005e9, 2e9, 0.999e9, 4e9])).tolist() == [2, 0, 0, 1, 0, 2]
    assert budget_groups(np.array([1e9, 1.02e9])).tolist() == [0, 1]


def test_replicate_noise_is_measured() -> None:
    """From 200 seeds a budget the planted noise comes back; its standard error is then 2 %."""
    flops = np.repeat(BUDGETS, 200)
    loss = noisy(PLANTED, flops, 0.01, seed=1)
    noise = measure_noise(flops, loss, fit_power_law(flops, loss))
    assert noise.replicate_sd == pytest.approx(0.01, rel=0.06)
    assert noise.relative_sd >= 0.94 * 0.01


def test_no_replicates_no_replicate_noise() -> None:
    loss = noisy(PLANTED, BUDGETS, 0.01, seed=1)
    noise = measure_noise(BUDGETS, loss, fit_power_law(BUDGETS, loss))
    assert noise.replicate_sd is None
    assert noise.degrees_of_freedom == len(BUDGETS) - 3


def test_misfit_is_not_hidden_by_many_seeds() -> None:
    """Budgets that all seeds put off the law by 1 % set the noise, however many quiet seeds there are."""
    flops = np.repeat(BUDGETS, 50)
    off_law = np.repeat([0.01, -0.01, 0.01, -0.01, 0.01, -0.01], 50)
    loss = noisy(PLANTED, flops, 0.0005, seed=2) * (1 + off_law)
    noise = measure_noise(flops, loss, fit_power_law(flops, loss))
    assert "misfit" in noise.source
    assert noise.degrees_of_freedom == len(BUDGETS) - 3
    assert noise.replicate_sd == pytest.approx(0.0005, rel=0.2)
    assert noise.relative_sd > 0.01


def test_quiet_means_leave_the_noise_of_all_runs() -> None:
    """Where the budgets' means sit on the law, the noise is that of the runs, with all their degrees of freedom."""
    flops = np.repeat(BUDGETS, 2)
    loss = PLANTED(flops) * (1 + np.tile([0.01, -0.01], len(BUDGETS)))
    noise = measure_noise(flops, loss, fit_power_law(flops, loss))
    assert "all runs" in noise.source
    assert noise.degrees_of_freedom == len(flops) - 3
    assert noise.relative_sd == pytest.approx(0.01 * (len(flops) / (len(flops) - 3)) ** 0.5, rel=0.01)
    assert noise.replicate_sd == pytest.approx(0.01 * 2**0.5, rel=0.01)  # of a pair 2 % apart


# ---- no estimate ------------------------------------------------------------------------------


def test_two_budgets_are_refused() -> None:
    flops = np.array([1e10, 1e10, 4e10, 4e10])
    with pytest.raises(FitError, match="2 different budgets"):
        fit_power_law(flops, noisy(PLANTED, flops, 0.01, seed=0))


def test_three_budgets_are_refused_a_forecast() -> None:
    """Three budgets have a law through them but nothing that says how wrong it is; seeds do not help."""
    flops = np.repeat(BUDGETS[:3], 4)
    with pytest.raises(FitError, match="3 budgets leave nothing to measure the noise with"):
        forecast(flops, noisy(PLANTED, flops, 0.01, seed=0), TARGET, 0.9)


def test_rising_losses_are_refused() -> None:
    with pytest.raises(FitError, match="does not fall"):
        forecast(BUDGETS, PLANTED(BUDGETS)[::-1], TARGET, 0.9)


# ---- interval ---------------------------------------------------------------------------------


def test_interval_grows_with_the_extrapolation() -> None:
    """The further the target, the wider: at 100 times the ladder more than twice as wide as at its end."""
    loss = noisy(PLANTED, RUNS, 0.002, seed=9)
    widths = [
        interval.high - interval.low for interval in (forecast(RUNS, loss, r * 4e11, 0.9) for r in (1, 5, 25, 100))
    ]
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


def test_interval_collapses_without_noise() -> None:
    result = forecast(BUDGETS, PLANTED(BUDGETS), TARGET, 0.9)
    assert result.high - result.low < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_interval_is_ordered_and_nested(seed: int) -> None:
    """The prediction lies inside, and a surer interval contains a less sure one."""
    loss = noisy(PLANTED, RUNS, 0.005, seed)
    narrow, wide = forecast(RUNS, loss, TARGET, 0.8), forecast(RUNS, loss, TARGET, 0.95)
    assert wide.low < narrow.low < narrow.prediction < narrow.high < wide.high
    assert wide.prediction == narrow.prediction


def test_interval_is_at_least_the_noise_of_one_run() -> None:
    """However many runs fix the law, the target's own run keeps its noise: 1.645 sd to either side at 90 %."""
    flops = np.repeat(np.geomspace(1e9, 1e15, 12), 40)
    result = forecast(flops, noisy(PLANTED, flops, 0.01, seed=0), 2e15, 0.9)
    half_width = (result.high - result.low) / 2 / result.prediction
    assert half_width == pytest.approx(1.645 * 0.01, rel=0.15)


@pytest.mark.parametrize(
    ("seed", "degrees_of_freedom", "student_95"),  # from a printed table
    [pytest.param(11, 3, 2.3533634, id="noise from the misfit"), pytest.param(14, 12, 1.7822876, id="from all runs")],
)
def test_edges_of_the_interval_by_another_optimiser(seed: int, degrees_of_freedom: int, student_95: float) -> None:
    """At both ends the target, taken as one more run, raises the least error by just t^2 s^2.

    The least errors here are those of the general optimiser, so profile and edge search are both checked.
    """
    loss = noisy(PLANTED, RUNS, 0.004, seed)
    result = forecast(RUNS, loss, TARGET, 0.9)
    assert result.noise.degrees_of_freedom == degrees_of_freedom
    flops, root_weight = np.append(RUNS, TARGET), 1 / np.append(loss, result.prediction)
    for end in (result.low, result.high):
        rise = best_of_many_starts(flops, np.append(loss, end), root_weight) - result.fitted.sse
        assert rise == pytest.approx((student_95 * result.noise.relative_sd) ** 2, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "sd"),
    [
        pytest.param(PowerLaw(2.0, -0.2, 2.0, 2e10), 0.003, id="with floor"),
        pytest.param(PowerLaw(4.0, -0.06, 0.0, 2e10), 0.003, id="without floor"),
    ],
)
def test_interval_covers_as_often_as_it_says(planted: PowerLaw, sd: float) -> None:
    """Of 60 targets drawn about a planted law, 90 % intervals hold most and 50 % intervals not nearly all.

    Under 45 of 60 has a chance of 2e-4 at a true coverage of 90 %, over 46 has one of 6e-6 at 50 %. (A floor
    that is known not to be negative, and the larger of two noises, make the interval err to the wide side.)
    """
    inside = {0.9: 0, 0.5: 0}
    for seed in range(60):
        everything = noisy(planted, np.append(RUNS, TARGET), sd, 1000 + seed)
        for level in inside:
            result = forecast(RUNS, everything[:-1], TARGET, level)
            inside[level] += result.low <= everything[-1] <= result.high
    assert inside[0.9] >= 45
    assert 20 <= inside[0.5] <= 46


# ---- floors -----------------------------------------------------------------------------------


def test_floor_profile_holds_the_planted_floor() -> None:
    """The floors that fit as well are one stretch, and the planted one lies in it."""
    loss = noisy(PLANTED, RUNS, 0.003, seed=12)
    profile = floor_profile(RUNS, loss, forecast(RUNS, loss, TARGET, 0.9))
    as_well = [index for index, point in enumerate(profile) if point["fits_as_well"]]
    assert as_well == list(range(as_well[0], as_well[-1] + 1))
    assert profile[as_well[0]]["c"] <= PLANTED.c <= profile[as_well[-1]]["c"]


def test_floor_profile_rules_out_wrong_floors() -> None:
    """A long and quiet ladder tells the planted floor from none, and from one just under the least loss."""
    flops = np.geomspace(1e9, 1e12, 12)
    loss = noisy(PowerLaw(3.0, -0.3, 1.5, 1e9), flops, 0.01, seed=0)
    profile = floor_profile(flops, loss, forecast(flops, loss, 1e13, 0.9))
    as_well = [point["c"] for point in profile if point["fits_as_well"]]
    assert len(as_well) >= 2
    assert as_well == pytest.approx([1.5] * len(as_well), abs=0.15)
    assert profile[-1]["c"] not in as_well


def test_floor_of_zero_is_the_pure_power_law() -> None:
    """The profile's first entry is what least squares in a and b alone finds."""
    loss = noisy(PLANTED, RUNS, 0.003, seed=13)
    first = floor_profile(RUNS, loss, forecast(RUNS, loss, TARGET, 0.9))[0]
    found = least_squares(lambda p: np.exp(p[0] + p[1] * np.log(RUNS / 2e10)) / loss - 1, [1.0, -0.1], xtol=1e-14)
    assert first["c"] == 0
    assert first["sse"] == pytest.approx(2 * found.cost, rel=1e-9)
    assert first["prediction"] == pytest.approx(np.exp(found.x[0] + found.x[1] * np.log(TARGET / 2e10)), rel=1e-6)
