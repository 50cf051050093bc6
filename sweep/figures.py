"""The figures of a sweep's losses, drawn from its records, fit and verdict; each function draws one ``Plot``."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from sweep.laws import Law
from sweep.plot import COLOURS, SERIES, Plot, add_legend, add_markers, interval_text, log_axis, new_figure
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
    add_markers(plot, axes, "curve", x[:-1], middle[:-1], texts[:-1], color=COLOURS["law"], alpha=0)
    texts = [_run_text(record) for record in used]
    add_markers(plot, axes, "runs", flops / target, loss, texts, color=COLOURS["runs"], label=f"{len(used)} small runs")
    sides = [[fit["prediction"] - fit["low"]], [fit["high"] - fit["prediction"]]]
    axes.errorbar([1.0], [fit["prediction"]], yerr=sides, fmt="none", ecolor=COLOURS["target"], capsize=4, lw=1.6)
    said = f"{fit['prediction']:.3f} ({interval_text(fit['low'], fit['high'], '.3f')})"
    add_markers(
        *(plot, axes, "prediction", [1.0], [fit["prediction"]]),
        [f"prediction at the target, {target:.3g} FLOPs\n{said}"],
        **{"mfc": COLOURS["paper"], "color": COLOURS["target"], "ms": 6, "label": f"prediction {said}"},
    )
    if verdict is not None and verdict["status"] == "judged":
        word = "held" if verdict["held"] else "missed"
        text = f"measured {verdict['measured']:.3f}: {word}, {verdict['error']:+.1%} off"
        style = {"marker": "*", "ms": 12, "color": COLOURS["measured"], "mew": 0, "label": text}
        add_markers(plot, axes, "measured", [1.0], [verdict["measured"]], [f"the target, {text}"], **style)
    log_axis(axes.xaxis, float(x.min()), 1.0)
    log_axis(axes.yaxis, min(low), max(high))
    axes.set_xlabel(f"training compute, relative to the target's {target:.3g} FLOPs")
    axes.set_ylabel("held-out loss (nats per token)")
    add_legend(axes, loc="best")
    return plot


def _run_text(record: Record) -> str:
    error = f" ± {record.loss_se_nats:.4f}" if record.loss_se_nats is not None else ""
    return f"{record.run_id}\n{record.flops:.3g} FLOPs, loss {record.loss_nats:.4f}{error}"


def draw_residuals(records: list[Record], fit: dict[str, Any]) -> Plot:
    """How far each run lies off the heaviest form's law, in percent, with the noise of a run."""
    figure, ((axes,),) = new_figure(2.5)
    noise = 100 * fit["noise"]["relative_sd"]
    caption = f"Of the heaviest form's law; the band is the noise of a run, {noise:.2f} %."
    plot = Plot("residuals", "Residuals of the fitted law", caption, figure)
    used = fitted_records(records)
    flops, loss = points(used)
    residual = 100 * (loss / Law(**fit["coefficients"])(flops) - 1)
    axes.axhspan(-noise, noise, color=COLOURS["law"], alpha=0.14, lw=0)
    axes.axhline(0, color=COLOURS["law"], lw=1)
    texts = [f"{_run_text(record)}\n{off:+.2f} % off the law" for record, off in zip(used, residual, strict=True)]
    add_markers(plot, axes, "runs", flops, residual, texts, color=COLOURS["runs"])
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
        "The ladder is cut, what lies below predicts what lies above. A bar is the interval: it holds if it meets 0."
    )
    plot = Plot("backtests", "Backtests at each extrapolation ratio", caption, figure)
    axes.axhline(0, color=COLOURS["law"], lw=1)
    tests = sorted(fit["backtests"], key=lambda test: test["ratio"])
    for inside, name, colour, filled in (
        (True, "inside its interval", COLOURS["measured"], True),
        (False, "outside", COLOURS["target"], False),
    ):
        rows = [test for test in tests if test["inside"] == inside]
        _errors(
            *(plot, axes, "inside" if inside else "outside", [row["ratio"] for row in rows]),
            [(row["prediction"], row["low"], row["high"], row["measured"]) for row in rows],
            [_backtest_text(row) for row in rows],
            **{"color": colour, "mfc": colour if filled else COLOURS["paper"], "label": f"{len(rows)} {name}"},
        )
    judged = verdict is not None and verdict["status"] == "judged"
    measured = verdict["measured"] if verdict is not None and judged else fit["prediction"]
    word = "the target, judged" if judged else "the claim's interval"
    said = f"{fit['prediction']:.4f} ({interval_text(fit['low'], fit['high'])})"
    _errors(
        *(plot, axes, "claim", [fit["extrapolation_ratio"]]),
        [(fit["prediction"], fit["low"], fit["high"], measured)],
        [f"{word}\n{fit['extrapolation_ratio']:.3g} times: {said}" + (f", measured {measured:.4f}" if judged else "")],
        **{"color": COLOURS["runs"], "marker": "s", "label": word},
    )
    log_axis(axes.xaxis, 1.0, max(test["ratio"] for test in [*tests, {"ratio": fit["extrapolation_ratio"]}]))
    axes.set_xlabel("predicted run's compute over the largest fitted run's")
    axes.set_ylabel("prediction over measured (%)")
    add_legend(axes, loc="best")
    return plot


def _errors(
    plot: Plot, axes: Axes, name: str, x: list[float], rows: list[tuple[float, ...]], texts: list[str], **style: Any
) -> None:
    """Relative errors in percent of (prediction, low, high, measured) with their intervals."""
    if not rows:
        return
    prediction, low, high, measured = np.array(rows).T
    error, below, above = (100 * (each / measured - 1) for each in (prediction, low, high))
    axes.errorbar(x, error, yerr=[error - below, above - error], fmt="none", ecolor=style["color"], capsize=3, lw=1.3)
    add_markers(plot, axes, name, x, error, texts, **style)


def _backtest_text(test: dict[str, Any]) -> str:
    return (
        f"{test['ratio']:.3g} times: {test['error']:+.2%}, {'inside' if test['inside'] else 'outside'}\n"
        f"up to {test['largest_fitted_flops']:.3g} FLOPs, for {test['flops']:.3g}: {test['prediction']:.4f}"
        f" ({interval_text(test['low'], test['high'])}), measured {test['measured']:.4f}"
    )


def draw_floor(fit: dict[str, Any]) -> Plot:
    """Which floors the ladder allows, and what each of them would forecast."""
    figure, ((above,), (below,)) = new_figure(3.9, rows=2, sharex=True)
    rows = fit["floor_profile"]
    caption = (
        "With each floor c fixed and all else free: how much of the weight it has, and the loss it forecasts for the"
        f" target. Shaded: floors that fit as well as the best, {_likely_floors(rows)}."
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
        add_markers(plot, axes, name, c, y, texts, color=COLOURS["runs"], ms=3.5)
        axes.set_ylabel(label)
    above.set_ylim(bottom=0)
    below.axhline(fit["prediction"], color=COLOURS["target"], lw=1, ls="--", label="the sealed mixture's forecast")
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
    add_markers(plot, axes, "runs", flops, scores, texts, color=COLOURS["runs"])
    if target_score is not None:
        text = f"the target\n{plan.target.flops:.3g} FLOPs, copy score {target_score:.2f} nats"
        style = {"marker": "*", "ms": 12, "color": COLOURS["measured"], "mew": 0, "label": "the target"}
        add_markers(plot, axes, "target", [plan.target.flops], [target_score], [text], **style)
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
        style = {"color": colour, "label": f"{one['budget_flops']:.3g} FLOPs"}
        add_markers(plot, axes, f"slice-{number}", one["x"], one["loss_nats"], texts, **style)
        if one["best"]:
            text = f"best at {one['budget_flops']:.3g} FLOPs: {one['best']:.4g}, loss {one['best_loss_nats']:.4f}"
            style = {"color": colour, "marker": "*", "ms": 12, "mew": 0}
            add_markers(plot, axes, f"best-{number}", [one["best"]], [one["best_loss_nats"]], [text], **style)
    values = [x for one in optimum["slices"] for x in one["x"]]
    log_axis(axes.xaxis, min(values), max(values))
    axes.set_xlabel(name)
    axes.set_ylabel("held-out loss (nats per token)")
    add_legend(axes, loc="best")
    return plot
