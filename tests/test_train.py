"""Training that is interrupted, damaged or hopeless: the same bits, a named file, a status."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.transformer import Decoder
from sweep.data import Corpus, prepare_corpus
from sweep.evaluate import evaluate
from sweep.folder import HASH_KEY, RunFolder, SweepFolder, read_json
from sweep.plan import make_plan
from sweep.run_spec import PlannedRun, read_plan
from sweep.spec import MachineSpec
from sweep.tracking import Mirror
from sweep.train import Stopped, train
from tests import tiny

_TIMES = ("utc", "interval_seconds", "tokens_per_second")


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
def test_the_number_of_workers_changes_nothing(base: Path, finished: Path) -> None:
    alone = tiny.launch(base / "alone", "finished", f"machine.cache_dir={base}/cache", "machine.num_workers=1")
    assert alone.returncode == 0, alone.stderr
    assert measured(base / "alone" / "sweeps" / "finished") == measured(finished)


def wait_for(path: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not list(path.parent.glob(path.name)):
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_ctrl_c_saves_and_the_next_launch_goes_on(base: Path, finished: Path) -> None:
    """The interrupt of a terminal goes to the whole process group, workers included."""
    places = tiny.overrides(base / "ctrl_c", "finished", f"machine.cache_dir={base}/cache")
    command = [sys.executable, "-m", "sweep.launch", *places]
    first = subprocess.Popen(command, cwd=tiny.ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    sweep = base / "ctrl_c" / "sweeps" / "finished"
    wait_for(sweep / "seal.json")
    wait_for(sweep / "runs" / read_plan(SweepFolder(sweep)).target.run_id / "metrics.jsonl")
    os.killpg(first.pid, signal.SIGINT)
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 130, stderr
    assert "the same command goes on from there" in stderr
    assert "Traceback" not in stderr
    status = json.loads(tiny.run("sweep.status", str(sweep), "--json").stdout)
    target = status["runs"][-1]
    assert target["status"] == "running"
    assert f"stopped after step {target['step']}" in target["reason"]
    again = tiny.launch(base / "ctrl_c", "finished", f"machine.cache_dir={base}/cache")
    assert again.returncode == 0, again.stderr
    assert measured(sweep) == measured(finished)


@pytest.mark.parametrize("damaged", ["eval.json", "train.json", "checkpoint"])
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


def test_two_launches_at_once_are_refused(copy: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep import pipeline
    from sweep.errors import SweepError
    from sweep.folder import locked

    del base
    monkeypatch.setattr(pipeline, "_LOCK_WAIT_SECONDS", 0.3)
    folder = SweepFolder(copy)
    with locked(folder.lock) as held:
        assert held
        with pytest.raises(SweepError, match="another launch is at work"), pipeline.locked_sweep(folder):
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
        filler.wait(timeout=60)
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


# ---- in this process: shared trunks, parts of a batch, compiled steps -------------------------


@dataclass(frozen=True)
class Chain:
    """Three budgets of one size, each run trained twice: from its trunk, and alone from its first step."""

    runs: list[PlannedRun]  # the shortest first
    corpus: Corpus
    machine: MachineSpec
    shared: SweepFolder
    alone: SweepFolder

    def train(self, run: PlannedRun, folder: SweepFolder, stop_after: int | None = None) -> RunFolder:
        """Train as a worker does, with a stop asked for after so many steps; a run that ends is evaluated."""
        steps, files = itertools.count(1), folder.run(run.run_id)
        mirror = Mirror("disabled", self.machine, folder.path)
        train(run, files, self.corpus, self.machine, mirror, lambda: next(steps) == stop_after, None)
        evaluate(run, files, self.corpus, self.machine)
        return files

    def with_trunk_of_last(self, path: Path) -> SweepFolder:
        """A sweep in which only the trunk of the longest run is there."""
        trunk = self.runs[-1].branches_from
        assert trunk
        shutil.copytree(self.shared.run(trunk).path, SweepFolder(path).run(trunk).path)
        return SweepFolder(path)


def without_trunk(run: PlannedRun) -> PlannedRun:
    return replace(run, branches_from=None, branches_at_step=0, keeps_step=None)


@pytest.fixture(scope="module", params=["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def chain(request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    grid = (*tiny.ISOFLOP, "grid.budgets_flops=[1e8,1.6e8,2.6e8]", "grid.num_seeds=[1,1,1]", "recipe.min_batch_rows=3")
    rule = (f"recipe.optimizer={request.param}", "recipe.weight_decay_horizons=0.5")
    spec = tiny.spec_of(*tiny.overrides(base, "chain", *grid, *rule))
    corpus = prepare_corpus(spec.data, base / "cache")
    planned = make_plan(spec, corpus.info).runs
    width = max(run.spec.model.width for run in planned)
    runs = sorted((run for run in planned if run.spec.model.width == width), key=lambda run: run.num_tokens)
    assert [run.branches_from for run in runs] == [None, runs[0].run_id, runs[1].run_id]
    folder = tmp_path_factory.mktemp(request.param)
    made = Chain(runs, corpus, spec.machine, SweepFolder(folder / "shared"), SweepFolder(folder / "alone"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    for run in runs:
        made.train(run, made.shared)
        made.train(without_trunk(run), made.alone)
    yield made
    torch.set_num_threads(threads)


def bits_of(files: RunFolder) -> dict[str, Any]:
    """Every tensor of weights and optimizer states by its hash, every other value of theirs, and the evaluation."""
    found: dict[str, Any] = {}

    def add(path: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            digest = hashlib.sha256(value.numpy().tobytes()).hexdigest()
            found[path] = (str(value.dtype), tuple(value.shape), digest)
        elif isinstance(value, dict | list | tuple):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                add(f"{path}/{key}", inner)
        else:
            found[path] = value

    state = torch.load(files.checkpoint_state(), weights_only=True)
    assert state.pop("progress")["step"] == read_json(files.train)["step"]
    add("", state)
    assert sum("/exp_avg" in path or "/momentum_buffer" in path for path in found) >= 8
    return {**found, "eval": read_json(files.eval)}


def starts(files: RunFolder) -> list[int]:
    """The step of every start of a run."""
    return [row["step"] for row in files.rows() if "event" in row]


def test_a_branch_equals_the_run_trained_alone_to_the_bit(chain: Chain) -> None:
    """Weights, both moments or the momentum, the optimizers' counters, every measured value."""
    for run in chain.runs:
        shared, alone = chain.shared.run(run.run_id), chain.alone.run(run.run_id)
        assert starts(shared) == [run.branches_at_step]
        assert starts(alone) == [0]
        assert bits_of(shared) == bits_of(alone), run.run_id
    assert 0 < chain.runs[1].branches_at_step < chain.runs[2].branches_at_step
    losses = {read_json(chain.alone.run(run.run_id).eval)["loss_nats"] for run in chain.runs}
    assert len(losses) == 3, "the runs can't be told apart"


def test_a_branch_that_is_interrupted_in_its_decay_gives_the_same_bits(chain: Chain, tmp_path: Path) -> None:
    """It goes on from its own checkpoint, not from the trunk again."""
    run, folder = chain.runs[-1], chain.with_trunk_of_last(tmp_path)
    stop = (run.spec.branch_step + run.spec.num_steps) // 2
    with pytest.raises(Stopped, match=f"stopped after step {stop} of"):
        chain.train(run, folder, stop_after=stop - run.branches_at_step)
    files = chain.train(run, folder)
    assert starts(files) == [run.branches_at_step, stop]
    assert bits_of(files) == bits_of(chain.alone.run(run.run_id))


@pytest.mark.parametrize("chain", ["adamw"], indirect=True)
@pytest.mark.parametrize("lost", ["a byte of the weights", "the weights", "the run"])
def test_a_branch_without_its_trunk_trains_alone_and_says_so(
    chain: Chain, tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    run, folder = chain.runs[-1], chain.with_trunk_of_last(tmp_path)
    trunk = folder.run(str(run.branches_from))
    weights = trunk.kept.with_name(read_json(trunk.kept)["file"])
    if lost == "a byte of the weights":
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 0x08
        weights.write_bytes(data)
    elif lost == "the run":
        shutil.rmtree(trunk.path)
    else:
        weights.unlink()
    files = chain.train(run, folder)
    assert starts(files) == [0]
    assert f"run {run.run_id} can't branch from {run.branches_from}" in caplog.text
    assert "it is trained alone" in caplog.text
    assert bits_of(files) == bits_of(chain.alone.run(run.run_id))


def test_a_run_resumed_twice_equals_the_one_that_was_not_interrupted(chain: Chain, tmp_path: Path) -> None:
    """Once in its constant part and once in its decay, each time in another state of the optimizers."""
    run, folder = without_trunk(chain.runs[0]), SweepFolder(tmp_path)
    stops = [run.spec.branch_step // 2, (run.spec.branch_step + run.spec.num_steps) // 2]
    for before, stop in itertools.pairwise([0, *stops]):
        with pytest.raises(Stopped):
            chain.train(run, folder, stop_after=stop - before)
    files = chain.train(run, folder)
    assert starts(files) == [0, *stops]
    assert bits_of(files) == bits_of(chain.alone.run(run.run_id))


@pytest.mark.parametrize("chain", ["adamw"], indirect=True)
@pytest.mark.parametrize("moment", ["more than one row", "more than two rows", "the second part of the fifth step"])
def test_a_batch_that_does_not_fit_is_taken_in_parts(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    """Three rows at once, then in two parts, then in three: the same run but for rounding.

    Real exhaustion can't be had here, so a hook on the real model raises it. In the last case it comes when gradients
    of the step's first part are there already; they must not be counted twice.
    """
    run, folder = without_trunk(chain.runs[0]), SweepFolder(tmp_path)
    assert run.spec.batch_rows == 3
    calls = itertools.count(1)

    def exhausted(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        rows, call = len(inputs[0]), next(calls)
        if moment == "the second part of the fifth step":
            full = rows > 2 or call == 1 + 2 * 5
        else:
            full = rows > (1 if moment == "more than one row" else 2)
        if full and module.training and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("as much as there is")

    def decoder(*shape: Any) -> Decoder:
        model = Decoder(*shape)
        model.register_forward_pre_hook(exhausted)
        return model

    monkeypatch.setattr("sweep.train.Decoder", decoder)
    files = chain.train(run, folder)
    whole = chain.alone.run(run.run_id)
    ended, undisturbed = read_json(files.train), read_json(whole.train)
    assert ended["status"] == "done"
    assert (ended["step"], ended["tokens"]) == (undisturbed["step"], undisturbed["tokens"])
    assert [row["step"] for row in files.rows()] == [row["step"] for row in whole.rows()]
    assert read_json(files.eval)["loss_nats"] == pytest.approx(read_json(whole.eval)["loss_nats"], abs=1e-4)
    assert caplog.text.count("out of memory") == (1 if moment == "more than two rows" else 2)


@pytest.mark.parametrize("chain", ["adamw"], indirect=True)
def test_a_single_row_that_does_not_fit_fails_the_run(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        raise torch.OutOfMemoryError("as much as there is")

    def decoder(*shape: Any) -> Decoder:
        model = Decoder(*shape)
        model.register_forward_pre_hook(exhausted)
        return model

    monkeypatch.setattr("sweep.train.Decoder", decoder)
    with pytest.raises(torch.OutOfMemoryError):
        chain.train(without_trunk(chain.runs[0]), SweepFolder(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_a_compiled_run_is_resumed_to_the_bit_and_is_the_plain_one_but_for_rounding(
    chain: Chain, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(base / "inductor"))  # put back when the test is over
    run = without_trunk(chain.runs[0])
    compiled = replace(chain, machine=replace(chain.machine, compile_from_flops=1.0))
    whole = compiled.train(run, SweepFolder(tmp_path / "whole"))
    with pytest.raises(Stopped):
        compiled.train(run, SweepFolder(tmp_path / "stopped"), stop_after=run.spec.num_steps // 2)
    stopped = SweepFolder(tmp_path / "stopped").run(run.run_id)
    assert stopped.compiled_whole.exists(), "what was compiled is kept for the next launch"
    stopped.compiled_whole.unlink()  # as after a kill in the midst of compiling, which leaves broken libraries
    for library in stopped.compiled_whole.parent.rglob("*.so"):
        library.write_bytes(bytes(1000))
    resumed = compiled.train(run, SweepFolder(tmp_path / "stopped"))
    assert not stopped.compiled_whole.parent.exists(), "a run that is done needs it no more"
    assert starts(resumed) == [0, run.spec.num_steps // 2]
    assert bits_of(resumed) == bits_of(whole)
    plain = chain.alone.run(run.run_id)
    assert read_json(whole.eval)["loss_nats"] == pytest.approx(read_json(plain.eval)["loss_nats"], abs=1e-3)
    assert bits_of(whole) != bits_of(plain), "nothing was compiled"
