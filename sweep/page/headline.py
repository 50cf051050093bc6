"""The first words of a report: the verdict, or how far the sweep is and why there is none."""

from dataclasses import dataclass, field
from typing import Any

from sweep.page.evidence import Content, Evidence, counted


@dataclass(frozen=True)
class Headline:
    """``state`` colours it: held, missed, refused or open."""

    state: str
    title: str
    sentences: list[str]
    numbers: list[tuple[str, str]] = field(default_factory=list)  # what it is, its value


def headline(evidence: Evidence) -> Headline:
    verdict, fit = evidence.verdict, evidence.fit
    if not evidence.plan.has_target:
        return _of_a_grid(evidence)
    if verdict is None:
        return _without_verdict(evidence)
    if verdict["status"] == "judged":
        return _judged(verdict)
    if verdict["status"] == "waiting":
        return Headline("open", "Waiting for the target", _sentences(verdict["reasons"]), forecast_numbers(fit))
    return _refused(verdict, fit)


def _judged(verdict: Content) -> Headline:
    low, high, measured, error = (verdict[key] for key in ("low", "high", "measured", "error"))
    where = "inside" if verdict["inside_interval"] else "below" if measured < low else "above"
    sentences = [
        f"The target's loss was measured at {measured:.4f} nats per token, {where} the sealed {verdict['level']:.0%}"
        f" interval from {low:.4f} to {high:.4f}.",
        f"The prediction, {verdict['prediction']:.4f}, is {abs(error):.2%} too {'high' if error > 0 else 'low'}; it was"
        f" made from runs of at most 1/{verdict['extrapolation_ratio']:.3g} of the target's compute.",
    ]
    if not verdict["phase_as_assumed"]:
        sentences.append(f"The target is in another phase than the ladder, {verdict['phase']}; a law holds within one.")
    if verdict["pass_rates"]:
        sentences.append(_pass_rates(verdict["pass_rates"]))
    quoted = verdict["contamination"]["quoted_loss_nats"]
    if quoted != measured:
        sentences.append(f"To quote: {quoted:.4f}, the loss without what stands in the training data; it is the worse.")
    numbers = [
        ("predicted", f"{verdict['prediction']:.4f}"),
        (f"{verdict['level']:.0%} interval", f"{low:.4f} to {high:.4f}"),
        ("measured", f"{measured:.4f} ± {verdict['measured_se']:.4f}"),
        ("off by", f"{error:+.2%}"),
        ("extrapolated", f"{verdict['extrapolation_ratio']:.3g} times"),
    ]
    if verdict["held"] is None:
        return Headline("open", f"The loss could not be forecast{_missed_buckets(verdict)}", sentences, numbers)
    state = "held" if verdict["held"] else "missed"
    return Headline(state, f"The forecast of the loss {state}{_missed_buckets(verdict)}", sentences, numbers)


def _missed_buckets(verdict: Content) -> str:
    forecast = [row["held"] for row in verdict["pass_rates"] or [] if row["forecastable"]]
    missed = forecast.count(False)
    return f"; pass rates missed in {missed} of {len(forecast)} buckets" if missed else ""


def _pass_rates(rows: list[dict[str, Any]]) -> str:
    forecast = [row["held"] for row in rows if row["forecastable"]]
    if not forecast:
        return f"Pass rates: none of the {len(rows)} buckets could be forecast."
    parts = [f"{forecast.count(True)} of {len(forecast)} forecast buckets held"]
    parts += [f"{forecast.count(False)} missed"] if False in forecast else []
    parts += [f"{forecast.count(None)} can't be told"] if None in forecast else []
    without = len(rows) - len(forecast)
    parts += [f"{without} could not be forecast"] if without else []
    return f"Pass rates: {', '.join(parts)}."


def _refused(verdict: Content, fit: Content | None) -> Headline:
    sentences = _sentences(verdict["reasons"])
    if "unsealed_backtest" in verdict:
        both = verdict["unsealed_backtest"]
        sentences.append(
            f"As a backtest, not a forecast: {both['prediction']:.4f} against a measured {both['measured']:.4f}"
            f" ({both['error']:+.2%})."
        )
        return Headline("refused", "No verdict: nothing was sealed", sentences, forecast_numbers(fit))
    return Headline("refused", "No verdict: refused", sentences)


def _without_verdict(evidence: Evidence) -> Headline:
    runs = f"The runs: {counted(evidence.runs)}."
    numbers = forecast_numbers(evidence.fit)
    for name, what in (("verdict.json", "The verdict"), ("seal.json", "The seal"), ("fit.json", "The forecast")):
        if name in evidence.damaged:
            return Headline("refused", f"{what} is damaged", [f"{evidence.damaged[name]}.", runs], numbers)
    if evidence.seal is not None:
        return Headline("open", "Sealed, not judged yet", [runs], numbers)
    if evidence.fit is not None:
        return Headline("open", "Forecast, not sealed", [runs], numbers)
    return Headline("open", "No forecast yet", [runs])


def _of_a_grid(evidence: Evidence) -> Headline:
    text = f"This grid has no target: it looks for the best size or rate. The runs: {counted(evidence.runs)}."
    if "optimum.json" in evidence.damaged:
        return Headline("refused", "The optimum is damaged", [f"{evidence.damaged['optimum.json']}.", text])
    if evidence.optimum is None:
        return Headline("open", "No optimum yet", [text])
    slices = evidence.optimum["slices"]
    found = [one for one in slices if one["best"]]
    numbers = [(f"best at {one['budget_flops']:.3g} FLOPs", f"{one['best']:.4g}") for one in found]
    title = "Optimum found" if len(found) == len(slices) else f"Optimum of {len(found)} of {len(slices)} budgets found"
    edges = [f"At {one['budget_flops']:.3g} FLOPs: {one['edge']}; widen the grid." for one in slices if one["edge"]]
    return Headline("open" if edges else "held", title, [text, *edges], numbers)


def forecast_numbers(fit: Content | None) -> list[tuple[str, str]]:
    if fit is None:
        return []
    return [
        ("predicted", f"{fit['prediction']:.4f}"),
        (f"{fit['level']:.0%} interval", f"{fit['low']:.4f} to {fit['high']:.4f}"),
        ("extrapolated", f"{fit['extrapolation_ratio']:.3g} times"),
    ]


def _sentences(reasons: list[str]) -> list[str]:
    return [f"{reason[:1].upper()}{reason[1:]}." for reason in reasons]


def warnings(evidence: Evidence) -> list[str]:
    """What a reader must not miss, the worst first."""
    loud = [f"Damaged: {text}" for text in evidence.damaged.values()]
    fit = evidence.fit
    if fit is not None:
        loud += [f"NOT FORECASTABLE: {reason}" for reason in fit["not_forecastable_because"]]
        loud += fit["warnings"]
        for bucket in (fit["capability"] or {"buckets": []})["buckets"]:
            loud += [f"bucket {bucket['bucket']}: {warning}" for warning in bucket["warnings"]]
    if (evidence.seal or {}).get("code", {}).get("changed_since_commit"):
        loud.append("the code had changes that were not committed when the forecast was sealed")
    return loud
