"""Memory: what a run is thought to take against what autograd keeps, and which runs may share a device."""

from dataclasses import replace

import pytest
import torch

from models.config import DecoderConfig, count_params, training_bytes
from models.transformer import Decoder, NextTokenLoss
from sweep.memory import fit_together, memory_bytes
from sweep.spec import MachineSpec
from sweep.workers import _next
from tests import tiny
from tests.test_packing import runs_of

RUNS = sorted(runs_of()[:6], key=lambda run: -run.flops)
BYTES = memory_bytes(RUNS[0], tiny.spec_of().machine)


def machine_of(device_memory_bytes: float | None) -> MachineSpec:
    return replace(tiny.spec_of().machine, device_memory_bytes=device_memory_bytes)


def kept_bytes(config: DecoderConfig, rows: int) -> int:
    """What a training pass keeps for its backward pass, each block of memory once, weights not counted."""
    loss_of = NextTokenLoss(Decoder(config, tiny.rules(config)))
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*loss_of.parameters(), *loss_of.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    tokens_BT = torch.zeros(rows, config.context_length + 1, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(tokens_BT[:, :-1], tokens_BT[:, 1:])
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "mlp_ratio", "vocab_size"),
    [(32, 3, 1, 4, 1024), (64, 2, 2, 4, 300), (128, 6, 4, 4, 1024), (64, 3, 2, 2, 4096), (64, 12, 2, 8, 300)],
)
def test_the_estimate_lies_a_little_above_what_a_pass_keeps(
    width: int, depth: int, heads: int, mlp_ratio: int, vocab_size: int
) -> None:
    config = DecoderConfig(width, depth, heads, mlp_ratio, 3, vocab_size, 128)
    rows, states = 4, 16 * count_params(config)["total"]
    for_a_moment = 2 * 4 * rows * 128 * vocab_size  # logits and their gradient
    assert training_bytes(config, 0) == states
    kept = kept_bytes(config, rows)
    assert kept <= training_bytes(config, rows) - states - for_a_moment <= 1.25 * kept


def test_a_run_takes_memory_for_training_or_evaluation_and_its_process() -> None:
    run, machine = RUNS[0], machine_of(None)
    model = run.spec.model
    many = replace(run, spec=replace(run.spec, batch_rows=1000))
    assert memory_bytes(many, machine) == 2**30 + training_bytes(model, 1000)
    assert memory_bytes(many, replace(machine, rows_per_pass=500)) == 2**30 + training_bytes(model, 500)
    logits = 4 * 3 * 32 * model.context_length * model.vocab_size
    assert memory_bytes(run, machine) == 2**30 + 4 * count_params(model)["total"] + logits


def test_runs_share_a_device_as_long_as_it_has_memory_for_all() -> None:
    assert fit_together(RUNS, machine_of(None))
    assert fit_together(RUNS[:2], machine_of(2 * BYTES))
    assert not fit_together(RUNS[:3], machine_of(2 * BYTES))


def test_the_longest_run_is_not_overtaken_and_runs_even_if_it_does_not_fit() -> None:
    """Three runs of the same memory on a device that holds two, and one that is larger than the device."""
    assert _next(RUNS, [], machine_of(1)) is RUNS[0]
    assert _next(RUNS[1:], RUNS[:1], machine_of(1)) is None
    assert _next(RUNS[1:], RUNS[:1], machine_of(2 * BYTES)) is RUNS[1]
    large = replace(RUNS[1], spec=replace(RUNS[1].spec, batch_rows=10**6))
    assert _next([large, *RUNS[2:]], RUNS[:1], machine_of(2 * BYTES)) is None
