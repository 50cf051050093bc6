"""The fork server: loads the standard library once, then forks, kills and reaps children. It runs no program.

Started by the sandbox as ``python -I -S -B``: no site-packages, no environment, no current folder. Children
come in two slots, one that tame programs share and one for a single program; a control message of one letter
forks a child (with the descriptor of its channel) or kills it.
"""

import gc
import importlib
import json
import os
import signal
import socket
from dataclasses import dataclass
from typing import Any

from sweep.humaneval import child, guard

FORK, KILL = {"shared": b"F", "single": b"f"}, {"shared": b"K", "single": b"k"}

# What programs import: no file can be opened later, so what is missing here is missing for them.
_PRELOADED = """
abc argparse array ast asyncio base64 binascii bisect builtins calendar cmath codecs collections collections.abc bz2
cProfile colorsys concurrent.futures.thread configparser contextlib copy csv ctypes dataclasses datetime decimal
difflib dis doctest enum errno fnmatch fractions functools gc getopt glob graphlib gzip hashlib heapq hmac html
html.parser inspect io ipaddress itertools json keyword linecache locale logging lzma math mmap numbers operator
optparse os os.path pathlib pickle pprint queue random re reprlib sched secrets shlex shutil signal socket stat
statistics string stringprep struct subprocess symtable sys tempfile tarfile textwrap threading time timeit token
tokenize tomllib traceback tracemalloc types typing unicodedata unittest unittest.mock urllib.parse uuid warnings
weakref xml.etree.ElementTree zipfile zlib zoneinfo _strptime concurrent.futures multiprocessing resource
encodings.ascii encodings.latin_1 encodings.utf_8_sig encodings.utf_16 encodings.utf_16_le encodings.utf_16_be
encodings.utf_32 encodings.utf_32_le encodings.utf_32_be encodings.utf_7 encodings.cp1250 encodings.cp1251
encodings.cp1252 encodings.iso8859_2 encodings.iso8859_15 encodings.koi8_r encodings.shift_jis encodings.gbk
encodings.zlib_codec encodings.cp437 encodings.rot_13 encodings.hex_codec encodings.base64_codec
encodings.unicode_escape encodings.raw_unicode_escape encodings.punycode encodings.idna
""".split()  # noqa: SIM905


@dataclass
class Options:
    """What the sandbox asks of its children."""

    memory_bytes: int
    cpu_seconds: int
    filter_system_calls: bool


def main(control_fd: int, options: Options) -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    layers = _enclose()
    system_calls = None
    if options.filter_system_calls:
        system_calls = guard.SystemCallFilter()
        layers["seccomp"] = True
    control = socket.socket(fileno=control_fd)
    gc.collect()
    gc.freeze()
    gc.disable()
    control.send(json.dumps(layers).encode())
    os.dup2(1, 2)  # errors of this start went to the sandbox, later ones nowhere
    _serve(control, system_calls, options)


def _enclose() -> dict[str, Any]:
    """Give up what this server and its children never need; returns the walls that stand."""
    namespaces = _leave_namespaces()
    guard.die_with_parent()
    guard.hide_memory()
    guard.no_new_privileges()
    return {"no_new_privs": True, "rlimits": True, "landlock": guard.forbid_files(), **namespaces}


def _leave_namespaces() -> dict[str, Any]:
    """New namespaces as root if that is allowed, else as an ordinary user. Goes on as their first process."""
    namespaces: list[str] = []
    try:
        namespaces = guard.unshare(with_user_namespace=False)
        dropped = guard.drop_user()
    except OSError:
        dropped = guard.drop_user()
        try:
            namespaces = guard.unshare(with_user_namespace=True)
        except OSError:
            return {"user_dropped": dropped, "namespaces": []}
    first = os.fork()
    if first:
        guard.die_with_parent()
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    return {"user_dropped": dropped, "namespaces": namespaces}


def _serve(control: socket.socket, system_calls: guard.SystemCallFilter | None, options: Options) -> None:
    pids: dict[str, int] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            break
        for slot in FORK:
            if message == FORK[slot]:
                pids[slot] = _fork(descriptors[0], system_calls, options, slot == "shared")
                os.close(descriptors[0])
            elif message == KILL[slot]:
                _kill(pids.pop(slot))
    for pid in pids.values():
        _kill(pid)


def _fork(channel: int, system_calls: guard.SystemCallFilter | None, options: Options, shared: bool) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            child.live(channel, system_calls, options.memory_bytes, options.cpu_seconds, shared)
        finally:
            os._exit(1)
    return pid


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
