"""How do real ladders of pass rates miss a straight law, and do forecasts know of it?

    python -m benchmarks.pass_bends

From the rates of ``benchmarks.micro_study`` (``benchmarks/results/micro_study.json``; nothing is trained). First, three
ways to stray from a power law, each with one number, fitted by restricted likelihood to buckets' means of -log p: a
random walk of log(-log p), a random walk of its slope, a parabola; from ladders that end at every budget in turn. The
true one's number would not depend on where a ladder ends. Then rolling forecasts: counts are drawn from the small
runs' rates, buckets are made and the second law is fitted to them as in a sweep, and every larger budget is forecast.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from benchmarks.study import RESULTS, write_result
from sweep.buckets import make_buckets
from sweep.pass_counts import PassCounts
from sweep.pass_forecast import fit_bucket
from sweep.pass_law import pass_law

Array = NDArray[np.float64]

SAMPLES = 1000  # of a half, in the rolling forecasts
LEVEL = 0.9
FAR = 9.0  # times the largest fitted run
MIN_FITTED_BUDGETS = 4
NUM_BUCKETS, NUM_LEFT_OUT = 6, 15


def walk(x: Array) -> Array:
    """Covariance of a random walk from the smallest budget on."""
    return np.minimum.outer(x - x.min(), x - x.min())


def walk_of_slope(x: Array) -> Array:
    """Covariance of the integral of a random walk."""
    first, second = np.minimum.outer(x - x.min(), x - x.min()), np.maximum.outer(x - x.min(), x - x.min())
    return first**2 * (3 * second - first) / 6


def parabola(x: Array) -> Array:
    return np.outer((x - x.mean()) ** 2, (x - x.mean()) ** 2)


WAYS: dict[str, Callable[[Array], Array]] = {"walk": walk, "walk_of_slope": walk_of_slope, "parabola": parabola}


def misfit(spread: float, run_sd: float, covariance: Array, x: Array, log_nats: list[Array]) -> float:
    """Minus the restricted log likelihood of ladders that stray so from a line each, runs' own noise beside it."""
    line = np.vander(x, 2)
    total = spread**2 * covariance + run_sd**2 * np.eye(len(x))
    precision = np.linalg.inv(total)
    of_line = line.T @ precision @ line
    rest = precision - precision @ line @ np.linalg.solve(of_line, line.T @ precision)
    determinants = np.linalg.slogdet(total)[1] + np.linalg.slogdet(of_line)[1]
    return float(sum(determinants + each @ rest @ each for each in log_nats) / 2)


def strayed(flops: Array, nats_RP: Array) -> dict[str, Any]:
    """Of each way its spread and how much likelier than a straight law it is, from six buckets of all these runs."""
    x = np.log(flops)
    order = np.argsort(nats_RP.mean(axis=0))
    buckets = np.array_split(order[: len(order) - NUM_LEFT_OUT], NUM_BUCKETS)
    log_nats = [np.log(nats_RP[:, problems].mean(axis=1)) for problems in buckets]
    straight = min(misfit(0.0, sd, walk(x), x, log_nats) for sd in np.geomspace(0.01, 0.5, 100))
    found = {}
    for name, way in WAYS.items():
        best = minimize(
            lambda logs, way=way: misfit(np.exp(logs[0]), np.exp(logs[1]), way(x), x, log_nats),
            [-3.0, -3.0],
            method="Nelder-Mead",
            bounds=[(-9, 2), (-6, 1)],
        )
        spread, run_sd = (float(each) for each in np.exp(best.x))
        found[name] = {"spread": spread, "run_sd": run_sd, "log_likelihood_over_straight": straight - float(best.fun)}
    run_sd = found["walk"]["run_sd"]
    without = [
        minimize_scalar(
            lambda log, left=left: misfit(np.exp(log), run_sd, walk(x), x, log_nats[:left] + log_nats[left + 1 :]),
            bounds=(-5, 0),
        )
        for left in range(NUM_BUCKETS)
    ]
    return {
        "largest_flops": float(flops.max()),
        "ways": found,
        "walk_without_one_bucket": [float(np.exp(one.x)) for one in without],
    }


def rolling(flops: Array, nats_RP: Array, tasks: list[str], last_flops: float) -> list[dict[str, Any]]:
    """Forecasts of every larger budget, per bucket, from counts of the runs up to ``last_flops``."""
    fitted = flops <= last_flops
    samples = np.full((2, int(fitted.sum()), len(tasks)), SAMPLES)
    correct = np.random.default_rng(0).binomial(samples, np.exp(-nats_RP[fitted]))
    ids = tuple(f"run {number:02}" for number in range(int(fitted.sum())))
    counts = PassCounts(ids, tuple(tasks), flops[fitted], samples, correct)
    rows = []
    for number, bucket in enumerate(make_buckets(counts, 0, NUM_BUCKETS, NUM_LEFT_OUT).tasks, 1):
        if pass_law(counts, bucket, 2 * last_flops, LEVEL).likelihood is None:
            continue
        fit = fit_bucket(counts.of(bucket).in_order(), 1, LEVEL)
        places = [tasks.index(task) for task in bucket]
        for larger in sorted(set(flops[~fitted].tolist())):
            nats = fit.predict(larger)[0]
            truth = float(nats_RP[flops == larger][:, places].mean())
            rows.append(
                {
                    "bucket": number,
                    "largest_fitted_flops": float(last_flops),
                    "ratio": larger / last_flops,
                    **vars(nats),
                    "truth": truth,
                    "inside": nats.low <= truth <= nats.high,
                }
            )
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "forecasts": len(rows),
        "coverage": float(np.mean([row["inside"] for row in rows])),
        "log_error_rms": float(np.sqrt(np.mean([np.log(row["prediction"] / row["truth"]) ** 2 for row in rows]))),
        "log_half_width": float(np.median([np.log(row["high"] / row["low"]) / 2 for row in rows])),
    }


def main() -> None:
    study = json.loads((RESULTS / "micro_study.json").read_text())
    flops = np.array([run["flops"] for run in study["runs"]])
    nats_RP = np.array([run["nats"] for run in study["runs"]])
    budgets = sorted(set(flops.tolist()))[MIN_FITTED_BUDGETS - 1 :]
    ways = [strayed(flops[flops <= last], nats_RP[flops <= last]) for last in budgets]
    rows = [row for last in budgets[:-1] for row in rolling(flops, nats_RP, study["tasks"], last)]
    near, far = ([row for row in rows if (row["ratio"] > FAR) == is_far] for is_far in (False, True))
    sums = {"near": summary(near), "far": summary(far)}
    print(json.dumps({"ways": ways, **sums}, indent=1), file=sys.stderr)
    write_result(
        "pass_bends", {"samples": SAMPLES, "level": LEVEL, "far": FAR, "ways": ways, "summary": sums, "rolling": rows}
    )


if __name__ == "__main__":
    main()
