"""Report: figures and one self-contained report.html from the files of a sweep.

    python -m sweep.report sweeps/NAME

Shows what plan.json, the runs' own files, records.csv, passes.json, fit.json or optimum.json, seal.json and
verdict.json hold; it counts and adds up, and estimates nothing. A stage that has not run yet, and a file that is
damaged, are said to be so. Writes figures/*.png and report.html, which opens anywhere and loads nothing.
"""

import argparse
from pathlib import Path

from sweep.errors import SweepError, run_main
from sweep.figures import draw_backtests, draw_copy_scores, draw_floor, draw_forecast, draw_optimum, draw_residuals
from sweep.folder import SweepFolder, open_sweep, write_whole
from sweep.page.evidence import Evidence, read_evidence
from sweep.page.render import render
from sweep.pass_figures import draw_observed_pass_rates, draw_pass_laws
from sweep.plot import Plot


def write_report(folder: SweepFolder) -> Path:
    """Draw the figures and write report.html; returns its path.

    Raises:
        SweepError: plan.json is damaged, or another version of this code wrote the files.
    """
    evidence = read_evidence(folder)
    try:
        plots = _draw(evidence)
        page = render(evidence, plots)
    except KeyError as error:
        raise SweepError(
            f"the files of {folder.path} have no {error}",
            "files as this version of the code writes them",
            "write the report with the code that made the sweep (seal.json names its commit)",
        ) from error
    folder.figures.mkdir(exist_ok=True)
    for plot in (plot for part in plots.values() for plot in part):
        plot.save_png(folder.figures)
        plot.close()
    write_whole(folder.report, page.encode())
    return folder.report


def _draw(evidence: Evidence) -> dict[str, list[Plot]]:
    """The figures by the part of the page that they belong to."""
    plan, records, fit, verdict = evidence.plan, evidence.records, evidence.fit, evidence.verdict
    if not plan.has_target:
        return {"optimum": [draw_optimum(evidence.optimum)] if evidence.optimum is not None else []}
    if fit is None:
        return {"loss": [], "passes": []}
    target_score = evidence.target.measured.get("copy_score_nats") if evidence.target is not None else None
    loss = [
        draw_forecast(records, fit, verdict),
        draw_backtests(fit, verdict),
        draw_floor(fit),
        draw_residuals(records, fit),
        draw_copy_scores(records, target_score, plan),
    ]
    capability, passes = fit["capability"], []
    if capability is not None and capability["buckets"]:
        drawn = (draw(capability, verdict, fit["target_flops"]) for draw in (draw_observed_pass_rates, draw_pass_laws))
        passes = [plot for plot in drawn if plot is not None]
    return {"loss": loss, "passes": passes}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.report", description="Write a sweep's report.html.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    print(write_report(open_sweep(parser.parse_args().sweep)))
    return 0


if __name__ == "__main__":
    run_main(main)
