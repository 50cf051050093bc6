"""Compare: which of two recipes is better at the target, by how much, how surely, and what that is worth in compute.

    python -m sweep.compare A B --target-flops 1e21 [--json]          A, B: sweeps' folders or tables

Both are forecast as ``sweep.fit`` would. Curves are drawn from both forecasts, form, floor and coefficients together;
the noise of a single run is left out, since the question is about recipes. The compute multiplier is how many times the
target's compute recipe B needs for the loss that A has there: above one, A is the better recipe.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from sweep.errors import SweepError, run_main
from sweep.forecast import Forecast, forecast
from sweep.ladder import make_ladder
from sweep.laws import Array, FitError
from sweep.phase import runs_at
from sweep.table import Table

_DRAWS = 4000
_FACTOR = 1e4  # multipliers are looked for from one over this to this
_GRID = 161


def compare(first: Table, second: Table, target_flops: float, level: float = 0.9, seed: int = 0) -> dict[str, Any]:
    """The answers for recipe A (``first``) and B (``second``) as plain data.

    Raises:
        SweepError: a table has no forecast, or they measure the loss in different units.
    """
    if first.unit != second.unit:
        raise SweepError(
            f"{first.source} measures {first.unit}, {second.source} {second.unit}",
            "one unit for both",
            "give both as bits per byte, or both in nats per token of one tokenizer",
        )
    forecasts = [_forecast(table, target_flops, level) for table in (first, second)]
    flops = target_flops * np.geomspace(1 / _FACTOR, _FACTOR, _GRID)
    a, b = (_curves(found, flops, np.random.default_rng(seed + index)) for index, found in enumerate(forecasts))
    middle = _GRID // 2
    difference = np.log(a[:, middle] / b[:, middle])
    multiplier = np.array([_compute_for(loss, flops, curve) for loss, curve in zip(a[:, middle], b, strict=True)])
    shares = [(1 - level) / 2, 0.5, (1 + level) / 2]
    return {
        "target_flops": target_flops,
        "level": level,
        "unit": first.unit,
        "recipes": [
            {"source": table.source, "prediction": found.prediction, "low": found.low, "high": found.high}
            for table, found in zip((first, second), forecasts, strict=True)
        ],
        "probability_first_is_better": float((difference < 0).mean()),
        "difference": _named(np.expm1(np.quantile(difference, shares))),
        "compute_multiplier": _named(np.quantile(multiplier, shares, method="inverted_cdf") / target_flops),
        "multiplier_range": [1 / _FACTOR, _FACTOR],
    }


def _named(values: Array) -> dict[str, float]:
    return dict(zip(("low", "median", "high"), map(float, values), strict=True))


def _forecast(table: Table, target_flops: float, level: float) -> Forecast:
    try:
        return forecast(make_ladder(table), target_flops, level)
    except FitError as error:
        raise SweepError(
            f"{table.source}: there is no forecast: {error}",
            "runs with a law",
            "compare tables that sweep.fit can forecast",
        ) from error


def _curves(found: Forecast, flops: Array, random: np.random.Generator) -> Array:
    """(draws, flops): each form in proportion to its weight, spread about the median as the backtests widened it."""
    weights = np.array([found.weights[name] for name in found.posteriors])
    counts = random.multinomial(_DRAWS, weights / weights.sum())
    drawn = np.concatenate(
        [
            part.draw(flops, int(count), random)
            for part, count in zip(found.posteriors.values(), counts, strict=True)
            if count
        ]
    )
    random.shuffle(drawn)
    log = np.log(drawn)
    median = np.median(log, axis=0)
    return np.exp(median + found.widened * (log - median))


def _compute_for(loss: float, flops: Array, curve: Array) -> float:
    """The compute at which a falling curve comes down to ``loss``; the end of the range where it does not within it."""
    falling = np.minimum.accumulate(curve)
    return float(np.exp(np.interp(-loss, -falling, np.log(flops))))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.compare", description="Which of two recipes is better.")
    parser.add_argument("first", type=Path, help="recipe A: a sweep's folder or a table")
    parser.add_argument("second", type=Path, help="recipe B")
    parser.add_argument("--target-flops", type=float, required=True)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if not 0 < options.target_flops < math.inf or not 0 < options.level < 1:
        parser.error("--target-flops is a positive number and --level lies between 0 and 1")
    result = compare(runs_at(options.first), runs_at(options.second), options.target_flops, options.level)
    print(json.dumps(result, indent=1) if options.json else summary(result))
    return 0


def summary(result: dict[str, Any]) -> str:
    """The answer in a few lines."""
    level, difference = result["level"], result["difference"]
    share = result["probability_first_is_better"]
    better = "A" if share >= 0.5 else "B"
    low, high = result["multiplier_range"]
    multiplier = {name: _bounded(value, low, high) for name, value in result["compute_multiplier"].items()}
    return "\n".join(
        [
            *(
                f"recipe {letter}    {one['prediction']:.4f} ({one['low']:.4f} to {one['high']:.4f}) {result['unit']}"
                f" at {result['target_flops']:.4g} FLOPs   {one['source']}"
                for letter, one in zip("AB", result["recipes"], strict=True)
            ),
            f"better      {better} with probability {max(share, 1 - share):.0%}",
            f"loss        A's is {difference['median']:+.2%} of B's ({difference['low']:+.2%} to"
            f" {difference['high']:+.2%}, {level:.0%})",
            f"compute     B needs {multiplier['median']} times A's for the same loss"
            f" ({multiplier['low']} to {multiplier['high']})",
        ]
    )


def _bounded(value: float, low: float, high: float) -> str:
    """A number, or that it lies beyond the range looked at."""
    if value <= 1.001 * low:
        return f"less than {low:g}"
    return f"more than {high:g}" if value >= 0.999 * high else f"{value:.3g}"


if __name__ == "__main__":
    run_main(main)
