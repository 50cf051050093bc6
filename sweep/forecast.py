"""From a ladder to a forecast: every form is tried on the ladder itself, then all of them are mixed.

- **Backtests**: the ladder is cut after each budget from the fourth on, and what the runs below say about the budgets
  above is compared with what was measured there.
- **Weights**: a form's weight is its prior times the density that its backtests gave to what was measured, those
  nearest in extrapolation ratio to the claim's own counting most. The target is never looked at: it is not there.
  The power law without a floor loses as much again as its residuals are less likely than with one.
- **Interval**: quantiles of the mixture of all forms' predictive distributions. Each of those holds the noise of a
  run, the uncertainty of all coefficients, floor and bend included; their spread is the uncertainty of the form.
  Where the backtests missed by more than their intervals said, the interval is widened by the root mean square of
  what they missed by.

This module knows numbers only: no file, no run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from sweep.ladder import MIN_POINTS, Ladder
from sweep.laws import (
    FLOOR,
    FORMS,
    POWER,
    Array,
    FitError,
    Form,
    Law,
    Mixture,
    Points,
    Posterior,
    best_law,
    mix,
    posterior,
)
from sweep.surface import bootstrap, fit_surface, predict_frontier

# Text has an entropy, so a law without a floor is believed little (docs/laws.md).
FORM_PRIORS = {"power": 0.05, "floor": 0.20, "floor_prior": 0.40, "bend": 0.30, "surface": 0.05}
SURFACE_TEXT = "the least loss on E + A/N^alpha + B/D^beta"
WIDE = 0.25  # reach of the interval to one side, relative, from which a forecast says nothing
_CUTS, _AHEAD = 6, 5  # backtests of long ladders: at most so many cuts, and budgets beyond each
_SURE = 6.0  # backtests that the interval's being right beforehand counts for
_SURFACE_DRAWS = 200
_SHARP = 3e-4  # noise, relative, at which no prior counts; residuals below it are not told apart

Predict = Callable[[float], Mixture]


@dataclass(frozen=True)
class Candidate:
    """One way to forecast: fitted to what lies at or below some compute, it predicts the log loss at any other."""

    name: str
    fit: Callable[[float], Predict]


@dataclass(frozen=True)
class Backtest:
    cut_flops: float
    flops: float
    measured: float
    parts: list[Mixture]  # one per form
    log_density: Array  # of what was measured, under each form


@dataclass(frozen=True)
class Forecast:
    target_flops: float
    level: float
    prediction: float  # median
    low: float
    high: float
    mixture: Mixture
    widened: float  # factor on the interval's halves, from the backtests
    weights: dict[str, float]
    parts: dict[str, Mixture]
    posteriors: dict[str, Posterior]  # of the forms of compute alone
    predict: dict[str, Predict]  # of all forms
    backtests: list[dict[str, float]]
    ladder: Ladder

    @property
    def leading(self) -> Posterior:
        """What the ladder says about the heaviest of the forms of compute alone."""
        return self.posteriors[max(self.posteriors, key=lambda name: self.weights[name])]

    @cached_property
    def law(self) -> Law:
        """The heaviest form's best law, found to the last bit."""
        return best_law(self.ladder.points, self.leading.form, self.leading.mean_noise())[0]

    def at(self, flops: float) -> tuple[float, float, float]:
        """Median and interval of a run of any compute, from the same forms and weights."""
        parts = [of_form(flops) for of_form in self.predict.values()]
        return _interval(mix(parts, np.array([self.weights[name] for name in self.predict])), self.level, self.widened)


def forecast(ladder: Ladder, target_flops: float, level: float) -> Forecast:
    """The forecast of one run of the ladder's recipe at ``target_flops``.

    Raises:
        FitError: fewer than four budgets, or losses that do not fall with compute.
    """
    points = ladder.points
    _check(points)
    candidates = [_curve(form, ladder, target_flops) for form in FORMS]
    if ladder.grid is not None:
        candidates.append(_surface(ladder))
    posteriors = {form.name: posterior(points, form, target_flops) for form in FORMS}
    predict: dict[str, Predict] = {name: found.predict for name, found in posteriors.items()}
    if ladder.grid is not None:
        try:
            predict["surface"] = candidates[-1].fit(np.inf)
        except FitError:
            candidates.pop()
    parts = {name: of_form(target_flops) for name, of_form in predict.items()}
    tests = run_backtests(candidates, points)
    claim = target_flops / float(points.flops.max())
    prior = np.array([FORM_PRIORS[candidate.name] for candidate in candidates])
    in_sample = np.array([_power_law_fits(points) if one.name == POWER.name else 1.0 for one in candidates])
    weights = _weights(tests, prior * in_sample, claim)
    mixture = mix([parts[candidate.name] for candidate in candidates], weights)
    shown, misses = _judge(tests, prior, level)
    widened = _widening(misses, claim)
    median, low, high = _interval(mixture, level, widened)
    return Forecast(
        target_flops=target_flops,
        level=level,
        prediction=median,
        low=low,
        high=high,
        mixture=mixture,
        widened=widened,
        weights={candidate.name: float(weight) for candidate, weight in zip(candidates, weights, strict=True)},
        parts=parts,
        posteriors=posteriors,
        predict=predict,
        backtests=shown,
        ladder=ladder,
    )


def too_wide(found: Forecast) -> list[str]:
    """Why a forecast says too little to be called one; empty if it does not."""
    widest = max(found.high / found.prediction - 1, 1 - found.low / found.prediction)
    if widest > WIDE:
        return [
            f"the interval reaches {widest:.0%} away from the prediction (more than {WIDE:.0%}): these runs say next"
            " to nothing about the target; more budgets, or larger ones, would"
        ]
    return []


def _power_law_fits(points: Points) -> float:
    """How likely the residuals are without a floor over how likely they are with one (Student), 1 at most."""
    without, with_floor = (best_law(points, form, _SHARP)[1] + len(points) * _SHARP**2 for form in (POWER, FLOOR))
    return float(min(1.0, (without / with_floor) ** (1 - len(points) / 2)))


def mix_of(points: Points, weights: dict[str, float], flops: float) -> Mixture:
    """The log loss at ``flops`` from the forms of compute alone, fitted to these points, mixed with given weights."""
    parts = [posterior(points, form, flops).predict(flops) for form in FORMS]
    shares = np.array([weights[form.name] for form in FORMS])
    return mix(parts, shares / shares.sum())


def _check(points: Points) -> None:
    if len(points) < MIN_POINTS:
        raise FitError(
            f"{len(points)} budgets leave nothing to measure the noise with; at least {MIN_POINTS} are needed"
        )
    slope = np.polyfit(np.log(points.flops), np.log(points.loss), 1)[0]
    if slope >= -1e-6:
        more = "; it rises: is it an accuracy?" if slope > 1e-3 else ""
        raise FitError(f"the loss does not fall with compute, so no power law describes it{more}")


def _curve(form: Form, ladder: Ladder, horizon_flops: float) -> Candidate:
    def fit(up_to_flops: float) -> Predict:
        return posterior(ladder.up_to(up_to_flops), form, horizon_flops).predict

    return Candidate(form.name, fit)


def _surface(ladder: Ladder) -> Candidate:
    def fit(up_to_flops: float) -> Predict:
        assert ladder.grid is not None
        grid = ladder.grid.up_to(up_to_flops * 1.001)
        noise = fit_surface(grid).noise
        draws = bootstrap(grid, _SURFACE_DRAWS)
        return lambda flops: predict_frontier(grid, draws, noise, flops)

    return Candidate("surface", fit)


# ---- backtests --------------------------------------------------------------------------------


def run_backtests(candidates: list[Candidate], points: Points) -> list[Backtest]:
    """Each form's forecasts of larger budgets from smaller ones; a handful of cuts for long ladders."""
    order = np.argsort(points.flops)
    flops, loss = points.flops[order], points.loss[order]
    last = len(flops) - 1
    tests = []
    for cut in _spread(MIN_POINTS - 1, last - 1, _CUTS):
        fitted = [_fit_or_none(candidate, float(flops[cut])) for candidate in candidates]
        if fitted[0] is None:
            continue
        for ahead in _spread(cut + 1, last, _AHEAD):
            predictions = [predict(float(flops[ahead])) if predict else None for predict in fitted]
            stand_in = predictions[0]
            assert stand_in is not None
            parts = [prediction or stand_in for prediction in predictions]
            measured = float(np.log(loss[ahead]))
            density = [
                part.log_density(measured) if prediction else -np.inf
                for part, prediction in zip(parts, predictions, strict=True)
            ]
            tests.append(Backtest(float(flops[cut]), float(flops[ahead]), float(loss[ahead]), parts, np.array(density)))
    return tests


def _fit_or_none(candidate: Candidate, up_to_flops: float) -> Predict | None:
    try:
        return candidate.fit(up_to_flops)
    except FitError:
        return None


def _spread(first: int, last: int, most: int) -> list[int]:
    """Whole numbers from ``first`` to ``last``, at most ``most`` of them and evenly spread."""
    if first > last:
        return []
    return sorted({round(number) for number in np.linspace(first, last, min(most, last - first + 1))})


def _weights(tests: list[Backtest], prior: Array, claim_ratio: float) -> Array:
    """Prior times the density of the backtests, each cut counting at most once."""
    score = np.zeros(len(prior))
    for cut in {test.cut_flops for test in tests}:
        own = [test for test in tests if test.cut_flops == cut]
        shares = np.array([_likeness(test.flops / test.cut_flops, claim_ratio) for test in own])
        # a form that had no fit there is neither praised nor blamed: it gets the mean of the others
        density = np.array([test.log_density for test in own])
        density = np.where(
            np.isfinite(density), density, np.mean(density, axis=1, where=np.isfinite(density), keepdims=True)
        )
        score += shares.max() * (shares @ density) / shares.sum()
    weights = prior * np.exp(score - score.max())
    return weights / weights.sum()


def _likeness(ratio: float, claim_ratio: float) -> float:
    """How near a backtest's extrapolation comes to the claim's: 1 from its ratio up."""
    return min(1.0, np.log(ratio) / max(np.log(claim_ratio), 1e-9))


def _judge(
    tests: list[Backtest], prior: Array, level: float
) -> tuple[list[dict[str, float]], list[tuple[float, float]]]:
    """Each backtest as the tool would have made it then: with weights from budgets up to its cut alone.

    Returns the rows to show, and for each its ratio and its miss in standard deviations.
    """
    rows, misses = [], []
    for test in tests:
        earlier = [other for other in tests if other.flops <= test.cut_flops]
        ratio = test.flops / test.cut_flops
        mixture = mix(test.parts, _weights(earlier, prior, ratio))
        median, low, high = _interval(mixture, level, 1.0)
        share = float(np.clip(mixture.below(np.log(test.measured)), 1e-9, 1 - 1e-9))
        misses.append((ratio, float(ndtri(share))))
        rows.append(
            {
                "largest_fitted_flops": test.cut_flops,
                "flops": test.flops,
                "ratio": ratio,
                "prediction": median,
                "low": low,
                "high": high,
                "measured": test.measured,
                "error": median / test.measured - 1,
                "inside": bool(low <= test.measured <= high),
            }
        )
    return rows, misses


def _widening(misses: list[tuple[float, float]], claim_ratio: float) -> float:
    shares = np.array([_likeness(ratio, claim_ratio) for ratio, _ in misses])
    squares = np.array([miss**2 for _, miss in misses])
    return max(1.0, float(((_SURE + shares @ squares) / (_SURE + shares.sum())) ** 0.5)) if misses else 1.0


def _interval(mixture: Mixture, level: float, widened: float) -> tuple[float, float, float]:
    median = mixture.quantile(0.5)
    low = median - widened * (median - mixture.quantile((1 - level) / 2))
    high = median + widened * (mixture.quantile((1 + level) / 2) - median)
    return float(np.exp(median)), float(np.exp(low)), float(np.exp(high))
