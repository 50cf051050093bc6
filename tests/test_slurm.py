"""A sweep on a real Slurm: the chain goes through by itself, and what users do to it in between is understood."""

import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from sweep.folder import SweepFolder, read_json
from sweep.run_spec import read_plan
from tests import tiny
from tests.slurm_cluster import SlurmCluster, until
from tests.slurm_sweep import THREE_EACH, is_job, launch, logs, on, queued, status
from tests.test_train import measured


@pytest.mark.slow
def test_the_chain_goes_through_by_itself_and_gives_what_this_machine_gives(
    cluster: SlurmCluster, tmp_path: Path, base: Path, finished: Path
) -> None:
    """Two launches in a row: the second submits nothing. Losses, forecast and verdict are those of a local sweep."""
    first = launch(cluster, tmp_path, base / "cache", *THREE_EACH)
    assert first.returncode == 0, first.stderr
    assert re.search(r"slurm: runs \d+\nslurm: forecast \d+\nslurm: target \d+\nslurm: report \d+\n", first.stderr)
    before = len(queued(cluster))
    second = launch(cluster, tmp_path, base / "cache", *THREE_EACH)
    assert "nothing submitted" in second.stderr
    assert len(queued(cluster)) <= before
    sweep = tmp_path / "sweeps" / "finished"
    until(lambda: (sweep / "report.html").exists() or not queued(cluster))
    assert measured(sweep) == measured(finished), logs(sweep)
    for name, key in (("fit.json", "prediction"), ("fit.json", "low"), ("verdict.json", "held")):
        assert read_json(sweep / name)[key] == read_json(finished / name)[key]
    until(lambda: not queued(cluster))
    after = status(cluster, sweep)
    assert {run["status"] for run in after["runs"]} == {"done"}
    assert {run["requeued"] for run in after["runs"]} == {0}
    assert after["next"].startswith("nothing: see")
    assert len({run["job"] for run in after["runs"]}) == 3  # two elements and the target
    third = launch(cluster, tmp_path, base / "cache", *THREE_EACH)
    assert "nothing submitted" in third.stderr
    assert queued(cluster) == []


@pytest.mark.slow
def test_what_somebody_cancels_stays_cancelled_and_a_launch_goes_on(
    cluster: SlurmCluster, tmp_path: Path, base: Path, finished: Path
) -> None:
    """scancel of the array alone; then the script by hand, which is known like any other job; then a launch."""
    assert launch(cluster, tmp_path, base / "cache").returncode == 0
    sweep = tmp_path / "sweeps" / "finished"
    folder = SweepFolder(sweep)

    def is_training() -> bool:
        return any(folder.run(run.run_id).state().step for run in read_plan(folder).fit_runs)

    until(is_training)
    (array,) = {line.partition("_")[0] for line in queued(cluster) if "_" in line}
    cluster.run("scancel", array)
    until(lambda: not queued(cluster))  # the forecast submits nothing again, the target is dropped
    assert len(list((sweep / "slurm").glob("[0-9].json"))) == 1
    stopped = status(cluster, sweep)
    assert "machine=slurm" in stopped["next"]
    (forecast,) = [job for job in stopped["queue"]["failed_jobs"] if job["part"] == "1-forecast"]
    assert "runs are not done since their job was cancelled" in forecast["how"]
    assert on(cluster, "sweep.cancel", str(sweep)).stdout.startswith("no job of ")

    script = ["--array=0", f"--output={tmp_path}/by-hand", "slurm/runs.sbatch", sys.executable, str(sweep), "1"]
    by_hand = cluster.run(
        "sbatch", "--parsable", f"--chdir={tiny.ROOT}", script[0], script[1], str(tiny.ROOT / script[2]), *script[3:]
    )
    until(lambda: read_json(sweep / "slurm" / "1-0.json")["element"] == f"{by_hand.strip()}_0")
    trainings = [pid for pid in cluster.processes() if is_job(pid)]
    for pid in trainings:  # else it may be done before the next launch asks
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    assert status(cluster, sweep)["queue"]["states"].get("runs running") == 1
    on_this_machine = tiny.overrides(tmp_path, "finished", f"machine.cache_dir={base}/cache")
    refused = on(cluster, "sweep.launch", *on_this_machine)
    assert refused.returncode == 2
    assert "jobs of" in refused.stderr
    for pid in trainings:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert on(cluster, "sweep.cancel", str(sweep)).stdout.startswith("cancelled: ")
    assert queued(cluster) == []  # it has waited for them
    assert launch(cluster, tmp_path, base / "cache").returncode == 0
    until(lambda: (sweep / "report.html").exists() or not queued(cluster))
    assert measured(sweep) == measured(finished), logs(sweep)


@pytest.mark.slow
def test_a_submission_that_is_lost_is_told_and_cancel_mends_it(
    cluster: SlurmCluster, tmp_path: Path, base: Path
) -> None:
    assert launch(cluster, tmp_path, base / "cache", "machine.slurm.extra=[--hold]").returncode == 0
    sweep = tmp_path / "sweeps" / "finished"
    lost = sweep / "slurm" / "1.json"
    lost.write_text(lost.read_text()[:100])
    (told,) = status(cluster, sweep)["queue"]["failed_jobs"]
    assert "1.json can't be read" in told["how"]
    again = launch(cluster, tmp_path, base / "cache")
    assert again.returncode == 2
    assert "python -m sweep.cancel" in again.stderr
    assert on(cluster, "sweep.cancel", str(sweep)).returncode == 0
    lost.unlink()
    assert launch(cluster, tmp_path, base / "cache", "machine.slurm.extra=[--hold]").returncode == 0
    assert len(queued(cluster)) == 4


@pytest.mark.slow
def test_a_run_that_fails_twice_stops_and_is_named(cluster: SlurmCluster, tmp_path: Path, base: Path) -> None:
    """A folder where a file should be: writing the first checkpoint fails, again and again."""
    assert launch(cluster, tmp_path, base / "cache", "machine.slurm.extra=[--hold]").returncode == 0
    sweep = tmp_path / "sweeps" / "finished"
    folder = SweepFolder(sweep)
    victim = folder.run(read_plan(folder).fit_runs[1].run_id)
    (victim.path / "checkpoint").parent.mkdir(parents=True)
    (victim.path / "checkpoint").write_text("in the way")
    cluster.run("scontrol", "release", *{line.split()[0].split("_")[0] for line in queued(cluster)})
    until(lambda: not queued(cluster))
    after = status(cluster, sweep)
    states = {run["run_id"]: run for run in after["runs"]}
    failed = states[victim.path.name]
    assert failed["status"] == "failed"
    assert "checkpoint" in failed["reason"]
    assert [run["status"] for run in after["runs"]].count("done") == 5
    assert not folder.seal.exists()
    failures = {job["part"]: job for job in after["queue"]["failed_jobs"]}
    assert set(failures) == {"1-0", "1-forecast", "1-report"}
    assert victim.path.name in " ".join([failures["1-0"]["how"], *failures["1-0"]["log"]])
    assert "has no forecast" in failures["1-report"]["how"]
    assert "mend what stopped the 1 failed runs, then go on with" in after["next"]
    assert logs(sweep).count("failed: ") == 2  # tried twice
    assert f"{victim.path.name}" in on(cluster, "sweep.status", str(sweep)).stdout
    (victim.path / "checkpoint").unlink()
    assert launch(cluster, tmp_path, base / "cache").returncode == 0
    until(lambda: (sweep / "report.html").exists() or not queued(cluster))
    assert (sweep / "verdict.json").exists(), logs(sweep)


@pytest.mark.slow
def test_a_target_on_two_tasks_of_a_node_survives_its_time_limit(
    cluster: SlurmCluster, tmp_path: Path, base: Path, in_two_parts: Path
) -> None:
    """srun starts both ranks; warned of the limit they stop at one step, and go on to the loss of one in two parts."""
    two = ["machine.devices=2", "machine.strategy=ddp", "machine.slurm.target_cpus=1"]
    done = launch(cluster, tmp_path, base / "cache", *two)
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "sweeps" / "finished"
    folder = SweepFolder(sweep)
    plan = read_plan(folder)
    target = folder.run(plan.target.run_id)
    until(lambda: bool(target.rows()) and target.state().step > 0)
    (job,) = [line.split()[0] for line in cluster.run("squeue", "-h", "-o", "%A %j").splitlines() if ".target." in line]
    cluster.run("scancel", "-s", "USR1", job)
    until(lambda: (sweep / "report.html").exists() or not queued(cluster))
    assert read_json(sweep / "slurm" / "1-target.json")["restart"] == 1, logs(sweep)
    assert [row["step"] > 0 for row in target.rows() if row.get("event") == "resumed"] == [True]
    machine = read_json(target.train)["machine"]
    assert (machine["strategy"], machine["per_node"]) == ("ddp", 2)
    assert read_json(sweep / "verdict.json")["measured"] == read_json(in_two_parts / "verdict.json")["measured"]
