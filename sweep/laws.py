"""The law L(C) = a C^b + c: fitted globally, with an interval for a run that has not been made.

C is compute over a reference, a > 0, b < 0, c >= 0 the loss that no compute removes. (Kaplan et
al. 2020 without c; Henighan et al. 2020 and the GPT-4 report with it.)

Fitting is by variable projection (Golub & Pereyra 1973): for a fixed b the law is linear in a and c,
so their best values are a formula and what is left is a search along one line. The whole
line is looked at, then the best places are magnified: no start value, no missed optimum.

Residuals count relative to the loss, since noise between seeds is about a fixed share of it.

This module knows numbers only: no file, no table, no run.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtrit

Array = NDArray[np.float64]

NUM_COEFFICIENTS = 3
STEEPEST, FLATTEST = 3.0, 0.005  # range of -b that is searched; known laws lie between 0.03 and 0.7
_GRID_POINTS = 400
_ZOOM_POINTS, _ZOOMS = 41, 8
_SAME_BUDGET = 0.01  # runs whose FLOPs differ by less are replicates of one budget


class FitError(ValueError):
    """No estimate exists for these points."""


@dataclass(frozen=True)
class PowerLaw:
    """``a * (flops / reference_flops)**b + c``, in nats per token."""

    a: float
    b: float
    c: float
    reference_flops: float

    def __call__(self, flops: Array | float) -> Array:
        return self.a * (np.asarray(flops, dtype=float) / self.reference_flops) ** self.b + self.c

    def relative_to(self, reference_flops: float) -> "PowerLaw":
        """The same law with its compute measured in another unit."""
        scale = (reference_flops / self.reference_flops) ** self.b
        return PowerLaw(self.a * scale, self.b, self.c, reference_flops)


@dataclass(frozen=True)
class Fitted:
    law: PowerLaw
    sse: float  # sum of squared relative residuals
    at_bound: str | None  # why the law is at the edge of what was searched


@dataclass(frozen=True)
class Noise:
    """Relative standard deviation of one run about the law, and how many degrees of freedom it rests on."""

    relative_sd: float
    degrees_of_freedom: int
    source: str
    replicate_sd: float | None  # between seeds of one budget alone; None without replicates


@dataclass(frozen=True)
class Forecast:
    """Prediction for one run at ``target_flops`` with the interval that holds it at the given level."""

    fitted: Fitted
    noise: Noise
    target_flops: float
    prediction: float
    low: float
    high: float
    level: float


def fit_power_law(flops: Array, loss: Array, weight: Array | None = None, floor: float | None = None) -> Fitted:
    """The law with the least weighted squared error among all with a >= 0, c >= 0 (or c = ``floor``).

    ``weight`` defaults to 1 / loss**2, which makes residuals relative.

    Raises:
        FitError: fewer than three different budgets.
    """
    flops, loss = np.asarray(flops, dtype=float), np.asarray(loss, dtype=float)
    weight = loss**-2.0 if weight is None else weight
    num_budgets = len(np.unique(flops))
    if num_budgets < NUM_COEFFICIENTS:
        raise FitError(f"{num_budgets} different budgets can't determine the three coefficients of a*C^b + c")
    reference = float(np.exp(np.mean(np.log(flops))))
    log_x = np.log(flops / reference)

    exponents = -np.geomspace(FLATTEST, STEEPEST, _GRID_POINTS)
    sse = _solve_linear(exponents, log_x, loss, weight, floor)[0]
    padded = np.concatenate(([np.inf], sse, [np.inf]))
    minima = np.flatnonzero((sse < padded[:-2]) & (sse <= padded[2:]))
    refined = [_magnify(exponents, int(index), log_x, loss, weight, floor) for index in minima]
    best_sse, a, b, c = min(refined)
    at_bound = None
    if not exponents[-1] < b < exponents[0]:
        at_bound = f"the exponent b = {b:.3g} is at the edge of the range searched"
    elif a == 0:
        at_bound = "the loss does not fall with compute"
    elif floor is None and c == 0:
        at_bound = "the irreducible loss c is at its bound, 0: these runs can't tell it from none"
    return Fitted(PowerLaw(a, b, c, reference), best_sse, at_bound)


def _solve_linear(
    exponents: Array, log_x: Array, loss: Array, weight: Array, floor: float | None
) -> tuple[Array, Array, Array]:
    """Least error, a and c for each exponent: weighted linear regression on x**b with a, c >= 0."""
    basis = np.exp(exponents[:, None] * log_x[None])
    share = weight / weight.sum()
    if floor is None:
        basis_mean, loss_mean = basis @ share, loss @ share
        centred = basis - basis_mean[:, None]
        a = np.maximum((centred * share) @ (loss - loss_mean) / (centred**2 @ share), 0.0)
        c = loss_mean - a * basis_mean
    else:
        a, c = np.zeros(len(exponents)), np.full(len(exponents), floor)
    bounded = (c < 0) | (floor is not None)
    fixed = 0.0 if floor is None else floor
    a = np.where(bounded, np.maximum((basis * share) @ (loss - fixed) / (basis**2 @ share), 0.0), a)
    c = np.where(bounded, fixed, c)
    residual = loss - a[:, None] * basis - c[:, None]
    return residual**2 @ weight, a, c


def _magnify(
    exponents: Array, index: int, log_x: Array, loss: Array, weight: Array, floor: float | None
) -> tuple[float, float, float, float]:
    """The minimum between the neighbours of one grid point, by looking ever closer: (sse, a, b, c)."""
    for _ in range(_ZOOMS):
        left, right = exponents[max(index - 1, 0)], exponents[min(index + 1, len(exponents) - 1)]
        exponents = np.linspace(left, right, _ZOOM_POINTS)
        sse, a, c = _solve_linear(exponents, log_x, loss, weight, floor)
        index = int(np.argmin(sse))
    return float(sse[index]), float(a[index]), float(exponents[index]), float(c[index])


def budget_groups(flops: Array) -> NDArray[np.int64]:
    """For each run the number of its budget; runs within a hundredth of each other share one."""
    order = np.argsort(flops, kind="stable")
    steps = np.diff(np.log(np.asarray(flops, dtype=float)[order])) > _SAME_BUDGET
    groups = np.empty(len(flops), dtype=np.int64)
    groups[order] = np.concatenate(([0], np.cumsum(steps)))
    return groups


def measure_noise(flops: Array, loss: Array, fitted: Fitted) -> Noise:
    """Noise of one run: residuals of all runs, or misfit of the budgets' means where that is larger.

    Seeds of one budget share whatever the law gets wrong there, so their number must not make it
    look small; the means' misfit is what replicates can't hide (the lack-of-fit test's numerator).

    Raises:
        FitError: no degree of freedom is left to measure the noise with.
    """
    groups = budget_groups(flops)
    num_runs, num_budgets = len(loss), int(groups.max()) + 1
    if num_budgets <= NUM_COEFFICIENTS:
        raise FitError(f"{num_budgets} budgets leave nothing to measure the noise with; at least 4 are needed")
    predicted = fitted.law(flops)
    counts = np.bincount(groups)
    mean_residual = np.bincount(groups, loss / predicted - 1) / counts
    candidates = [
        (fitted.sse / (num_runs - NUM_COEFFICIENTS), num_runs - NUM_COEFFICIENTS, "residuals of all runs"),
        (
            float(counts @ mean_residual**2) / (num_budgets - NUM_COEFFICIENTS),
            num_budgets - NUM_COEFFICIENTS,
            "misfit of the budgets' means",
        ),
    ]
    variance, degrees, source = max(candidates)
    within = float(np.sum((loss / predicted - 1 - mean_residual[groups]) ** 2))
    replicates = num_runs - num_budgets
    replicate_sd = (within / replicates) ** 0.5 if replicates else None
    return Noise(variance**0.5, degrees, source, replicate_sd)


def forecast(flops: Array, loss: Array, target_flops: float, level: float) -> Forecast:
    """Fit the law and predict one run at ``target_flops``.

    The interval holds every value that, added as one more observation, the law could still be bent
    to: those for which the least squared error rises by at most t^2 s^2, t Student's quantile. That
    is the profile-likelihood prediction interval; for a linear law it is the textbook one. It contains
    the noise of the target's own run and the uncertainty of all three coefficients.

    Raises:
        FitError: there is no fit, nothing to measure the noise with, or losses that do not fall with compute.
    """
    flops, loss = np.asarray(flops, dtype=float), np.asarray(loss, dtype=float)
    fitted = fit_power_law(flops, loss)
    if fitted.law.a <= 0:
        raise FitError("the loss does not fall with compute, so no power law describes it")
    noise = measure_noise(flops, loss, fitted)
    prediction = float(fitted.law(target_flops))
    quantile = float(stdtrit(noise.degrees_of_freedom, (1 + level) / 2))
    allowed = (quantile * noise.relative_sd) ** 2
    with_target = np.append(flops, target_flops)
    weight = np.append(loss, prediction) ** -2.0

    def excess(value: float) -> float:
        return fit_power_law(with_target, np.append(loss, value), weight).sse - fitted.sse - allowed

    low, high = _edge(excess, prediction, 0.5), _edge(excess, prediction, 2.0)
    return Forecast(fitted, noise, target_flops, prediction, low, high, level)


def _edge(excess: Callable[[float], float], prediction: float, factor: float) -> float:
    """Where ``excess`` crosses zero below (factor < 1) or above the prediction."""
    if excess(prediction) >= 0:  # no noise at all
        return prediction
    outside = prediction * factor
    while excess(outside) < 0 and 1e-3 < outside / prediction < 1e3:
        outside *= factor
    if excess(outside) < 0:
        return 0.0 if factor < 1 else float("inf")
    return float(brentq(excess, prediction, outside, xtol=1e-9 * prediction, rtol=1e-12))


def floor_profile(flops: Array, loss: Array, best: Forecast, num_points: int = 41) -> list[dict[str, float | bool]]:
    """For floors from 0 to just under the least loss: error of the best law with it, and its prediction.

    ``fits_as_well`` marks those that the runs can't tell from the best at the forecast's level.
    """
    quantile = float(stdtrit(best.noise.degrees_of_freedom, (1 + best.level) / 2))
    allowed = best.fitted.sse + (quantile * best.noise.relative_sd) ** 2
    profile: list[dict[str, float | bool]] = []
    for floor in np.linspace(0.0, 0.98 * float(np.min(loss)), num_points):
        fitted = fit_power_law(flops, loss, floor=float(floor))
        profile.append(
            {
                "c": float(floor),
                "sse": fitted.sse,
                "prediction": float(fitted.law(best.target_flops)),
                "fits_as_well": bool(fitted.sse <= allowed),
            }
        )
    return profile
