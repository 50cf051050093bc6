"""Several ranks (gloo, on the CPU) against one process that takes the same batches in as many parts.

Two ranks: a sum of two numbers has but one order, so the same bits. More ranks, and FSDP, which adds norms up by
shards: float32 additions in another order. That came to 1.0e-6 nats and 6e-5 of a weight at most, after thirty steps
at rates up to 0.04; the tests allow ten times as much.
"""

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.corpus import Corpus
from sweep.data import prepare_corpus
from sweep.devices import Devices, check_devices, devices_of, fork_ranks
from sweep.errors import SweepError
from sweep.folder import RunFolder, SweepFolder, read_json
from sweep.plan import make_plan
from sweep.ranks import connected
from sweep.run_spec import PlannedRun, read_plan
from sweep.spec import MachineSpec
from sweep.tracking import Mirror
from sweep.train import Stopped, train
from tests import tiny
from tests.test_train import wait_for
from tests.test_trunks import train_with_hook

NEVER = 10**9
STOPPED = 75


@dataclass(frozen=True)
class Target:
    run: PlannedRun
    corpus: Corpus
    machine: MachineSpec

    def on(self, num_ranks: int, strategy: str = "ddp", **machine: Any) -> "Target":
        return replace(self, machine=replace(self.machine, devices=num_ranks, strategy=strategy, **machine))

    def train(self, folder: Path, stop_after: int = NEVER, stop_on_rank: int = 0) -> RunFolder:
        """Train on as many ranks as the machine has, with a stop asked for on one of them after so many steps."""
        files = SweepFolder(folder).run(self.run.run_id)
        codes = self.exit_codes(files, lambda rank, step: rank == stop_on_rank and step == stop_after)
        assert set(codes) == ({0} if stop_after == NEVER else {STOPPED}), codes
        return files

    def exit_codes(self, files: RunFolder, should_stop: Callable[[int, int], bool]) -> list[int]:
        devices = devices_of(self.run, self.machine)

        def be_rank() -> int:
            torch.set_num_threads(1)
            steps, mirror = itertools.count(1), Mirror("disabled", "p", files.path)
            try:
                train(
                    *(self.run, files, self.corpus, self.machine, mirror),
                    lambda: should_stop(devices.rank, next(steps)),
                    None,
                )
            except Stopped:
                return STOPPED
            except Exception as error:
                (files.path / f"rank-{devices.rank}").write_text(f"{type(error).__name__}: {error}")
                return 1
            return 0

        return fork_ranks(devices, be_rank, lambda: False, good_codes=(0, STOPPED))


@pytest.fixture(scope="module", params=["adamw", "muon"])
def target(request: pytest.FixtureRequest, base: Path) -> Target:
    """Thirty steps of four rows; twelve with Muon, whose shards take seconds a step."""
    return target_of(base, request.param)


def target_of(base: Path, optimizer: str, rows: int = 4) -> Target:
    rule = (f"recipe.optimizer={optimizer}", "recipe.weight_decay_horizons=0.5", "model.depth=2")
    spec = tiny.spec_of(*tiny.overrides(base, "devices", *rule))
    corpus = prepare_corpus(spec.data, base / "cache")
    run = make_plan(spec, corpus.info).target
    short = replace(run.spec, batch_rows=rows, num_steps={"adamw": 30, "muon": 12}[optimizer])
    tokens = short.num_tokens
    short = replace(short, warmup_tokens=tokens // 5, decay_tokens=tokens - tokens // 5)
    return Target(replace(run, spec=short), corpus, replace(spec.machine, checkpoint_seconds=1000.0))


def rows_of(files: RunFolder) -> list[dict[str, Any]]:
    kept = ("step", "tokens", "flops", "train_loss_nats", "learning_rate", "grad_norm")
    return [{key: row[key] for key in kept} for row in files.rows() if "event" not in row]


def state_of(files: RunFolder) -> dict[str, Any]:
    return torch.load(files.checkpoint_state(), weights_only=True)


def assert_same_bits(files: RunFolder, expected: RunFolder) -> None:
    assert rows_of(files) == rows_of(expected)
    assert len(rows_of(files)) == state_of(files)["progress"]["step"] >= 12
    torch.testing.assert_close(state_of(files), state_of(expected), rtol=0, atol=0)


def assert_same_but_for_rounding(files: RunFolder, expected: RunFolder) -> None:
    for row, other in zip(rows_of(files), rows_of(expected), strict=True):
        assert row["train_loss_nats"] == pytest.approx(other["train_loss_nats"], rel=0, abs=1e-5)
        assert row == pytest.approx(other, rel=1e-4)
    torch.testing.assert_close(state_of(files)["model"], state_of(expected)["model"], rtol=0, atol=6e-4)


@pytest.mark.parametrize("rows", [4, 3])
def test_two_ranks_give_the_bits_of_one_process_with_two_parts(
    base: Path, target: Target, tmp_path: Path, rows: int
) -> None:
    """Also where one has two rows and the other one."""
    target = target_of(base, target.run.spec.optimizer, rows)
    one = target.on(1, rows_per_pass=2).train(tmp_path / "one")
    two = target.on(2).train(tmp_path / "two")
    assert_same_bits(two, one)
    whole = target.on(1).train(tmp_path / "whole")
    assert_same_but_for_rounding(two, whole)
    assert rows_of(two) != rows_of(whole), "the parts can't be told apart from the whole"


@pytest.mark.slow
@pytest.mark.parametrize(("num_ranks", "strategy"), [(5, "ddp"), (2, "fsdp"), (3, "fsdp")])
def test_more_ranks_and_sharded_ones_differ_by_rounding(
    target: Target, tmp_path: Path, num_ranks: int, strategy: str
) -> None:
    """Three ranks have two, one and one of the four rows; of five one has none."""
    one = target.on(1).train(tmp_path / "one")
    several = target.on(num_ranks, strategy).train(tmp_path / "several")
    assert_same_but_for_rounding(several, one)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("ddp", 2), ("auto", 1)),
        pytest.param(("auto", 1), ("ddp", 2), marks=pytest.mark.slow),
        pytest.param(("ddp", 2), ("ddp", 2), marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_with_another_number_of_ranks_to_the_bit(
    target: Target, tmp_path: Path, before: tuple[str, int], after: tuple[str, int]
) -> None:
    """The stop is asked for on the second rank; all stop at its step, and the state is the same in either form."""

    def on(strategy: str, num_ranks: int) -> Target:
        return target.on(num_ranks, strategy, rows_per_pass=2)

    files = on(*before).train(tmp_path / "two", stop_after=11, stop_on_rank=before[1] - 1)
    assert [row["step"] for row in rows_of(files)][-1] == state_of(files)["progress"]["step"] == 11
    assert on(*after).train(tmp_path / "two") == files
    assert [row["step"] for row in files.rows() if "event" in row] == [0, 11]
    assert_same_bits(files, on("auto", 1).train(tmp_path / "one"))


@pytest.mark.slow
def test_a_sharded_run_that_is_interrupted_gives_the_same_bits(target: Target, tmp_path: Path) -> None:
    sharded = target.on(2, "fsdp", rows_per_pass=1)
    files = sharded.train(tmp_path / "stopped", stop_after=11, stop_on_rank=1)
    sharded.train(tmp_path / "stopped")
    assert_same_bits(files, sharded.train(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(("fsdp", 2), ("ddp", 1)), (("ddp", 2), ("fsdp", 3))])
def test_a_sharded_run_goes_on_whole_and_the_other_way_round(
    target: Target, tmp_path: Path, before: tuple[str, int], after: tuple[str, int]
) -> None:
    files = target.on(before[1], before[0]).train(tmp_path / "two", stop_after=11)
    target.on(after[1], after[0]).train(tmp_path / "two")
    assert_same_but_for_rounding(files, target.on(1).train(tmp_path / "one"))


@pytest.mark.slow
def test_a_launch_trains_its_target_on_two_devices(base: Path, finished: Path, in_two_parts: Path) -> None:
    """Interrupted in the target and launched again: to the bit as on one device, the target as in two parts there."""
    places = tiny.overrides(base / "two", "finished", f"machine.cache_dir={base}/cache", "machine.devices=2")
    folder, quiet = SweepFolder(base / "two" / "sweeps" / "finished"), SweepFolder(finished)
    with tiny.start("sweep.launch", *places) as command:
        wait_for(folder.seal, command)
        plan = read_plan(folder)
        wait_for(folder.run(plan.target.run_id).metrics, command)
        os.killpg(command.pid, signal.SIGINT)
        first = command.result()
    assert first.returncode == 130, first.stderr
    again = tiny.run("sweep.launch", *places)
    assert again.returncode == 0, again.stderr
    for run in plan.fit_runs:
        assert rows_of(folder.run(run.run_id)) == rows_of(quiet.run(run.run_id))
    files, other, parts = (each.run(plan.target.run_id) for each in (folder, quiet, SweepFolder(in_two_parts)))
    assert [row.get("event") for row in files.rows() if "event" in row] == ["started", "resumed"]
    assert read_json(files.train)["machine"]["per_node"] == 2
    assert read_json(files.eval)["loss_nats"] == read_json(parts.eval)["loss_nats"]
    assert rows_of(files) == rows_of(parts)
    assert rows_of(files) != rows_of(other), "the target was trained on one device"


# ---- one rank in trouble ----------------------------------------------------------------------


def last_words(files: RunFolder) -> list[str]:
    return [path.read_text() for path in sorted(files.path.glob("rank-*"))]


@pytest.fixture
def adamw(base: Path) -> Target:
    return target_of(base, "adamw").on(2)


def test_an_error_on_one_rank_ends_all_at_the_same_step_with_its_reason(adamw: Target, tmp_path: Path) -> None:
    def broken(rank: int, step: int) -> bool:
        if (rank, step) == (1, 5):
            raise ValueError("no such thing")
        return False

    files = SweepFolder(tmp_path).run(adamw.run.run_id)
    assert adamw.exit_codes(files, broken) == [1, 1]
    assert last_words(files) == ["RankFailed: rank 1: ValueError: no such thing", "ValueError: no such thing"]
    assert [row["step"] for row in rows_of(files)] == [1, 2, 3, 4]


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_a_killed_rank_ends_the_others_and_the_run_goes_on_later(adamw: Target, tmp_path: Path, strategy: str) -> None:
    """From its last checkpoint, and to the bit."""
    adamw = adamw.on(2, strategy)

    def shot(rank: int, step: int) -> bool:
        if (rank, step) == (1, 5):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    files = SweepFolder(tmp_path / "shot").run(adamw.run.run_id)
    saving = replace(adamw, machine=replace(adamw.machine, checkpoint_seconds=0.0))
    assert saving.exit_codes(files, shot) == [1, -signal.SIGKILL]
    assert len(last_words(files)) == 1
    adamw.train(tmp_path / "shot")
    assert [row["step"] for row in files.rows() if "event" in row] == [0, 4]
    assert_same_bits(files, adamw.train(tmp_path / "whole"))


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second rank has memory for one row. A hook on the real model raises what the device would."""

    def exhausted(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if devices_rank() == 1 and len(inputs[0]) > 1 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("as much as there is")

    train_with_hook(exhausted, monkeypatch)


def devices_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


@pytest.mark.usefixtures("little_memory")
def test_a_rank_without_memory_takes_its_rows_one_by_one(adamw: Target, tmp_path: Path) -> None:
    """The other one waits for it; both are as far as one process that takes parts of two, one and one rows."""
    two = adamw.train(tmp_path / "two")
    assert_same_but_for_rounding(two, adamw.on(1).train(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.usefixtures("little_memory")
def test_sharded_ranks_need_to_be_told_to_take_fewer_rows(adamw: Target, tmp_path: Path) -> None:
    files = SweepFolder(tmp_path / "full").run(adamw.run.run_id)
    assert adamw.on(2, "fsdp").exit_codes(files, lambda rank, step: False) == [1, 1]
    assert "set machine.rows_per_pass" in last_words(files)[1]
    told = adamw.on(2, "fsdp", rows_per_pass=1).train(tmp_path / "told")
    assert_same_but_for_rounding(told, adamw.on(1).train(tmp_path / "one"))


# ---- ranks that srun started ------------------------------------------------------------------


def as_srun_does(tasks_per_node: str, nodes: str = "n1") -> None:
    """Turn this forked rank into a task of a job step, by the variables that srun sets."""
    rank = os.environ.pop("LOCAL_RANK")
    for name in ("NODE_RANK", "MASTER_ADDR"):
        os.environ.pop(name)
    os.environ.update(
        SLURM_JOB_ID="4711",
        SLURM_JOB_NAME="bash",  # with which Lightning would not look at the rest
        SLURM_NTASKS="2",
        SLURM_STEP_NUM_TASKS="2",
        SLURM_STEP_TASKS_PER_NODE=tasks_per_node,
        SLURM_STEP_NODELIST=nodes,
        SLURM_NODEID="0",
        SLURM_LOCALID=rank,
        SLURM_PROCID=rank,
    )


def test_ranks_of_a_job_step_find_each_other(adamw: Target, tmp_path: Path) -> None:
    devices = devices_of(adamw.run, adamw.machine)
    files = SweepFolder(tmp_path / "srun").run(adamw.run.run_id)

    def be_task() -> int:
        as_srun_does("2")
        torch.set_num_threads(1)
        mirror = Mirror("disabled", "p", files.path)
        train(adamw.run, files, adamw.corpus, adamw.machine, mirror, lambda: False, None)
        return 0

    assert fork_ranks(devices, be_task, lambda: False, good_codes=(0,)) == [0, 0]
    assert_same_bits(files, adamw.train(tmp_path / "forked"))


@pytest.mark.parametrize(
    ("devices", "tasks_per_node", "told"),
    [
        (Devices("ddp", 2, 1), "1(x2)", "srun with --nodes=1 --ntasks-per-node=2"),
        (Devices("ddp", 1, 2), "2", "srun with --nodes=2 --ntasks-per-node=1"),
        (Devices("ddp", 1, 2), "1(x2)", "the name of the first node, no-such-node-7, can't be resolved"),
    ],
)
def test_a_job_step_that_does_not_fit_is_refused(
    tmp_path: Path, devices: Devices, tasks_per_node: str, told: str
) -> None:
    def be_task() -> int:
        as_srun_does(tasks_per_node, "no-such-node-[7-8]")
        try:
            connected("cpu", "32-true", devices)
        except SweepError as error:
            (tmp_path / f"rank-{devices.rank}").write_text(str(error))
            return 1
        return 0

    assert fork_ranks(Devices("ddp", 2, 1), be_task, lambda: False, good_codes=(0,)) == [1, 1]
    assert all(told in path.read_text() for path in tmp_path.glob("rank-*"))


def test_several_nodes_take_slurm_and_a_small_run_takes_one_device(target: Target) -> None:
    with pytest.raises(SweepError, match="num_nodes is 2"):
        check_devices(target.on(1, num_nodes=2).machine)
    assert devices_of(replace(target.run, role="fit"), target.on(8, num_nodes=2).machine).num_ranks == 1
