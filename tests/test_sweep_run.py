"""The sweep's own wandb run: its tables say what the files say, the seal and every row are sent once."""

import copy as copies
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sweep.capability import FIT_HALF, forecast_passes
from sweep.folder import HASH_KEY, SweepFolder, read_json, write_json
from sweep.run_spec import read_plan
from sweep.sweep_run import Content, content_of, laws_table, pass_rates_table, show_sweep, sweep_id
from sweep.tracking import Table
from sweep.witness import is_witnessed, read_witness, witness_path
from tests import test_capability as planted_counts
from tests import tiny
from tests.test_tracking import inspect, offline_fragments, run
from tests.wandb_stub import WandbStub

pytestmark = pytest.mark.usefixtures("own_wandb")


def records(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def content(sweep: Path) -> Content:
    folder = SweepFolder(sweep)
    return content_of(read_plan(folder), folder)


# ---- the tables -------------------------------------------------------------------------------


def test_the_laws_are_those_of_the_fit_with_their_intervals(finished: Path) -> None:
    fit = read_json(finished / "fit.json")
    whole, *forms = records(content(finished).tables["laws"])
    assert [whole[key] for key in ("prediction", "low", "high", "level")] == [
        fit[key] for key in ("prediction", "low", "high", "level")
    ]
    assert [(row["prediction"], row["low"], row["high"], row["weight"]) for row in forms] == [
        (form["prediction"], form["low"], form["high"], form["weight"]) for form in fit["forms_tried"]
    ]
    assert sum(row["weight"] for row in forms) == pytest.approx(1)


def test_pass_rates_are_the_counts_of_the_files_and_a_bound_is_no_estimate(finished: Path, tmp_path: Path) -> None:
    """Of small runs the half that the law sees; a bucket with a problem never solved has a least value only."""
    plan, folder = planted_counts.plan(), SweepFolder(tmp_path)
    passes = planted_counts.passes()
    found = forecast_passes(plan, planted_counts.SPEC, passes)
    unsolved = found["buckets"][2]["tasks"][0]
    first = plan.fit_runs[0].run_id
    problems = copies.deepcopy(passes["runs"][first]["problems"])
    problems[unsolved] |= {"c": [5, 0]}
    for run_id, row in passes["runs"].items():
        counted = problems if run_id == first else row["problems"]
        write_json(folder.run(run_id).counts, {"done": True, "problems": counted})
    fit = {**read_json(finished / "fit.json"), "capability": found}

    rows = records(pass_rates_table(plan, fit, folder))
    assert len(rows) == len(plan.fit_runs) * len(found["buckets"])  # the target is not sampled yet
    for row in rows:
        tasks = found["buckets"][row["bucket"] - 1]["tasks"]
        counted = problems if row["run_id"] == first else passes["runs"][row["run_id"]]["problems"]
        assert row["samples"] == sum(counted[task]["n"][FIT_HALF] for task in tasks)
        assert row["passed"] == sum(counted[task]["c"][FIT_HALF] for task in tasks)
        bound = row["run_id"] == first and row["bucket"] == 3
        assert row["never_solved"] >= bound
        assert (row["minus_log_pass_rate"] is None) == (row["never_solved"] > 0)
        assert (row["minus_log_pass_rate_at_least"] is None) == (row["never_solved"] == 0)
    laws = records(laws_table(fit))[-3:]
    assert [row["exponent"] for row in laws] == [b["likelihood"]["exponent"] for b in found["buckets"]]
    assert [row["low"] for row in laws] == [bucket["low"] for bucket in found["buckets"]]


def test_what_is_not_there_yet_is_left_out(copy: Path) -> None:
    assert content(copy).num_rows == 2
    verdict = read_json(copy / "verdict.json")
    (copy / "verdict.json").unlink()
    sealed = content(copy)
    assert sealed.num_rows == 1
    assert "verdict" not in sealed.summary
    assert sealed.summary["seal"]["sha256"] == verdict["seal_sha256"]
    assert sealed.summary["runs_by_status"] == {"done": 7}
    (copy / "seal.json").unlink()
    assert "seal" not in content(copy).summary


# ---- what is sent -----------------------------------------------------------------------------


def show(path: str, mode: str, times: int = 1) -> None:
    folder = SweepFolder(Path(path))
    for _ in range(times):
        show_sweep(read_plan(folder), folder, mode, "p")
    print("{}")


@pytest.mark.slow
def test_the_seal_is_sent_once_and_the_servers_time_is_kept(copy: Path, stub: WandbStub) -> None:
    """Shown at the seal and again at the verdict: one artifact of the file's own bytes, two rows, each once."""
    folder = SweepFolder(copy)
    verdict = folder.verdict.read_bytes()
    folder.verdict.unlink()
    run(show, str(copy), "online")
    wandb_id = sweep_id(read_plan(folder))
    assert len(stub.rows(wandb_id)) == 1
    assert stub.about[wandb_id] == {"displayName": "finished", "groupName": "finished", "jobType": "fit"}

    folder.verdict.write_bytes(verdict)
    run(show, str(copy), "online", 2)
    first, second = (set(row) for row in stub.rows(wandb_id))
    assert {"laws", "runs"} <= first
    assert {"laws", "runs", "figures/forecast"} <= second
    assert stub.num_sent["seal"] == 1
    (seal,) = stub.of_kind("seal")
    assert seal.files["seal.json"] == folder.seal.read_bytes()
    witness = read_witness(folder)
    assert witness is not None
    assert witness["created_at"] == seal.created_at
    assert witness["artifact"] == "me/p/finished-seal:v0"


@pytest.mark.slow
def test_a_lost_record_of_the_witness_changes_nothing_on_the_server(copy: Path, stub: WandbStub) -> None:
    run(show, str(copy), "online")
    folder = SweepFolder(copy)
    witnessed = read_witness(folder)
    witness_path(folder).write_text("damaged")
    run(show, str(copy), "online")
    assert stub.num_sent["seal"] == 2
    assert len(stub.of_kind("seal")) == 1
    assert read_witness(folder) == witnessed


def test_a_seal_held_in_another_project_goes_to_this_one_too_and_keeps_the_first_time(
    copy: Path, stub: WandbStub
) -> None:
    folder = SweepFolder(copy)
    earlier = {"artifact": "me/elsewhere/finished-seal:v0", "created_at": "earlier", "digest": "d"}
    write_json(witness_path(folder), {"seal_sha256": read_json(folder.seal)[HASH_KEY], **earlier})
    run(show, str(copy), "online")
    assert stub.num_sent["seal"] == 1
    witness = read_witness(folder)
    assert witness is not None and witness["created_at"] == "earlier"


def test_another_seal_is_not_the_one_that_was_witnessed(copy: Path) -> None:
    folder = SweepFolder(copy)
    write_json(witness_path(folder), {"seal_sha256": "another", "artifact": "a", "created_at": "t", "digest": "d"})
    assert not is_witnessed(folder)


def test_offline_the_seal_waits_for_a_sync(copy: Path) -> None:
    run(show, str(copy), "offline", 2)
    (fragment,) = offline_fragments(copy)
    assert sum(record["type"] == "history" for record in inspect(fragment)) == 2
    assert not is_witnessed(SweepFolder(copy))


@pytest.mark.parametrize("name", ["seal.json", "fit.json", "verdict.json"])
def test_a_damaged_file_is_for_the_stage_that_needs_it(
    name: str, copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (copy / name).write_text("damaged")
    folder = SweepFolder(copy)
    run(show, str(copy), "offline")
    assert f"{copy / name} can't be read" in capfd.readouterr().err
    assert not is_witnessed(folder)
    assert not offline_fragments(copy)


@pytest.mark.slow
def test_a_launch_killed_after_its_seal_was_witnessed_sends_it_and_every_row_once(
    base: Path, finished: Path, tmp_path: Path, stub: WandbStub
) -> None:
    """Online: the server has the seal before the target's first step and, after a kill, one curve of the target."""
    folder = SweepFolder(tmp_path / "sweeps" / "online")
    plan = read_plan(SweepFolder(finished))
    for run_of_fit in plan.fit_runs:
        shutil.copytree(SweepFolder(finished).run(run_of_fit.run_id).path, folder.run(run_of_fit.run_id).path)
    overrides = tiny.overrides(tmp_path, "online", f"machine.cache_dir={base}/cache", "machine.tracking=auto")
    launch = ("sweep.launch", *overrides, "machine.checkpoint_seconds=0.5")
    target = folder.run(plan.target.run_id)
    with tiny.start(*launch) as command:
        while len(target.rows()) < 20:
            assert command.process.exitcode is None
            time.sleep(0.01)
    assert is_witnessed(folder)
    assert not target.train.exists(), "the kill came too late"
    done = tiny.run(*launch)
    assert done.returncode == 0, done.stderr

    assert stub.num_sent["seal"] == 1
    assert datetime.fromisoformat(stub.of_kind("seal")[0].created_at) <= datetime.fromisoformat(target.rows()[0]["utc"])
    wandb_id = f"online-{plan.target.run_id}"
    assert stub.steps(wandb_id) == [row["step"] for row in target.rows() if "event" not in row]
    assert {"flops_per_second", "peak_memory_bytes", "tokens"} <= set(stub.rows(wandb_id)[-1])
    assert stub.summary(wandb_id)["status"] == "done"
    assert stub.about[wandb_id]["jobType"] == "target"
    whole = sweep_id(read_plan(folder))
    assert len(stub.rows(whole)) == 2
    assert stub.summary(whole)["verdict"]["status"] == "judged"
