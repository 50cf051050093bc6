"""The figures of a sweep's pass rates, drawn from its fit and verdict; each function draws one ``Plot``."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from sweep.plot import COLOURS, HIDDEN, SERIES, STAR, Plot, add_legend, interval_text, log_axis, new_figure

_BESIDE = 1.3  # where the target's measured rates stand, so that they do not cover its forecasts


def draw_pass_laws(capability: dict[str, Any], verdict: dict[str, Any] | None, target_flops: float) -> Plot | None:
    """-E_P[log pass_rate] against compute, one panel per bucket that has a law: runs, law, interval, measurement.

    None if no bucket has one.
    """
    buckets = [bucket for bucket in capability["buckets"] if bucket["likelihood"] is not None]
    if not buckets:
        return None
    rows = -(-len(buckets) // 2)
    figure, panels = new_figure(0.6 + 1.75 * rows, rows=rows, columns=2)
    without = [str(bucket["bucket"]) for bucket in capability["buckets"] if bucket["likelihood"] is None]
    caption = "Bucket 1 is the easiest; lower is better." + (
        f" Without a law: {', '.join(without)}." if without else ""
    )
    plot = Plot("pass_rates", "Pass-rate laws, bucket by bucket", caption, figure)
    for axes in panels.flat[len(buckets) :]:
        axes.set_axis_off()
    for axes, bucket in zip(panels.flat, buckets, strict=False):
        axes.title.set_text(f"bucket {bucket['bucket']}" + ("" if bucket["forecastable"] else ", not forecastable"))
        _draw_pass_law(plot, axes, bucket, _judged(verdict).get(bucket["bucket"]), target_flops)
    figure.supxlabel("training compute, relative to the target's", fontsize=9.5, color=COLOURS["ink"])
    figure.supylabel("mean of -log pass rate (nats)", fontsize=9.5, color=COLOURS["ink"])
    return plot


def _judged(verdict: dict[str, Any] | None) -> dict[int, dict[str, Any]]:
    return {row["bucket"]: row for row in (verdict or {}).get("pass_rates") or []}


def _draw_pass_law(
    plot: Plot, axes: Axes, bucket: dict[str, Any], judged: dict[str, Any] | None, target_flops: float
) -> None:
    number, law = bucket["bucket"], bucket["likelihood"]
    curve, runs = law["curve"], law["runs"]
    x = np.array([point["flops"] for point in curve]) / target_flops
    low, high, middle = (np.array([point[key] for point in curve]) for key in ("low", "high", "prediction"))
    axes.fill_between(x, low, high, color=COLOURS["law"], alpha=0.14, lw=0)
    axes.plot(x, middle, color=COLOURS["law"], lw=1.3)
    texts = [
        f"bucket {number} at {point['flops']:.3g} FLOPs\nforecast {point['prediction']:.3f}"
        f" ({interval_text(point['low'], point['high'], '.3f')})"
        for point in curve
    ]
    plot.mark(axes, f"curve-{number}", x, middle, texts, color=COLOURS["law"], **HIDDEN)
    texts = [f"{run['run_id']}\n{run['flops']:.3g} FLOPs, bucket {number}: {run['nats']:.3f} nats" for run in runs]
    flops, nats = [run["flops"] / target_flops for run in runs], [run["nats"] for run in runs]
    plot.mark(axes, f"runs-{number}", flops, nats, texts, color=COLOURS["runs"], ms=3.5)
    if judged and judged["measured"] is not None:
        word = {True: "held", False: "missed", None: "no verdict"}[judged["held"]]
        text = f"bucket {number} of the target, measured {judged['measured']:.3f}: {word}"
        plot.mark(axes, f"measured-{number}", [1.0], [judged["measured"]], [text], color=COLOURS["measured"], **STAR)
    log_axis(axes.xaxis, float(x.min()), 1.0)
    log_axis(axes.yaxis, min([*low, *nats]), max([*high, *nats]))


def draw_observed_pass_rates(
    capability: dict[str, Any], verdict: dict[str, Any] | None, target_flops: float
) -> Plot | None:
    """Mean pass rate of each bucket against compute: what the runs solved, the forecast and the target's.

    None if no run solved anything.
    """
    if not any(run["mean_pass_rate"] for bucket in capability["buckets"] for run in bucket["observed"]):
        return None
    figure, ((axes,),) = new_figure(3.7)
    caption = (
        "Mean over a bucket's problems, unbiased; at the target the forecast with its interval (hollow) and what was"
        " measured (star, a little beside). Runs that solved nothing of a bucket have no place on this axis; the table"
        " has them."
    )
    plot = Plot("solved", "Pass rates, bucket by bucket", caption, figure)
    judged = _judged(verdict)
    for bucket in capability["buckets"]:
        number = bucket["bucket"]
        colour = SERIES[(number - 1) % len(SERIES)]
        runs = [run for run in bucket["observed"] if run["mean_pass_rate"]]
        texts = [f"{r['run_id']}\n{r['flops']:.3g} FLOPs, bucket {number}: {r['mean_pass_rate']:.2%}" for r in runs]
        flops, rates = [run["flops"] / target_flops for run in runs], [run["mean_pass_rate"] for run in runs]
        plot.mark(axes, f"runs-{number}", flops, rates, texts, color=colour, ms=3.5, label=f"bucket {number}")
        rate, low, high = (bucket[f"pass_rate_{key}"] for key in ("prediction", "low", "high"))
        if rate is not None:
            axes.errorbar([1.0], [rate], yerr=[[rate - low], [high - rate]], fmt="none", color=colour, capsize=3)
            text = f"bucket {number}, forecast for the target: {rate:.1%} ({interval_text(low, high, '.1%')})"
            plot.mark(axes, f"forecast-{number}", [1.0], [rate], [text], color=colour, mfc=COLOURS["paper"])
        measured = judged.get(number, {}).get("pass_rate_measured")
        if measured:
            text = f"bucket {number}, measured on the target: {measured:.1%}"
            plot.mark(axes, f"measured-{number}", [_BESIDE], [measured], [text], color=colour, **{**STAR, "ms": 9})
    log_axis(axes.xaxis, min(run["flops"] for run in capability["buckets"][0]["observed"]) / target_flops, 1.0)
    axes.set_yscale("log")
    axes.set_xlabel("training compute, relative to the target's")
    axes.set_ylabel("mean pass rate")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    add_legend(axes, loc="best", ncols=2)
    return plot
