"""Who may write: an older life of an element lets go of its run, and gives up when it gets nowhere."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.cluster import lease as lease_module
from sweep.cluster.lease import Fenced, Holder, fenced, holder_here, holder_of, take
from sweep.cluster.life import MAX_DEATHS, begin, end, how_far, read_life
from sweep.errors import SweepError
from sweep.folder import RunFolder, SweepFolder, is_locked, locked, write_json
from tests.test_packing import runs_of

OLD = Holder("7_3", 0, "n1", 11)
NEW = Holder("7_3", 1, "n2", 12)


def test_the_holder_is_what_slurm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    assert (holder_here().element, holder_here().restart) == ("9", 0)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert (holder_here().element, holder_here().restart) == ("7_3", 2)


def test_an_older_holder_is_fenced_as_soon_as_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_CHECK_SECONDS", 0.05)
    path = tmp_path / "lease.json"
    assert holder_of(path) is None
    take(path, OLD)
    old, new = fenced(lambda: False, path, OLD), fenced(lambda: True, path, NEW)
    time.sleep(0.1)
    assert old() is False
    take(path, NEW)
    assert old() is False  # looked just now
    time.sleep(0.1)
    with pytest.raises(Fenced, match="held by 7_3 on n2 now"):
        old()
    assert new() is True
    path.write_text("not a lease")  # whoever reads half a disk's content goes on
    assert holder_of(path) is None


def test_an_earlier_life_can_not_take_a_run_back(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    for holder in (OLD, NEW, replace(NEW, pid=13), Holder("8_0", 0, "n1", 14), OLD, NEW):
        take(path, holder)  # the same life again, or another element: whoever comes later
    with pytest.raises(Fenced, match=r"held by 7_3 on n2 now \(restart 1\)"):
        take(path, OLD)
    assert holder_of(path) == NEW


def test_whether_a_run_is_at_work_can_be_asked_without_writing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert not is_locked(run.lock)
    assert not run.path.exists()
    run.path.mkdir()
    run.metrics.write_text('{"event": "started", "step": 0}\n')
    with locked(run.lock) as free:
        assert free
        assert is_locked(run.lock)
        assert is_locked(run.lock)
        assert run.state().reason == "at step 0"
    assert not is_locked(run.lock)
    assert "stopped after step 0" in run.state().reason


def test_an_element_gives_up_once_it_gets_nowhere(tmp_path: Path) -> None:
    folder, runs = SweepFolder(tmp_path), runs_of()[:2]
    path = tmp_path / "slurm" / "1-0.json"
    for deaths in range(MAX_DEATHS):
        assert begin(path, replace(OLD, restart=deaths), runs, folder)[1].deaths == deaths
    assert begin(path, replace(OLD, restart=MAX_DEATHS - 1), runs, folder)[1].deaths == MAX_DEATHS - 1  # the same life
    before = how_far(runs, folder)
    write_json(folder.run(runs[0].run_id).checkpoint, {"file": "latest-7.pt", "sha256": ""})
    assert how_far(runs, folder) != before
    for deaths in range(MAX_DEATHS):  # a checkpoint is progress: the count begins again
        assert begin(path, replace(NEW, restart=10 + deaths), runs, folder)[1].deaths == deaths
    with pytest.raises(SweepError, match=r"died 5 times.*(\n.*)*killed for its memory"):
        begin(path, replace(NEW, restart=99), runs, folder)
    life = read_life(path)
    assert life is not None
    assert (life.state, life.element, life.restart) == ("failed", "7_3", 99)


def test_a_stop_that_was_asked_for_is_no_death(tmp_path: Path) -> None:
    folder, runs = SweepFolder(tmp_path), runs_of()[:1]
    path = tmp_path / "slurm" / "1-0.json"
    for _ in range(2 * MAX_DEATHS):
        begun = begin(path, OLD, runs, folder)
        assert begun[1].deaths == 0
        end(begun, "stopped", "told to stop; saved")
