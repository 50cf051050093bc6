"""Dashboard: a saved wandb workspace and a report of one sweep, for a colleague who is given one link.

    python -m sweep.dashboard sweeps/NAME [--project PROJECT] [--entity ENTITY]

The specification of both goes into wandb/dashboard.json, with or without an account. Where one is logged in they are
saved on the server and the links printed; the same command again brings those two up to date and makes no others.
Curves and tables are drawn by wandb from what the runs have logged; the report's sentences are those of this moment.
"""

import argparse
import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.capability import capability_of
from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import HASH_KEY, SweepFolder, open_sweep, read_json, set_aside, write_json
from sweep.run_spec import Plan, read_plan
from sweep.status import run_rows
from sweep.sync import project_of
from sweep.tracking import figure_key, why_no_server
from sweep.witness import read_witness

log = logging.getLogger("sweep")

_MAX_RUNS = 100  # that a panel draws; wandb's own limit is 1,000, and a browser's lower
_COLUMNS = ("run:state", "summary:status", "summary:reason", "config:role.value", "config:flops.value")
_MAX_LINES = 30
_FIGURES = ("forecast", "backtests", "floor", "residuals", "copying")  # of every sweep, once its report is written
GOING, WRONG = "running", ("stopped", "failed", "diverged")


def dashboard_path(folder: SweepFolder) -> Path:
    return folder.path / "wandb" / "dashboard.json"


def make_dashboard(folder: SweepFolder, project: str, entity: str | None) -> dict[str, Any]:
    """Write the specification, save it where there is an account, and return what was written.

    ``saved`` has the links, or is None and ``not_saved_because`` says why.

    Raises:
        SweepError: a file of the sweep is damaged; the server took the key and refused the workspace or the report.
    """
    plan = read_plan(folder)
    try:
        story = story_of(plan, folder)
    except CorruptFile as error:
        raise SweepError(
            str(error),
            "the file as the sweep wrote it",
            f"restore it from a copy; python -m sweep.verify {folder.path} says what else is altered",
        ) from error
    made: dict[str, Any] = {
        "sweep": plan.name,
        "project": project,
        "workspace": _as_json(workspace_of(plan, story, project, "")),
        "report": _as_json(report_of(plan, story, project, "")),
        "saved": _saved_before(folder),
        "not_saved_because": why_no_server() or None,
    }
    write_json(dashboard_path(folder), made)
    if made["not_saved_because"] is None:
        made["saved"] = _save(plan, story, project, entity, made["saved"])
        write_json(dashboard_path(folder), made)
    return made


# ---- where the sweep stands ---------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What the report says in words, from the sweep's files."""

    figures: list[str]
    forecast: list[str]
    going: list[str]
    wrong: list[str]


def story_of(plan: Plan, folder: SweepFolder) -> Story:
    """Where the sweep stands now.

    Raises:
        CorruptFile: one of its files is damaged.
    """
    rows = run_rows(plan, folder)
    counts = Counter(row["status"] for row in rows)
    runs = f"{len(rows)} runs: " + ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return Story(
        sorted(path.stem for path in folder.figures.glob("*.png")) or [*_FIGURES],
        [runs, *_forecast_lines(plan, folder)],
        _run_lines([row for row in rows if row["status"] == GOING]),
        _run_lines([row for row in rows if row["status"] in WRONG]),
    )


def _forecast_lines(plan: Plan, folder: SweepFolder) -> list[str]:
    if not plan.has_target:
        return ["A grid without a target: there is nothing to forecast."]
    if not folder.fit.exists():
        return ["No forecast yet: it is made when the small runs have ended."]
    fit = read_json(folder.fit)
    said = [
        f"Forecast: {fit['prediction']:.4f} {fit['unit']} at {fit['target_flops']:.4g} FLOPs, between {fit['low']:.4f}"
        f" and {fit['high']:.4f} ({fit['level']:.0%}), {fit['extrapolation_ratio']:.4g} times the largest fitted run."
    ]
    said += [f"NOT FORECASTABLE: {reason}" for reason in fit["not_forecastable_because"]]
    said += [f"Warning: {warning}" for warning in fit["warnings"]]
    if folder.seal.exists():
        seal = read_json(folder.seal)
        said.append(f"Sealed at {seal['sealed_utc']}: {seal[HASH_KEY]}")
        if witness := read_witness(folder):
            said.append(
                f"A wandb server holds the seal as {witness['artifact']} since {witness['created_at']}, by its clock."
            )
    else:
        said.append("Not sealed.")
    if folder.verdict.exists():
        verdict = read_json(folder.verdict)
        said.append(
            f"Verdict: {verdict['status']}"
            + (f", measured {verdict['measured']:.4f}" if verdict.get("measured") is not None else "")
            + (f", error {verdict['error']:+.2%}" if verdict.get("error") is not None else "")
        )
        said += [f"Refused: {reason}" for reason in verdict.get("reasons", [])]
    return said


def _run_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each run as the disk has it: not every run reaches the server."""
    lines = [f"{row['run_id']} {row['status']}: {row['reason']}" for row in rows[:_MAX_LINES]]
    return lines + [f"and {len(rows) - _MAX_LINES} more"] * (len(rows) > _MAX_LINES)


# ---- the workspace ------------------------------------------------------------------------------


def workspace_of(plan: Plan, story: Story, project: str, entity: str) -> Any:
    """The panels of the sweep's runs, those of the forecast first."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    sections = {
        "Forecast": forecast_panels(plan, story.figures),
        "Training": training_panels(),
        "Machine": machine_panels(),
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"sweep {plan.name}",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(x_axis="flops", max_runs=_MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=[expr.Metric("Group") == plan.name],
            pinned_columns=[*_COLUMNS, "summary:loss_nats"],
        ),
    )


def forecast_panels(plan: Plan, figures: list[str]) -> list[Any]:
    """Figures and tables of the sweep's own run, and the final losses of all runs against their FLOPs."""
    import wandb_workspaces.reports.v2 as wr

    losses = wr.ScatterPlot(
        title="held-out loss against training FLOPs",
        x=wr.Config("flops"),
        y=wr.SummaryMetric("loss_nats"),
        log_x=True,
        log_y=True,
        layout=wr.Layout(w=12, h=10),
    )
    if not plan.has_target:
        return [losses]
    keys = [figure_key(name) for name in figures]
    tables = ["laws", *(["pass_rates"] if capability_of(plan) else []), "runs"]
    return [
        losses,
        wr.MediaBrowser(title="figures", media_keys=keys, layout=wr.Layout(x=12, w=12, h=10)),
        *(
            wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(y=10 * n, w=24, h=10))
            for n, name in enumerate(tables, 1)
        ),
    ]


def training_panels() -> list[Any]:
    """Curves of the trainings; the losses on log axes."""
    loss = "train_loss_nats"
    return [
        _curve("loss against FLOPs", "flops", loss, log_y=True),
        _curve("loss against tokens", "tokens", loss, log_y=True),
        _curve("learning rate", "flops", "learning_rate"),
        _curve("gradient norm", "flops", "grad_norm", log_y=True),
    ]


def machine_panels() -> list[Any]:
    return [
        _curve("tokens per second", "flops", "tokens_per_second", log_y=True),
        _curve("FLOPs per second", "flops", "flops_per_second", log_y=True),
        _curve("MFU (of the device's peak; empty where that is not known)", "flops", "mfu"),
        _curve("peak memory, bytes", "flops", "peak_memory_bytes"),
    ]


def _curve(title: str, x: str, y: str, log_y: bool = False) -> Any:
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=title, x=x, y=[y], title_x=x, max_runs_to_show=_MAX_RUNS, log_x=True, log_y=log_y)


# ---- the report ---------------------------------------------------------------------------------


def report_of(plan: Plan, story: Story, project: str, entity: str) -> Any:
    """The forecast, the runs, what is still going and what went wrong.

    Without ``entity`` the tables of runs are those of the report's own project, which asks no server.
    """
    import wandb_workspaces.reports.v2 as wr

    of_sweep = f"Group = '{plan.name}'"
    wrong = " or ".join(f"Summary('status') = '{status}'" for status in WRONG)

    def runs(name: str, filters: str) -> Any:
        where = project if entity else ""
        return wr.Runset(name=name, filters=filters, visible_columns=[*_COLUMNS], entity=entity, project=where)

    def grid(name: str, filters: str, panels: list[Any]) -> Any:
        return wr.PanelGrid(runsets=[runs(name, filters)], panels=panels)

    everything = [
        wr.H1("The forecast"),
        *(wr.P(line) for line in story.forecast),
        grid("all runs", of_sweep, forecast_panels(plan, story.figures)),
        wr.H1("The runs"),
        grid("trainings", f"{of_sweep} and JobType in ['train', 'target']", [*training_panels(), *machine_panels()]),
        wr.H1("Still going"),
        wr.P("Runs whose status is running, as wandb has them now. One that says so and has crashed was killed."),
        *(wr.P(line) for line in story.going),
        grid("still going", f"{of_sweep} and Summary('status') = '{GOING}'", training_panels()[:1]),
        wr.H1("What went wrong"),
        wr.P("Runs that diverged or failed, and those that were told to stop and are to go on. The column says why."),
        grid("what went wrong", f"{of_sweep} and ({wrong})", training_panels()[:1]),
        *(wr.P(line) for line in story.wrong),
    ]
    return wr.Report(
        entity=entity, project=project, title=f"Scaling sweep {plan.name}", blocks=everything, width="fluid"
    )


# ---- the server ---------------------------------------------------------------------------------


def _as_json(view: Any) -> dict[str, Any]:
    return json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))


def _saved_before(folder: SweepFolder) -> dict[str, Any] | None:
    path = dashboard_path(folder)
    try:
        return read_json(path)["saved"] if path.exists() else None
    except CorruptFile as error:
        log.warning("%s; set aside as %s, a new dashboard is made", error, set_aside(path).name)
        return None


def _save(plan: Plan, story: Story, project: str, entity: str | None, before: dict[str, Any] | None) -> dict[str, Any]:
    """Save both, in the place of those that were saved ``before``; returns their ids and links."""
    import wandb

    try:
        entity = entity or wandb.Api().default_entity or ""
        workspace, report = workspace_of(plan, story, project, entity), report_of(plan, story, project, entity)
        if before:
            workspace._internal_id, workspace._internal_name = before["workspace"]["id"], before["workspace"]["name"]
            report.id = before["report"]["id"]
        report.save()
        workspace.save()
    except Exception as error:  # wandb's, the network's or the specification's
        raise SweepError(
            f"the wandb server did not take the dashboard: {' '.join(str(error).split())}",
            f"a project {entity or 'ENTITY'}/{project} that has runs and that this key may write to",
            "check --project and --entity; runs that were not online are uploaded by python -m sweep.sync",
        ) from error
    return {
        "workspace": {"id": workspace._internal_id, "name": workspace._internal_name, "url": workspace.url},
        "report": {"id": report.id, "url": report.url},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.dashboard", description="A wandb dashboard of one sweep.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    parser.add_argument("--project", help="wandb project (default: that of the sweep's submission to Slurm)")
    parser.add_argument("--entity", help="wandb user or team (default: the key's own)")
    options = parser.parse_args()
    folder = open_sweep(options.sweep)
    made = make_dashboard(folder, options.project or project_of(folder), options.entity)
    print(f"specification: {dashboard_path(folder)}")
    if made["not_saved_because"]:
        print(f"not saved on a wandb server: {made['not_saved_because']}")
        print("log in (wandb login, or WANDB_API_KEY) and run the same command again")
    else:
        print(f"report:    {made['saved']['report']['url']}")
        print(f"workspace: {made['saved']['workspace']['url']}")
    return 0


if __name__ == "__main__":
    run_main(main)
