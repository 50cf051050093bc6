"""A checker's handle on its fork server and the children in it: start, frames, time limits, restarts."""

import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sweep.errors import SweepError
from sweep.humaneval import child
from sweep.humaneval.plain import MAX_BYTES
from sweep.humaneval.server import FORK, KILL, Options

_ROOT = Path(__file__).parent.parent.parent
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from sweep.humaneval import server;"
    " del sys.path[0]; import json; server.main(int(sys.argv[2]), server.Options(**json.loads(sys.argv[3])))"
)
_START_SECONDS, _STOP_SECONDS = 60.0, 2.0
_LEFT_BEHIND_BYTES = 32 << 20
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as the kernel writes them


class Fault(BaseException):
    """The child did not keep to its part: out of time, dead, or talking nonsense. Not an Exception, as in ``plain``."""


class OutOfTime(Fault):
    pass


class ServerLost(Exception):
    """The fork server is gone: killed from outside, or the machine could not fork. The program is not to blame."""


@dataclass(frozen=True)
class Limits:
    """What one program may use: processor seconds (its own, whatever else the machine does), and a cap on waiting."""

    cpu_seconds: float
    wall_seconds: float


class Child:
    """One untrusted process and the channel to it."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel = channel
        self._clock = (~pid << 3) | 2  # the processor clock of a process, as clock_getcpuclockid(3) makes it
        try:
            self._memory = os.open(f"/proc/{pid}/statm", os.O_RDONLY)
        except OSError:  # a machine that hides processes
            self._memory = -1
        self._pages = self._num_pages()
        self.programs = 0
        self._cpu_before = self._wall_before = 0.0
        self._limits = Limits(0.0, 0.0)

    def start_clock(self, limits: Limits) -> None:
        """Count from now; a first program is charged with its process's start too, a millisecond. Raises Fault."""
        self._cpu_before = self._cpu_seconds() if self.programs else 0.0
        self._wall_before = time.monotonic()
        self._limits = limits
        self.programs += 1

    def _num_pages(self) -> int:
        try:
            return int(os.pread(self._memory, 64, 0).split()[0])
        except (OSError, ValueError, IndexError):
            return 0

    def has_grown(self) -> bool:
        """Whether a program left so much memory behind that the next one would notice."""
        return (self._num_pages() - self._pages) * resource.getpagesize() > _LEFT_BEHIND_BYTES

    def ask(self, frame: bytes) -> bytes:
        """Send a frame, return the answer.

        Raises:
            OutOfTime: the program's time is up.
            Fault: the child died or broke the frame's form.
        """
        self._channel.settimeout(self._limits.wall_seconds)
        try:
            self._channel.sendall(struct.pack("<I", len(frame)) + frame)
        except TimeoutError:
            raise OutOfTime("timed out") from None
        except OSError:
            raise Fault("the process died") from None
        data = self._receive(4)
        length = struct.unpack("<I", data[:4])[0]
        if length > MAX_BYTES:
            raise Fault(f"an answer of more than {MAX_BYTES >> 20} MiB")
        parts, missing = [data[4:]], length + 4 - len(data)
        while missing > 0:
            parts.append(self._receive(1))
            missing -= len(parts[-1])
        if missing < 0:
            raise Fault("an answer longer than it says")
        return b"".join(parts)

    def _receive(self, least: int) -> bytes:
        data = b""
        while len(data) < least:
            self._channel.settimeout(self._seconds_left())
            try:
                more = self._channel.recv(1 << 18)
            except TimeoutError:
                continue
            except OSError:
                more = b""
            if not more:
                raise Fault("the process died")
            data += more
        return data

    def _cpu_seconds(self) -> float:
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            raise Fault("the process died") from None

    def _seconds_left(self) -> float:
        used = self._cpu_seconds() - self._cpu_before
        waited = time.monotonic() - self._wall_before
        left = min(self._limits.cpu_seconds - used, self._limits.wall_seconds - waited)
        if left <= 0:
            raise OutOfTime("timed out")
        return max(left, 0.005)

    def close(self) -> None:
        self._channel.close()
        if self._memory >= 0:
            os.close(self._memory)


class Sandbox:
    """One fork server. A context manager; ``layers`` names the walls that stand around its children.

    Raises:
        SweepError: this machine can't have one.
        ServerLost: it was ended while it started, perhaps by somebody else.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._children: dict[str, Child] = {}
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-B", "-c", _START),
                *(str(_ROOT), str(theirs.fileno()), json.dumps(asdict(self._options))),
            ],
            pass_fds=(theirs.fileno(),),
            cwd="/",
            env={"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the checker, which then ends the server
        )
        theirs.close()
        self._control = ours
        ours.settimeout(_START_SECONDS)
        try:
            hello = ours.recv(1 << 16)
        except TimeoutError:
            hello = b""
        if not hello:
            self._server.kill()
            error = (self._server.stderr.read() if self._server.stderr else b"").decode(errors="replace")
            if error.strip():
                raise SweepError(
                    f"the sandbox's server did not start: {error.strip().splitlines()[-1]}",
                    "Linux on x86_64 or aarch64 with seccomp, which programs of a model are run behind",
                    "score on such a machine; --unsafe leaves seccomp out, for programs that you have read",
                )
            raise ServerLost("the sandbox's server ended while it started")
        assert self._server.stderr is not None
        self._server.stderr.close()
        self.layers: dict[str, Any] = json.loads(hello)

    def child(self, slot: str) -> Child:
        """The living child of a slot, "shared" or "single", or a new one.

        Raises:
            ServerLost: no child could be had.
        """
        if slot not in self._children:
            self._children[slot] = self._fork(slot)
        return self._children[slot]

    def _fork(self, slot: str) -> Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # The child's first word carries its pid as this process sees it, whatever namespace it was forked in.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        ours.settimeout(_START_SECONDS)
        try:
            with theirs:
                socket.send_fds(self._control, [FORK[slot]], [theirs.fileno()])
            up, ancillary, _, _ = ours.recvmsg(5, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError as error:
            ours.close()
            raise ServerLost(f"no child could be started: {error}") from error
        if up[4:] != child.UP or not ancillary:
            ours.close()
            raise ServerLost("no child could be started")
        return Child(ours, _CREDENTIALS.unpack(ancillary[0][2][: _CREDENTIALS.size])[0])

    def discard(self, slot: str) -> None:
        """End the slot's child, if there is one. Raises ServerLost."""
        living = self._children.pop(slot, None)
        if living is not None:
            living.close()
            try:
                self._control.send(KILL[slot])
            except OSError as error:
                raise ServerLost(f"the server is gone: {error}") from error

    def restart(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        """End the server and all its children."""
        for living in self._children.values():
            living.close()
        self._children.clear()
        self._control.close()  # at which the server ends itself, unless it hangs
        try:
            self._server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._server.kill()  # its first process dies with it, and with that one every child
            self._server.wait()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
