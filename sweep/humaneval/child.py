"""The untrusted process: it compiles and runs a program, then answers calls of its function.

Whatever the program does here, to the interpreter, to this module or to the channel, it can change only the
answers to its own calls: the checker takes them for claims about data, never for a verdict.
"""

import gc
import io
import json
import marshal
import os
import random
import re
import struct
import sys
from collections.abc import Callable
from typing import Any

from sweep.humaneval.guard import SystemCallFilter, die_with_parent, limit_resources
from sweep.humaneval.plain import MAX_BYTES, NotPlain, encode
from sweep.humaneval.tame import is_tame

CHANNEL = 3

# Kinds of frame. To the child: a program, a call. From it: up, program loaded, program wild, an error, a value.
PROGRAM, CALL = b"P", b"C"
UP, LOADED, WILD, ERROR, VALUE = b"U", b"L", b"W", b"E", b"V"

_MAX_TEXT = 300


class _Sink(io.TextIOBase):
    """Takes whatever is printed, lone surrogates included, and keeps nothing."""

    encoding = "utf-8"
    errors = "surrogatepass"

    def write(self, text: str) -> int:
        return len(text)

    def writable(self) -> bool:
        return True


def live(
    channel: int, system_calls: SystemCallFilter | None, memory_bytes: int, cpu_seconds: int, shared: bool
) -> None:
    """Become a child: take the channel, give up all else, answer until the channel closes or this process is killed."""
    die_with_parent()
    os.dup2(channel, CHANNEL)
    os.closerange(CHANNEL + 1, max(channel, 64) + 1)
    limit_resources(memory_bytes, cpu_seconds)
    sys.argv[:] = [""]
    sys.stdout = sys.stderr = _Sink()
    # In a shared process nothing of a program is freed while another one runs: freeing can run its code.
    kept: list[dict[str, Any]] = []
    if not shared:
        gc.enable()
    if system_calls is not None:
        system_calls.put_on()
    _write_frame(UP)
    function: Callable[..., Any] | None = None
    while True:
        frame = _read_frame()
        if frame[:1] == PROGRAM:
            namespace: dict[str, Any] = {}
            kept.append(namespace)
            re.purge()  # its keys hold 1 and True for the same
            reply, function = _load(frame[1:], namespace, shared)
        else:
            reply = _call(function, frame[1:])
        _write_frame(reply)


def _load(body: bytes, namespace: dict[str, Any], shared: bool) -> tuple[bytes, Callable[..., Any] | None]:
    entry_point, source = marshal.loads(body)
    random.seed(0)
    try:
        # Decoded: in bytes, a line "coding: rot13" would be obeyed.
        code = compile(source.decode(), "program", "exec", dont_inherit=True)
        if shared and not is_tame(code):
            return WILD, None
        exec(code, namespace)
        return LOADED, namespace[entry_point]
    except BaseException as error:
        return _describe(error), None


def _call(function: Callable[..., Any] | None, body: bytes) -> bytes:
    try:
        arguments, keywords = marshal.loads(body)
        reply = VALUE + json.dumps(encode(function(*arguments, **keywords))).encode()  # type: ignore[misc]
    except NotPlain as error:
        return VALUE + json.dumps({"opaque": str(error)}).encode()
    except BaseException as error:
        return _describe(error)
    return reply if len(reply) <= MAX_BYTES else VALUE + b'{"opaque": "value too long"}'


def _describe(error: BaseException) -> bytes:
    """The names of the error's classes, the nearest first, and its message."""
    try:
        text = str(error)[:_MAX_TEXT]
    except BaseException:
        text = ""
    names = [cls.__name__[:80] for cls in type(error).__mro__[:10]]
    return ERROR + json.dumps([names, text]).encode()


def _write_frame(frame: bytes) -> None:
    frame = struct.pack("<I", len(frame)) + frame
    while frame:
        frame = frame[os.write(CHANNEL, frame) :]


def _read_frame() -> bytes:
    return _read(struct.unpack("<I", _read(4))[0])


def _read(count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = os.read(CHANNEL, count - len(data))
        if not more:
            os._exit(0)
        data += more
    return data
