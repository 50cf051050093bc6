"""Throughput in the rows of a training: it agrees with its counts, and there is no MFU without a known peak."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sweep.folder import SweepFolder, read_json
from sweep.run_spec import read_plan
from sweep.throughput import Peak, peak_memory_bytes, peak_of
from tests import tiny

CPU = torch.device("cpu")


def test_the_rows_of_a_training_agree_with_its_plan(finished: Path) -> None:
    folder = SweepFolder(finished)
    for run in read_plan(folder).runs:
        files = folder.run(run.run_id)
        rows = [row for row in files.rows() if "event" not in row]
        for row in rows:
            per_token = row["flops"] / row["tokens"]
            assert row["flops_per_second"] == pytest.approx(row["tokens_per_second"] * per_token)
            assert row["mfu"] is None
        memory = [row["peak_memory_bytes"] for row in rows]
        assert memory == sorted(memory)
        assert 50e6 < memory[0] < 10e9  # python and torch, on any machine
        trained = read_json(files.train)
        assert trained["peak_memory_bytes"] == memory[-1]
        assert trained["machine"]["peak_flops_per_second"] is None
        assert "machine.peak_flops_per_second" in trained["machine"]["peak_from"]


def test_a_stated_peak_is_of_a_core_on_a_cpu(one_thread: None) -> None:
    machine = replace(tiny.spec_of().machine, peak_flops_per_second=2e11)
    assert peak_of(machine, CPU, 1).flops_per_second == 2e11
    torch.set_num_threads(2)
    assert peak_of(machine, CPU, 1).flops_per_second == 4e11
    assert peak_of(machine, CPU, 3).flops_per_second == 12e11
    assert peak_of(machine, CPU, 1).utilisation(1e11) == 0.25
    assert Peak(None, "").utilisation(1e11) is None


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", 312e12),
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "32-true", 66.9e12),
        ("NVIDIA H200", "bf16-mixed", None),  # lightning's figures for these are of other devices or with sparsity
        ("NVIDIA H100 NVL", "bf16-mixed", None),
        ("NVIDIA L40S", "bf16-mixed", None),
        ("NVIDIA A100-SXM4-80GB", "transformer-engine", None),
        ("NVIDIA B300", "bf16-mixed", None),
    ],
)
def test_a_gpus_peak_is_that_of_dense_matmuls_or_unknown(
    name: str, precision: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, on a machine without one; four of them have four times as much."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr("lightning.fabric.accelerators.cuda._is_ampere_or_later", lambda: True)
    machine = replace(tiny.spec_of().machine, accelerator="cuda", precision=precision)
    found = peak_of(machine, torch.device("cuda"), 4)
    assert found.flops_per_second == (peak and pytest.approx(4 * peak))
    assert name in found.source


def test_memory_is_counted_in_bytes(one_thread: None) -> None:
    before = peak_memory_bytes(CPU)
    block = torch.ones(before // 4 + 25_000_000)  # a hundred megabytes more than there ever was
    assert peak_memory_bytes(CPU) > before + 50e6
    assert len(block)


def test_a_null_peak_is_a_setting_and_zero_is_none() -> None:
    assert tiny.spec_of("machine.peak_flops_per_second=2e11").machine.peak_flops_per_second == 2e11
    assert json.dumps(tiny.spec_of().machine.peak_flops_per_second) == "null"
    with pytest.raises(Exception, match=r"machine\.peak_flops_per_second is 0"):
        tiny.spec_of("machine.peak_flops_per_second=0")
