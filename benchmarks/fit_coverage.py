"""How often does the forecast's interval hold the truth? Coverage on planted laws.

    python -m benchmarks.fit_coverage

For each planted law the default ladder (configs/grid/ladder.yaml: budgets, seeds, target) and one target
run are drawn many times about it, and the target is forecast from the ladder alone. Coverage that is above
the level is an interval wider than it had to be; below it, an interval that can't be relied on.
"""

import argparse
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from sweep.laws import PowerLaw, forecast

GRID = Path(__file__).parent.parent / "configs" / "grid" / "ladder.yaml"
LEVEL = 0.9
FIRST_LOSS = 5.0  # nats, of the smallest budget under every planted law


@dataclass(frozen=True)
class Planted:
    """A law through ``FIRST_LOSS`` at the smallest budget, and the relative noise of one run about it."""

    b: float
    c: float
    relative_sd: float


CASES = [
    Planted(b=-0.05, c=0.0, relative_sd=0.002),
    Planted(b=-0.05, c=0.0, relative_sd=0.005),
    Planted(b=-0.10, c=0.0, relative_sd=0.002),
    Planted(b=-0.10, c=1.5, relative_sd=0.002),
    Planted(b=-0.10, c=1.5, relative_sd=0.005),
    Planted(b=-0.20, c=1.5, relative_sd=0.002),
    Planted(b=-0.20, c=1.5, relative_sd=0.005),
    Planted(b=-0.20, c=1.5, relative_sd=0.010),
    Planted(b=-0.35, c=2.0, relative_sd=0.005),
    Planted(b=-0.50, c=3.0, relative_sd=0.005),
]


@dataclass(frozen=True)
class Ladder:
    flops: NDArray[np.float64]  # one entry per run
    target_flops: float


@dataclass(frozen=True)
class Draw:
    """One forecast against the target run that was drawn with its ladder."""

    inside: bool
    relative_error: float
    relative_half_width: float
    seconds: float


def read_ladder(path: Path) -> Ladder:
    grid = OmegaConf.load(path)
    return Ladder(np.repeat(np.array(grid.budgets_flops, dtype=float), grid.num_seeds), float(grid.target_flops))


def draw(planted: Planted, ladder: Ladder, seed: int) -> Draw:
    law = PowerLaw(FIRST_LOSS - planted.c, planted.b, planted.c, float(ladder.flops.min()))
    flops = np.append(ladder.flops, ladder.target_flops)
    loss = law(flops) * (1 + planted.relative_sd * np.random.default_rng(seed).standard_normal(len(flops)))
    start = time.perf_counter()
    result = forecast(ladder.flops, loss[:-1], ladder.target_flops, LEVEL)
    seconds = time.perf_counter() - start
    measured = float(loss[-1])
    return Draw(
        inside=result.low <= measured <= result.high,
        relative_error=abs(result.prediction / measured - 1),
        relative_half_width=(result.high - result.low) / 2 / result.prediction,
        seconds=seconds,
    )


def table_row(planted: Planted, draws: list[Draw]) -> str:
    coverage = float(np.mean([one.inside for one in draws]))
    error = float(np.median([one.relative_error for one in draws]))
    half_width = float(np.median([one.relative_half_width for one in draws]))
    milliseconds = 1000 * float(np.median([one.seconds for one in draws]))
    return (
        f"{planted.b:6.2f} {planted.c:5.1f} {planted.relative_sd:9.1%} {coverage:9.1%}"
        f" {error:15.2%} {half_width:18.2%} {milliseconds:12.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=300, help="per planted law (default 300)")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    ladder = read_ladder(GRID)
    standard_error = (LEVEL * (1 - LEVEL) / options.draws) ** 0.5
    print(
        f"{options.draws} draws per law of {len(ladder.flops)} runs up to {ladder.flops.max():.3g} FLOPs;"
        f" target {ladder.target_flops:.3g} ({ladder.target_flops / ladder.flops.max():.3g} times);"
        f" level {LEVEL:.0%}, sampling error of a coverage {standard_error:.1%}"
    )
    print("     b     c  noise sd  coverage  median |error|  median half width  ms/forecast")
    with get_context("spawn").Pool(options.processes) as pool:
        for planted in CASES:
            tasks = [(planted, ladder, seed) for seed in range(options.draws)]
            print(table_row(planted, pool.starmap(draw, tasks)), flush=True)


if __name__ == "__main__":
    main()
