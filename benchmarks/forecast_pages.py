"""Write the results in docs/forecasts.md and their figures from forecasts/, so that no number is copied by hand.

    python -m benchmarks.forecast_pages        (make figures)

Reads only what is published; whether it holds is asked by ``python -m sweep.verify forecasts/*``. Every forecast is in
the tables whatever became of it: held, missed, refused or still waiting.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.drawing import FIGURES, table
from benchmarks.study import ROOT
from sweep.cut_offs import cut_off_text
from sweep.folder import SweepFolder, read_json
from sweep.plot import COLOURS
from sweep.records import fitted_records, points, read_records

_RUNS, _LAW, _TARGET, _MEASURED = (COLOURS[name] for name in ("runs", "law", "target", "measured"))
PAGE = ROOT / "docs" / "forecasts.md"
BEGIN, END = "<!-- made by make figures: begin -->", "<!-- made by make figures: end -->"
RATIOS = (30, 100, 300, 1_000, 3_000, 10_000)  # claims are summed up under the nearest of these, in logarithms
_COLUMNS = 3

# Public forecasts of a loss with their errors: name, extrapolation ratio, |error|, where it stands.
ANCHORS = (
    ("Marin's Delphi, 1e23 FLOPs", 333, 0.002, "https://openathena.ai/blog/delphi/"),
    ("Marin's 1e23 mixture of experts", 333, 0.008, "https://github.com/marin-community/marin/issues/4697"),
)
GPT4_RATIO = 10_000  # OpenAI 2023, section 3.1: loss from at most so many times less compute; no error is given
GPT4_URL = "https://arxiv.org/abs/2303.08774"


@dataclass(frozen=True)
class Claim:
    """One sealed forecast of a number at one cut-off, and what became of it."""

    forecast: str
    cut_off: str
    ratio: float | None
    predicted: float | None  # None: not forecastable
    low: float | None
    high: float | None
    measured: float | None  # None: the target is not done
    word: str

    @property
    def error(self) -> float | None:
        return None if self.predicted is None or self.measured is None else self.predicted / self.measured - 1


@dataclass(frozen=True)
class BucketClaim:
    claim: Claim  # of the mean of -log pass rate in nats
    bucket: int
    never_solved: int  # problems that the target did not solve once: the measurement is a lower bound
    rate_predicted: float | None
    rate_measured: float | None


@dataclass(frozen=True)
class Published:
    folder: SweepFolder
    seal: dict[str, Any]
    fit: dict[str, Any]
    verdict: dict[str, Any]  # only its status, if it is not judged

    @property
    def name(self) -> str:
        return self.folder.path.name


def read_published(forecasts: Path) -> list[Published]:
    """Every published forecast, the oldest first. Raises CorruptFile."""
    found = []
    for path in forecasts.glob("*/seal.json"):
        folder = SweepFolder(path.parent)
        verdict = read_json(folder.verdict) if folder.verdict.exists() else {"status": "waiting", "reasons": []}
        found.append(Published(folder, read_json(folder.seal), read_json(folder.fit), verdict))
    return sorted(found, key=lambda published: (published.seal["sealed_utc"], published.name))


def loss_claims(published: Published) -> list[Claim]:
    """The main cut-off and the further ones, the largest first."""
    seal, verdict = published.seal, published.verdict
    main = {**seal, "max_flops_fraction": seal["cut_off"]["max_flops_fraction"]}
    judged = [verdict, *verdict["cut_offs"]] if verdict["status"] == "judged" else [None] * (1 + len(seal["cut_offs"]))
    return [
        _claim(published, row["max_flops_fraction"], row["extrapolation_ratio"], row, found)
        for row, found in zip([main, *seal["cut_offs"]], judged, strict=True)
    ]


def _claim(
    published: Published, fraction: float, ratio: float | None, said: dict[str, Any], found: dict[str, Any] | None
) -> Claim:
    """What was sealed (``said``) with what was judged of it, if anything was."""
    known = said if said["forecastable"] else dict.fromkeys(("prediction", "low", "high"))
    word = _word(said["forecastable"], found["held"] if found else None, published.verdict["status"])
    return Claim(
        forecast=published.name,
        cut_off=cut_off_text(fraction),
        ratio=ratio,
        predicted=known["prediction"],
        low=known["low"],
        high=known["high"],
        measured=found["measured"] if found else None,
        word=word,
    )


def bucket_claims(published: Published) -> list[BucketClaim]:
    """All buckets at all cut-offs; none where the sweep was not sampled."""
    sealed, verdict = published.seal["pass_rates"], published.verdict
    if sealed is None:
        return []
    parts = [sealed, *sealed["cut_offs"]]
    judged: list[Any] = [[None] * len(part["buckets"]) for part in parts]
    if verdict["status"] == "judged":
        judged = [verdict["pass_rates"], *(part["buckets"] for part in verdict["pass_rate_cut_offs"])]
    claims = []
    for part, rows in zip(parts, judged, strict=True):
        fraction, largest = part["cut_off"]["max_flops_fraction"], part["cut_off"]["largest_fitted_flops"]
        ratio = published.seal["target_flops"] / largest if largest else None
        for bucket, found in zip(part["buckets"], rows, strict=True):
            claims.append(
                BucketClaim(
                    claim=_claim(published, fraction, ratio, bucket, found),
                    bucket=bucket["bucket"],
                    never_solved=(found or {}).get("never_solved") or 0,
                    rate_predicted=bucket["pass_rate_prediction"],
                    rate_measured=(found or {}).get("pass_rate_measured"),
                )
            )
    return claims


def _word(forecastable: bool, held: bool | None, status: str) -> str:
    if not forecastable:
        return "not forecast"
    if status != "judged":
        return status
    return {True: "held", False: "**missed**", None: "can't be told"}[held]


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
        ]
        for claim in claims
    ]
    head = ["forecast", "from", "times", "predicted, nats per token", "90 % interval", "measured", "error", ""]
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


def nearest_ratio(ratio: float) -> int:
    return min(RATIOS, key=lambda each: max(each / ratio, ratio / each))


def summary_table(claims: list[Claim], buckets: list[BucketClaim]) -> str:
    """Median error and how many held, at each ratio; buckets with a problem never solved have no error."""
    rows = []
    for ratio in RATIOS:
        here = [c for c in claims if c.error is not None and c.ratio and nearest_ratio(c.ratio) == ratio]
        rates = [
            b.claim
            for b in buckets
            if b.claim.error is not None and b.claim.ratio and nearest_ratio(b.claim.ratio) == ratio
        ]
        solved = [b.claim for b in buckets if b.claim in rates and not b.never_solved]
        if here or rates:
            errors = f"{median(abs(c.error or 0) for c in here):.2%}" if here else ""
            off = [abs((c.predicted or 0) - (c.measured or 0)) for c in solved]
            rows.append(
                [
                    *(f"{ratio:,}", str(len(here)), errors, _held(here)),
                    *(str(len(rates)), f"{sum(off) / len(off):.3f}" if off else "", _held(rates)),
                ]
            )
    head = [
        *("about so many times", "forecasts of the loss", "median error", "held"),
        *("of a bucket", "mean distance, nats", "held"),
    ]
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
        flops, loss = points(fitted_records(read_records(published.folder.records)))
        x = [point["flops"] / target for point in curve]
        low, high = ([p[key] for p in curve] for key in ("low", "high"))
        axes.fill_between(x, low, high, color=_LAW, alpha=0.12, lw=0)
        axes.plot(x, [p["prediction"] for p in curve], color=_LAW, lw=1)
        axes.scatter(flops / target, loss, s=8, color=_RUNS, label="small runs")
        claims = [claim for claim in loss_claims(published) if claim.predicted is not None]
        for place, claim in enumerate(claims):
            _bar(axes, 1.5**place, claim, 1 - 0.13 * place, "sealed, one for each cut-off" if place == 0 else None)
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
    for word, face, label in (("held", _TARGET, "held"), ("**missed**", "white", "missed")):
        here = [claim for claim in claims if claim.word == word and claim.error is not None]
        y = [max(100 * abs(claim.error or 0), 0.01) for claim in here]
        if here:
            axes.scatter(
                [c.ratio or 1.0 for c in here],
                y,
                s=22,
                color=_TARGET,
                facecolor=face,
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
        parts += ["![loss forecasts](figures/forecasts.png)", summary_table(claims, buckets)]
        parts += ["### The loss", loss_table(claims)]
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
