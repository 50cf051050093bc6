"""Training that is interrupted, damaged or hopeless: the same bits, a named file, a status."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.folder import HASH_KEY, SweepFolder, locked, read_json
from sweep.pipeline import locked_sweep
from sweep.run_spec import read_plan
from tests import tiny
from tests.forked import HUNG_SECONDS, Command

_TIMES = ("utc", "interval_seconds", "tokens_per_second", "flops_per_second", "peak_memory_bytes")


def measured(sweep: Path) -> dict[str, object]:
    """All that must not depend on interruptions: losses, every row without its times, forecast, verdict."""
    folder = SweepFolder(sweep)
    results: dict[str, object] = {}
    for run in read_plan(folder).runs:
        files = folder.run(run.run_id)
        rows = [{k: v for k, v in row.items() if k not in _TIMES} for row in files.rows() if "event" not in row]
        results[run.run_id] = (read_json(files.eval)[HASH_KEY], rows)
    verdict = read_json(folder.verdict)
    results["verdict"] = [verdict[key] for key in ("prediction", "low", "high", "measured")]
    return results


@pytest.mark.slow
def test_ten_kills_leave_no_trace_in_the_results(base: Path, finished: Path) -> None:
    """SIGKILL at ten random moments and launching again: every loss of every row is that of the quiet sweep."""
    places = tiny.overrides(base / "drill", "finished", f"machine.cache_dir={base}/cache")
    # Checkpoints as often as the clock allows, logs as in the quiet sweep.
    drill = tiny.run("tests.kill_drill", "10", "1", *places, "machine.checkpoint_seconds=0.05")
    assert drill.returncode == 0, drill.stderr
    told = json.loads(drill.stdout)
    assert told["exit"] == 0
    assert told["killed"] == 10
    assert told["interrupted"] >= 2, "the kills missed the trainings"
    assert told["resumed"] >= 2, "no run went on from a checkpoint"
    assert measured(base / "drill" / "sweeps" / "finished") == measured(finished)


@pytest.mark.slow
def test_neither_workers_nor_memory_change_anything(base: Path, finished: Path) -> None:
    """Three workers on a device that has no memory for two runs: one after another, the longest first, same results."""
    places = (f"machine.cache_dir={base}/cache", "machine.num_workers=3", "machine.device_memory_bytes=1")
    alone = tiny.launch(base / "alone", "finished", *places)
    assert alone.returncode == 0, alone.stderr
    sweep = base / "alone" / "sweeps" / "finished"
    assert measured(sweep) == measured(finished)
    folder = SweepFolder(sweep)
    times = sorted(
        (train["started_utc"], train["finished_utc"], run.flops)
        for run in read_plan(folder).fit_runs
        for train in [read_json(folder.run(run.run_id).train)]
    )
    assert all(end < start for (_, end, _), (start, _, _) in itertools.pairwise(times))
    assert [flops for *_, flops in times] == sorted((flops for *_, flops in times), reverse=True)


def wait_for(path: Path, command: Command) -> None:
    """Wait until a command that is at work has made a file."""
    deadline = time.monotonic() + HUNG_SECONDS
    while not path.exists():
        assert command.process.exitcode is None, command.result().stderr
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_next_launch_goes_on(base: Path, finished: Path) -> None:
    """The interrupt of a terminal goes to the whole process group, workers included."""
    places = tiny.overrides(base / "ctrl_c", "finished", f"machine.cache_dir={base}/cache")
    sweep = base / "ctrl_c" / "sweeps" / "finished"
    with tiny.start("sweep.launch", *places) as command:
        wait_for(sweep / "seal.json", command)
        wait_for(SweepFolder(sweep).run(read_plan(SweepFolder(sweep)).target.run_id).metrics, command)
        os.killpg(command.pid, signal.SIGINT)
        first = command.result()
    assert first.returncode == 130, first.stderr
    assert "the same command goes on from there" in first.stderr
    assert "Traceback" not in first.stderr
    status = json.loads(tiny.run("sweep.status", str(sweep), "--json").stdout)
    target = status["runs"][-1]
    assert target["status"] == "running"
    assert f"stopped after step {target['step']}" in target["reason"]
    again = tiny.launch(base / "ctrl_c", "finished", f"machine.cache_dir={base}/cache")
    assert again.returncode == 0, again.stderr
    assert measured(sweep) == measured(finished)


@pytest.mark.parametrize(
    "damaged", ["checkpoint", *(pytest.param(name, marks=pytest.mark.slow) for name in ("eval.json", "train.json"))]
)
def test_a_damaged_result_is_named_set_aside_and_made_again(base: Path, copy: Path, damaged: str) -> None:
    """Before the seal: a flipped byte anywhere in a run's files costs that run and nothing else."""
    before = measured(copy)
    folder = SweepFolder(copy)
    shutil.rmtree(folder.run(read_plan(folder).target.run_id).path)
    for path in (folder.seal, folder.verdict, folder.report):
        path.unlink()
    victim = folder.run(read_plan(folder).fit_runs[2].run_id)
    path = victim.checkpoint_state() if damaged == "checkpoint" else victim.path / damaged
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x08
    path.write_bytes(data)
    if damaged == "checkpoint":  # looked at only when there is something left to do with it
        victim.eval.unlink()
    again = tiny.launch(base, "finished", f"sweeps_dir={copy.parent}")
    assert again.returncode == 0, again.stderr
    assert f"{victim.path}" in again.stderr
    assert "set aside as" in again.stderr
    assert "1 of 6 runs to go" in again.stderr
    assert list(victim.path.glob("**/*.corrupt-1"))
    after = measured(copy)
    assert after == before


@pytest.mark.slow
def test_a_diverged_run_is_shown_and_never_silently_left_out(base: Path) -> None:
    """A rate so high that losses overflow: every run diverges, there is no forecast, and each run is named."""
    wild = tiny.launch(base, "wild", "recipe.learning_rate=1e30")
    assert wild.returncode == 2
    assert "Traceback" not in wild.stderr
    assert "runs of 0 budgets are done" in wild.stderr
    assert "diverged, the training loss or its gradient was not finite at step" in wild.stderr
    status = json.loads(tiny.run("sweep.status", str(base / "sweeps" / "wild"), "--json").stdout)
    assert [run["status"] for run in status["runs"]] == ["diverged"] * 6 + ["planned"]
    assert not (base / "sweeps" / "wild" / "seal.json").exists()
    again = tiny.launch(base, "wild", "recipe.learning_rate=1e30")
    assert "runs to go" not in again.stderr  # it would diverge again


def test_two_launches_at_once_are_refused(copy: Path) -> None:
    folder = SweepFolder(copy)
    with locked(folder.lock) as held:
        assert held
        with pytest.raises(SweepError, match="another launch is at work"), locked_sweep(folder, wait_seconds=0.3):
            pass


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting a small disk needs root")
@pytest.mark.parametrize(("megabytes", "found"), [(4, "MB free"), (40, "is full")])
def test_a_full_disk(base: Path, finished: Path, tmp_path: Path, megabytes: int, found: str) -> None:
    """Too small a disk is refused at once; one that fills up on the way costs no finished run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk)])
    if mounted.returncode:
        pytest.skip("no right to mount here")
    try:
        arguments = (f"sweeps_dir={disk}/sweeps", f"machine.cache_dir={base}/cache", "machine.num_workers=1")
        sweep = disk / "sweeps" / "finished"
        if found == "is full":
            filler = subprocess.Popen([sys.executable, "-c", _FILL_AFTER_FIRST_RUN, str(disk), str(sweep)])
        full = tiny.launch(base, "finished", *arguments)
        assert full.returncode == 2, full.stderr
        assert found in full.stderr
        if found == "MB free":
            assert not (sweep / "runs").exists()
            return
        filler.wait(HUNG_SECONDS)
        finished_before = {path.parent.name for path in sweep.glob("runs/*/eval.json")}
        assert finished_before
        (disk / "filler").unlink()
        again = tiny.launch(base, "finished", *arguments)
        assert again.returncode == 0, again.stderr
        assert measured(sweep) == measured(finished)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


_FILL_AFTER_FIRST_RUN = """
import sys, time
from pathlib import Path
disk, sweep = map(Path, sys.argv[1:])
while not list(sweep.glob("runs/*/eval.json")):
    time.sleep(0.005)
with open(disk / "filler", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(65536))
    except OSError:
        pass
    try:
        while True:
            file.write(bytes(512))
    except OSError:
        pass
"""
