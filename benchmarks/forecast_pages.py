"""Write the results in docs/forecasts.md and their figures from forecasts/, so that no number is copied by hand.

    python -m benchmarks.forecast_pages        (make figures)

Reads only what is published; whether it holds is asked by ``python -m sweep.verify forecasts/*``. Every forecast is in
the tables whatever became of it: held, missed, refused or still waiting.
"""

from pathlib import Path
from statistics import mean, median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.drawing import FIGURES, table
from benchmarks.forecast_claims import (
    RATIOS,
    BucketClaim,
    Claim,
    Published,
    bucket_claims,
    loss_claims,
    nearest_ratio,
    read_published,
    refitted_claims,
)
from benchmarks.study import ROOT
from sweep.plot import COLOURS
from sweep.records import points

_RUNS, _LAW, _TARGET, _MEASURED = (COLOURS[name] for name in ("runs", "law", "target", "measured"))
PAGE = ROOT / "docs" / "forecasts.md"
BEGIN, END = "<!-- made by make figures: begin -->", "<!-- made by make figures: end -->"
_COLUMNS = 3

# Public forecasts of a loss with their errors: name, extrapolation ratio, |error|, where it stands.
ANCHORS = (
    ("Marin's Delphi, 1e23 FLOPs", 333, 0.002, "https://openathena.ai/blog/delphi/"),
    ("Marin's 1e23 mixture of experts", 333, 0.008, "https://github.com/marin-community/marin/issues/4697"),
)
GPT4_RATIO = 10_000  # OpenAI 2023, section 3.1: loss from at most so many times less compute; no error is given
GPT4_URL = "https://arxiv.org/abs/2303.08774"

HINDSIGHT = (
    "What the fit of today makes of the published ladders, now that their targets are known: it shows what a change\n"
    "of the fit is worth and is no record of forecasts. What it would not forecast is left out."
)


# ---- the tables -------------------------------------------------------------------------------


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _interval(claim: Claim, form: str) -> str:
    return "" if claim.low is None or claim.high is None else f"{claim.low:{form}} to {claim.high:{form}}"


def loss_table(claims: list[Claim]) -> str:
    rows = [
        [
            *(claim.forecast, claim.cut_off, _text(claim.ratio, ",.0f"), _text(claim.predicted, ".4f")),
            *(_interval(claim, ".4f"), _text(claim.measured, ".4f"), _text(claim.error, "+.2%"), claim.word),
            "refused today" if claim.predicted is not None and claim.refused_today else "",
        ]
        for claim in claims
    ]
    head = ["forecast", "from", "times", "predicted, nats per token", "90 % interval", "measured", "error", "", ""]
    return table(head, rows)


def bucket_table(claims: list[BucketClaim]) -> str:
    rows = []
    for each in claims:
        claim = each.claim
        off = None if claim.predicted is None or claim.measured is None else claim.predicted - claim.measured
        more = " or more" if each.never_solved else ""
        rows.append(
            [
                *(claim.forecast, claim.cut_off, str(each.bucket), _text(claim.predicted, ".3f")),
                *(_interval(claim, ".3f"), _text(claim.measured, ".3f") + more, _text(off, "+.3f"), claim.word),
                *(_text(each.rate_predicted, ".3f"), _text(each.rate_measured, ".3f")),
            ]
        )
    head = [
        *("forecast", "from", "bucket", "predicted, nats", "90 % interval", "measured", "predicted less measured", ""),
        *("mean pass rate predicted", "measured"),
    ]
    return table(head, rows)


def loss_summary(claims: list[Claim], everything: str = "all that were sealed") -> str:
    """Errors and how many held, at each ratio: of all, and of those that today's rules allow, by optimizer."""
    rows = []
    for ratio in RATIOS:
        made = [c for c in claims if c.error is not None and c.ratio and nearest_ratio(c.ratio) == ratio]
        allowed = [claim for claim in made if not claim.refused_today]
        groups = {everything: made}
        if made:
            for optimizer in sorted({claim.optimizer for claim in made}):
                groups[f"allowed today, {optimizer}"] = [c for c in allowed if c.optimizer == optimizer]
        rows += [[f"{ratio:,}", name, *_errors(group)] for name, group in groups.items() if made]
    head = [
        *("about so many times", "forecasts of the loss", "number", "median size of the error", "mean error"),
        *("median half width", "held"),
    ]
    return table(head, rows)


def _errors(claims: list[Claim]) -> list[str]:
    if not claims:
        return ["0", "", "", "", ""]
    errors = [claim.error or 0.0 for claim in claims]
    widths = [((c.high or 0.0) - (c.low or 0.0)) / 2 / (c.predicted or 1.0) for c in claims]
    return [
        *(str(len(claims)), f"{median(map(abs, errors)):.2%}", f"{mean(errors):+.2%}"),
        *(f"{median(widths):.1%}", _held(claims)),
    ]


def bucket_summary(buckets: list[BucketClaim]) -> str:
    """Distances and how many held, at each ratio; buckets with a problem never solved have no distance."""
    rows = []
    for ratio in RATIOS:
        made = [b for b in buckets if b.claim.error is not None and b.claim.ratio]
        here = [b for b in made if nearest_ratio(b.claim.ratio or 1.0) == ratio]
        for name, numbers in (("1 to 3", (1, 2, 3)), ("4 to 6", (4, 5, 6))):
            some = [each for each in here if each.bucket in numbers]
            off = [(b.claim.predicted or 0) - (b.claim.measured or 0) for b in some if not b.never_solved]
            if some:
                distances = [f"{mean(map(abs, off)):.3f}", f"{mean(off):+.3f}"] if off else ["", ""]
                rows.append([f"{ratio:,}", name, str(len(some)), *distances, _held([b.claim for b in some])])
    head = ["about so many times", "buckets", "forecasts", "mean distance, nats", "predicted less measured", "held"]
    return table(head, rows)


def _held(claims: list[Claim]) -> str:
    told = [claim for claim in claims if claim.word in ("held", "**missed**")]
    return f"{sum(claim.word == 'held' for claim in told)} of {len(told)}" if told else ""


# ---- the figures ------------------------------------------------------------------------------


def _grid(number: int) -> tuple[Any, list[Axes]]:
    columns = min(number, _COLUMNS)
    rows = -(-number // columns)
    size = (max(5.0, 3.4 * columns), max(3.4, 2.9 * rows))
    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=110, layout="constrained", squeeze=False)
    for one in axes.flat[number:]:
        one.set_axis_off()
    for one in axes.flat[:number]:
        one.grid(alpha=0.25, which="both")
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=7)
    return figure, list(axes.flat[:number])


def _bar(axes: Axes, x: float, claim: Claim, alpha: float, label: str | None) -> None:
    """A forecast with its interval."""
    if claim.predicted is None or claim.low is None or claim.high is None:
        return
    reach = [[claim.predicted - claim.low], [claim.high - claim.predicted]]
    axes.errorbar(
        [x],
        [claim.predicted],
        yerr=reach,
        fmt="o",
        ms=3,
        lw=1,
        capsize=2,
        color=_TARGET,
        alpha=alpha,
        label=label,
    )


def draw_losses(all_published: list[Published], path: Path) -> None:
    """A panel per forecast: small runs, law and interval, the claims from every cut-off, the measurement."""
    figure, panels = _grid(len(all_published))
    for axes, published in zip(panels, all_published, strict=True):
        target, curve = published.seal["target_flops"], published.fit["curve"]
        flops, loss = points(published.records)
        x = [point["flops"] / target for point in curve]
        low, high = ([p[key] for p in curve] for key in ("low", "high"))
        axes.fill_between(x, low, high, color=_LAW, alpha=0.12, lw=0)
        axes.plot(x, [p["prediction"] for p in curve], color=_LAW, lw=1)
        axes.scatter(flops / target, loss, s=8, color=_RUNS, label="small runs")
        claims = [claim for claim in loss_claims(published) if claim.predicted is not None]
        for place, claim in enumerate(claims):
            _bar(
                axes,
                1.5**place,
                claim,
                1 - 0.13 * place,
                "sealed, one for each cut-off, side by side" if place == 0 else None,
            )
        measured = next((claim.measured for claim in claims if claim.measured is not None), None)
        if measured is not None:
            axes.scatter([1.0], [measured], marker="*", s=90, color=_MEASURED, zorder=5, label="measured")
        axes.set(xscale="log", yscale="log")
        axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%.1f"))
        axes.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%.1f"))
        axes.tick_params(which="minor", labelsize=6)
        axes.set_title(published.name, fontsize=8)
    panels[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("training compute, relative to the target's", fontsize=8)
    figure.supylabel("held-out loss (nats per token)", fontsize=8)
    _save(path)


def draw_buckets(claims: list[BucketClaim], path: Path) -> None:
    """A panel per bucket: each forecast's sealed intervals, the stricter cut-offs paler, each with its measurement."""
    names = list(dict.fromkeys(each.claim.forecast for each in claims))
    told = [each for each in claims if each.claim.predicted is not None]
    cut_offs = list(dict.fromkeys(each.claim.cut_off for each in told))
    numbers = sorted({each.bucket for each in claims})
    figure, panels = _grid(len(numbers))
    for axes, number in zip(panels, numbers, strict=True):
        for each in (each for each in told if each.bucket == number):
            place = cut_offs.index(each.claim.cut_off)
            x = names.index(each.claim.forecast) + 0.22 * place
            _bar(axes, x, each.claim, 1 - 0.3 * place, f"sealed, from {each.claim.cut_off}")
            if each.claim.measured is not None:  # each cut-off sorts the problems anew
                marker, label = ("^", "measured: so much or more") if each.never_solved else ("*", "measured")
                axes.scatter([x], [each.claim.measured], marker=marker, s=36, color=_MEASURED, zorder=5, label=label)
        axes.set(yscale="log", xlim=(-0.5, len(names)))
        axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axes.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axes.tick_params(which="minor", labelsize=6)
        axes.set_xticks(range(len(names)), [name[11:] for name in names], rotation=45, ha="right", fontsize=6)
        axes.set_title(f"bucket {number}", fontsize=8)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5, frameon=False, fontsize=7)
    figure.supylabel("mean of -log pass rate (nats)", fontsize=8)
    _save(path)


def draw_errors(claims: list[Claim], path: Path) -> None:
    """|error| against the extrapolation ratio, with what others have published."""
    figure, (axes,) = _grid(1)
    shown = [(word, refused) for refused in (False, True) for word in ("held", "**missed**")]
    for word, refused in shown:
        here = [c for c in claims if c.word == word and c.error is not None and c.refused_today == refused]
        label = word.strip("*") + (", refused today" if refused else "")
        y = [max(100 * abs(claim.error or 0), 0.01) for claim in here]
        if here:
            axes.scatter(
                [c.ratio or 1.0 for c in here],
                y,
                s=22,
                color=_TARGET,
                facecolor=_TARGET if word == "held" else "white",
                alpha=0.4 if refused else 1.0,
                label=f"this repository, {label}",
            )
    for (name, ratio, error, _), marker in zip(ANCHORS, "DX", strict=True):
        axes.scatter([ratio], [100 * error], marker=marker, s=40, color=_MEASURED, label=name)
    axes.axvline(GPT4_RATIO, color=_LAW, lw=1, ls="--", label="GPT-4 report: no number given")
    axes.set(xscale="log", yscale="log", xlim=(8, 20_000), ylim=(0.009, 30))
    axes.set_xlabel("target's compute over that of the largest fitted run", fontsize=8)
    axes.set_ylabel("|error| of the loss forecast (%)", fontsize=8)
    figure.set_size_inches(7.2, 3.4)
    figure.legend(frameon=False, fontsize=7, loc="outside right upper")
    _save(path)


def _save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(path)
    plt.close()


# ---- the page ---------------------------------------------------------------------------------


def results(forecasts: Path, figures: Path) -> str:
    """Draw the figures and write the part of the page that is made of published forecasts."""
    all_published = read_published(forecasts)
    claims = [claim for each in all_published for claim in loss_claims(each)]
    buckets = [claim for each in all_published for claim in bucket_claims(each)]
    draw_errors(claims, figures / "forecast_errors.png")
    parts = []
    if all_published:
        draw_losses(all_published, figures / "forecasts.png")
        parts += ["![loss forecasts](figures/forecasts.png)", loss_summary(claims)]
        parts += [bucket_summary(buckets)] if buckets else []
        parts += ["### The loss", loss_table(claims)]
        again = [claim for each in all_published for claim in refitted_claims(each)]
        parts += ["### The same ladders with the fit of today", HINDSIGHT, loss_summary(again, "all")]
    else:
        parts.append("No forecast is published yet.")
    if buckets:
        draw_buckets(buckets, figures / "forecast_pass_rates.png")
        parts += ["### Pass rates", "![pass rates](figures/forecast_pass_rates.png)", bucket_table(buckets)]
    parts += [f"- {each.name}: {reason}" for each in all_published for reason in _why_no_verdict(each)]
    sources = "; ".join(f"[{name}]({url})" for name, _, _, url in ANCHORS)
    parts += [
        "### Beside public ones",
        "![errors against the extrapolation ratio](figures/forecast_errors.png)",
        f"Sources: {sources}; [GPT-4 technical report]({GPT4_URL}), section 3.1, which gives no error.",
    ]
    return "\n\n".join(parts)


def _why_no_verdict(published: Published) -> list[str]:
    verdict = published.verdict
    return (
        []
        if verdict["status"] == "judged"
        else [f"{verdict['status']}: {'; '.join(verdict['reasons']) or 'no target yet'}"]
    )


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{results(ROOT / 'forecasts', FIGURES)}\n\n{END}{after}")


if __name__ == "__main__":
    main()
