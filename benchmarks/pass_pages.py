"""The section of docs/measured.md about the law of pass rates."""

from typing import Any

from matplotlib.axes import Axes

from benchmarks.drawing import figure, table

ESTIMATES = {
    "report": "solved by every run, plug-in",
    "digamma": "solved by every run, unbiased log p",
    "likelihood": "likelihood of all counts",
}


def pass_law_simulation(result: dict[str, Any]) -> str:
    """Bias of the three estimates and coverage of the headline's interval on planted laws."""

    def draw(result: dict[str, Any], *axes: Axes) -> None:
        by_samples = sorted(result["rows"][:3], key=lambda row: row["samples"])
        for number, (name, label) in enumerate(ESTIMATES.items()):
            found = [(row["samples"] * 1.12 ** (number - 1), row["over_truth"][name]) for row in by_samples]
            median = [each["median"] for _, each in found]
            reach = [
                [each["median"] - each["low"] for _, each in found],
                [each["high"] - each["median"] for _, each in found],
            ]
            axes[0].errorbar([x for x, _ in found], median, yerr=reach, fmt="o-", ms=4, lw=1, label=label)
        axes[0].axhline(1, color="0.4", lw=0.8)
        axes[0].set(xscale="log", ylim=(0, None), xlabel="samples per problem", ylabel="forecast over truth")
        axes[0].legend(frameon=False, fontsize=7)
        names = [row["world"] for row in result["rows"]][::-1]
        covered = [100 * row["coverage"] for row in result["rows"]][::-1]
        colours = ["0.7" if row["misfit"] else "C2" for row in result["rows"]][::-1]
        axes[1].barh(names, covered, color=colours)
        axes[1].axvline(100 * result["level"], color="0.2", lw=0.8)
        axes[1].tick_params(axis="y", labelsize=6)
        axes[1].set(xlabel="intervals that hold (%); grey: misfit")

    rows = [
        [
            row["world"],
            f"{row['zeros']:.0%}",
            f"{row['kept']:.0%}",
            *(_range(row["over_truth"].get(name)) for name in (*ESTIMATES, "report_on_its_problems")),
            f"{row['coverage']:.0%}",
            f"{row['half_width']:.0%}",
            f"{row['rate_error']:+.3f}",
            f"{row['rate_coverage']:.0%}",
        ]
        for row in result["rows"]
    ]
    head = [
        "world",
        "counts of 0",
        "problems solved by every run",
        *ESTIMATES.values(),
        "the first against its own problems alone",
        "coverage",
        "half width",
        "error of the mean pass rate",
        "its coverage",
    ]
    text = (
        f"{result['draws']} worlds of each kind, {result['bootstrap_draws']} bootstrap draws,"
        f" {result['extrapolation']:.0f} times the largest run, level {result['level']:.0%}. Forecast over truth:"
        " median and the middle 80 %."
    )
    return "\n\n".join((text, figure("pass_law_simulation", draw, 2, result), table(head, rows)))


def _range(ratio: dict[str, float] | None) -> str:
    return "none" if ratio is None else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def pass_bends(result: dict[str, Any]) -> str:
    """How far real ladders stray from a straight law, and whether the interval knows."""
    ways = ("walk", "walk_of_slope", "parabola")
    spreads = [
        [f"{row['largest_flops']:.2g}"]
        + [f"{row['ways'][way]['spread']:.3f} ({row['ways'][way]['log_likelihood_over_straight']:.1f})" for way in ways]
        for row in result["ways"]
    ]
    head = ["ladder ends at", "walk of log(-log p), per e-fold^0.5", "walk of the exponent", "parabola"]
    rolling = [
        [
            {"near": f"up to {result['far']:g} times", "far": "farther"}[where],
            str(found["forecasts"]),
            f"{found['coverage']:.0%}",
            f"{found['log_error_rms']:.3f}",
            f"{found['log_half_width']:.3f}",
        ]
        for where, found in result["summary"].items()
    ]
    rolled = table(["forecasts", "number", "intervals that hold", "rms error of the logarithm", "half width"], rolling)
    told = "Spread of each way to stray; in brackets the nats by which it is likelier than a straight law."
    return f"{told}\n\n{table(head, spreads)}\n\nRolling forecasts of larger runs:\n\n{rolled}"
