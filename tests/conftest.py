"""One finished tiny sweep, made once; tests that alter it work on a copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sweeps/ and cache/ that the tests of one session share."""
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="session")
def finished(base: Path) -> Path:
    """The folder of a tiny sweep that went through to its verdict."""
    done = tiny.launch(base, "finished")
    assert done.returncode == 0, done.stderr
    return base / "sweeps" / "finished"


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
