"""The Slurm of the tests is one: it runs, limits, requeues, preempts, loses a node; it ends without a trace."""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(slurm: SlurmCluster) -> Iterator[SlurmCluster]:
    """The session's cluster, its queue empty again afterwards."""
    yield slurm
    if jobs := slurm.run("squeue", "--noheader", "--format", "%F").split():
        slurm.run("scancel", *jobs)
    until(lambda: not slurm.run("squeue", "--noheader"))


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def submit(cluster: SlurmCluster, tmp_path: Path, script: str, *options: str) -> str:
    """The id of a batch job that writes to out.<job> or out.<array>_<index> and goes on there after a requeue."""
    output = tmp_path / ("out.%A_%a" if any("--array" in option for option in options) else "out.%j")
    common = ("--parsable", "--requeue", "--open-mode=append", f"--output={output}")
    return cluster.run("sbatch", *common, *options, "--wrap", script).strip()


RUN_TWICE = 'echo run $SLURM_RESTART_COUNT; [ -n "$SLURM_RESTART_COUNT" ] || sleep 100'


def field(cluster: SlurmCluster, job: str, name: str) -> str:
    found = re.search(rf"\b{name}=(\S+)", cluster.run("scontrol", "show", "job", job))
    assert found
    return found[1]


def said(output: Path) -> list[str]:
    """The lines of the job itself; Slurm adds some about its end."""
    written = output.read_text().splitlines() if output.exists() else []
    return [line for line in written if not line.startswith("slurmstepd")]


def test_a_job_runs_with_the_gpu_it_asked_for(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES", "--gres=gpu:1")
    until(lambda: field(cluster, job, "JobState") == "COMPLETED")
    (line,) = said(tmp_path / f"out.{job}")
    node, gpu = line.split()
    assert node in cluster.nodes
    assert gpu in ("0", "1")


def test_an_array_keeps_its_limit_and_its_largest_index(cluster: SlurmCluster, tmp_path: Path) -> None:
    """Each element counts the elements at work with it: at some time two, never three."""
    at_work = tmp_path / "at_work"
    at_work.mkdir()
    count = f"touch {at_work}/$SLURM_JOB_ID; ls {at_work} | wc -l; sleep 0.5; rm {at_work}/$SLURM_JOB_ID"
    job = submit(cluster, tmp_path, count, "--array=0-5%2")
    until(lambda: cluster.run("squeue", "--noheader", "--job", job) == "")
    counts = [int(said(tmp_path / f"out.{job}_{index}")[0]) for index in range(6)]
    assert max(counts) == 2
    submit(cluster, tmp_path, "true", "--array=1000")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        submit(cluster, tmp_path, "true", "--array=1001")
    assert "Invalid job array" in refused.value.stderr


def test_one_element_of_an_array_is_requeued(cluster: SlurmCluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, RUN_TWICE, "--array=0-1")
    outputs = [tmp_path / f"out.{job}_{index}" for index in range(2)]
    until(lambda: all(len(said(output)) == 1 for output in outputs))
    cluster.run("scontrol", "requeue", f"{job}_1")
    until(lambda: said(outputs[1]) == ["run", "run 1"])
    assert said(outputs[0]) == ["run"]


def test_a_requeued_job_may_start_within_seconds(cluster: SlurmCluster, tmp_path: Path) -> None:
    """By Slurm's own clock, so a busy machine can't change it; it is two minutes unless configured."""
    job = submit(cluster, tmp_path, "sleep 100", "--array=7")
    until(lambda: field(cluster, f"{job}_7", "JobState") == "RUNNING")
    cluster.run("scontrol", "requeue", f"{job}_7")
    until(lambda: field(cluster, f"{job}_7", "Restarts") == "1")
    requeued, eligible = (field(cluster, f"{job}_7", name) for name in ("SubmitTime", "EligibleTime"))
    assert seconds(eligible) - seconds(requeued) <= 15


def seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))


def test_an_urgent_job_takes_the_place_of_another_which_goes_on_later(cluster: SlurmCluster, tmp_path: Path) -> None:
    usual = submit(cluster, tmp_path, RUN_TWICE, "--nodes=2", "--exclusive")
    until(lambda: len(said(tmp_path / f"out.{usual}")) == 1)
    urgent = submit(cluster, tmp_path, "echo urgent", "--nodes=2", "--exclusive", "--partition=urgent")
    until(lambda: said(tmp_path / f"out.{urgent}") == ["urgent"])
    until(lambda: said(tmp_path / f"out.{usual}") == ["run", "run 1"])


def test_a_job_whose_node_died_starts_on_the_other_one(cluster: SlurmCluster, tmp_path: Path) -> None:
    script = 'echo $SLURMD_NODENAME; [ -n "$SLURM_RESTART_COUNT" ] || sleep 100'
    job = submit(cluster, tmp_path, script)
    output = tmp_path / f"out.{job}"
    until(lambda: len(said(output)) == 1)
    (dead,) = said(output)
    (other,) = set(cluster.nodes) - {dead}
    cluster.kill_slurmd(dead)
    until(lambda: said(output) == [dead, other])
    cluster.start_slurmd(dead)
    back = submit(cluster, tmp_path, "echo back", f"--nodelist={dead}", "--wait")
    assert said(tmp_path / f"out.{back}") == ["back"]


def test_stopping_leaves_no_process_whatever_jobs_did(slurm: SlurmCluster) -> None:
    """A cluster of its own, left by an exception: jobs that ignore TERM or left their session, a dead slurmd."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        second = SlurmCluster(Path(folder), num_nodes=1, gpus=1)
        with pytest.raises(KeyError, match="a test that failed"), second:
            submit(second, Path(folder), "trap '' TERM; setsid --fork sleep 3000; while true; do sleep 1; done")
            submit(second, Path(folder), "srun --export=ALL setsid --fork sleep 3000; exec sleep 3000")
            until(lambda: sum(name == "sleep" for name in names(second)) >= 3)
            second.kill_slurmd("n1")
            raise KeyError("a test that failed")
        assert names(second) == []
        assert {"munged", "slurmctld", "slurmd"} <= set(names(slurm))  # the other cluster runs on


def names(cluster: SlurmCluster) -> list[str]:
    return [Path(f"/proc/{pid}/comm").read_text().strip() for pid in cluster.processes()]


def test_a_cluster_that_does_not_start_says_why_and_leaves_nothing(slurm: SlurmCluster) -> None:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        wrong = SlurmCluster(Path(folder), extra_config="NoSuchOption=1")
        with pytest.raises(RuntimeError, match="NoSuchOption"), wrong:
            pass
        assert names(wrong) == []


def test_a_folder_too_long_for_sockets_is_refused(slurm: SlurmCluster, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="characters"):
        SlurmCluster(tmp_path / ("long" * 20))
