"""A checker in a process of its own, told by the pool what to judge: ``python -m sweep.humaneval.worker FD``."""

import contextlib
import os
import resource
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from sweep.errors import SweepError
from sweep.humaneval import canary
from sweep.humaneval.checker import Checker
from sweep.humaneval.problems import Problem
from sweep.humaneval.sandbox import Sandbox, ServerLost
from sweep.humaneval.server import Options

# Processor seconds are those of a process: a backstop far above the checker's own limits.
OPTIONS = Options(memory_bytes=1 << 30, cpu_seconds=600, filter_system_calls=True)
_OWN_MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class Order:
    """What a worker is started with."""

    problems: dict[str, Problem]
    unsafe: bool


def main(connection: "Connection[Any, Any]") -> None:
    """Answer the order with the sandbox's layers, then each (task id, completion) with its verdict.

    An error goes back in an answer's place and ends the worker, as does the pool's end of the connection closing.
    """
    order: Order = connection.recv()
    try:
        with Sandbox(replace(OPTIONS, filter_system_calls=not order.unsafe)) as sandbox:
            allowed = canary.verify(sandbox, OPTIONS.memory_bytes, order.unsafe)
            connection.send({**sandbox.layers, "seccomp": not order.unsafe, "allowed": allowed})
            _limit_itself()
            checker = Checker(order.problems, sandbox)
            while True:
                task_id, completion = connection.recv()
                connection.send(checker.judge(task_id, completion))
    except SweepError as error:
        with contextlib.suppress(OSError):
            connection.send(error)
    except (EOFError, OSError, ServerLost):
        pass  # the pool is gone, or finds that this process is


def _limit_itself() -> None:
    """A test may print, which nobody reads, or make a list as long as an answer says."""
    resource.setrlimit(resource.RLIMIT_AS, (_OWN_MEMORY_BYTES, _OWN_MEMORY_BYTES))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    sys.stdout = open(null, "w", encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
