"""The faults of the drill: what a cluster does to a sweep's jobs, done on purpose to a private one.

A victim is a run in work, found in /proc: its worker holds the run's lock file open, and the worker's parent is the
Python process of a job. A fault that passes by itself on a real cluster (a full disk) gives back how it is ended.
"""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweep.folder import SweepFolder, read_json
from tests.slurm_cluster import SlurmCluster

_MIB = 1 << 20


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    arguments: tuple[str, ...]
    environment: dict[str, str]


@dataclass(frozen=True)
class Victim:
    """A run in work and the processes around it."""

    run_id: str
    worker: int
    python: int  # the job's process, the worker's parent
    part: str  # of its submission: 2-17 for the second one's group 17, 2-target
    element: str  # as Slurm's commands want it: 123_4, or 123
    job_id: str
    node: str


@dataclass
class Disk:
    """The small disk that the drill has mounted for its sweep."""

    path: Path

    def mount(self, mebibytes: int) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", self.path], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def fill(self) -> None:
        with suppress(OSError), (self.path / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(_MIB // 64))

    def empty(self) -> None:
        (self.path / "filler").unlink()

    def protect(self) -> None:
        """Lay a read-only mount of the disk over it: a disk with open files can't itself be made read-only by hand.

        The sweep opens its files anew each time it writes, so this is what it would see.
        """
        subprocess.run(["mount", "--bind", self.path, self.path], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", self.path], check=True)

    def release(self) -> None:
        self.unmount()


@dataclass
class Site:
    """Where faults happen."""

    cluster: SlurmCluster
    folder: SweepFolder
    disk: Disk | None
    generator: random.Random


Undo = Callable[[], None]


@dataclass(frozen=True)
class Kind:
    """``inject`` returns after how many seconds which action ends the fault, if it has to be ended."""

    name: str
    inject: Callable[[Site, Victim], tuple[float, Undo] | None]
    reach: str = "run"  # or node, or disk: who is hit
    seconds: float = 15.0  # a run that has gone on for so long was not disturbed


def processes(cluster: SlurmCluster) -> dict[int, Process]:
    """The processes of the cluster, by id."""
    found = {}
    for pid in cluster.processes():
        with suppress(OSError, ValueError):
            path = Path(f"/proc/{pid}")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            arguments = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            pairs = (path / "environ").read_bytes().decode(errors="replace").split("\0")
            environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            found[pid] = Process(pid, parent, tuple(arguments), environment)
    return found


def holders(found: dict[int, Process], folder: SweepFolder) -> dict[str, set[int]]:
    """Processes that have a run's lock file open, by run: its worker, and for an instant one that waits for it."""
    runs = str(folder.path.resolve() / "runs") + "/"
    by_run: dict[str, set[int]] = {}
    for process in found.values():
        if process.arguments[1:3] != ("-m", "sweep.job"):
            continue
        with suppress(OSError):
            for link in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith(runs) and target.endswith("/lock"):
                        by_run.setdefault(target.removeprefix(runs).split("/")[0], set()).add(process.pid)
    return by_run


def victims(found: dict[int, Process], folder: SweepFolder) -> list[Victim]:
    """The runs in work whose job is whole."""
    result = []
    for run_id, pids in holders(found, folder).items():
        for pid in pids:
            worker = found[pid]
            if (python := found.get(worker.parent)) is None or python.arguments != worker.arguments:
                continue
            _, _, _, stage, _, submission, group, *_ = python.arguments
            part = f"{submission}-{'target' if stage == 'target' else group}"
            variables = worker.environment
            job_id, array = variables["SLURM_JOB_ID"], variables.get("SLURM_ARRAY_JOB_ID")
            element = f"{array}_{variables['SLURM_ARRAY_TASK_ID']}" if array else job_id
            result.append(Victim(run_id, pid, python.pid, part, element, job_id, variables["SLURMD_NODENAME"]))
    return result


# ---- the faults -------------------------------------------------------------------------------


def _kill(pid: int | None) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _kill_worker(site: Site, victim: Victim) -> None:
    _kill(victim.worker)


def _kill_python(site: Site, victim: Victim) -> None:
    _kill(victim.python)


def _kill_step(site: Site, victim: Victim) -> None:
    _kill(processes(site.cluster)[victim.python].parent)


def _kill_srun(site: Site, victim: Victim) -> None:
    found = processes(site.cluster).values()
    _kill(next((p.pid for p in found if _of_job(p, victim) and p.arguments[0] == "srun"), None))


def _kill_batch(site: Site, victim: Victim) -> None:
    found = processes(site.cluster).values()
    _kill(next((p.pid for p in found if _of_job(p, victim) and p.arguments[1].endswith("slurm_script")), None))


def _of_job(process: Process, victim: Victim) -> bool:
    return process.environment.get("SLURM_JOB_ID") == victim.job_id and len(process.arguments) > 2


def _kill_slurmd(site: Site, victim: Victim) -> tuple[float, Undo]:
    site.cluster.kill_slurmd(victim.node)
    return site.generator.uniform(2, 8), lambda: site.cluster.start_slurmd(victim.node)


def _lose_node(site: Site, victim: Victim) -> tuple[float, Undo]:
    """As above, but the node is declared down, as the controller does by itself half a minute later.

    The jobs are started again on other nodes while the old processes run on.
    """
    site.cluster.kill_slurmd(victim.node)
    site.cluster.run("scontrol", "update", f"nodename={victim.node}", "state=down", "reason=drill")

    def bring_back() -> None:
        site.cluster.run("scontrol", "update", f"nodename={victim.node}", "state=resume")
        site.cluster.start_slurmd(victim.node)

    return 30.0, bring_back


def _requeue(site: Site, victim: Victim) -> None:
    site.cluster.run("scontrol", "requeue", victim.element)


def _warn(site: Site, victim: Victim) -> None:
    site.cluster.run("scancel", "-s", "USR1", victim.element)


def _time_limit(site: Site, victim: Victim) -> tuple[float, Undo]:
    limit = site.cluster.run("squeue", "-h", "-j", victim.element, "-o", "%l").strip()
    site.cluster.run("scontrol", "update", f"jobid={victim.element}", "EndTime=now+90")

    def lengthen() -> None:  # else the next life would have as short a time
        with suppress(subprocess.CalledProcessError):  # the job is gone
            site.cluster.run("scontrol", "update", f"jobid={victim.element}", f"TimeLimit={limit}")

    return 45.0, lengthen


def _preempt(site: Site, victim: Victim) -> None:
    options = ["--partition=urgent", f"--nodelist={victim.node}", "--exclusive", "--output=/dev/null"]
    site.cluster.run("sbatch", *options, "--wrap", "sleep 1")


def _fill_disk(site: Site, victim: Victim) -> tuple[float, Undo]:
    assert site.disk is not None
    site.disk.fill()
    return site.generator.uniform(3, 12), site.disk.empty


def _protect_disk(site: Site, victim: Victim) -> tuple[float, Undo]:
    assert site.disk is not None
    site.disk.protect()
    return site.generator.uniform(3, 12), site.disk.release


def _truncate(site: Site, victim: Victim) -> None:
    """Cut the newest checkpoint to half while its writer stands still, then kill the writer: it has to be read."""
    os.kill(victim.worker, signal.SIGSTOP)
    pointer = site.folder.run(victim.run_id).checkpoint
    if pointer.exists():
        state = pointer.with_name(read_json(pointer)["file"])
        os.truncate(state, state.stat().st_size // 2)
    _kill(victim.worker)


KINDS = (
    Kind("kill -9 of a worker", _kill_worker),
    Kind("kill -9 of the job's Python", _kill_python),
    Kind("kill -9 of srun", _kill_srun),
    Kind("kill -9 of the step's slurmstepd", _kill_step),
    Kind("kill -9 of the batch script", _kill_batch),
    Kind("kill -9 of slurmd", _kill_slurmd, "node", 12.0),
    Kind("kill -9 of slurmd, node given up", _lose_node, "node"),
    Kind("scontrol requeue", _requeue),
    Kind("signal ahead of the limit (scancel -s USR1)", _warn),
    Kind("time limit (EndTime=now+90)", _time_limit, "run", 60.0),
    Kind("preemption", _preempt, "node"),
    Kind("newest checkpoint truncated, worker killed", _truncate),
    Kind("disk full", _fill_disk, "disk"),
    Kind("disk read-only", _protect_disk, "disk"),
)
