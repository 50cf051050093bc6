"""A tiny sweep on the tests' own Slurm: launched as a user does, and asked how it goes."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.forked import HUNG_SECONDS
from tests.slurm_cluster import SlurmCluster

ON_SLURM = ["machine=slurm", "machine.tracking=none", "machine.target_threads=1", "machine.slurm.memory=1G"]
ONE_EACH = ["machine.slurm.element_minutes=0.001"]
THREE_EACH = ["machine.slurm.seconds_per_run=20", "machine.slurm.element_minutes=1.1"]


def on(cluster: SlurmCluster, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **cluster.environment}
    return subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True, timeout=HUNG_SECONDS)


def use(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be on the cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


def launch(cluster: SlurmCluster, base: Path, cache: Path, *more: str) -> subprocess.CompletedProcess[str]:
    places = [f"sweeps_dir={base}/sweeps", f"machine.cache_dir={cache}", "name=finished"]
    return on(cluster, "sweep.launch", *tiny.OVERRIDES, *places, *ON_SLURM, *more)


def status(cluster: SlurmCluster, sweep: Path) -> dict[str, Any]:
    return json.loads(on(cluster, "sweep.status", str(sweep), "--json").stdout)


def queued(cluster: SlurmCluster) -> list[str]:
    return cluster.run("squeue", "--noheader", "-r", "--format", "%i %T").splitlines()


def logs(sweep: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted((sweep / "slurm" / "logs").glob("*")))


def is_job(pid: int) -> bool:
    """Whether a process is the Python of a job or one of its workers."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"sweep.job"]
    return False
