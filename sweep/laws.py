"""Laws of loss against compute: the forms, and what a handful of budgets says about each.

    L(C) = a * x^b * (1 + (C / C_bend)^(1/s))^(-d s) + c        x = C / C_reference, b < 0, c >= 0

c is the loss that no compute removes (Henighan et al. 2020; the GPT-4 report with it); without it and without the
bend this is Kaplan et al. 2020. The bend is that of a broken law with one break (Caballero et al. 2022): the exponent
goes from b to b - d over about a decade (s) around C_bend.

Every form is fitted by variable projection (Golub & Pereyra 1973): for fixed c and C_bend the logarithm of the
reducible loss is linear in log a, b and d, so only c and C_bend are searched, over all they can be and then ever
finer: no start value, no missed optimum. Residuals are those of log L, with Huber's loss beyond two standard
deviations.

What is not known (c, C_bend, the noise) stays so: a ``Posterior`` holds a cell for each value of the three with its
weight, and in each the normal distribution of the rest (Laplace). A prediction is their mixture.

This module knows numbers only: no file, no table, no run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp, ndtr

Array = NDArray[np.float64]

# Exponents of compute-optimal language models as published, each with a floor: Hoffmann et al. 2022 0.154 (from their
# L(N, D)), Besiroglu et al. 2024 0.178; Henighan et al. 2020 0.10 to 0.19 over eight kinds of data. The spread is
# about theirs.
PRIOR_EXPONENT, PRIOR_EXPONENT_SD = 0.15, 0.04
WEAK_EXPONENT_SD = 1.0  # so wide that a handful of budgets overrules it
PRIOR_NOISE, PRIOR_NOISE_LOG_SD = 0.0015, 1.0  # relative, of a budget about its law: a factor of 2.7 to either side
BEND_SD = 0.04  # change of the exponent at a bend
BEND_WIDTH = 1.15  # s, in e-folds of compute: half a decade to either side
LARGEST_FLOOR = 0.9999  # of the least loss
_SAME_BUDGET = 0.01  # runs whose FLOPs differ by less are replicates of one budget
_HUBER = 2.0  # standard deviations
_FLOORS, _ZOOMS = 33, 10
_FLOOR_ZOOMS, _BEND_ZOOMS = 13, 10  # of the search for the best law
_NOISES = np.geomspace(1e-4, 0.06, 13)  # fewer are seen in the interval
_BENDS = 9
_NEGLIGIBLE = 23.0  # a cell lighter than the heaviest by e to this, 1e-10, moves no quantile
_STEPS = 8  # of Gauss-Newton in each cell
_LOG_A_SD = 10.0


class FitError(ValueError):
    """No estimate exists for these points."""


@dataclass(frozen=True)
class Form:
    """What is free in the law, and what is believed of it beforehand."""

    name: str
    text: str
    has_floor: bool
    exponent_sd: float
    has_bend: bool = False


POWER = Form("power", "a*C^b", False, WEAK_EXPONENT_SD)
FLOOR = Form("floor", "a*C^b + c", True, WEAK_EXPONENT_SD)
FLOOR_PRIOR = Form("floor_prior", "a*C^b + c, b near those of published laws", True, PRIOR_EXPONENT_SD)
BEND = Form("bend", "a*C^b + c, b near those of published laws, and one bend", True, PRIOR_EXPONENT_SD, True)
FORMS = (POWER, FLOOR, FLOOR_PRIOR, BEND)


@dataclass(frozen=True)
class Points:
    """One entry per budget: compute, loss (mean over its runs) and what is known of its relative variance."""

    flops: Array
    loss: Array
    variance: Array  # of the mean loss over the loss squared, from seeds and evaluation; 0 if not known
    run_variance: float = 0.0  # the same for one further run: noise between seeds

    def __len__(self) -> int:
        return len(self.flops)

    def up_to(self, flops: float) -> "Points":
        known = self.flops <= flops
        return Points(self.flops[known], self.loss[known], self.variance[known], self.run_variance)


@dataclass(frozen=True)
class Law:
    """The formula above with its coefficients; losses in the unit of the points, usually nats per token."""

    a: float
    b: float
    c: float
    reference_flops: float
    bend: float = 0.0
    bend_flops: float = 1.0

    def __call__(self, flops: Array | float) -> Array:
        log_x = np.log(np.asarray(flops, dtype=float) / self.reference_flops)
        bend = _bend_column(np.log(np.asarray(flops, dtype=float) / self.bend_flops))
        return self.a * np.exp(self.b * log_x - self.bend * bend) + self.c

    def __str__(self) -> str:
        bend = f" * (1 + (C / {self.bend_flops:.3g})^{1 / BEND_WIDTH:.2f})^{-self.bend * BEND_WIDTH:.4f}"
        power = f"{self.a:.4f} * (C / {self.reference_flops:.4g})^{self.b:.4f}"
        return f"L(C) = {power}{bend if self.bend else ''} + {self.c:.4f}"

    def relative_to(self, reference_flops: float) -> "Law":
        """The same law with its compute measured in another unit."""
        scale = (reference_flops / self.reference_flops) ** self.b
        return Law(self.a * scale, self.b, self.c, reference_flops, self.bend, self.bend_flops)


@dataclass(frozen=True)
class Mixture:
    """A distribution of log loss: weighted normal distributions."""

    log_weight: Array
    mean: Array
    sd: Array

    def log_density(self, log_loss: float) -> float:
        z = (log_loss - self.mean) / self.sd
        return float(logsumexp(self.log_weight - 0.5 * z**2 - np.log(self.sd) - 0.5 * np.log(2 * np.pi)))

    def below(self, log_loss: float) -> float:
        return float(np.exp(self.log_weight) @ ndtr((log_loss - self.mean) / self.sd))

    def quantile(self, share: float) -> float:
        """The log loss below which ``share`` of the distribution lies."""
        heavy = self.log_weight > self.log_weight.max() - _NEGLIGIBLE
        log_weight = self.log_weight[heavy] - logsumexp(self.log_weight[heavy])
        part = Mixture(log_weight, self.mean[heavy], self.sd[heavy])
        low, high = float(np.min(part.mean - 9 * part.sd)), float(np.max(part.mean + 9 * part.sd))
        return float(brentq(lambda at: part.below(at) - share, low, high, xtol=1e-12))


def mix(parts: list[Mixture], weights: Array) -> Mixture:
    """The mixture of mixtures; ``weights`` sum to one."""
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
    return Mixture(
        np.concatenate([part.log_weight + log for part, log in zip(parts, logs, strict=True)]),
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.sd for part in parts]),
    )


@dataclass(frozen=True)
class Posterior:
    """What the points say about a form: cells of (bend, floor, noise), each with a normal distribution of the rest."""

    form: Form
    reference_flops: float
    run_variance: float
    log_weight: Array  # (bends, floors, noises), sums to one
    bend_log_x: Array  # (bends)
    floor: Array  # (floors)
    noise: Array  # (noises), relative
    coefficients: Array  # (bends, floors, noises, 2 or 3): log a, -b and d
    covariance: Array  # (bends, floors, noises, 2 or 3, 2 or 3)

    def predict(self, flops: float) -> Mixture:
        """The log loss of one further run."""
        design = _design(np.array([np.log(flops / self.reference_flops)]), self.bend_log_x, self.form.has_bend)[:, 0]
        log_reducible = np.einsum("zcsp,zp->zcs", self.coefficients, design)
        variance = np.einsum("zp,zcspq,zq->zcs", design, self.covariance, design)
        reducible = np.exp(log_reducible)
        loss = reducible + self.floor[None, :, None]
        noise = self.noise**2 + self.run_variance
        sd = np.sqrt((reducible / loss) ** 2 * variance + noise)
        return Mixture(self.log_weight.ravel(), np.log(loss).ravel(), sd.ravel())

    def mean_noise(self) -> float:
        """Relative standard deviation of one run about the law, noise between seeds included."""
        return float(np.exp(logsumexp(self.log_weight, axis=(0, 1))) @ np.sqrt(self.noise**2 + self.run_variance))

    def best(self) -> Law:
        """The law of the likeliest cell."""
        density = self.log_weight - np.log(_trapezoids(len(self.floor)))[:, None]
        z, c, s = np.unravel_index(int(np.argmax(density)), density.shape)
        return _law(self.coefficients[z, c, s], self.floor[c], self.bend_log_x[z], self.reference_flops)

    def floors(self, target_flops: float) -> list[tuple[float, float, float]]:
        """For each floor its share of the weight and the median loss it forecasts for the target."""
        mixture = self.predict(target_flops)
        shape = self.log_weight.shape
        mean = mixture.mean.reshape(shape)
        weight = np.exp(self.log_weight)
        share = weight.sum(axis=(0, 2))
        forecast = np.exp((weight * mean).sum(axis=(0, 2)) / np.maximum(share, 1e-300))
        return [(float(c), float(w), float(f)) for c, w, f in zip(self.floor, share, forecast, strict=True)]

    def draw(self, flops: Array, num_draws: int, random: np.random.Generator) -> Array:
        """(draws, flops): losses of laws drawn from the posterior, without the noise of a run."""
        cells = random.choice(self.log_weight.size, num_draws, p=np.exp(self.log_weight).ravel())
        z, c, s = np.unravel_index(cells, self.log_weight.shape)
        root = np.linalg.cholesky(self.covariance[z, c, s])
        normal = random.standard_normal((num_draws, root.shape[-1]))
        coefficients = self.coefficients[z, c, s] + np.einsum("dpq,dq->dp", root, normal)
        design = _design(np.log(flops / self.reference_flops), self.bend_log_x, self.form.has_bend)[z]
        return np.exp(np.einsum("dfp,dp->df", design, coefficients)) + self.floor[c][:, None]


def _law(coefficients: Array, floor: float, bend_log_x: float, reference_flops: float) -> Law:
    bend = float(coefficients[2]) if len(coefficients) > 2 else 0.0
    at = reference_flops * float(np.exp(bend_log_x)) if len(coefficients) > 2 else 1.0
    return Law(float(np.exp(coefficients[0])), -float(coefficients[1]), float(floor), reference_flops, bend, at)


def _bend_column(log_x: Array) -> Array:
    """The logarithm that the bend's d multiplies: 0 far below the bend, log x far above."""
    return BEND_WIDTH * np.logaddexp(0.0, log_x / BEND_WIDTH)


# ---- fitting ----------------------------------------------------------------------------------


def posterior(points: Points, form: Form, horizon_flops: float) -> Posterior:
    """What ``points`` say about ``form``; a bend may lie anywhere from the second budget to ``horizon_flops``.

    Raises:
        FitError: too few budgets.
    """
    _check(points)
    reference, log_x = _centred(points)
    bends = np.zeros(1)
    if form.has_bend:
        last = max(np.log(horizon_flops / reference), log_x.max())
        bends = np.linspace(np.sort(log_x)[1], last, _BENDS)
    least = float(points.loss.min())
    low, high = 0.0, LARGEST_FLOOR * least if form.has_floor else 0.0
    for _ in range(_ZOOMS):
        floors = np.linspace(low, high, _FLOORS) if form.has_floor else np.zeros(1)
        cells = _solve(points, log_x, form, bends, np.tile(floors, (len(bends), 1)), _NOISES)
        if not form.has_floor:
            break
        weight = np.exp(logsumexp(cells.log_weight, axis=(0, 2)))
        held = np.flatnonzero(weight > 1e-5 * weight.max())
        first, last_held = max(int(held[0]) - 1, 0), min(int(held[-1]) + 1, _FLOORS - 1)
        if last_held - first > _FLOORS // 2:
            break
        low, high = float(floors[first]), float(floors[last_held])
    return Posterior(
        form,
        reference,
        points.run_variance,
        cells.log_weight,
        bends,
        floors,
        _NOISES,
        cells.coefficients,
        cells.covariance,
    )


def best_law(points: Points, form: Form, noise: float) -> tuple[Law, float]:
    """The form's best law for a given relative noise of one run, and its sum of squared log residuals.

    Floor and bend are searched to the last bit that matters; for the forms with wide priors this is an ordinary
    least-squares fit but for Huber's loss.

    Raises:
        FitError: too few budgets.
    """
    _check(points)
    reference, log_x = _centred(points)
    first, last = (np.sort(log_x)[1], log_x.max()) if form.has_bend else (0.0, 0.0)
    for _ in range(_BEND_ZOOMS if form.has_bend else 1):
        bends = np.linspace(first, last, 2 * _BENDS - 1) if form.has_bend else np.zeros(1)
        rows = np.arange(len(bends))
        low, high = np.zeros(len(bends)), np.full(len(bends), LARGEST_FLOOR * points.loss.min())
        start: Array | None = None
        for _ in range(_FLOOR_ZOOMS if form.has_floor else 1):
            floors = np.linspace(low, high, _FLOORS, axis=-1) if form.has_floor else np.zeros((1, 1))
            steps = 3 * _STEPS if start is None else _STEPS // 2
            cells = _solve(points, log_x, form, bends, floors, np.array([noise]), steps, start)
            c = np.argmax(cells.log_likelihood[..., 0], axis=1)
            low, high = floors[rows, np.maximum(c - 1, 0)], floors[rows, np.minimum(c + 1, floors.shape[1] - 1)]
            if form.has_bend:  # so many zooms go on from one another's best coefficients, which hardly change
                start = cells.coefficients[rows, c][:, None]
        z = int(np.argmax(cells.log_likelihood[rows, c, 0]))
        first, last = bends[max(z - 1, 0)], bends[min(z + 1, len(bends) - 1)]
    floor = float(floors[z, c[z]])
    floor = 0.0 if floor < 1e-9 * points.loss.min() else floor  # the search comes to its bound by halves
    law = _law(cells.coefficients[z, c[z], 0], floor, float(bends[z]), reference)
    return law, float(np.sum(np.log(points.loss / law(points.flops)) ** 2))


def _check(points: Points) -> None:
    if len(points) < 3:
        raise FitError(f"{len(points)} different budgets can't determine the three coefficients of a*C^b + c")


def _centred(points: Points) -> tuple[float, Array]:
    reference = float(np.exp(np.mean(np.log(points.flops))))
    return reference, np.log(points.flops / reference)


def _design(log_x: Array, bends: Array, has_bend: bool) -> Array:
    """(bends, points, 2 or 3): what log a, -b and d multiply in the log of the reducible loss."""
    columns = [np.ones((len(bends), len(log_x))), np.broadcast_to(-log_x, (len(bends), len(log_x)))]
    if has_bend:
        columns.append(-_bend_column(log_x[None] - bends[:, None]))
    return np.stack(columns, axis=-1)


@dataclass(frozen=True)
class _Cells:
    log_weight: Array  # normalised, with the priors of noise and floor
    log_likelihood: Array  # with the prior of the coefficients, at the best ones
    coefficients: Array
    covariance: Array


def _solve(
    points: Points,
    log_x: Array,
    form: Form,
    bends: Array,
    floors: Array,
    noises: Array,
    steps: int = _STEPS,
    start: Array | None = None,
) -> _Cells:
    """Gauss-Newton with Huber's weights in every cell (bends, floors, noises) at once; floors are (bends, floors).

    It starts from the power law of least squares above each floor, or from given coefficients.
    """
    design = _design(log_x, bends, form.has_bend)
    num_bends, num_points, size = design.shape
    outer = (design[..., :, None] * design[..., None, :]).reshape(num_bends, num_points, size * size)
    prior_mean = np.array([np.log(points.loss.mean()), PRIOR_EXPONENT, 0.0])[:size]
    precision = np.array([_LOG_A_SD, form.exponent_sd, BEND_SD])[:size] ** -2.0
    shape = (*floors.shape, len(noises))
    variance = noises[:, None] ** 2 + points.variance[None]  # (noises, points)
    log_loss = np.log(points.loss)

    coefficients = np.zeros((*shape, size))
    if start is None:
        straight = np.linalg.lstsq(design[0, :, :2], np.log(points.loss[:, None] - floors.ravel()), rcond=None)[0]
        coefficients[..., :2] = straight.T.reshape(*floors.shape, 1, 2)
    else:
        coefficients[...] = start
    for step in range(steps + 1):
        log_reducible = (coefficients.reshape(num_bends, -1, size) @ design.transpose(0, 2, 1)).reshape(
            *shape, num_points
        )
        reducible = np.exp(np.clip(log_reducible, -60, 60))
        loss = reducible + floors[:, :, None, None]
        residual = log_loss - np.log(loss)
        slope = reducible / loss
        ratio = np.abs(residual) / np.sqrt(variance)
        weight = np.minimum(1.0, _HUBER / np.maximum(ratio, 1e-300)) / variance
        information = (weight * slope**2).reshape(num_bends, -1, num_points) @ outer
        information = information.reshape(*shape, size, size) + np.diag(precision)
        if step == steps:
            break
        gradient = ((weight * slope * residual).reshape(num_bends, -1, num_points) @ design).reshape(*shape, size)
        gradient -= precision * (coefficients - prior_mean)
        change = np.linalg.solve(information, gradient[..., None])[..., 0]
        coefficients = coefficients + np.clip(change, -1.0, 1.0)
    huber = np.where(ratio < _HUBER, 0.5 * ratio**2, _HUBER * (ratio - 0.5 * _HUBER))
    log_likelihood = -huber.sum(-1) - 0.5 * np.log(variance).sum(-1)[None, None]
    log_likelihood = log_likelihood - 0.5 * (precision * (coefficients - prior_mean) ** 2).sum(-1)
    noise_prior = -0.5 * (np.log(noises / PRIOR_NOISE) / PRIOR_NOISE_LOG_SD) ** 2
    floor_prior = np.log(_trapezoids(floors.shape[1]))[:, None]  # any floor below the least loss is as likely
    log_weight = log_likelihood - 0.5 * np.linalg.slogdet(information)[1] + noise_prior + floor_prior
    return _Cells(log_weight - logsumexp(log_weight), log_likelihood, coefficients, np.linalg.inv(information))


def _trapezoids(number: int) -> Array:
    """The share of its cell that each point of a grid stands for: at the edges half."""
    share = np.ones(number)
    share[[0, -1]] = 0.5 if number > 1 else 1.0
    return share


def budget_groups(flops: Array, tolerance: float = _SAME_BUDGET) -> NDArray[np.int64]:
    """For each run the number of its budget; neighbours in compute within ``tolerance`` of each other share one."""
    order = np.argsort(flops, kind="stable")
    steps = np.diff(np.log(np.asarray(flops, dtype=float)[order])) > tolerance
    groups = np.empty(len(flops), dtype=np.int64)
    groups[order] = np.concatenate(([0], np.cumsum(steps)))
    return groups
