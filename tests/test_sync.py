"""Sync: the server has every row of metrics.jsonl, once, whatever was broken off, went on later or was there before."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sweep.folder import HASH_KEY, SweepFolder, read_json, write_json
from sweep.run_spec import Plan, read_plan
from sweep.sweep_run import sweep_id
from sweep.tracking import training_id
from tests import tiny
from tests.wandb_stub import WandbStub

pytestmark = pytest.mark.usefixtures("own_wandb")


def sync(sweep: Path, project: str = "p") -> subprocess.CompletedProcess[str]:
    return tiny.run("sweep.sync", str(sweep), "--project", project)


def plan_of(sweep: Path) -> Plan:
    return read_plan(SweepFolder(sweep))


def on_disk(sweep: Path) -> dict[str, list[int]]:
    """The steps of the rows of every run, by its wandb id."""
    plan, folder = plan_of(sweep), SweepFolder(sweep)
    return {
        training_id(plan.name, run): [row["step"] for row in folder.run(run.run_id).rows() if "event" not in row]
        for run in plan.runs
    }


def on_server(sweep: Path, stub: WandbStub) -> dict[str, list[int]]:
    return {wandb_id: stub.steps(wandb_id) for wandb_id in on_disk(sweep)}


@pytest.mark.slow
def test_every_row_arrives_once_and_a_second_sync_sends_nothing(copy: Path, stub: WandbStub) -> None:
    first = sync(copy)
    assert first.returncode == 0, first.stderr
    assert f"uploaded {len(plan_of(copy).runs) + 1} runs; 0 were there" in first.stdout
    assert on_server(copy, stub) == on_disk(copy)
    target = plan_of(copy).target
    evaluated = read_json(SweepFolder(copy).run(target.run_id).eval)
    assert stub.summary(training_id(plan_of(copy).name, target))["loss_nats"] == evaluated["loss_nats"]
    verdict = read_json(copy / "verdict.json")
    assert stub.summary(sweep_id(plan_of(copy)))["verdict"]["measured"] == pytest.approx(verdict["measured"])
    assert [{"laws", "runs"} <= set(row) for row in stub.rows(sweep_id(plan_of(copy)))] == [True, True]
    assert "figures/forecast" in stub.rows(sweep_id(plan_of(copy)))[1]
    assert stub.num_sent["seal"] == 1

    stub.failure = 500  # it is not asked
    second = sync(copy)
    assert second.returncode == 0, second.stderr
    assert "uploaded 0 runs" in second.stdout

    elsewhere = sync(copy, "another")  # where nothing is: so the server is asked
    assert elsewhere.returncode == 2, elsewhere.stdout
    assert f"{len(plan_of(copy).runs) + 1} runs can't be uploaded" in elsewhere.stderr


@pytest.mark.slow
def test_without_its_marks_a_sync_sends_no_row_again(copy: Path, stub: WandbStub) -> None:
    assert sync(copy).returncode == 0
    (copy / "wandb" / "synced.json").write_text("damaged")
    again = sync(copy)
    assert "set aside" in again.stderr
    assert f"uploaded {len(plan_of(copy).runs) + 1} runs" in again.stdout
    assert on_server(copy, stub) == on_disk(copy)
    assert len(stub.rows(sweep_id(plan_of(copy)))) == 2
    assert len(stub.of_kind("seal")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("failure", [403, 500])
def test_an_upload_that_is_broken_off_is_noticed_and_goes_on(
    failure: int, copy: Path, stub: WandbStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """403: wandb gives up at once and calls the run finished."""
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")

    def fail_after_some_rows() -> None:
        if any(stub.steps(wandb_id) for wandb_id in on_disk(copy)):
            stub.failure = failure

    stub.on_lines = fail_after_some_rows
    broken = sync(copy)
    assert broken.returncode == 2
    assert "the same command again" in broken.stderr
    assert on_server(copy, stub) != on_disk(copy)

    stub.failure, stub.on_lines = None, lambda: None
    assert sync(copy).returncode == 0
    assert on_server(copy, stub) == on_disk(copy)


@pytest.mark.slow
def test_a_run_that_is_still_to_end_is_passed_over_and_named(copy: Path, stub: WandbStub) -> None:
    folder = SweepFolder(copy)
    run = plan_of(copy).fit_runs[0]
    results = folder.run(run.run_id).train, folder.run(run.run_id).eval, folder.verdict
    for path in results:
        path.rename(path.with_suffix(".later"))
    first = sync(copy)
    assert first.returncode == 0, first.stderr
    assert f"{run.run_id:<40} running: stopped after step" in first.stdout
    assert f"{'finished':<40} no verdict yet, the forecast is uploaded" in first.stdout
    assert stub.steps(training_id(plan_of(copy).name, run)) == []
    assert len(stub.rows(sweep_id(plan_of(copy)))) == 1
    (seal,) = stub.of_kind("seal")  # the server's clock does not wait for the target

    for path in results:
        path.with_suffix(".later").rename(path)
    second = sync(copy)
    assert "passed over" not in second.stdout
    assert on_server(copy, stub) == on_disk(copy)
    assert len(stub.rows(sweep_id(plan_of(copy)))) == 2
    assert (stub.num_sent["seal"], stub.of_kind("seal")) == (1, [seal])


@pytest.mark.slow
def test_a_run_that_went_on_after_it_was_synced_gets_the_rows_that_are_new(copy: Path, stub: WandbStub) -> None:
    files = SweepFolder(copy).run(plan_of(copy).target.run_id)
    whole = files.metrics.read_text()
    files.metrics.write_text("".join(whole.splitlines(keepends=True)[:5]))
    assert sync(copy).returncode == 0
    assert on_server(copy, stub) == on_disk(copy)

    files.metrics.write_text(whole)
    train = {key: value for key, value in read_json(files.train).items() if key != HASH_KEY}
    write_json(files.train, {**train, "reason": "went on"})
    assert sync(copy).returncode == 0
    assert on_server(copy, stub) == on_disk(copy)


@pytest.mark.slow
def test_a_sweep_killed_and_resumed_offline_is_on_the_server_with_every_row_once(
    base: Path, finished: Path, tmp_path: Path, stub: WandbStub
) -> None:
    """Its target starts again, offline, and the launch is killed twice while it trains."""
    sweep = Path(shutil.copytree(finished, tmp_path / "sweeps" / "finished"))
    target = SweepFolder(sweep).run(plan_of(sweep).target.run_id)
    shutil.rmtree(target.path)
    SweepFolder(sweep).verdict.unlink()
    overrides = tiny.overrides(tmp_path, "finished", f"machine.cache_dir={base}/cache", "machine.tracking=offline")
    launch = ("sweep.launch", *overrides, "machine.checkpoint_seconds=0.05")
    for num_rows in (5, 40):
        with tiny.start(*launch) as command:
            while len(target.rows()) < num_rows:
                assert command.process.exitcode is None
                time.sleep(0.01)
    assert not target.train.exists(), "the kills came too late"
    done = tiny.run(*launch)
    assert done.returncode == 0, done.stderr
    assert any(row.get("event") == "resumed" for row in target.rows())
    assert list(sweep.glob("wandb/offline-run-*"))

    for _ in range(2):
        done = sync(sweep)
        assert done.returncode == 0, done.stderr
        assert on_server(sweep, stub) == on_disk(sweep)
        assert not list(sweep.glob("wandb/offline-run-*"))  # nothing that wandb sync would send a second time


@pytest.mark.parametrize(
    "missing", ["key", *(pytest.param(name, marks=pytest.mark.slow) for name in ("server", "both"))]
)
def test_without_key_or_server_the_error_says_what_to_do(
    missing: str, copy: Path, stub: WandbStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing != "server":
        monkeypatch.delenv("WANDB_API_KEY")
    if missing != "key":
        stub.server_close()
    refused = sync(copy)
    assert refused.returncode == 2
    assert "can't be uploaded to wandb" in refused.stderr
    assert "expected: a key" in refused.stderr
    assert f"run python -m sweep.sync {copy}" in refused.stderr
    assert not (copy / "wandb").exists()


def test_the_project_is_asked_for_where_no_submission_named_it(copy: Path) -> None:
    refused = tiny.run("sweep.sync", str(copy))
    assert refused.returncode == 2
    assert "--project" in refused.stderr


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    refused = sync(tmp_path)
    assert refused.returncode == 2
    assert "plan.json" in refused.stderr
