"""A real Slurm of one's own for tests: munged, slurmctld and some slurmd on loopback, as whoever runs the tests.

    with SlurmCluster(folder) as cluster:
        cluster.run("sbatch", "--wrap", "hostname")

The nodes are fictitious in size (``config_overrides``) and their GPUs are links to /dev/null, so that scripts for
a real cluster run unchanged. All daemons are children in the foreground: they are known by their process and end
with the tests, also when those are killed.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.forked import HUNG_SECONDS

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
ANY_ADDRESS_VARIABLE = "SLURM_TESTS_ON_ANY_ADDRESS"
_LOOPBACK = "127.0.0.1"
_MAX_FOLDER_LENGTH = 70  # of the 107 characters of a UNIX socket's path; Slurm appends the node and the step
_START_SECONDS, _STOP_SECONDS, _COMMAND_SECONDS = 300.0, 20.0, 300.0
_CANCEL_SECONDS = 5.0  # after KillWait the jobs are gone, but for those on a node without a daemon
_POLL_SECONDS = 0.05
_SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # daemons lie where users don't look

# cred_expire: a requeued job waits until its old credential has expired, two minutes by default.
# KillWait, SlurmdTimeout: seconds from TERM to KILL, and until a node that is silent counts as down.
_CONFIG = """
ClusterName={name}
SlurmctldHost={host}({loopback})
SlurmctldPort={port}
{binding}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
GresTypes=gpu
MaxArraySize={max_array_size}
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=3600
KillWait=2
SlurmdTimeout=6
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=0
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
"""


_HIDE = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')


def why_no_slurm() -> str:
    """Why no cluster can be started on this machine; empty if one can."""
    if missing := [program for program in PROGRAMS if shutil.which(program, path=_SEARCH_PATH) is None]:
        return f"{', '.join(missing)} not found: make slurm-packages installs what Debian and Ubuntu have"
    if not _listens_on_loopback() and not os.environ.get(ANY_ADDRESS_VARIABLE):
        return (
            f"the host name {socket.gethostname()} is not {_LOOPBACK} and Slurm listens where the host name points: "
            f"put '{_LOOPBACK} {socket.gethostname()}' first into /etc/hosts, or set {ANY_ADDRESS_VARIABLE}=1 "
            "to let it listen on every interface"
        )
    return ""


def _listens_on_loopback() -> bool:
    with contextlib.suppress(OSError):
        return socket.gethostbyname(socket.gethostname()) == _LOOPBACK
    return False


class SlurmCluster:
    """Nodes n1, n2, ... in two partitions: ``main``, the default, and ``urgent``, which preempts it by requeueing.

    Args:
        folder: an empty or new folder of at most 70 characters; its files stay after the end.
        num_nodes, cpus, memory_mb, gpus: how many nodes, and what each claims to have.
        max_array_size: the largest index of a job array plus one.
        extra_config: lines to be added to slurm.conf.
        hidden: a folder that the nodes don't see, as if no disk were shared (needs root).
    """

    def __init__(
        self,
        folder: Path,
        num_nodes: int = 2,
        cpus: int = 64,
        memory_mb: int = 512_000,
        gpus: int = 2,
        max_array_size: int = 1001,
        extra_config: str = "",
        hidden: Path | None = None,
    ) -> None:
        self.folder = folder.resolve()
        if len(str(self.folder)) > _MAX_FOLDER_LENGTH:
            raise ValueError(f"{self.folder} is longer than {_MAX_FOLDER_LENGTH} characters: its sockets can't be made")
        self.nodes = [f"n{number}" for number in range(1, num_nodes + 1)]
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _SEARCH_PATH}
        self._name = f"test{uuid.uuid4().hex[:12]}"
        self._mark = f"SLURM_CLUSTER_NAME={self._name}"
        self._node_size = f"CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}"
        self._gpus = gpus
        self._max_array_size = max_array_size
        self._extra_config = extra_config
        self._node_prefix = [*_HIDE, str(hidden)] if hidden is not None else []
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._write_config()
            self._start_daemon("munged", "munged", "--foreground", "--force", *self._munge_files())
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munged to listen")
            self._start_daemon("slurmctld", "slurmctld", "-D")
            for node in self.nodes:
                self._start_daemon(node, *self._node_prefix, "slurmd", "-D", "-N", node)
            self._wait(lambda: all(map(self._is_up, self.nodes)), "idle nodes")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, *command: str) -> str:
        """What a command of a user of this cluster prints.

        Raises:
            subprocess.CalledProcessError: it failed; its ``stderr`` says why, and so does a note.
        """
        # The variables of a job around the tests would be options of the jobs in them.
        outer = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        environment = {**outer, **self.environment}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True, timeout=_COMMAND_SECONDS
            )
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise
        return done.stdout

    def kill_slurmd(self, node: str) -> None:
        """Kill -9 a node's daemon; its jobs run on, unwatched, as after a crash."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()

    def start_slurmd(self, node: str) -> None:
        """Start a node's daemon, after ``kill_slurmd``, and wait until the controller counts on the node."""
        self._start_daemon(node, *self._node_prefix, "slurmd", "-D", "-N", node)
        self._wait(lambda: self._is_up(node), f"node {node}")

    def stop(self) -> None:
        """End all jobs, then the daemons, then whatever the jobs have left running."""
        with contextlib.suppress(subprocess.SubprocessError, OSError):  # a controller that does not answer
            if "slurmctld" in self._daemons:
                self._cancel_all_jobs()
        for name in reversed(list(self._daemons)):  # munged last: the others talk through it
            _end(self._daemons.pop(name))
        while left := list(self.processes()):  # again: one may have started another meanwhile
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def processes(self) -> Iterator[int]:
        """The ids of all processes of this cluster: daemons, steps, and what jobs have started.

        Slurm puts the cluster's name into the environment of every job, whatever it exports, and we into the daemons'.
        """
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    yield int(path.name)

    def _write_config(self) -> None:
        for name in ("state", "spool", "log", "gpus"):
            (self.folder / name).mkdir(parents=True)
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir()
        gpus = [self.folder / "gpus" / str(index) for index in range(self._gpus)]
        for gpu in gpus:  # Slurm wants a character device of its own for each
            gpu.symlink_to("/dev/null")
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))

        controller_port, *node_ports = _free_ports(1 + len(self.nodes))
        host = socket.gethostname().split(".")[0]
        config = _CONFIG.format(
            name=self._name,
            host=host,
            loopback=_LOOPBACK,
            port=controller_port,
            binding="CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if _listens_on_loopback() else "",
            user=Path(f"/proc/{os.getpid()}").owner(),
            folder=self.folder,
            max_array_size=self._max_array_size,
        )
        nodes = "".join(
            f"NodeName={node} NodeHostname={host} NodeAddr={_LOOPBACK} Port={port} {self._node_size}\n"
            for node, port in zip(self.nodes, node_ports, strict=True)
        )
        (self.folder / "slurm.conf").write_text(f"{config}{nodes}{self._extra_config}\n")
        devices = "".join(f"Name=gpu File={gpu}\n" for gpu in gpus)
        (self.folder / "gres.conf").write_text(devices)
        if _slurm_version() >= 23:  # it would look for a tree of cgroups; older ones don't know the word
            (self.folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")

    def _munge_files(self) -> list[str]:
        names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        return [f"--{option}={self.folder / name}" for option, name in names.items()]

    def _start_daemon(self, name: str, *command: str) -> None:
        with (self.folder / "log" / name).open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env={**os.environ, **self.environment, "SLURM_CLUSTER_NAME": self._name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop us
            )

    def _is_up(self, node: str) -> bool:
        state = self.run("sinfo", "--noheader", "--nodes", node, "--partition", "main", "--format", "%T").strip()
        return state in ("idle", "mixed", "allocated", "completing")  # a node that does not answer has an asterisk

    def _wait(self, is_reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(subprocess.SubprocessError):  # the controller does not answer yet
                if is_reached():
                    return
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"waited for {what}; ended: {dead or 'none'}\n{self._last_words()}")
            time.sleep(_POLL_SECONDS)

    def _last_words(self) -> str:
        logs = sorted((self.folder / "log").iterdir())
        return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-5:])

    def _cancel_all_jobs(self) -> None:
        if jobs := self.run("squeue", "--noheader", "--format", "%F").split():
            self.run("scancel", *sorted(set(jobs)))
        deadline = time.monotonic() + _CANCEL_SECONDS
        while self.run("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _slurm_version() -> int:
    """The number before the first dot: 22 for ``slurm-wlm 22.05.8``."""
    slurmd = shutil.which("slurmd", path=_SEARCH_PATH) or "slurmd"
    printed = subprocess.run([slurmd, "-V"], capture_output=True, text=True, check=True).stdout
    return int(printed.split()[-1].split(".")[0])


def _free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind((_LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what a cluster brings about by itself; fail if it takes far longer than on the slowest machine."""
    deadline = time.monotonic() + HUNG_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)
