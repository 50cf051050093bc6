"""What a cluster does not take is told at the launch, with what to do, and nothing is left half submitted."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.cluster import slurm as slurm_commands
from sweep.errors import SweepError
from sweep.folder import SweepFolder
from sweep.pipeline import run_pipeline
from tests import tiny
from tests.slurm_cluster import SlurmCluster, until
from tests.slurm_sweep import ON_SLURM, ONE_EACH, launch, queued, use


@pytest.mark.slow
def test_what_a_cluster_refuses_is_named_and_nothing_is_left_in_the_queue(
    own: Callable[..., SlurmCluster], tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = "PartitionName=closed Nodes=ALL AllowAccounts=lab\nPartitionName=short Nodes=ALL MaxTime=10"
    cluster = own(extra_config=f"EnforcePartLimits=ALL\n{closed}")
    use(cluster, monkeypatch)
    for more, found, todo in (
        (["machine.slurm.partition=nowhere"], "invalid partition", "sinfo lists"),
        (["machine.slurm.partition=closed", "machine.slurm.account=me"], "Invalid account", "machine.slurm.account"),
        (["machine.slurm.partition=short"], "time limit is invalid", "lower machine.slurm.max_minutes"),
        (['machine.slurm.gres="gpu:9"'], "node configuration is not available", "machine.slurm.gres"),
        (["machine.slurm.extra=[--no-such]"], "unrecognized option", "mend what Slurm names"),
        # Only the target is refused, after the arrays could be submitted: all or nothing.
        (["machine.slurm.target_cpus=999"], "More processors requested", "ask for less"),
    ):
        with pytest.raises(SweepError) as refused:
            run_pipeline(
                tiny.spec_of(*tiny.overrides(tmp_path, "refused", f"machine.cache_dir={base}/cache"), *ON_SLURM, *more)
            )
        assert found in refused.value.args[0]
        assert todo in refused.value.args[2]
        assert queued(cluster) == []


@pytest.mark.slow
def test_arrays_are_no_longer_than_the_cluster_allows(
    own: Callable[..., SlurmCluster], tmp_path: Path, base: Path
) -> None:
    cluster = own(max_array_size=4)
    held = ["machine.slurm.extra=[--hold]", "machine.slurm.max_running=5"]
    done = launch(cluster, tmp_path, base / "cache", *ONE_EACH, *held)
    assert done.returncode == 0, done.stderr
    arrays = re.search(r"slurm: runs (\d+) (\d+)\n", done.stderr)
    assert arrays
    first, second = arrays.groups()
    elements = [line.split()[0] for line in queued(cluster) if "_" in line]
    assert sorted(elements) == [f"{first}_{task}" for task in range(4)] + [f"{second}_{task}" for task in range(2)]
    names = dict(line.split() for line in cluster.run("squeue", "-h", "-o", "%A %j").splitlines())
    assert (names[first].rsplit(".", 1)[1], names[second].rsplit(".", 1)[1]) == ("0", "4")  # first group
    for array in (first, second):
        assert "ArrayTaskThrottle=2 " in cluster.run("scontrol", "show", "job", array)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hide a folder from a node")
def test_nodes_that_do_not_see_the_folder_are_told_at_the_launch(
    own: Callable[..., SlurmCluster], tmp_path: Path, base: Path
) -> None:
    cluster = own(hidden=tmp_path)
    blind = launch(cluster, tmp_path, base / "cache")
    assert blind.returncode == 2
    assert re.search(r"job \d+_0 started and ended at once and left nothing in", blind.stderr)
    assert "put sweeps_dir, machine.cache_dir and .venv on a disk that the nodes share" in blind.stderr
    until(lambda: not queued(cluster))


@pytest.mark.slow
def test_a_full_queue_leaves_nothing_half_submitted(
    own: Callable[..., SlurmCluster], tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue takes the array of six and two jobs more; the next call of sbatch waits for ever."""
    cluster = own(extra_config="MaxJobCount=8")
    use(cluster, monkeypatch)
    monkeypatch.setattr(slurm_commands, "_TIMEOUT_SECONDS", 4.0)
    places = [f"sweeps_dir={tmp_path}", f"machine.cache_dir={base}/cache"]
    spec = tiny.spec_of(*tiny.OVERRIDES, *places, *ON_SLURM, *ONE_EACH, "machine.slurm.extra=[--hold]")
    with pytest.raises(SweepError, match=r"sbatch did not come to an end .*temporarily un(.*\n)*.*queue is full"):
        run_pipeline(spec)
    until(lambda: not queued(cluster))


def test_without_slurm_the_launch_says_what_is_missing(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    done = tiny.launch(base, "no_slurm", *ON_SLURM, f"sweeps_dir={tmp_path}")
    assert done.returncode == 2
    assert "squeue is not on the path" in done.stderr
    assert "machine=local" in done.stderr
    assert not (tmp_path / "no_slurm" / "slurm").exists()


def test_submissions_come_back_as_they_were_written(tmp_path: Path) -> None:
    from sweep.cluster.submission import Submission, read_submission, submissions, write_submission

    folder = SweepFolder(tmp_path)
    machine = tiny.spec_of("machine=slurm").machine
    written = Submission(3, [["a", "b"], ["c"]], machine, "/corpus", "t", "python -m sweep.launch", "stood")
    write_submission(folder, written)
    (tmp_path / "slurm" / "3-0.json").write_text("{}")
    assert submissions(folder) == [3]
    assert read_submission(folder, 3) == written
    with pytest.raises(SweepError, match=r"4\.json can't be read"):
        read_submission(folder, 4)
