"""A program that tries, at every start, what a program must not be able to do. None of it may work.

Verified through the same road that strangers' programs take, so that a wall which a kernel, a container or a
mistake left open is found before the first of them runs.
"""

import marshal

from sweep.errors import SweepError
from sweep.humaneval import child
from sweep.humaneval.plain import decode
from sweep.humaneval.sandbox import Fault, Limits, Sandbox

_SOURCE = """
import ctypes, mmap, os, resource, signal, socket, subprocess, threading

def attempts():
    libc = ctypes.CDLL(None, use_errno=True)
    def native(name, *arguments):
        if getattr(libc, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)
    def hold_descriptors():
        for _ in range(64):
            os.dup(0)
    def reuse_descriptors():
        for number in range(4, 64):
            try:
                os.fstat(number)
            except OSError:
                continue
            return
        raise OSError("all closed")
    def see_environment():
        if not set(os.environ) - {"LANG", "PYTHONHASHSEED", "LC_CTYPE"}:
            raise OSError("empty")
    return {
        "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "write a file": lambda: os.open("/tmp", os.O_WRONLY | os.O_TMPFILE),
        "list a folder": lambda: os.listdir("/"),
        "ask about a file": lambda: os.stat("/etc/passwd"),
        "look into its parent": lambda: os.open("/proc/%d/mem" % os.getppid(), os.O_RDONLY),
        "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "make a socket pair": socket.socketpair,
        "start a process": lambda: subprocess.Popen(["/bin/true"]),
        "fork": os.fork,
        "start a thread": lambda: threading.Thread(target=int).start(),
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "signal by a native call": lambda: native("kill", os.getppid(), 0),
        "trace a process": lambda: native("ptrace", 16, os.getppid(), 0, 0),
        "run memory as code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
        "take the memory of the machine": lambda: bytearray(LIMIT_BYTES),
        "hold many descriptors": hold_descriptors,
        "use a descriptor left open": reuse_descriptors,
        "see the environment": see_environment,
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (64, 64)),
        "become another user": lambda: os.setuid(0),
        "leave its session": os.setsid,
        "change its priority": lambda: os.nice(1),
    }

def canary():
    worked = []
    for name, attempt in attempts().items():
        try:
            attempt()
        except BaseException:
            continue
        worked.append(name)
    return worked
"""


def verify(sandbox: Sandbox, memory_bytes: int, unsafe: bool) -> list[str]:
    """What a program could do in this sandbox; empty in a sound one.

    Raises:
        SweepError: something works that must not, and ``unsafe`` is not set.
    """
    source = _SOURCE.replace("LIMIT_BYTES", str(memory_bytes))
    living = sandbox.child("single")
    living.start_clock(Limits(5.0, 30.0))
    try:
        loaded = living.ask(child.PROGRAM + marshal.dumps(("canary", source.encode())))
        answer = living.ask(child.CALL + marshal.dumps(((), {})))
        worked = decode(answer[1:]) if loaded == child.LOADED and answer[:1] == child.VALUE else [answer.decode()]
    except Fault as error:
        worked = [f"end unexpectedly ({error})"]
    finally:
        sandbox.discard("single")
    if worked and not unsafe:
        raise SweepError(
            f"a program in the sandbox could: {', '.join(worked)}",
            "every one of these denied, by seccomp at the least",
            "score on a machine whose kernel and container allow seccomp filters;"
            " --unsafe goes on regardless, for programs that you have read",
        )
    return list(worked)
