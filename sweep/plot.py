"""A drawn figure with the values that a reader may ask for, and what all figures share.

A ``Plot`` is written as a PNG and set into the page as SVG (``sweep/page/inline_svg.py``), where the colours below
follow the page's and each value stands at its point.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

# As on a white page; the report's style.css has a light and a dark colour for each of these names.
COLOURS = {
    "paper": "#ffffff",
    "ink": "#1b2431",
    "grid": "#d7dce3",
    "runs": "#2b63b5",
    "law": "#4a5463",
    "target": "#b9521a",
    "measured": "#0f7857",
}
SERIES = ("#3f78c0", "#d9576a", "#2f9247", "#a98b1d", "#2ba0bd", "#a8468f")  # to be told apart on light and dark
STAR: dict[str, Any] = {"marker": "*", "ms": 12, "mew": 0}
HIDDEN: dict[str, Any] = {"alpha": 0}  # a point of a line, for its value
_WIDTH_INCHES = 4.6  # its text can be read on a phone without zooming
_PNG_DPI = 200
_FEW_TIMES, _MANY_TIMES = 5.0, 50.0  # highest over lowest of an axis: round numbers, 1 and 3, powers of ten
_STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "legend.fontsize": 8.5,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["ink"],
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "scaling-sweep",
}


@dataclass
class Plot:
    """A drawn figure; ``values`` holds for each series, by the gid of its markers, a text for every point."""

    name: str  # of its files
    title: str
    caption: str
    figure: Figure
    values: dict[str, list[str]] = field(default_factory=dict)

    def mark(self, axes: Axes, series: str, x: Any, y: Any, texts: list[str], **style: Any) -> None:
        """One marker for each point, with the text that stands for it."""
        gid = f"{self.name}-{series}"
        axes.plot(x, y, gid=gid, **{"ls": "none", "marker": "o", "ms": 4.5, "clip_on": False, **style})
        self.values[gid] = texts

    def save_png(self, folder: Path) -> Path:
        path = folder / f"{self.name}.png"
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(path, dpi=_PNG_DPI)
        return path

    def svg(self) -> str:
        """The figure as an SVG file without a background, its text as text."""
        file = io.StringIO()
        with matplotlib.rc_context(_STYLE):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return file.getvalue()

    def close(self) -> None:
        plt.close(self.figure)


def new_figure(height_inches: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    with matplotlib.rc_context(_STYLE):
        size = (_WIDTH_INCHES, height_inches)
        figure, panels = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
        for axes in panels.flat:
            axes.grid()
            axes.set_axisbelow(True)
    return figure, panels


def add_legend(axes: Axes, **options: Any) -> None:
    with matplotlib.rc_context(_STYLE):
        axes.legend(**{"handlelength": 1.4, **options})


def _short(value: float, _: object = None) -> str:
    """0.01, 3, 300, and beyond as powers of ten."""
    if value == 0 or 0.01 <= abs(value) < 1e4:
        return f"{value:g}"
    exponent = int(np.floor(np.log10(abs(value)) + 1e-9))
    factor = value / 10.0**exponent
    power = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if abs(factor - 1) < 1e-6 else f"{factor:.3g}·{power}"


def log_axis(axis: Axis, lowest: float, highest: float) -> None:
    """A logarithmic axis with few labels, whatever its range."""
    axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")  # type: ignore[attr-defined]
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_short))
    if highest > _MANY_TIMES * lowest:
        axis.set_major_locator(LogLocator(numticks=8))
    elif highest > _FEW_TIMES * lowest:
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def interval_text(low: float, high: float, form: str = ".4f") -> str:
    return f"{low:{form}} to {high:{form}}"
