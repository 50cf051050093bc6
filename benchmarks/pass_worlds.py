"""Worlds in which the law of pass rates is planted, for the simulation and the tests.

Suffixes: R runs (the small ones, then the target), P problems.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.pass_counts import PassCounts

PROBLEMS, DECADES, EXTRAPOLATION = 25, 3.0, 100.0
LARGEST_FLOPS = 1e12
EXPONENT = 0.2


@dataclass(frozen=True)
class World:
    """What is planted; spreads are those of log(-log p)."""

    name: str
    samples: int = 1000  # the budget of a half
    stop_at: int | None = None
    median_nats: float = 6.0  # of -log p in the smallest run
    budgets: int = 8
    seeds: int = 1
    run_sd: float = 0.0
    cell_sd: float = 0.15
    slope_sd: float = 0.0  # of a problem's exponent
    hard_is_steep: float = 0.0  # change of the exponent for each standard deviation of difficulty
    walk_sd: float = 0.0  # of what the law strays by in an e-fold of compute
    bend: float = 0.0  # of log(-log p), per squared e-fold of compute about the ladder's middle
    misfit: bool = False  # the likelihood has no term for it


WORLDS = [
    World("100 samples", samples=100),
    World("1,000 samples"),
    World("10,000 samples", samples=10_000),
    World("1,000 samples, noise between runs", run_sd=0.1),
    World("the same, 4 budgets of 3 seeds", run_sd=0.1, budgets=4, seeds=3),
    World("stopped at 20 correct or 1,000", stop_at=20),
    World("exponents of problems differ", slope_sd=0.03),
    World("hard bucket", median_nats=15.0),
    World("hard bucket, 100 samples, noise between runs", samples=100, median_nats=15.0, run_sd=0.1),
    World(
        "all at once, stopped at 20 correct or 10,000",
        samples=10_000,
        stop_at=20,
        median_nats=10.0,
        budgets=6,
        seeds=2,
        run_sd=0.1,
        slope_sd=0.03,
    ),
    World("the law strays, 0.11 an e-fold", walk_sd=0.11),
    World("harder problems are steeper", hard_is_steep=0.03, misfit=True),
    World("the law bends", bend=-0.004, misfit=True),
]


@dataclass(frozen=True)
class Drawn:
    counts: PassCounts  # the second half alone is sampled
    target_flops: float
    target_nats_P: NDArray[np.float64]


def draw_world(world: World, random: np.random.Generator) -> Drawn:
    """Counts of the small runs, and -log p of each problem in the target run."""
    budgets = LARGEST_FLOPS * np.logspace(-DECADES, 0, world.budgets)
    flops_R = np.repeat(budgets, world.seeds)
    target = LARGEST_FLOPS * EXTRAPOLATION
    all_flops = np.append(flops_R, target)
    from_smallest = np.log(all_flops / flops_R[0])
    from_middle = np.log(all_flops) - np.log(flops_R).mean()
    steps = np.sqrt(np.diff(from_smallest, prepend=0.0))
    walk = np.cumsum(world.walk_sd * steps * random.standard_normal(len(steps))) if world.walk_sd else np.zeros(1)
    difficulty_P = random.standard_normal(PROBLEMS)
    exponent_P = world.slope_sd * random.standard_normal(PROBLEMS) + world.hard_is_steep * difficulty_P
    log_nats_RP = (
        np.log(world.median_nats)
        + 0.7 * difficulty_P
        - (EXPONENT * from_smallest - world.bend * from_middle**2 - walk)[:, None]
        - exponent_P * from_middle[:, None]
        + world.run_sd * random.standard_normal((len(all_flops), 1))
        + world.cell_sd * random.standard_normal((len(all_flops), PROBLEMS))
    )
    rate_RP = np.exp(-np.exp(log_nats_RP[:-1]))
    samples_RP, correct_RP = draw_counts(rate_RP, world.samples, world.stop_at, random)
    none = np.zeros_like(samples_RP)
    counts = PassCounts(
        tuple(f"run {number:02}" for number in range(len(flops_R))),
        tuple(f"task {number:02}" for number in range(PROBLEMS)),
        flops_R,
        np.stack([none, samples_RP]),
        np.stack([none, correct_RP]),
        world.stop_at,
    )
    return Drawn(counts, target, np.exp(log_nats_RP[-1]))


def draw_counts(
    rate: NDArray[np.float64], most: int, stop_at: int | None, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples and correct ones: drawn until ``stop_at`` are correct, ``most`` at the most."""
    if stop_at is None:
        return np.full(rate.shape, most), random.binomial(most, rate)
    # Samples until the next correct one; a rate too small for the geometric generator never comes within the budget.
    waits = random.geometric(np.maximum(rate, 1e-12)[..., None], size=(*rate.shape, stop_at))
    at_success = np.cumsum(np.minimum(waits, most + 1), axis=-1)
    correct = (at_success <= most).sum(axis=-1)
    return np.where(correct == stop_at, at_success[..., -1], most), correct
