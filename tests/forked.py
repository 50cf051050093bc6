"""``python -m MODULE`` in a process forked from one that has the heavy libraries imported: the same, seconds sooner.

Most of what a tiny sweep costs is importing torch and lightning. The process that has done so has run nothing with
them. What imports do, and their time, is tested with interpreters of their own (``tests/test_launch.py``).
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["torch", "lightning.fabric", "hydra", "hydra.core.config_store", "scipy.optimize", "matplotlib.pyplot", "jinja2"]
)


def run_module(
    module: str, arguments: tuple[str, ...], folder: Path, timeout_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a module as a command in ``folder`` with this process's environment; what it printed and its status."""
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch) / "out", Path(scratch) / "err"
        process = _CONTEXT.Process(target=_command, args=(module, arguments, folder, dict(os.environ), out, err))
        process.start()
        process.join(timeout_seconds)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout_seconds, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(command, process.exitcode, out.read_text(), err.read_text())


def _command(
    module: str, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str], out: Path, err: Path
) -> None:
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
