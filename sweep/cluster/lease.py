"""Who may write into a run's folder on a cluster, where two processes can believe that they are the one.

When a node stops answering, Slurm starts the element again elsewhere while the old process may still run, and a file
lock does not reach every shared file system. So the newer holder writes its name into ``lease.json``, and the older one
looks there after every step and before it writes: what is no longer its own it leaves alone.
"""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.errors import CorruptFile, SweepError
from sweep.folder import read_json, write_json

_CHECK_SECONDS = 1.0


class Fenced(Exception):
    """The run belongs to another process now; nothing more may be written."""


@dataclass(frozen=True)
class Holder:
    """One life of an element: a requeued element is another holder."""

    element: str  # the job's id, 123_4 for an element of an array
    restart: int
    host: str
    pid: int


def holder_here() -> Holder:
    """The holder that this process is, by the variables that Slurm sets for a job.

    Raises:
        SweepError: this is no job of Slurm's.
    """
    if "SLURM_JOB_ID" not in os.environ:
        raise SweepError(
            "SLURM_JOB_ID is not set",
            "a job of Slurm's: slurm/*.sbatch call this",
            "python -m sweep.launch machine=slurm submits them; without Slurm, launch with machine=local",
        )
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    element = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    return Holder(element, int(os.environ.get("SLURM_RESTART_COUNT", 0)), platform.node(), os.getpid())


def holder_of(lease: Path) -> Holder | None:
    """Who holds the run; None if nobody ever did."""
    if not lease.exists():
        return None
    try:
        found = read_json(lease)
    except CorruptFile:
        return None
    return Holder(found["element"], found["restart"], found["host"], found["pid"])


def take(lease: Path, holder: Holder) -> None:
    """Make ``holder`` the one that may write.

    Raises:
        Fenced: a later life of the same element has it.
    """
    there = holder_of(lease)
    if there is not None and is_older(holder, there.element, there.restart):
        raise Fenced(_whose(there))
    write_json(lease, asdict(holder))


def is_older(holder: Holder, element: str, restart: int) -> bool:
    """Whether ``holder`` is an earlier life of that element: what outlived its node's daemon."""
    return holder.element == element and holder.restart < restart


def _whose(there: Holder) -> str:
    return f"it is held by {there.element} on {there.host} now (restart {there.restart})"


def fenced(should_stop: Callable[[], bool], lease: Path, holder: Holder) -> Callable[[], bool]:
    """``should_stop`` that also looks, once a second, whether the run is still the holder's.

    Raises (when called):
        Fenced: it is not.
    """
    looked = time.monotonic()

    def should_stop_or_fence() -> bool:
        nonlocal looked
        now = time.monotonic()
        if now - looked >= _CHECK_SECONDS:
            looked = now
            if (there := holder_of(lease)) is not None and there != holder:
                raise Fenced(_whose(there))
        return should_stop()

    return should_stop_or_fence
