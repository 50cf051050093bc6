"""Sets what a sweep's files hold into the template of the page."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from sweep.contamination import contamination_summary
from sweep.page import run_table, tables
from sweep.page.evidence import Evidence, counted
from sweep.page.headline import headline, warnings
from sweep.page.inline_svg import inline_svg
from sweep.plot import Plot


@dataclass(frozen=True)
class _Figure:
    name: str
    title: str
    caption: str
    svg: Markup


def render(evidence: Evidence, plots: dict[str, list[Plot]]) -> str:
    """The page as HTML; ``plots`` by the part of the page that they belong to: loss, passes, optimum."""
    assets = {name: (files("sweep.page") / name).read_text() for name in ("page.html.jinja", "style.css", "script.js")}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    runs = run_table.run_table(evidence)
    return environment.from_string(assets["page.html.jinja"]).render(
        style=Markup(assets["style.css"]),
        script=Markup(assets["script.js"]),
        plan=evidence.plan,
        contents=_contents(evidence),
        headline=headline(evidence),
        warnings=warnings(evidence),
        figures={part: [_figure(plot) for plot in drawn] for part, drawn in plots.items()},
        missing=_missing(evidence),
        run_table=runs,
        filters=run_table.filters(runs),
        cost=run_table.cost_table(evidence),
        flops_shared=evidence.plan.flops_shared,
        corpus=tables.corpus_tables(evidence.plan.corpus),
        corpus_facts=tables.corpus_facts(evidence.plan.corpus, evidence.plan.config.get("data", {})),
        contamination_found=contamination_summary(evidence.contamination),
        contamination=tables.contamination_tables(evidence.contamination, evidence.verdict)
        if evidence.contamination is not None
        else [],
        verify_command=tables.verify_command(evidence),
        launch_command=tables.launch_command(evidence),
        fit=evidence.fit,
        seal=evidence.seal,
        **_of_the_fit(evidence),
        **_of_the_seal(evidence),
    )


def _figure(plot: Plot) -> _Figure:
    return _Figure(plot.name, plot.title, plot.caption, Markup(inline_svg(plot)))


def _contents(evidence: Evidence) -> list[tuple[str, str]]:
    with_target = [("forecast", "Forecast"), ("pass-rates", "Pass rates")]
    forecast = with_target if evidence.plan.has_target else [("optimum", "Optimum")]
    seal = [("seal", "Seal")] if evidence.plan.has_target else []
    return [*forecast, ("runs", "Runs"), ("cost", "Cost"), ("data", "Data"), *seal, ("again", "Train it again")]


def _of_the_fit(evidence: Evidence) -> dict[str, Any]:
    fit = evidence.fit
    if fit is None:
        return {"capability": None}
    capability = fit["capability"]
    found = {
        "capability": capability,
        "law": tables.law_facts(fit),
        "forms": tables.forms_table(fit),
        "backtests": tables.backtests_table(fit),
        "cut_offs": tables.cut_offs_table(fit, evidence.verdict),
        "sensitivity": tables.sensitivity_table(fit),
    }
    if capability is not None:
        found |= {
            "buckets": tables.buckets_table(capability, evidence.verdict),
            "unforecastable": tables.unforecastable(capability),
            "counts": tables.counts_table(capability, evidence) if capability["buckets"] else None,
        }
    return found


def _of_the_seal(evidence: Evidence) -> dict[str, Any]:
    if evidence.seal is None:
        return {}
    return {
        "seal_facts": tables.seal_facts(evidence.seal, evidence.verdict),
        "sealed_files": tables.sealed_files_table(evidence.seal),
    }


def _missing(evidence: Evidence) -> dict[str, str]:
    """Why a part of the page is empty."""
    ladder = f"The ladder's runs: {counted(evidence.small_runs)}."

    def why(name: str, not_made: str) -> str:
        return evidence.damaged.get(name, not_made)

    not_sampled = evidence.plan.config.get("capability", {"problems": "none"})["problems"] == "none"
    return {
        "fit": why("fit.json", f"Nothing is fitted yet. {ladder}"),
        "optimum": why("optimum.json", f"No optimum was looked for yet. {ladder}"),
        "seal": why(
            "seal.json",
            "Nothing is fitted yet, so there is nothing to seal."
            if evidence.fit is None
            else "The forecast is not sealed: either that was not asked for yet, or the target had been started before,"
            " here or in a sweep beside this one, and what was found is a backtest.",
        ),
        "contamination": why("contamination.json", ""),
        "capability": "The runs of this sweep are not sampled (capability=none)."
        if not_sampled
        else why("fit.json", f"Pass rates are not fitted yet. {ladder}"),
    }
