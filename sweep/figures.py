"""The figures of a sweep, drawn from its records, fit and verdict; each function writes one PNG."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.laws import Law
from sweep.records import Record, fitted_records, points
from sweep.run_spec import Plan

RUNS, LAW, TARGET, MEASURED = "#3b6fb6", "#444444", "#c8641e", "#12805c"


def _axes(height: float) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(8, height), dpi=130, layout="constrained")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path)
    plt.close(figure)
    return path


def draw_forecast(records: list[Record], fit: dict[str, Any], verdict: dict[str, Any] | None, path: Path) -> Path:
    """Loss against compute relative to the target: runs, law, interval, prediction and, if judged, measurement."""
    figure, axes = _axes(4.6)
    target = fit["target_flops"]
    flops, loss = points(fitted_records(records))
    curve = fit["curve"]
    x = [point["flops"] / target for point in curve]
    axes.fill_between(
        x,
        [p["low"] for p in curve],
        [p["high"] for p in curve],
        color=LAW,
        alpha=0.12,
        lw=0,
        label=f"{fit['level']:.0%} interval, one run",
    )
    axes.plot(x, [p["prediction"] for p in curve], color=LAW, lw=1.5, label="forecast from the small runs")
    axes.scatter(flops / target, loss, s=22, color=RUNS, zorder=3, label=f"{len(loss)} small runs")
    axes.errorbar(
        [1.0],
        [fit["prediction"]],
        yerr=[[fit["prediction"] - fit["low"]], [fit["high"] - fit["prediction"]]],
        fmt="o",
        mfc="white",
        color=TARGET,
        capsize=4,
        zorder=4,
        label=f"prediction {fit['prediction']:.3f} ({fit['low']:.3f} to {fit['high']:.3f})",
    )
    if verdict is not None and verdict["status"] == "judged":
        word = "held" if verdict["held"] else "missed"
        label = f"measured {verdict['measured']:.3f}: {word}, {verdict['error']:+.1%} off"
        axes.scatter([1.0], [verdict["measured"]], marker="*", s=150, color=MEASURED, zorder=5, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%.1f"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%.1f"))
    axes.set_xlabel(f"training compute, relative to the target's {target:.3g} FLOPs")
    axes.set_ylabel("held-out loss (nats per token)")
    axes.legend(frameon=False)
    return _save(figure, path)


def draw_residuals(records: list[Record], fit: dict[str, Any], path: Path) -> Path:
    figure, axes = _axes(2.6)
    flops, loss = points(fitted_records(records))
    law = Law(**fit["coefficients"])
    axes.axhline(0, color=LAW, lw=1)
    axes.scatter(flops, 100 * (loss / law(flops) - 1), s=22, color=RUNS)
    noise = 100 * fit["noise"]["relative_sd"]
    axes.axhspan(-noise, noise, color=LAW, alpha=0.1, lw=0)
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("loss over law (%)")
    return _save(figure, path)


def draw_copy_scores(records: list[Record], plan: Plan, path: Path) -> Path:
    figure, axes = _axes(2.6)
    used = fitted_records(records)
    axes.scatter(
        [record.flops for record in used], np.array([record.copy_score_nats for record in used]), s=22, color=RUNS
    )
    axes.axhline(plan.fit.copying_nats, color=TARGET, lw=1, ls="--", label="copies from its context above this")
    axes.set_xscale("log")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("copy score (nats)")
    axes.legend(frameon=False)
    return _save(figure, path)


def draw_pass_rates(
    capability: dict[str, Any], verdict: dict[str, Any] | None, target_flops: float, path: Path
) -> Path:
    """-E_P[log pass_rate] against compute, one panel per bucket: runs, law, interval and, if judged, the target."""
    buckets = capability["buckets"]
    judged = {row["bucket"]: row for row in (verdict or {}).get("pass_rates") or []}
    figure, panels = plt.subplots(
        2, -(-len(buckets) // 2), figsize=(8, 5), dpi=130, layout="constrained", squeeze=False
    )
    for axes, bucket in zip(panels.flat, buckets, strict=False):
        axes.set_title(f"bucket {bucket['bucket']}", fontsize=9)
        axes.grid(alpha=0.25, which="both")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.tick_params(which="both", labelsize=7)
        axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        law = bucket["likelihood"]
        if law is None:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "not forecastable", ha="center", transform=axes.transAxes, fontsize=8)
            continue
        x = [point["flops"] / target_flops for point in law["curve"]]
        axes.fill_between(x, *([p[key] for p in law["curve"]] for key in ("low", "high")), color=LAW, alpha=0.12, lw=0)
        axes.plot(x, [point["prediction"] for point in law["curve"]], color=LAW, lw=1.2)
        axes.scatter(
            [r["flops"] / target_flops for r in law["runs"]], [r["nats"] for r in law["runs"]], s=12, color=RUNS
        )
        if bucket["bucket"] in judged and judged[bucket["bucket"]]["measured"] is not None:
            axes.scatter([1.0], [judged[bucket["bucket"]]["measured"]], marker="*", s=80, color=MEASURED, zorder=5)
    figure.supxlabel("training compute, relative to the target's", fontsize=9)
    figure.supylabel("mean of -log pass rate (nats)", fontsize=9)
    return _save(figure, path)
