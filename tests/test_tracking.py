"""wandb as a mirror: it never asks and never blocks, and what it holds after an interruption is every row once.

The real SDK runs here, in processes of its own as it does in a sweep, against folders of the test and
``WandbStub``. ``python -c`` starts a function of this file; a kill is a SIGKILL.
"""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.folder import RunFolder, SweepFolder, read_json
from sweep.run_spec import read_plan
from sweep.sweep_run import show_sweep
from sweep.tracking import Mirror, decide_mode, training_id
from sweep.workers import Job, do_run
from tests import tiny
from tests.forked import HUNG_SECONDS
from tests.tiny import ROOT
from tests.wandb_stub import WandbStub

RUN_ID = "sweep-run"
PROJECT = "p"


pytestmark = pytest.mark.usefixtures("own_wandb")


# ---- what runs in processes of its own --------------------------------------------------------


def tell_mode(tracking: str) -> None:
    print(json.dumps({"mode": decide_mode(tracking)}))


def mirror_run(mode: str, path: str, last_step: int, end: str) -> None:
    """What a worker does with its mirror, from the rows on disk to ``last_step``; ``end``: finish, kill or wait."""
    folder = RunFolder(Path(path) / "runs" / "run")
    mirror = Mirror(mode or decide_mode("auto"), PROJECT, Path(path), id=RUN_ID, name="run")
    mirror.replay(folder.rows())
    slowest = 0.0
    for step in range(1 + max((row["step"] for row in folder.rows()), default=0), last_step + 1):
        row = row_of(step)
        with folder.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        started = time.monotonic()
        mirror.log(row)
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.02)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "wait":
        time.sleep(60)
    mirror.summarise({"loss": 1.0})
    started = time.monotonic()
    mirror.finish()
    print(json.dumps({"slowest_log": slowest, "finish": time.monotonic() - started}))


def row_of(step: int) -> dict[str, float]:
    values = dict.fromkeys(("train_loss_nats", "learning_rate", "grad_norm", "tokens_per_second"), 1 / step)
    return {"step": step, "tokens": 10 * step, "flops": 100.0 * step, **values}


# ---- how they are run and read ----------------------------------------------------------------


def start(function: Callable[..., None], *arguments: object) -> subprocess.Popen[str]:
    code = f"from {function.__module__} import {function.__name__}; {function.__name__}(*{arguments!r})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def end_of(process: subprocess.Popen[str], exit_code: int) -> str:
    """What the process printed; it has to end, and with this exit code."""
    try:
        printed, _ = process.communicate(timeout=HUNG_SECONDS)
    finally:
        process.kill()
    assert process.returncode == exit_code
    return printed


def run(function: Callable[..., None], *arguments: object) -> dict[str, float | str]:
    """What the function printed, once its process has ended well."""
    return json.loads(end_of(start(function, *arguments), 0))


def run_killed(path: Path, mode: str, last_step: int) -> None:
    end_of(start(mirror_run, mode, str(path), last_step, "kill"), -signal.SIGKILL)


def begin(path: Path, *steps: int) -> None:
    """A metrics.jsonl with these steps, after the record of a start."""
    metrics = RunFolder(path / "runs" / "run").metrics
    metrics.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"event": "started", "step": 0}, *map(row_of, steps)]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def offline_fragments(path: Path) -> list[Path]:
    return list((path / "wandb").glob("offline-run-*"))


def offline_steps(path: Path) -> list[int]:
    """The steps of all rows in the folder's offline runs, read by wandb's own reader."""
    records = [record for fragment in offline_fragments(path) for record in inspect(fragment)]
    return [record["history"]["item"]["step"] for record in records if record["type"] == "history"]


def inspect(fragment: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(fragment)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HUNG_SECONDS).stdout
    return [json.loads(line) for line in printed.splitlines()]


def steps_to(last: int) -> list[int]:
    return list(range(1, last + 1))


# ---- the mode ---------------------------------------------------------------------------------


def test_without_a_key_it_is_offline_and_nobody_is_asked() -> None:
    """On a terminal, where wandb would ask: the answer comes at once and there is no question on the screen."""
    screen, terminal = pty.openpty()
    code = "from tests.test_tracking import tell_mode; tell_mode('auto')"
    command = [sys.executable, "-c", code]
    subprocess.run(
        command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, timeout=HUNG_SECONDS, check=True
    )
    (shown,) = os.read(screen, 10_000).decode().splitlines()
    assert json.loads(shown)["mode"] == "offline"


@pytest.mark.parametrize(("tracking", "mode"), [("none", "disabled"), ("offline", "offline")])
def test_what_was_chosen_is_not_put_to_a_server(tracking: str, mode: str, stub: WandbStub) -> None:
    """Not even with a key and a server that answers."""
    assert run(tell_mode, tracking)["mode"] == mode


@pytest.mark.parametrize(("failure", "mode"), [(None, "online"), (401, "offline")])
def test_online_needs_a_server_that_takes_the_key(failure: int | None, mode: str, stub: WandbStub) -> None:
    stub.failure = failure
    assert run(tell_mode, "auto")["mode"] == mode


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["refuses", "silent", "500"])
def test_a_server_that_does_not_serve_means_offline_and_the_process_ends(
    failure: str, stub: WandbStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself wandb goes on trying for minutes, at the latest when the process ends."""
    stub.failure = 500
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))  # bound and not listened on: connections are refused
        if failure == "silent":
            other.listen()
        if failure != "500":
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{other.getsockname()[1]}")
        assert run(tell_mode, "auto")["mode"] == "offline"


# ---- offline ----------------------------------------------------------------------------------


def test_offline_every_row_is_in_the_sweeps_folder(tmp_path: Path) -> None:
    begin(tmp_path)
    run(mirror_run, "", str(tmp_path), 20, "finish")
    assert offline_steps(tmp_path) == steps_to(20)


@pytest.mark.slow
def test_a_run_killed_and_resumed_offline_leaves_one_fragment_with_every_row_once(tmp_path: Path) -> None:
    begin(tmp_path)
    run_killed(tmp_path, "", last_step=40)
    (killed,) = offline_fragments(tmp_path)
    run(mirror_run, "", str(tmp_path), 50, "finish")
    (resumed,) = offline_fragments(tmp_path)
    assert resumed != killed
    assert offline_steps(tmp_path) == steps_to(50)


# ---- online -----------------------------------------------------------------------------------


def test_online_every_row_arrives_once(tmp_path: Path, stub: WandbStub) -> None:
    begin(tmp_path)
    run(mirror_run, "", str(tmp_path), 20, "finish")
    assert stub.steps(RUN_ID) == steps_to(20)
    assert stub.summary(RUN_ID)["loss"] == 1.0


@pytest.mark.parametrize(
    "rows_held", [pytest.param(False, id="summary"), pytest.param(True, id="some-rows", marks=pytest.mark.slow)]
)
def test_a_run_killed_and_resumed_online_loses_no_row_and_repeats_none(
    rows_held: bool, tmp_path: Path, stub: WandbStub
) -> None:
    """Killed once the server has a summary (as a rule before any row), or some rows; resumed from a checkpoint."""
    begin(tmp_path)

    def kill_when_held() -> None:
        if stub.steps(RUN_ID) if rows_held else "step" in stub.summary(RUN_ID):
            process.kill()

    stub.on_lines = kill_when_held
    process = start(mirror_run, "online", str(tmp_path), 40, "wait")
    end_of(process, -signal.SIGKILL)

    stub.on_lines = lambda: None
    begin(tmp_path, *steps_to(5))
    run(mirror_run, "", str(tmp_path), 60, "finish")
    assert stub.steps(RUN_ID) == steps_to(60)
    assert stub.summary(RUN_ID)["step"] == 60


@pytest.mark.slow
def test_a_run_killed_offline_goes_on_online_with_every_row_once(tmp_path: Path, stub: WandbStub) -> None:
    """And nothing is left that a later ``wandb sync`` would send a second time."""
    begin(tmp_path)
    run_killed(tmp_path, "offline", last_step=20)
    run(mirror_run, "", str(tmp_path), 30, "finish")
    assert stub.steps(RUN_ID) == steps_to(30)
    assert not offline_fragments(tmp_path)


@pytest.mark.parametrize("failure", [500, pytest.param(0, marks=pytest.mark.slow)], ids=["answers-500", "hangs-up"])
def test_a_server_that_fails_mid_run_neither_raises_nor_blocks(
    failure: int, tmp_path: Path, stub: WandbStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    begin(tmp_path)

    def fail() -> None:
        stub.failure = failure

    stub.on_lines = fail
    took = run(mirror_run, "", str(tmp_path), 40, "finish")
    assert float(took["slowest_log"]) < 1
    assert float(took["finish"]) < 5
    assert stub.steps(RUN_ID) != steps_to(40)


@pytest.mark.slow
def test_a_server_that_fails_when_a_run_starts_leaves_it_offline(
    tmp_path: Path, stub: WandbStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch found the server, the worker does not: its rows are in an offline run, once each."""
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    stub.failure = 500
    begin(tmp_path)
    run(mirror_run, "online", str(tmp_path), 20, "finish")
    assert offline_steps(tmp_path) == steps_to(20)


def fail_run(path: str, run_id: str) -> None:
    """What a worker does with a run that can't be trained: there is no corpus."""
    folder = SweepFolder(Path(path))
    plan = read_plan(folder)
    nothing: Any = None
    job = Job(plan, folder, nothing, tiny.spec_of().machine, "online", None)
    (run,) = (run for run in plan.runs if run.run_id == run_id)
    print(json.dumps({"code": do_run(run, job, lambda: False)}))


def test_a_run_that_fails_is_shown_as_failed_and_why(copy: Path, stub: WandbStub) -> None:
    planned = read_plan(SweepFolder(copy)).fit_runs[0]
    for path in SweepFolder(copy).run(planned.run_id).path.glob("*.json*"):
        path.unlink()
    assert run(fail_run, str(copy), planned.run_id)["code"] == 1
    wandb_id = training_id("finished", planned)
    failure = read_json(SweepFolder(copy).run(planned.run_id).train)
    assert [stub.summary(wandb_id)[key] for key in ("status", "reason")] == ["failed", failure["reason"]]
    assert stub.exit_codes[wandb_id] == 1


def mirror_sweep(path: str) -> None:
    folder = SweepFolder(Path(path))
    show_sweep(read_plan(folder), folder, "offline", PROJECT)
    print("{}")


def test_the_sweeps_own_run_holds_table_figures_law_and_verdict(copy: Path) -> None:
    """Offline, from a finished sweep: one run, with the media files and the summary of its numbers."""
    run(mirror_sweep, str(copy))
    (fragment,) = offline_fragments(copy)
    media = {path.name.split("_")[0] for path in fragment.glob("files/media/**/*.*")}
    assert {"forecast", "residuals", "copying", "runs"} <= media
    shown = json.dumps(inspect(fragment))
    verdict = read_json(copy / "verdict.json")
    for value in (verdict["measured"], verdict["prediction"]):
        assert f"{value:.6f}"[:-1] in shown
