"""What a process gives up before it runs a stranger's program: Linux system calls through ctypes.

Each function takes one thing away, for this process and all that it forks, and can't be undone. None of
them needs a privilege. They raise OSError where the kernel refuses.

System calls that a child may make are listed one by one (seccomp, required); all others fail with EPERM.
Landlock, namespaces and another user are further walls behind that one, and are used where the kernel and
the machine's owner allow them.
"""

import ctypes
import errno
import os
import platform
import resource
import struct

LIBC = ctypes.CDLL(None, use_errno=True)

NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9

# linux/audit.h and the tables of system calls: (audit architecture, number of each allowed call).
_X86_64 = (
    0xC000003E,
    {
        **{"read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "munmap": 11, "brk": 12},
        **{"rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25},
        **{"madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60, "gettimeofday": 96, "getuid": 102},
        **{"getppid": 110, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202},
        **{"restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230},
        **{"exit_group": 231, "ppoll": 271, "getrandom": 318, "rseq": 334},
    },
    {"mmap": 9, "mprotect": 10},
)
_AARCH64 = (
    0xC00000B7,
    {
        **{"close": 57, "lseek": 62, "read": 63, "write": 64, "ppoll": 73, "fstat": 80, "exit": 93},
        **{"exit_group": 94, "futex": 98, "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114},
        **{"clock_nanosleep": 115, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132},
        **{"rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "gettimeofday": 169, "getpid": 172},
        **{"getppid": 173, "getuid": 174, "gettid": 178, "brk": 214, "munmap": 215, "mremap": 216},
        **{"madvise": 233, "getrandom": 278, "rseq": 293},
    },
    {"mmap": 222, "mprotect": 226},
)
_ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same on both

# Classic BPF (linux/bpf_common.h) and seccomp's answers (linux/seccomp.h).
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _THIRD_ARGUMENT_OFFSET = 0, 4, 16 + 8 * 2
_X32_BIT = 0x40000000
_PROT_EXEC = 4

_NAMESPACES = {"pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}
_USER_NAMESPACE = 0x10000000


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *arguments: object) -> None:
    _check(LIBC.prctl(ctypes.c_int(option), *arguments, *[ctypes.c_ulong(0)] * (4 - len(arguments))), "prctl")


def no_new_privileges() -> None:
    """No program that this process starts gains a right, set-user-id or not."""
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))


def hide_memory() -> None:
    """No other process of this user may look into this one's memory or trace it."""
    _prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0))


def die_with_parent() -> None:
    """Be killed when the process that started this one ends, however it ends."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(_SIGKILL))


def drop_user() -> bool:
    """Become nobody if this is root; tells whether it did (the root of a container may not be allowed to)."""
    if os.getuid() != 0:
        return False
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    return True


def unshare(with_user_namespace: bool) -> list[str]:
    """Leave the machine's network, processes, shared memory and host name; processes forked from now on see neither.

    Returns:
        the names of the namespaces left. The first process forked afterwards is the new process namespace's init.
    """
    flags = sum(_NAMESPACES.values()) | (_USER_NAMESPACE if with_user_namespace else 0)
    _check(LIBC.unshare(ctypes.c_int(flags)), "unshare")
    return [*(["user"] if with_user_namespace else []), *_NAMESPACES]


def forbid_files() -> int:
    """Landlock without a single rule: no file can be opened, no TCP used, nothing outside signalled.

    Returns:
        the kernel's landlock version, 0 where it has none (then nothing is forbidden).
    """
    version = LIBC.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version <= 0:
        return 0
    # Rights known to each version, linux/landlock.h: 13 of the first, then refer, truncate and ioctl on devices.
    files = (1 << 13) - 1 | (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0)
    files |= 1 << 15 if version >= 5 else 0
    network, scope = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = struct.pack("QQQ", files, network, scope)
    ruleset = LIBC.syscall(_LANDLOCK_CREATE_RULESET, rules, ctypes.c_size_t(size), ctypes.c_uint32(0))
    _check(ruleset, "landlock_create_ruleset")
    _check(LIBC.syscall(_LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "landlock_restrict_self")
    os.close(ruleset)
    return int(version)


def limit_resources(memory_bytes: int, cpu_seconds: int) -> None:
    """No file grows, no process starts, no core is dumped; address space and processor time are bounded."""
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 8),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class SystemCallFilter:
    """The list of allowed system calls, compiled once and put on by each child.

    Raises:
        OSError: this processor's system calls are not known.
    """

    def __init__(self) -> None:
        machine = platform.machine()
        if machine not in _ARCHITECTURES:
            raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
        code = _filter_program(*_ARCHITECTURES[machine])
        self._code = ctypes.create_string_buffer(code, len(code))  # kept: the kernel reads it through a pointer
        self._program = _Program(len(code) // 8, ctypes.cast(self._code, ctypes.c_void_p).value)

    def put_on(self) -> None:
        """From now on every other system call fails with EPERM. Needs ``no_new_privileges``."""
        _prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(self._program))


def _filter_program(architecture: int, allowed: dict[str, int], mapping: dict[str, int]) -> bytes:
    """BPF: another architecture's call kills, x32 calls are denied, memory is never executable."""
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _DENY),
    ]
    for number in allowed.values():
        code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number in mapping.values():
        code += [
            (_JUMP_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _THIRD_ARGUMENT_OFFSET),
            (_JUMP_BITS, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, _DENY),
            (_RETURN, 0, 0, _ALLOW),
        ]
    code.append((_RETURN, 0, 0, _DENY))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)
