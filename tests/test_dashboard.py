"""The dashboard: what its specification shows, offline and on a server, and that it stays one."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sweep.folder import HASH_KEY, SweepFolder, read_json, write_json
from sweep.run_spec import read_plan
from tests import tiny
from tests.wandb_stub import WandbStub

pytestmark = pytest.mark.usefixtures("own_wandb")


def dashboard(sweep: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return tiny.run("sweep.dashboard", str(sweep), "--project", "p", *options)


def specification(sweep: Path) -> dict[str, Any]:
    return read_json(sweep / "wandb" / "dashboard.json")


def panels(sweep: Path) -> dict[str, dict[str, Any]]:
    """The panels of the workspace that have a title, by it."""
    sections = specification(sweep)["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    found = [panel["config"] for section in sections for panel in section["panels"]]
    return {config["chartTitle"]: config for config in found if "chartTitle" in config}


def blocks(sweep: Path) -> list[dict[str, Any]]:
    return specification(sweep)["report"]["spec"]["blocks"]


def text(sweep: Path) -> str:
    return "\n".join(block["children"][0].get("text", "") for block in blocks(sweep) if "children" in block)


def test_without_an_account_the_specification_is_written_and_the_reason_printed(copy: Path) -> None:
    done = dashboard(copy)
    assert done.returncode == 0, done.stderr
    assert str(copy / "wandb" / "dashboard.json") in done.stdout
    assert "not saved on a wandb server: no key" in done.stdout
    assert specification(copy)["saved"] is None

    curves = panels(copy)
    for title, x in (("loss against FLOPs", "flops"), ("loss against tokens", "tokens")):
        config = curves[title]
        assert (config["xAxis"], config["metrics"]) == (x, ["train_loss_nats"])
        assert config["xLogScale"] and config["yLogScale"]
    drawn = {metric for config in curves.values() for metric in config.get("metrics", [])}
    row = SweepFolder(copy).run(read_plan(SweepFolder(copy)).target.run_id).rows()[-1]
    assert drawn == {"train_loss_nats", "learning_rate", "grad_norm", "tokens_per_second", "flops_per_second"} | {
        *("mfu", "peak_memory_bytes")
    }
    assert drawn <= set(row)

    headings = [block["children"][0]["text"] for block in blocks(copy) if block["type"] == "heading"]
    assert headings == ["The forecast", "The runs", "Still going", "What went wrong"]
    shown = json.dumps(specification(copy))
    assert all(f'"val": "{table}"' in shown for table in ("laws", "runs"))
    assert "figures/forecast" in shown
    for value in (read_json(copy / "seal.json")["content_sha256"], f"{read_json(copy / 'fit.json')['prediction']:.4f}"):
        assert value in text(copy)


def test_what_is_going_and_what_went_wrong_are_in_words_too(copy: Path) -> None:
    """Not every run reaches a server: nodes of a cluster log to files only."""
    folder = SweepFolder(copy)
    going, wrong = (folder.run(run.run_id) for run in read_plan(folder).fit_runs[:2])
    going.train.unlink()
    trained = {key: value for key, value in read_json(wrong.train).items() if key != HASH_KEY}
    write_json(wrong.train, {**trained, "status": "diverged", "reason": "the loss was not finite at step 3"})
    for path in (folder.seal, folder.verdict):
        path.unlink()
    assert dashboard(copy).returncode == 0
    said = text(copy)
    assert "1 diverged" in said and "1 running" in said
    assert f"{wrong.path.name} diverged: the loss was not finite at step 3" in said
    assert f"{going.path.name} running: stopped after step" in said
    assert "Not sealed." in said


def test_it_is_saved_once_and_brought_up_to_date(copy: Path, stub: WandbStub) -> None:
    stub.configs["a-run"] = "{}"  # of this project, which is there therefore
    first = dashboard(copy)
    assert first.returncode == 0, first.stderr
    saved = specification(copy)["saved"]
    for kind in ("report", "workspace"):
        assert saved[kind]["url"] in first.stdout
        assert saved[kind]["url"].startswith(stub.url)
    (copy / "verdict.json").unlink()
    second = dashboard(copy)
    assert second.returncode == 0, second.stderr
    assert specification(copy)["saved"] == saved
    assert sorted(view["type"] for view in stub.views.values()) == ["project-view", "runs"]
    report = next(view for view in stub.views.values() if view["type"] == "runs")
    assert "Verdict" not in report["spec"] and "Sealed at" in report["spec"]


def test_a_project_without_runs_is_refused_and_the_specification_is_there(copy: Path, stub: WandbStub) -> None:
    refused = dashboard(copy, "--entity", "team")
    assert refused.returncode == 2
    assert "did not take the dashboard" in refused.stderr
    assert "expected: a project team/p" in refused.stderr
    assert "python -m sweep.sync" in refused.stderr
    assert not stub.views
    assert specification(copy)["saved"] is None


def test_a_damaged_file_is_named(copy: Path) -> None:
    (copy / "seal.json").write_text("damaged")
    refused = dashboard(copy)
    assert refused.returncode == 2
    assert f"{copy / 'seal.json'} can't be read" in refused.stderr
    assert "expected: the file as the sweep wrote it" in refused.stderr
