"""Design: the ladder that makes the forecast's interval narrowest for the compute spent.

    python -m sweep.design --target-flops 1e14 --budget 5e12 [--like SOURCE] [--out NAME] [--json]

From an assumed law (the one measured on the embedded corpus, or with ``--like`` the one that a sweep or a table was
fitted with) the variance of the forecast follows for any ladder before it is trained:

    log L = log(a C^b + c),  g(C) its gradient in (log a, b, c),  M = P + sum over budgets of g g' / (m^2 + s^2 / n)
    variance = g(C_target)' M^-1 g(C_target) + m^2 + s^2

n seeds at a budget, s the noise between seeds, m what a budget has of its own (misfit of the law, which seeds share),
P the prior that the fit has too. This is c-optimal design (Pukelsheim 1993) with a Bayesian information matrix. Runs
are added where they take off most variance per FLOP, then moved as long as that helps; six budgets at least stay,
since fewer can't show that the law is wrong.
"""

import argparse
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from sweep.errors import SweepError, run_main
from sweep.forecast import forecast
from sweep.ladder import make_ladder
from sweep.laws import PRIOR_EXPONENT_SD, Array, FitError, Law
from sweep.phase import runs_at

MEASURED_LAW = Law(1.97, -0.162, 1.47, 1e12)  # python -m benchmarks.straight_law, from 5.4e10 FLOPs up
SEED_NOISE, MISFIT = 0.005, 0.003  # relative standard deviations; the first measured there, the second assumed
MIN_BUDGETS = 6
MOST_SEEDS = 5
_STEP = 1.5  # between neighbouring budgets at least: nearer ones would share their misfit
SMALLEST = 2e10  # where the recipe's law was measured to begin
_LEAST_SPAN, _MOST_SPAN = 8.0, 1000.0  # largest over smallest budget
_NORMAL_95 = 1.6449  # 5 % of a normal distribution lie beyond
_TRADE_OFF = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
GRIDS = Path(__file__).parent.parent / "configs" / "grid"


@dataclass(frozen=True)
class Assumed:
    """What is believed of the runs before they are made."""

    law: Law
    seed_noise: float
    misfit: float

    def gradient(self, flops: Array) -> Array:
        """(budgets, 3): of log L in log a, b and c."""
        loss = self.law(flops)
        reducible = (loss - self.law.c) / loss
        return np.stack([reducible, reducible * np.log(flops / self.law.reference_flops), 1 / loss], -1)

    def information(self, num_seeds: Array) -> Array:
        """Of each budget's mean log loss."""
        seeds = np.maximum(num_seeds, 1)
        return np.where(num_seeds > 0, 1 / (self.misfit**2 + self.seed_noise**2 / seeds), 0.0)

    def prior(self, smallest_flops: float) -> Array:
        """Of the exponent that of the fit; of the floor that it lies below the losses seen; none of a."""
        floor_sd = float(self.law(smallest_flops)) / math.sqrt(12)
        return np.diag([1e-9, PRIOR_EXPONENT_SD**-2.0, floor_sd**-2.0])


@dataclass(frozen=True)
class Design:
    flops: Array
    num_seeds: Array
    half_width: float  # of the interval, relative to the loss

    @property
    def cost_flops(self) -> float:
        return float(self.flops @ self.num_seeds)


def half_width(flops: Array, num_seeds: Array, target_flops: float, assumed: Assumed) -> float:
    """Half the 90 % interval of the forecast, relative to the loss at the target."""
    at_target = assumed.gradient(np.array([target_flops]))[0]
    matrix = _matrix(flops, num_seeds, assumed)
    variance = at_target @ np.linalg.solve(matrix, at_target) + assumed.misfit**2 + assumed.seed_noise**2
    return _NORMAL_95 * math.sqrt(variance)


def _matrix(flops: Array, num_seeds: Array, assumed: Assumed) -> Array:
    gradient = assumed.gradient(flops)
    return assumed.prior(float(flops.min())) + (gradient * assumed.information(num_seeds)[:, None]).T @ gradient


def design(
    target_flops: float, budget_flops: float, smallest_flops: float, largest_flops: float, assumed: Assumed
) -> Design:
    """The best ladder between two budgets for so much compute.

    Raises:
        SweepError: the compute does not pay for six budgets.
    """
    found = []
    for top in np.geomspace(_LEAST_SPAN * smallest_flops, largest_flops, 24):
        steps = int(math.log(top / smallest_flops) / math.log(_STEP))
        flops = _rounded(np.geomspace(smallest_flops, top, steps + 1))
        seeds = np.zeros(len(flops))
        seeds[np.linspace(0, len(flops) - 1, MIN_BUDGETS).round().astype(int)] = 1
        if flops @ seeds > budget_flops:
            break
        found.append(_improved(flops, seeds, target_flops, budget_flops, assumed))
    if not found:
        raise SweepError(
            f"{budget_flops:.3g} FLOPs do not pay for {MIN_BUDGETS} budgets from {smallest_flops:.3g} up",
            f"{MIN_BUDGETS} budgets at least, over a factor of {_LEAST_SPAN:g}",
            "raise --budget or lower --smallest",
        )
    return min(found, key=lambda one: one.half_width)


def _rounded(flops: Array) -> Array:
    return np.unique([float(f"{value:.2g}") for value in flops])


def _improved(flops: Array, seeds: Array, target_flops: float, budget_flops: float, assumed: Assumed) -> Design:
    """Runs added by gain per FLOP while there is money, then moved to where they help more."""
    at_target = assumed.gradient(np.array([target_flops]))[0]
    gradient = assumed.gradient(flops)

    def gain(counts: Array) -> Array:
        """How much variance one more run at each budget takes off (Sherman & Morrison)."""
        inverse = np.linalg.inv(_matrix(flops, counts, assumed))
        more = assumed.information(counts + 1) - assumed.information(counts)
        spread = np.einsum("ij,jk,ik->i", gradient, inverse, gradient)
        return more * (gradient @ inverse @ at_target) ** 2 / (1 + more * spread)

    counts = seeds.copy()
    while True:
        affordable = (flops @ counts + flops <= budget_flops) & (counts < MOST_SEEDS)
        if not affordable.any():
            break
        counts[int(np.argmax(np.where(affordable, gain(counts) / flops, -1.0)))] += 1
    best = half_width(flops, counts, target_flops, assumed)
    moved = True
    while moved:
        moved = False
        for source in np.flatnonzero(counts):
            fewer = counts.copy()
            fewer[source] -= 1
            affordable = (flops @ fewer + flops <= budget_flops) & (fewer < MOST_SEEDS)
            goal = int(np.argmax(np.where(affordable, gain(fewer), -1.0)))
            fewer[goal] += 1
            width = half_width(flops, fewer, target_flops, assumed)
            if width < best * (1 - 1e-9) and np.count_nonzero(fewer) >= MIN_BUDGETS:
                counts, best, moved = fewer, width, True
    used = counts > 0
    return Design(flops[used], counts[used], best)


def even_ladder(
    target_flops: float, budget_flops: float, smallest_flops: float, largest_flops: float, assumed: Assumed
) -> Design:
    """The ladder one would draw by hand for the same compute, as far up as that or the cut-off allows.

    Eight budgets at even steps, three seeds on the cheap half.
    """
    flops, seeds = np.geomspace(smallest_flops, largest_flops, 8), np.array([3.0, 3, 3, 3, 1, 1, 1, 1])
    low, high = smallest_flops, largest_flops
    if flops @ seeds > budget_flops:
        for _ in range(60):
            middle = math.sqrt(low * high)
            fits = np.geomspace(smallest_flops, middle, 8) @ seeds <= budget_flops
            low, high = (middle, high) if fits else (low, middle)
        flops = np.geomspace(smallest_flops, low, 8)
    while flops @ np.minimum(seeds + 1, MOST_SEEDS) <= budget_flops and seeds.min() < MOST_SEEDS:
        seeds = np.minimum(seeds + 1, MOST_SEEDS)  # money left at the cut-off: one more seed everywhere
    return Design(flops, seeds, half_width(flops, seeds, target_flops, assumed))


def trade_off(
    target_flops: float, budget_flops: float, smallest_flops: float, largest_flops: float, assumed: Assumed
) -> list[dict[str, float]]:
    """The interval's half width for an eighth to eight times the compute, and what the even ladder would have."""
    rows = []
    for factor in _TRADE_OFF:
        arguments = (target_flops, factor * budget_flops, smallest_flops, largest_flops, assumed)
        try:
            found = design(*arguments)
        except SweepError:
            continue
        rows.append(
            {
                "budget_flops": factor * budget_flops,
                "half_width": found.half_width,
                "half_width_even_ladder": even_ladder(*arguments).half_width,
            }
        )
    return rows


def assumed_from(source: Path) -> Assumed:
    """The law and the noise that a sweep's or a table's runs show.

    Raises:
        SweepError: no law can be fitted.
    """
    table = runs_at(source)
    try:
        ladder = make_ladder(table)
        found = forecast(ladder, 2 * float(table.flops.max()), 0.9)
    except FitError as error:
        raise SweepError(f"{source}: {error}", "runs with a law", "name another sweep or table") from error
    seeds = ladder.points.run_variance**0.5 or found.leading.mean_noise()
    law = found.posteriors["floor_prior"].best()
    return Assumed(law, seeds, MISFIT)


def write_grid(name: str, found: Design, target_flops: float) -> Path:
    """A grid that ``launch`` takes, in configs/grid.

    Raises:
        SweepError: there is a grid of this name, or it is no name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise SweepError(f"--out is {name!r}", "letters, digits, '-' and '_'", "choose a plain name: it names a grid")
    path = GRIDS / f"{name}.yaml"
    if path.exists():
        raise SweepError(f"{path} exists", "a new name", "choose another name for --out")
    values = {
        "budgets_flops": found.flops.tolist(),
        "num_seeds": [int(number) for number in found.num_seeds],
        "target_flops": target_flops,
        "target_seed": 0,
        "width_factors": [1],
        "learning_rate_factors": [1],
        "share_trunks": False,
    }
    path.write_text("# Made by python -m sweep.design. Training FLOPs.\n" + OmegaConf.to_yaml(OmegaConf.create(values)))
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.design", description="The ladder worth its compute.")
    parser.add_argument("--target-flops", type=float, required=True)
    parser.add_argument("--budget", type=float, required=True, help="training FLOPs to spend on the ladder")
    parser.add_argument("--smallest", type=float, help="smallest run; 2e10, or 1/1,000 of the largest if that is more")
    parser.add_argument("--cut-off", type=float, default=1e-4, help="largest run over target (1/10,000)")
    parser.add_argument("--like", type=Path, help="a sweep's folder or a table whose law and noise are assumed")
    parser.add_argument("--out", metavar="NAME", help="write configs/grid/NAME.yaml")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    largest = options.cut_off * options.target_flops
    if options.smallest is None:
        options.smallest = max(SMALLEST, largest / _MOST_SPAN)
    for name in ("target_flops", "budget", "smallest", "cut_off"):
        if not 0 < getattr(options, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} is a positive number")
    if largest < _LEAST_SPAN * options.smallest:
        raise SweepError(
            f"between the smallest run, {options.smallest:.3g} FLOPs, and the cut-off, {largest:.3g}, is no room for a"
            " ladder",
            f"a factor of {_LEAST_SPAN:g} at least",
            f"raise --cut-off (it is {options.cut_off:g} of the target) or lower --smallest",
        )
    assumed = assumed_from(options.like) if options.like else Assumed(MEASURED_LAW, SEED_NOISE, MISFIT)
    space = (options.target_flops, options.budget, options.smallest, largest, assumed)
    found, even = design(*space), even_ladder(*space)
    result: dict[str, Any] = {
        "target_flops": options.target_flops,
        "assumed_law": str(assumed.law),
        "seed_noise": assumed.seed_noise,
        "misfit": assumed.misfit,
        "budgets_flops": found.flops.tolist(),
        "num_seeds": [int(number) for number in found.num_seeds],
        "cost_flops": found.cost_flops,
        "allowed_flops": options.budget,
        "half_width": found.half_width,
        "half_width_even_ladder": even.half_width,
        "trade_off": trade_off(*space),
        "grid": str(write_grid(options.out, found, options.target_flops)) if options.out else None,
    }
    print(json.dumps(result, indent=1) if options.json else summary(result, options.out, options.cut_off))
    return 0


def summary(result: dict[str, Any], name: str | None, cut_off: float) -> str:
    """The ladder, what its forecast will be worth, and what more or less compute would buy."""
    ladder = "  ".join(
        f"{seeds} x {flops:.2g}" for flops, seeds in zip(result["budgets_flops"], result["num_seeds"], strict=True)
    )
    unspent = result["cost_flops"] < 0.9 * result["allowed_flops"]
    lines = [
        f"assumed     {result['assumed_law']}; noise between seeds {result['seed_noise']:.2%},"
        f" misfit {result['misfit']:.2%}",
        f"ladder      {ladder}",
        f"cost        {result['cost_flops']:.3g} FLOPs,"
        f" {result['cost_flops'] / result['target_flops']:.2%} of the target's"
        + (f"; more than {MOST_SEEDS} seeds a budget are not planned, the rest is kept" if unspent else ""),
        f"interval    {result['half_width']:.2%} of the loss to either side (90%);"
        f" an even ladder of the same cost {result['half_width_even_ladder']:.2%}",
        "trade-off   FLOPs for the ladder: interval, even ladder's",
        *(
            f"            {row['budget_flops']:.3g}: {row['half_width']:.2%}, {row['half_width_even_ladder']:.2%}"
            for row in result["trade_off"]
        ),
    ]
    if name:
        lines.append(f"to train    python -m sweep.launch grid={name} name={name} fit.max_flops_fraction={cut_off:g}")
    else:
        lines.append("to train    add --out NAME, which writes a grid for python -m sweep.launch grid=NAME")
    return "\n".join(lines)


if __name__ == "__main__":
    run_main(main)
