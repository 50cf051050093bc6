"""The figures of a sweep's losses, drawn from its records, fit and verdict; each function draws one ``Plot``."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from sweep.laws import Law
from sweep.plot import COLOURS, HIDDEN, SERIES, STAR, Plot, add_legend, interval_text, log_axis, new_figure
from sweep.records import Record, fitted_records, points
from sweep.run_spec import Plan


def draw_forecast(records: list[Record], fit: dict[str, Any], verdict: dict[str, Any] | None) -> Plot:
    """Loss against compute relative to the target: runs, law, interval, prediction and, if judged, measurement."""
    figure, ((axes,),) = new_figure(3.9)
    caption = f"The band is the {fit['level']:.0%} interval for one run; compute is relative to the target's."
    plot = Plot("forecast", "Loss against compute", caption, figure)
    target, curve, used = fit["target_flops"], fit["curve"], fitted_records(records)
    flops, loss = points(used)
    x = np.array([point["flops"] for point in curve]) / target
    low, high, middle = ([point[key] for point in curve] for key in ("low", "high", "prediction"))
    axes.fill_between(x, low, high, color=COLOURS["law"], alpha=0.14, lw=0)
    axes.plot(x, middle, color=COLOURS["law"], lw=1.6, label="forecast from the small runs")
    texts = [
        f"forecast at {p['flops']:.3g} FLOPs\n{p['prediction']:.4f} ({interval_text(p['low'], p['high'])})"
        for p in curve
    ]
    plot.mark(axes, "curve", x[:-1], middle[:-1], texts[:-1], color=COLOURS["law"], **HIDDEN)
    fitted = _runs_used(records, fit)
    _draw_runs(plot, axes, "runs", fitted, target, label=f"{len(fitted)} small runs")
    if others := [record for record in used if record not in fitted]:
        _draw_runs(plot, axes, "set-aside", others, target, label=f"{len(others)} set aside", mfc=COLOURS["paper"])
    sides = [[fit["prediction"] - fit["low"]], [fit["high"] - fit["prediction"]]]
    axes.errorbar([1.0], [fit["prediction"]], yerr=sides, fmt="none", color=COLOURS["target"], capsize=4, lw=1.6)
    said = f"{fit['prediction']:.3f} ({interval_text(fit['low'], fit['high'], '.3f')})"
    texts, label = [f"prediction at the target, {target:.3g} FLOPs\n{said}"], f"prediction {said}"
    hollow = {"color": COLOURS["target"], "mfc": COLOURS["paper"]}
    plot.mark(axes, "prediction", [1.0], [fit["prediction"]], texts, ms=6, label=label, **hollow)
    if verdict is not None and verdict["status"] == "judged":
        word = {True: "held", False: "missed", None: "not forecast"}[verdict["held"]]
        text = f"measured {verdict['measured']:.3f}: {word}, {verdict['error']:+.1%} off"
        texts, green = [f"the target, {text}"], COLOURS["measured"]
        plot.mark(axes, "measured", [1.0], [verdict["measured"]], texts, color=green, label=text, **STAR)
    log_axis(axes.xaxis, float(min(*x, *flops / target)), 1.0)
    log_axis(axes.yaxis, min(low), float(max(*high, *loss)))
    axes.set_xlabel(f"training compute, relative to the target's {target:.3g} FLOPs")
    axes.set_ylabel("held-out loss (nats per token)")
    add_legend(axes, loc="best")
    return plot


def _runs_used(records: list[Record], fit: dict[str, Any]) -> list[Record]:
    """The runs that the law was fitted to: of the finished ones, those above the knee of copying."""
    return [record for record in fitted_records(records) if record.run_id in fit["runs_used"]]


def _draw_runs(plot: Plot, axes: Axes, series: str, runs: list[Record], target_flops: float, **style: Any) -> None:
    flops, loss = points(runs)
    texts = [_run_text(record) for record in runs]
    plot.mark(axes, series, flops / target_flops, loss, texts, color=COLOURS["runs"], **style)


def _run_text(record: Record) -> str:
    error = f" ± {record.loss_se_nats:.4f}" if record.loss_se_nats is not None else ""
    return f"{record.run_id}\n{record.flops:.3g} FLOPs, loss {record.loss_nats:.4f}{error}"


def draw_residuals(records: list[Record], fit: dict[str, Any]) -> Plot:
    """How far each run lies off the heaviest form's law, in percent, with the noise of a run."""
    figure, ((axes,),) = new_figure(2.5)
    noise = 100 * fit["noise"]["relative_sd"]
    caption = f"Of the heaviest form's law; the band is the noise of a run, {noise:.2f} %."
    plot = Plot("residuals", "Residuals of the fitted law", caption, figure)
    used = _runs_used(records, fit)
    flops, loss = points(used)
    residual = 100 * (loss / Law(**fit["coefficients"])(flops) - 1)
    axes.axhspan(-noise, noise, color=COLOURS["law"], alpha=0.14, lw=0)
    axes.axhline(0, color=COLOURS["law"], lw=1)
    texts = [f"{_run_text(record)}\n{off:+.2f} % off the law" for record, off in zip(used, residual, strict=True)]
    plot.mark(axes, "runs", flops, residual, texts, color=COLOURS["runs"])
    log_axis(axes.xaxis, *_ends(flops))
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("loss over law (%)")
    return plot


def _ends(flops: Any) -> tuple[float, float]:
    return (float(np.min(flops)), float(np.max(flops))) if len(flops) else (1.0, 10.0)


def draw_backtests(fit: dict[str, Any], verdict: dict[str, Any] | None) -> Plot:
    """Error against extrapolation ratio: of each backtest inside the ladder, and of the claim itself."""
    figure, ((axes,),) = new_figure(3.2)
    caption = (
        "The ladder is cut; what lies below predicts what lies above. A bar is the interval: it holds if it reaches 0."
    )
    plot = Plot("backtests", "Backtests at each extrapolation ratio", caption, figure)
    axes.axhline(0, color=COLOURS["law"], lw=1)
    tests = sorted(fit["backtests"], key=lambda test: test["ratio"])
    inside, outside = ([test for test in tests if test["inside"] == held] for held in (True, False))
    green, red = COLOURS["measured"], COLOURS["target"]
    _draw_errors(plot, axes, "inside", inside, color=green, label=f"{len(inside)} inside its interval")
    _draw_errors(plot, axes, "outside", outside, color=red, mfc=COLOURS["paper"], label=f"{len(outside)} outside")
    judged = verdict is not None and verdict["status"] == "judged"
    claim = {
        "largest_fitted_flops": fit["target_flops"] / fit["extrapolation_ratio"],
        "flops": fit["target_flops"],
        "ratio": fit["extrapolation_ratio"],
        "measured": verdict["measured"] if verdict is not None and judged else None,
        **{key: fit[key] for key in ("prediction", "low", "high")},
    }
    label = "the target, judged" if judged else "the claim's interval"
    _draw_errors(plot, axes, "claim", [claim], color=COLOURS["runs"], marker="s", label=label)
    log_axis(axes.xaxis, 1.0, max(test["ratio"] for test in [*tests, claim]))
    axes.set_xlabel("predicted run's compute over the largest fitted run's")
    axes.set_ylabel("prediction over measured (%)")
    add_legend(axes, loc="best")
    return plot


def _draw_errors(plot: Plot, axes: Axes, series: str, tests: list[dict[str, Any]], **style: Any) -> None:
    """Errors in percent with their intervals; where nothing was measured yet, of the prediction itself."""
    if not tests:
        return
    true = np.array([test["prediction"] if test["measured"] is None else test["measured"] for test in tests])
    error, low, high = (
        100 * (np.array([test[key] for test in tests]) / true - 1) for key in ("prediction", "low", "high")
    )
    ratio, texts = [test["ratio"] for test in tests], [_backtest_text(test) for test in tests]
    axes.errorbar(ratio, error, yerr=[error - low, high - error], fmt="none", color=style["color"], capsize=3, lw=1.3)
    plot.mark(axes, series, ratio, error, texts, **style)


def _backtest_text(test: dict[str, Any]) -> str:
    measured, prediction = test["measured"], test["prediction"]
    outcome = "not measured yet" if measured is None else f"measured {measured:.4f}, {prediction / measured - 1:+.2%}"
    return (
        f"{test['ratio']:.3g} times, from {test['largest_fitted_flops']:.3g} to {test['flops']:.3g} FLOPs\n"
        f"predicted {prediction:.4f} ({interval_text(test['low'], test['high'])}), {outcome}"
    )


def draw_floor(fit: dict[str, Any]) -> Plot:
    """Which floors the ladder allows, and what each of them would forecast."""
    figure, ((above,), (below,)) = new_figure(3.9, rows=2, sharex=True)
    rows = fit["floor_profile"]
    caption = (
        "With each floor c fixed and all else free: how much of the weight it has (the two ends stand for half a step),"
        f" and the loss it forecasts for the target. Shaded: floors that fit as well, {_likely_floors(rows)}."
    )
    plot = Plot("floor", "The floor's profile", caption, figure)
    c, share, prediction = (np.array([row[key] for row in rows]) for key in ("c", "share", "prediction"))
    likely = [row["c"] for row in rows if row["fits_as_well"]]
    texts = [
        f"floor c = {row['c']:.3f}: {row['share']:.1%} of the weight\nforecast {row['prediction']:.4f},"
        f" {'fits as well' if row['fits_as_well'] else 'fits worse'}"
        for row in rows
    ]
    for axes, name, y, label in (
        (above, "share", 100 * share, "weight (%)"),
        (below, "forecast", prediction, "forecast (nats)"),
    ):
        axes.axvspan(min(likely), max(likely), color=COLOURS["law"], alpha=0.14, lw=0)
        axes.plot(c, y, color=COLOURS["law"], lw=1)
        plot.mark(axes, name, c, y, texts, color=COLOURS["runs"], ms=3.5)
        axes.set_ylabel(label)
    above.set_ylim(bottom=0)
    below.axhline(fit["prediction"], color=COLOURS["target"], lw=1, ls="--", label="forecast of all forms together")
    below.set_xlabel("floor c: the loss that no compute removes (nats per token)")
    add_legend(below, loc="upper left")
    return plot


def _likely_floors(rows: list[dict[str, Any]]) -> str:
    likely = [row["c"] for row in rows if row["fits_as_well"]]
    return f"from {min(likely):.2f} to {max(likely):.2f}"


def draw_copy_scores(records: list[Record], target_score: float | None, plan: Plan) -> Plot:
    """The phase probe: what a repeat of a shuffled sequence costs less than its first showing."""
    figure, ((axes,),) = new_figure(2.5)
    caption = "Loss on the first showing of a shuffled sequence less that on its second. A law holds within one phase."
    plot = Plot("copying", "Copying from context, the phase probe", caption, figure)
    threshold = plan.fit.copying_nats
    axes.axhline(threshold, color=COLOURS["law"], lw=1, ls="--", label=f"copies above {threshold:g} nats")
    used = [(r, r.copy_score_nats) for r in fitted_records(records) if r.copy_score_nats is not None]
    flops, scores = [record.flops for record, _ in used], [score for _, score in used]
    texts = [f"{run.run_id}\n{run.flops:.3g} FLOPs, copy score {score:.2f} nats" for run, score in used]
    plot.mark(axes, "runs", flops, scores, texts, color=COLOURS["runs"])
    if target_score is not None:
        text = f"the target\n{plan.target.flops:.3g} FLOPs, copy score {target_score:.2f} nats"
        green = COLOURS["measured"]
        plot.mark(axes, "target", [plan.target.flops], [target_score], [text], color=green, label="the target", **STAR)
        flops.append(plan.target.flops)
    log_axis(axes.xaxis, *_ends(flops))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("copy score (nats)")
    add_legend(axes, loc="best")
    return plot


def draw_optimum(optimum: dict[str, Any]) -> Plot:
    """Loss against what the grid varies, one curve per budget, with the best value of each."""
    figure, ((axes,),) = new_figure(3.4)
    name = {"num_params_non_embedding": "non-embedding parameters", "learning_rate": "learning rate"}[optimum["varied"]]
    plot = Plot("optimum", f"Loss against {name}", "A star is a budget's best value, read off a parabola.", figure)
    for number, one in enumerate(optimum["slices"]):
        colour = SERIES[number % len(SERIES)]
        texts = [
            f"{one['budget_flops']:.3g} FLOPs, {name} {x:.4g}\nloss {loss:.4f}"
            for x, loss in zip(one["x"], one["loss_nats"], strict=True)
        ]
        axes.plot(one["x"], one["loss_nats"], color=colour, lw=1.2)
        label = f"{one['budget_flops']:.3g} FLOPs"
        plot.mark(axes, f"slice-{number}", one["x"], one["loss_nats"], texts, color=colour, label=label)
        if one["best"]:
            text = f"best at {one['budget_flops']:.3g} FLOPs: {one['best']:.4g}, loss {one['best_loss_nats']:.4f}"
            plot.mark(axes, f"best-{number}", [one["best"]], [one["best_loss_nats"]], [text], color=colour, **STAR)
    values = [x for one in optimum["slices"] for x in one["x"]]
    log_axis(axes.xaxis, min(values), max(values))
    axes.set_xlabel(name)
    axes.set_ylabel("held-out loss (nats per token)")
    add_legend(axes, loc="best")
    return plot
