"""What tests share: one finished tiny sweep, made once (tests that alter it work on a copy), wandb's server, Slurm."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.folder import SweepFolder
from sweep.run_spec import read_plan
from tests import tiny
from tests.slurm_cluster import SlurmCluster, until, why_no_slurm
from tests.wandb_stub import WandbStub

_NO_SLURM = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sweeps/ and cache/ that the tests of one session share."""
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="session")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny sweep that went through to its verdict; of pytest's workers one makes it for all."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if session is None:
        _finish(base)
    else:
        first = tmp_path_factory.getbasetemp().parent / f"finished-{session}"
        with first.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (first / "sweeps" / "finished" / "report.html").exists():
                _finish(first)
        shutil.copytree(first, base, dirs_exist_ok=True)
    return base / "sweeps" / "finished"


def _finish(base: Path) -> None:
    done = tiny.launch(base, "finished")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def in_two_parts(base: Path, finished: Path) -> Path:
    """The finished sweep, its target trained again with three rows a pass: the additions that two ranks make."""
    folder = SweepFolder(Path(shutil.copytree(finished, base / "parts" / "sweeps" / "finished")))
    shutil.rmtree(folder.run(read_plan(folder).target.run_id).path)
    folder.verdict.unlink()
    done = tiny.launch(base / "parts", "finished", f"machine.cache_dir={base}/cache", "machine.rows_per_pass=3")
    assert done.returncode == 0, done.stderr
    return folder.path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished sweep with no other sweep beside it."""
    return Path(shutil.copytree(finished, tmp_path / "alone" / "finished"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch as the workers of all runs but the target have it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, key or folder of the user is read or written; rows are sent every second."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    for name in ("HOME", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")


@pytest.fixture
def stub(own_wandb: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbStub]:
    """A server that is up and the key to it."""
    with WandbStub() as server:
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    """A real Slurm with two nodes; a test leaves no job in it."""
    if reason := why_no_slurm():
        request.config.stash[_NO_SLURM] = reason
        pytest.skip(f"no Slurm: {reason}")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmCluster(Path(folder)) as cluster:
        yield cluster


@pytest.fixture
def cluster(slurm: SlurmCluster) -> Iterator[SlurmCluster]:
    """The session's cluster, its queue empty again afterwards."""
    yield slurm
    if jobs := slurm.run("squeue", "--noheader", "--format", "%F").split():
        slurm.run("scancel", *jobs)
    until(lambda: not slurm.run("squeue", "--noheader"))


@pytest.fixture
def own() -> Iterator[Callable[..., SlurmCluster]]:
    """Makes a one-node cluster of the test's own, with settings of its own."""
    if reason := why_no_slurm():
        pytest.skip(f"no Slurm: {reason}")
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> SlurmCluster:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-"))
            return stack.enter_context(SlurmCluster(Path(folder), num_nodes=1, **settings))

        yield make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if reason := config.stash.get(_NO_SLURM, ""):
        terminalreporter.write_line(f"NO SLURM: its tests were skipped: {reason}", red=True, bold=True)
