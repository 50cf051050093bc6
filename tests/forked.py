"""``python -m MODULE`` in a process forked from one that has the heavy libraries imported: the same, seconds sooner.

Most of what a tiny sweep costs is importing torch and lightning. The process that has done so has run nothing with
them. What imports do, and their time, is tested with interpreters of their own (``tests/test_launch.py``).
"""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

HUNG_SECONDS = 900  # what takes longer has hung, however slow or busy the machine is

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch", "lightning.fabric", "hydra", "hydra.core.config_store", "scipy.optimize", "matplotlib.pyplot", "jinja2"]
)


@dataclass(frozen=True)
class Command:
    """A module at work as a command, in a process group of its own."""

    line: list[str]
    process: BaseProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def result(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end: what it printed and its status."""
        self.process.join(HUNG_SECONDS)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.line, HUNG_SECONDS, self.out.read_text(), self.err.read_text())
        return subprocess.CompletedProcess(self.line, self.process.exitcode, self.out.read_text(), self.err.read_text())


@contextlib.contextmanager
def start_module(module: str, arguments: tuple[str, ...], folder: Path) -> Iterator[Command]:
    """A module as a command in ``folder`` with this process's environment; killed at the end if it is still there."""
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch) / "out", Path(scratch) / "err"
        process = _CONTEXT.Process(target=_command, args=(module, arguments, folder, dict(os.environ), out, err))
        process.start()
        try:
            yield Command([sys.executable, "-m", module, *arguments], process, out, err)
        finally:
            process.kill()
            process.join()


def run_module(module: str, arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module as a command to its end."""
    with start_module(module, arguments, folder) as command:
        return command.result()


def _command(
    module: str, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str], out: Path, err: Path
) -> None:
    os.setsid()
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = str(folder)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
