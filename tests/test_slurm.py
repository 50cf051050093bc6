"""A sweep on a real Slurm: the chain goes through by itself, and what a cluster does to jobs changes no loss."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep import slurm as slurm_commands
from sweep.errors import SweepError
from sweep.folder import SweepFolder, read_json
from sweep.pipeline import run_pipeline
from sweep.run_spec import read_plan
from tests import tiny
from tests.slurm_cluster import SlurmCluster, until, why_no_slurm
from tests.test_train import measured

ON_SLURM = ["machine=slurm", "machine.tracking=none", "machine.target_threads=2", "machine.slurm.memory=1G"]
ONE_EACH = ["machine.slurm.element_minutes=0.001"]


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


def on(cluster: SlurmCluster, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **cluster.environment}
    return subprocess.run(command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True, timeout=300)


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


@pytest.mark.slow
def test_the_chain_goes_through_by_itself_and_gives_what_this_machine_gives(
    cluster: SlurmCluster, tmp_path: Path, base: Path, finished: Path
) -> None:
    """Two launches in a row: the second submits nothing. Losses, forecast and verdict are those of a local sweep."""
    first = launch(cluster, tmp_path, base / "cache", *ONE_EACH)
    assert first.returncode == 0, first.stderr
    assert re.search(r"slurm: runs \d+\nslurm: forecast \d+\nslurm: target \d+\nslurm: report \d+\n", first.stderr)
    before = len(queued(cluster))
    second = launch(cluster, tmp_path, base / "cache", *ONE_EACH)
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
    assert len({run["job"] for run in after["runs"]}) == 7
    third = launch(cluster, tmp_path, base / "cache", *ONE_EACH)
    assert "nothing submitted" in third.stderr
    assert queued(cluster) == []


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


def is_job(pid: int) -> bool:
    """Whether a process is the Python of a job or one of its workers."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"sweep.job"]
    return False


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
    cluster.run("sbatch", f"--chdir={tiny.ROOT}", script[0], script[1], str(tiny.ROOT / script[2]), *script[3:])
    until(lambda: status(cluster, sweep)["queue"]["states"].get("runs running") == 1)
    on_this_machine = tiny.overrides(tmp_path, "finished", f"machine.cache_dir={base}/cache")
    refused = on(cluster, "sweep.launch", *on_this_machine)
    assert refused.returncode == 2
    assert "jobs of" in refused.stderr
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
    from sweep.submission import Submission, read_submission, submissions, write_submission

    folder = SweepFolder(tmp_path)
    machine = tiny.spec_of("machine=slurm").machine
    written = Submission(3, [["a", "b"], ["c"]], machine, "/corpus", "t", "python -m sweep.launch", "stood")
    write_submission(folder, written)
    (tmp_path / "slurm" / "3-0.json").write_text("{}")
    assert submissions(folder) == [3]
    assert read_submission(folder, 3) == written
    with pytest.raises(SweepError, match=r"4\.json can't be read"):
        read_submission(folder, 4)


@pytest.mark.slow
def test_a_target_on_two_tasks_of_a_node_survives_its_time_limit(
    cluster: SlurmCluster, tmp_path: Path, base: Path, finished: Path
) -> None:
    """srun starts both ranks; warned of the limit they stop at one step, and go on to the same loss as forked ranks."""
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
    alone, shared = read_json(finished / "verdict.json")["measured"], read_json(sweep / "verdict.json")["measured"]
    assert shared == pytest.approx(alone, abs=5e-3)  # rounding, grown over a whole run; another seed is 0.03 off
