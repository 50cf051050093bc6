"""Training in this process: shared trunks, parts of a batch, compiled steps, each against the undisturbed run."""

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.transformer import Decoder
from sweep.corpus import Corpus
from sweep.data import prepare_corpus
from sweep.evaluate import evaluate
from sweep.folder import RunFolder, SweepFolder, read_json
from sweep.plan import make_plan
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec
from sweep.tracking import Mirror
from sweep.train import Stopped, train
from tests import tiny


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
        mirror = Mirror("disabled", "p", folder.path)
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


def train_with_hook(hook: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call ``hook`` before each forward pass of every model that is built for training."""

    def decoder(*shape: Any) -> Decoder:
        model = Decoder(*shape)
        model.register_forward_pre_hook(hook)
        return model

    monkeypatch.setattr("sweep.train.Decoder", decoder)


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

    train_with_hook(exhausted, monkeypatch)
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

    train_with_hook(exhausted, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        chain.train(without_trunk(chain.runs[0]), SweepFolder(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("chain", ["adamw"], indirect=True)  # what is compiled is the model, not the optimizer
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_a_compiled_run_is_resumed_to_the_bit_and_is_the_plain_one_but_for_rounding(
    chain: Chain, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(base / "inductor"))  # put back when the test is over
    run = without_trunk(chain.runs[0])
    machine = replace(chain.machine, compile_from_flops=1.0, cache_dir=str(tmp_path / "cache"))
    compiled = replace(chain, machine=machine)
    whole = compiled.train(run, SweepFolder(tmp_path / "whole"))
    assert counters["inductor"]["fxgraph_cache_miss"], "nothing was compiled"
    with pytest.raises(Stopped):
        compiled.train(run, SweepFolder(tmp_path / "stopped"), stop_after=run.spec.num_steps // 2)
    stopped = SweepFolder(tmp_path / "stopped").run(run.run_id)
    assert stopped.compiled_whole.exists(), "what was compiled is kept for the next launch"
    stopped.compiled_whole.unlink()  # as after a kill in the midst of compiling, which leaves broken libraries
    for library in stopped.compiled_whole.parent.rglob("*.so"):
        library.write_bytes(bytes(1000))
    counters.clear()
    torch._dynamo.reset()  # else this process has it in memory
    resumed = compiled.train(run, SweepFolder(tmp_path / "stopped"))
    assert counters["inductor"]["fxgraph_cache_hit"] and not counters["inductor"]["fxgraph_cache_miss"], (
        "compiled again"
    )
    assert not stopped.compiled_whole.parent.exists(), "a run that is done needs it no more"
    assert starts(resumed) == [0, run.spec.num_steps // 2]
    assert bits_of(resumed) == bits_of(whole)
    plain = chain.alone.run(run.run_id)
    assert read_json(whole.eval)["loss_nats"] == pytest.approx(read_json(plain.eval)["loss_nats"], abs=1e-3)
    assert bits_of(whole) != bits_of(plain), "nothing was compiled"
