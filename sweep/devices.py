"""On how many devices a run trains, and the processes (ranks) for it where no srun starts them.

Each device has a process of its own; all of them run the same worker on the same run. Under Slurm, srun starts
them; on this machine a worker forks them and ends them all when one of them fails.
"""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from sweep.errors import SweepError
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec

_POLL_SECONDS = 0.1
_SECONDS_TO_FOLLOW = 30.0  # ranks whose peer failed learn it from a broken connection; on some networks never


@dataclass(frozen=True)
class Devices:
    """``strategy`` says how they share the work: each holds the whole model (ddp), or a part of it (fsdp)."""

    strategy: Literal["one", "ddp", "fsdp"]
    per_node: int
    num_nodes: int

    @property
    def num_ranks(self) -> int:
        return self.per_node * self.num_nodes

    @property
    def started_by_srun(self) -> bool:
        """Whether this process is one of several tasks of a Slurm job step, for a run on several devices."""
        num_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
        return self.num_ranks > 1 and num_tasks > 1 and "LOCAL_RANK" not in os.environ

    @property
    def rank(self) -> int:
        """The number of this process among the ranks; the first, 0, is the only one that writes files."""
        if self.num_ranks == 1:
            return 0
        if self.started_by_srun:
            node, local = os.environ["SLURM_NODEID"], os.environ["SLURM_LOCALID"]
        else:
            node, local = os.environ["NODE_RANK"], os.environ["LOCAL_RANK"]
        return int(node) * self.per_node + int(local)


ONE_DEVICE = Devices("one", 1, 1)


def devices_of(run: PlannedRun, machine: MachineSpec) -> Devices:
    """All of the machine's devices for the target, one for any other run.

    By role, never by what is free: the number of devices changes the order of additions, so the last bits of a loss.
    """
    if run.role != "target" or machine.devices * machine.num_nodes == 1:
        return ONE_DEVICE
    return Devices("fsdp" if machine.strategy == "fsdp" else "ddp", machine.devices, machine.num_nodes)


def check_devices(machine: MachineSpec) -> None:
    """Refuse what can't be had without Slurm, before the small runs are trained and not after them.

    Raises:
        SweepError: the target is to be trained on several nodes.
    """
    if machine.num_nodes > 1:
        raise SweepError(
            f"machine.num_nodes is {machine.num_nodes}",
            "1: the devices of this machine; to start processes on other nodes takes Slurm",
            "set machine.num_nodes=1",
        )


def fork_ranks(
    devices: Devices, work: Callable[[], int], should_stop: Callable[[], bool], good_codes: Collection[int]
) -> list[int]:
    """Fork a process per device of this machine, wait for all, and return their exit codes in order.

    ``work`` is called in each and returns its exit code. A stop is passed on as SIGTERM. Once one ended with a
    code that is not among ``good_codes`` the others are killed, if they have not ended by themselves soon.
    """
    context = multiprocessing.get_context("fork")
    port = _free_port()
    ranks = [context.Process(target=_be_rank, args=(rank, port, work)) for rank in range(devices.num_ranks)]
    for process in ranks:
        process.start()
    failed_at: float | None = None
    while alive := [process for process in ranks if process.is_alive()]:
        if failed_at is None and any(process.exitcode not in (None, *good_codes) for process in ranks):
            failed_at = time.monotonic()
        for process in alive:
            if failed_at is not None and time.monotonic() > failed_at + _SECONDS_TO_FOLLOW:
                process.kill()
            elif should_stop() and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)
        time.sleep(_POLL_SECONDS)
    return [process.exitcode or 0 for process in ranks]


def _be_rank(rank: int, port: int, work: Callable[[], int]) -> None:
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os._exit(work())


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
