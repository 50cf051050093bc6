"""What a cluster does to the jobs of a sweep, on a real Slurm, changes no loss."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sweep.folder import SweepFolder, read_json
from sweep.run_spec import read_plan
from tests.slurm_cluster import SlurmCluster, until
from tests.slurm_sweep import is_job, launch, logs, queued
from tests.test_train import measured


@pytest.mark.slow
def test_requeues_kills_and_the_time_limit_lose_nothing(
    cluster: SlurmCluster, tmp_path: Path, base: Path, finished: Path
) -> None:
    """All small runs in one element: warned of its time limit, killed, requeued. The target: preempted."""
    quick = ["machine.checkpoint_seconds=0.2"]
    done = launch(cluster, tmp_path, base / "cache", *quick)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "sweeps" / "finished"
    folder = SweepFolder(sweep)
    plan = read_plan(folder)
    (element,) = [line.split()[0] for line in queued(cluster) if "_" in line]

    def restarts(part: str) -> int:
        life = sweep / "slurm" / f"1-{part}.json"
        return read_json(life)["restart"] if life.exists() else -1

    def steps() -> int:
        return sum(folder.run(run.run_id).state().step for run in plan.fit_runs)

    def in_the_midst_of(part: str) -> None:
        begun = steps()
        until(lambda: restarts(part) == expected and steps() > begun)

    expected = 0
    in_the_midst_of("0")
    cluster.run("scancel", "-s", "USR1", element)
    expected = 1
    in_the_midst_of("0")
    for pid in cluster.processes():
        if is_job(pid):
            os.kill(pid, signal.SIGKILL)
    expected = 2
    in_the_midst_of("0")
    (python,) = [pid for pid in cluster.processes() if is_job(pid) and not is_job(parent_of(pid))]
    os.kill(parent_of(python), signal.SIGKILL)  # slurmstepd: srun may never hear of the end
    expected = 3
    in_the_midst_of("0")
    cluster.run("scontrol", "requeue", element)
    target = folder.run(plan.target.run_id)
    until(lambda: bool(target.rows()) and target.state().step > 0)
    preempts = ["--partition=urgent", "--nodes=2", "--exclusive", "--wrap", "sleep 1", f"--output={tmp_path}/urgent"]
    cluster.run("sbatch", *preempts)
    until(lambda: (sweep / "report.html").exists() or not queued(cluster))
    assert measured(sweep) == measured(finished), logs(sweep)
    assert (restarts("0"), restarts("target")) == (4, 1)
    for run in plan.runs:
        rows = [row["step"] for row in folder.run(run.run_id).rows() if "event" not in row]
        assert rows == sorted(set(rows))
        assert rows[-1] == run.spec.num_steps


@pytest.mark.slow
def test_an_element_that_outlives_its_node_gives_way(
    cluster: SlurmCluster, tmp_path: Path, base: Path, finished: Path
) -> None:
    """The daemon of a node is killed, its job runs on, and Slurm starts the element again on the other node."""
    assert launch(cluster, tmp_path, base / "cache", "machine.checkpoint_seconds=0.2").returncode == 0
    sweep = tmp_path / "sweeps" / "finished"
    folder = SweepFolder(sweep)
    life = sweep / "slurm" / "1-0.json"
    until(lambda: any(folder.run(run.run_id).state().step for run in read_plan(folder).fit_runs))
    node = cluster.run("squeue", "-h", "-t", "RUNNING", "-o", "%N").strip()
    orphans = [pid for pid in cluster.processes() if is_job(pid)]
    assert orphans
    for pid in orphans:  # else it would be done before the node is given up
        os.kill(pid, signal.SIGSTOP)
    cluster.kill_slurmd(node)
    try:
        until(lambda: read_json(life)["restart"] == 1)
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        until(lambda: (sweep / "report.html").exists() or not queued(cluster))
    finally:
        cluster.start_slurmd(node)
    assert measured(sweep) == measured(finished), logs(sweep)
    after = read_json(life)
    # The old life's srun may still abort the step of its number, which is the new life's; its script requeues nobody.
    assert after["restart"] <= 2, logs(sweep)
    assert after["state"] == "done"
    assert not [pid for pid in orphans if Path(f"/proc/{pid}").exists()]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a disk read-only")
def test_a_disk_that_can_not_be_written_for_a_while_ends_no_job(
    cluster: SlurmCluster, tmp_path: Path, base: Path, finished: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", disk], check=True)
    try:
        assert launch(cluster, disk, base / "cache", "machine.checkpoint_seconds=0.2").returncode == 0
        sweep = disk / "sweeps" / "finished"
        folder = SweepFolder(sweep)
        until(lambda: any(folder.run(run.run_id).state().step for run in read_plan(folder).fit_runs))
        # Open files forbid to make the disk read-only itself, so a read-only view of it is laid over.
        subprocess.run(["mount", "--bind", disk, disk], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
        time.sleep(2)
        subprocess.run(["umount", "--lazy", disk], check=True)
        until(lambda: (sweep / "report.html").exists() or not queued(cluster))
        assert measured(sweep) == measured(finished), logs(sweep)
        assert read_json(sweep / "slurm" / "1-0.json")["restart"] == 0
        assert "Read-only file system" in logs(sweep)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
