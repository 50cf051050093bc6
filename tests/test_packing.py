"""Packing: which runs share an element, how long they are thought to take."""

from dataclasses import replace
from pathlib import Path

import pytest

from sweep.cluster.packing import estimate, pack, time_limit_minutes
from sweep.corpus import FORMAT, Corpus
from sweep.errors import SweepError
from sweep.folder import SweepFolder, write_json
from sweep.plan import make_plan
from sweep.run_spec import PlannedRun
from sweep.spec import SlurmSpec
from tests import tiny

CORPUS = {
    **{"sha256": "c", "files": {}, "train": {"tokens": 10**9}, "held_out": {"tokens": 10**6}, "near_duplicates": 0},
    "mixture": [{"source": "code", "tokens": 10**9, "weight": None}],
}


def runs_of(*more: str) -> list[PlannedRun]:
    return make_plan(tiny.spec_of(*tiny.OVERRIDES, *more), CORPUS).runs


def slurm_of(*more: str) -> SlurmSpec:
    slurm = tiny.spec_of("machine=slurm", *more).machine.slurm
    assert slurm is not None
    return slurm


def test_long_runs_stand_alone_and_short_ones_share() -> None:
    """Seconds 100, 60, 30, 20, 10, 5 into elements of 60: a table made by hand."""
    runs = runs_of()[:6]
    seconds = dict(zip([run.run_id for run in runs], [10.0, 100.0, 5.0, 30.0, 60.0, 20.0], strict=True))
    groups = pack(runs, lambda run: seconds[run.run_id], at_once=1, seconds=60)
    assert [[seconds[run_id] for run_id in group.run_ids] for group in groups] == [[100], [60], [30, 20, 10], [5]]
    assert [group.seconds for group in groups] == [100, 60, 60, 5]
    two = pack(runs, lambda run: seconds[run.run_id], at_once=2, seconds=60)
    assert [[seconds[run_id] for run_id in group.run_ids] for group in two] == [[100], [60, 30, 20, 10], [5]]
    assert [group.seconds for group in two] == [100, 60, 5]
    assert pack([], lambda run: 1.0, 1, 60) == []


def test_runs_of_one_trunk_stay_together_in_order() -> None:
    runs = runs_of(*tiny.ISOFLOP)
    groups = pack(runs, lambda run: 100.0, at_once=1, seconds=1)
    by_id = {run.run_id: run for run in runs}
    assert len(groups) == 3  # as many as sizes
    for group in groups:
        assert [by_id[run_id].branches_from for run_id in group.run_ids] == [None, *group.run_ids[:-1]]
        assert group.seconds == 200


def test_the_estimate_is_the_speed_of_the_finished_run_nearest_in_size(tmp_path: Path) -> None:
    machine = tiny.spec_of("machine=slurm", "machine.flops_per_second=1e8").machine
    slurm = slurm_of("machine.slurm.seconds_per_run=7")
    folder = SweepFolder(tmp_path / "sweeps" / "new")
    small, large = replace(runs_of()[0], flops=1e9), replace(runs_of()[0], flops=1e12)
    assert estimate(folder, machine, slurm)(small) == 10 + 7

    def finished(name: str, flops: float, seconds: float, accelerator: str = "cpu") -> None:
        device = {"accelerator": accelerator, "precision": "32-true"}
        run = {"status": "done", "flops": flops, "train_seconds": seconds, "machine": device}
        write_json(tmp_path / "sweeps" / "old" / "runs" / name / "train.json", run)

    finished("a", 2e9, 1)
    finished("b", 4e11, 20)
    finished("c", 1e9, 1e-3, accelerator="cuda")
    (tmp_path / "sweeps" / "old" / "runs" / "b" / "train.json.corrupt-1").write_text("{}")
    seconds_of = estimate(folder, machine, slurm)
    assert seconds_of(small) == pytest.approx(0.5 + 7)
    assert seconds_of(large) == pytest.approx(50 + 7)


def test_time_limits() -> None:
    slurm = slurm_of("machine.slurm.max_minutes=120", "machine.slurm.signal_seconds=120")
    limits = [time_limit_minutes(seconds, slurm) for seconds in (0, 600, 3600, 10**6)]
    assert limits == [5, 18, 93, 120]
    with pytest.raises(SweepError, match="max_minutes is 3, the signal comes 120 s earlier"):
        time_limit_minutes(10, slurm_of("machine.slurm.max_minutes=3"))


def test_the_corpus_of_a_job_is_the_one_that_was_planned_with(tmp_path: Path) -> None:
    from sweep.corpus import open_corpus

    write_json(tmp_path / "corpus.json", {"format": FORMAT, "files": {}, "document_files": {}, "sha256": "abc"})
    assert isinstance(open_corpus(tmp_path, "abc"), Corpus)
    for folder, sha256 in ((tmp_path, "def"), (tmp_path / "nowhere", "abc")):
        with pytest.raises(SweepError, match=r"no corpus for this plan.*(\n.*)*shared disk"):
            open_corpus(folder, sha256)
