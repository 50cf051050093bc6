"""What the processes (ranks) of one run do together: connect, make a step, gather the state. One rank does it alone.

Every rank holds the same step counter, draws the same global batch and takes its own rows of it. Gradients are
added up when all ranks are through with theirs, not within the backward pass as DDP's own wrapper does: so a
rank that runs out of memory can begin again, and compiled arithmetic is the same at every number of devices. Only
FSDP communicates within its passes, since no rank holds the whole model.
"""

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from models.transformer import Decoder
from sweep.devices import ONE_DEVICE, Devices
from sweep.errors import SweepError

_FIRST_PORT = 15_000  # and the job's number in ten thousand, so that two jobs on a node do not meet


class RankFailed(Exception):
    """Another rank of this run failed; ``str`` says which and why."""


def connected(accelerator: str, precision: str, devices: Devices = ONE_DEVICE) -> Fabric:
    """Fabric for this rank, connected with the others of its run.

    Which rank it is stands in the environment, from srun or from ``sweep.devices.fork_ranks``.

    Raises:
        SweepError: srun started other tasks than one per device, or the first node's address is not known.
    """
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they greet each rank
    if devices.started_by_srun:
        _adopt_srun(devices)
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices.per_node,
        num_nodes=devices.num_nodes,
        strategy=_STRATEGIES[devices.strategy](devices),  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        # Not what it would find by itself: that goes by the Slurm job's name, and refuses steps of several tasks.
        plugins=[LightningEnvironment()],
    )
    num_threads = torch.get_num_threads()
    fabric.launch()
    torch.set_num_threads(num_threads)  # launching ranks sets it by what the machine has
    return fabric


def _adopt_srun(devices: Devices) -> None:
    """Put what srun says about this task into the variables that ``LightningEnvironment`` reads."""
    environment = os.environ
    tasks, wanted = environment["SLURM_STEP_TASKS_PER_NODE"], str(devices.per_node)
    if tasks != wanted + f"(x{devices.num_nodes})" * (devices.num_nodes > 1):
        raise SweepError(
            f"srun started {tasks} tasks per node for {devices.per_node} devices on each of {devices.num_nodes} nodes",
            "one task per device",
            f"srun with --nodes={devices.num_nodes} --ntasks-per-node={devices.per_node}",
        )
    if devices.num_nodes == 1:
        environment.setdefault("MASTER_ADDR", "127.0.0.1")
    else:
        first_node = SLURMEnvironment.resolve_root_node_address(environment["SLURM_STEP_NODELIST"])
        address = environment.setdefault("MASTER_ADDR", first_node)
        try:
            socket.getaddrinfo(address, None)
        except OSError as error:
            raise SweepError(
                f"the name of the first node, {address}, can't be resolved on {socket.gethostname()} ({error})",
                "an address at which the processes on other nodes reach the first one",
                "export MASTER_ADDR with that address in the job script, before srun",
            ) from error
    environment.setdefault("MASTER_PORT", str(_FIRST_PORT + int(environment["SLURM_JOB_ID"]) % 10_000))
    environment.update(NODE_RANK=environment["SLURM_NODEID"], LOCAL_RANK=environment["SLURM_LOCALID"])


class _WholeOnEachRank(DDPStrategy):
    """DDP without the wrapper that reduces gradients within the backward pass; equal seeds make equal weights."""

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        return module


def _shard(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Split every parameter among the ranks, block by block; a scalar can't be split and stays whole on each."""
    decoder = module.decoder
    assert isinstance(decoder, Decoder)
    decoder.logit_scale.data = decoder.logit_scale.data.to(mesh.device_type)
    for block in decoder.blocks:
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"], ignored_params={decoder.logit_scale})
    for part in module.modules():
        if isinstance(part, FSDPModule):  # the gradient of a mean over all rows is a sum over the ranks
            part.set_force_sum_reduction_for_comms(True)
            part.set_gradient_divide_factor(1.0)
    return module


_STRATEGIES = {
    "one": lambda devices: "auto",
    "ddp": lambda devices: _WholeOnEachRank(),
    "fsdp": lambda devices: ModelParallelStrategy(_shard, devices.num_ranks, 1),
}


# ---- a step -----------------------------------------------------------------------------------


@dataclass
class Step:
    """What one rank brings to a step, and afterwards what all of them brought."""

    loss: float = 0.0  # this rank's share of the global mean; afterwards the mean
    stop: bool = False  # afterwards: whether any rank was asked to
    save: bool = False


@contextmanager
def together(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> Iterator[Step]:
    """A step of all ranks: inside, each computes its own gradients; afterwards all hold the sum, and one decision.

    An error inside, on any rank, ends the step on all of them: a rank that is well raises ``RankFailed``. With FSDP
    the others are in the midst of a pass and learn it when the connection breaks.
    """
    step = Step()
    if fabric.world_size == 1:
        yield step
        return
    failure: Exception | None = None
    try:
        yield step
    except Exception as error:
        if is_sharded(fabric):
            raise
        failure = error
    told = [step.loss, float(step.stop), float(step.save), float(failure is not None)]
    sums = torch.tensor(told, dtype=torch.float64, device=fabric.device)
    dist.all_reduce(sums)
    loss, stop, save, failed = sums.tolist()
    if failed:
        _raise_on_all(failure)
    waiting = [
        dist.all_reduce(parameter.grad, async_op=True)
        for parameter in parameters
        if not isinstance(parameter, DTensor)  # those have been added up in the backward pass
    ]
    for work in waiting:
        work.wait()
    step.loss, step.stop, step.save = loss, stop > 0, save > 0


def _raise_on_all(own: Exception | None) -> None:
    reasons: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, own and f"{type(own).__name__}: {own}")
    if own is not None:
        raise own
    raise RankFailed("; ".join(f"rank {rank}: {reason}" for rank, reason in enumerate(reasons) if reason))


def is_sharded(fabric: Fabric) -> bool:
    return isinstance(fabric.strategy, ModelParallelStrategy)


def number(value: Tensor) -> float:
    """A scalar that all ranks know, or each a part of."""
    return (value.full_tensor() if isinstance(value, DTensor) else value).item()


# ---- the state, in one form at every number of devices ----------------------------------------


def whole_state(fabric: Fabric, value: Any) -> Any:
    """Modules and optimizers as plain dictionaries of whole tensors; all ranks call it, the first one gets them all."""
    if isinstance(value, nn.Module | Optimizer):
        return whole_state(fabric, value.state_dict())
    if isinstance(value, DTensor):
        gathered = value.full_tensor()
        return gathered.cpu() if fabric.is_global_zero else None
    if isinstance(value, dict):
        return {key: whole_state(fabric, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [whole_state(fabric, inner) for inner in value]
    return value


def load_module(module: nn.Module, saved: dict[str, Tensor]) -> None:
    own = module.state_dict()
    module.load_state_dict({name: _placed(value, own.get(name)) for name, value in saved.items()})


def load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {key: _placed(value, parameters[index]) for key, value in values.items()}
        for index, values in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": state})


def _placed(value: Any, like: Tensor | None) -> Any:
    """Split as the parameter that it belongs to, if that is split and this has an element for each of its."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
