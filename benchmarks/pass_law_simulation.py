"""Forecasts of pass rates on planted laws: how far off are the three estimates, and how often does the interval hold?

    python -m benchmarks.pass_law_simulation

A world has 25 problems of one bucket, small models over three decades of compute and a target 100 times above the
largest. -log p is a_i C^-k times a log-normal factor of its own for each problem and run (0.15), with a_i spread by a
factor of two (0.7 in the logarithm). Each forecast is compared with the target's own mean of -log p over all 25
problems. What the likelihood has no term for comes last: exponents that go with difficulty, a law that bends.
"""

import argparse
import sys
from multiprocessing import get_context

import numpy as np

from benchmarks.pass_worlds import EXTRAPOLATION, WORLDS, draw_world
from benchmarks.study import write_result
from sweep.pass_forecast import fit_bucket
from sweep.pass_law import power_laws

LEVEL = 0.9
BOOTSTRAP_DRAWS = 200


def simulate(number: int, seed: int) -> dict[str, float | bool | None]:
    """One world: forecasts over truth, and whether the interval held."""
    drawn = draw_world(WORLDS[number], np.random.default_rng([number, seed]))
    truth = float(drawn.target_nats_P.mean())
    fit = fit_bucket(drawn.counts.in_order(), 1, LEVEL, BOOTSTRAP_DRAWS)
    nats, rate, _ = fit.predict(drawn.target_flops)
    true_rate = float(np.exp(-drawn.target_nats_P).mean())
    simple = power_laws(drawn.counts, drawn.target_flops, 1)
    solved_P = (drawn.counts.correct_2RP[1] > 0).all(axis=0)
    report = simple["report"].prediction_nats
    return {
        **{name: None if law.prediction_nats is None else law.prediction_nats / truth for name, law in simple.items()},
        "report_on_its_problems": None if report is None else report / float(drawn.target_nats_P[solved_P].mean()),
        "likelihood": nats.prediction / truth,
        "inside": nats.low <= truth <= nats.high,
        "half_width": (nats.high - nats.low) / 2 / nats.prediction,
        "rate_error": rate.prediction - true_rate,
        "rate_inside": rate.low <= true_rate <= rate.high,
        "zeros": float((drawn.counts.correct_2RP[1] == 0).mean()),
        "kept": float(solved_P.mean()),
    }


def summarise(number: int, rows: list[dict[str, float | bool | None]]) -> dict[str, object]:
    def known(key: str) -> list[float]:
        return [float(row[key]) for row in rows if row[key] is not None]  # type: ignore[arg-type]

    ratios = {
        name: {
            "worlds": len(known(name)),
            **dict(zip(("low", "median", "high"), map(float, np.quantile(known(name), (0.1, 0.5, 0.9))), strict=True)),
        }
        for name in ("report", "report_on_its_problems", "digamma", "likelihood")
        if known(name)
    }
    return {
        "world": WORLDS[number].name,
        "samples": WORLDS[number].samples,
        "misfit": WORLDS[number].misfit,
        "over_truth": ratios,
        "coverage": float(np.mean(known("inside"))),
        "rate_coverage": float(np.mean(known("rate_inside"))),
        "rate_error": float(np.median(known("rate_error"))),
        "half_width": float(np.median(known("half_width"))),
        "zeros": float(np.mean(known("zeros"))),
        "kept": float(np.mean(known("kept"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pass_law_simulation")
    parser.add_argument("--draws", type=int, default=200, help="worlds of each kind (default 200)")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    rows = []
    with get_context("spawn").Pool(options.processes) as pool:
        for number in range(len(WORLDS)):
            drawn = pool.starmap(simulate, [(number, seed) for seed in range(options.draws)], chunksize=5)
            rows.append(summarise(number, drawn))
            print(rows[-1], file=sys.stderr, flush=True)
    write_result(
        "pass_law_simulation",
        {
            "draws": options.draws,
            "level": LEVEL,
            "bootstrap_draws": BOOTSTRAP_DRAWS,
            "extrapolation": EXTRAPOLATION,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
