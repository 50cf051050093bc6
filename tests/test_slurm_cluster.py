"""The Slurm of the tests is one, and ends without a trace; what it does to jobs is in test_slurm_faults.py."""

import re
import tempfile
import time
from pathlib import Path

import pytest

from tests.slurm_cluster import SlurmCluster, until

pytestmark = pytest.mark.slow


def submit(cluster: SlurmCluster, tmp_path: Path, script: str, *options: str) -> str:
    """The id of a batch job that writes to out.<job>."""
    return cluster.run("sbatch", "--parsable", f"--output={tmp_path}/out.%j", *options, "--wrap", script).strip()


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


def seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))


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
