"""One program, one verdict. The checker owns the tests; the program's process only answers calls."""

import builtins
import contextlib
import json
import marshal
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sweep.errors import SweepError
from sweep.humaneval import child
from sweep.humaneval.plain import NotPlain, decode
from sweep.humaneval.problems import Problem
from sweep.humaneval.sandbox import Child, Fault, Limits, OutOfTime, Sandbox, ServerLost

PASSED, TIMED_OUT = "passed", "timed out"

MAX_SOURCE_BYTES = 1 << 20
PROGRAMS_PER_CHILD = 64  # then the shared process is replaced, with whatever garbage has gathered in it
CPU_SECONDS = 0.25  # at least; or so many times what the canonical solution takes:
CPU_OVER_CANONICAL = 20
WALL_SECONDS = 10.0
_RETRIES = 2

# A verdict from a shared process is final, unless these may speak of the process: then the program is tried alone.
_OF_THE_PROCESS = frozenset(("MemoryError", "RecursionError", "SystemError"))
# A test could take these for the end of its own loop.
_NEVER_RAISED = (StopIteration, StopAsyncIteration, GeneratorExit)


@dataclass(frozen=True)
class Verdict:
    """``result`` is "passed", "timed out" or "failed: " and why, in the reference harness's words."""

    passed: bool
    result: str


class _Failed(BaseException):
    """The verdict is known. Not an Exception, so that no test's ``except`` can swallow it."""


@dataclass
class _Run:
    """The program at work."""

    task_id: str
    child: Child
    failure: str | None = None  # found while the test ran, should the test go on regardless
    unsure: bool = False  # what was seen may speak of the process rather than of the program
    healthy: bool = True  # the process can go on with another program
    died: bool = False


class Checker:
    """Judges completions of the problems it was given, one at a time, in a sandbox of its own.

    With ``share`` tame programs follow each other in one process; without it every program gets its own, at ten
    times the cost and with the same verdicts.
    """

    def __init__(self, problems: dict[str, Problem], sandbox: Sandbox, share: bool = True) -> None:
        self._problems = problems
        self._sandbox = sandbox
        self._share = share
        self._tests: dict[str, _Test] = {}
        self._now: _Run

    def judge(self, task_id: str, completion: str) -> Verdict:
        """Run the problem's test on ``prompt + completion``.

        Raises:
            SweepError: the problem itself is broken, or the sandbox can't be had any more.
        """
        if task_id not in self._tests:
            self._tests[task_id] = self._prepare(self._problems[task_id])
        return self._verdict(self._tests[task_id], completion)

    def _prepare(self, problem: Problem) -> "_Test":
        """The problem's test, after its own solution has passed it on the road that completions take."""
        test = _compile_test(problem, self._call)
        solution = problem.canonical_solution
        if solution is not None and not (verdict := self._verdict(test, solution)).passed:
            raise SweepError(
                f"{problem.task_id}: its own solution passes in one process, not across two ({verdict.result})",
                "a test that judges what the function returns: an argument changed in place is not seen",
                "leave that problem out, or write its test on returned values",
            )
        return test

    def _verdict(self, test: "_Test", completion: str) -> Verdict:
        try:
            encoded = f"{test.prompt}{completion}\n".encode()
        except UnicodeEncodeError as error:
            return Verdict(False, f"failed: {error}")
        if len(encoded) > MAX_SOURCE_BYTES:
            return Verdict(False, f"failed: a program of more than {MAX_SOURCE_BYTES >> 20} MiB")
        frame = child.PROGRAM + marshal.dumps((test.entry_point, encoded))
        for _ in range(_RETRIES):
            with contextlib.suppress(ServerLost):
                return (self._in_shared(test, frame) if self._share else None) or self._in_single(test, frame)
            with contextlib.suppress(ServerLost):
                self._sandbox.restart()
        try:
            return self._in_single(test, frame)
        except ServerLost as error:
            raise SweepError(
                f"{test.task_id}: the sandbox was lost {_RETRIES + 1} times in a row ({error})",
                "a machine that can start a process for each program",
                "look at its memory and process limits, then give the same command: verdicts so far are kept",
            ) from error

    def _in_shared(self, test: "_Test", frame: bytes) -> Verdict | None:
        """A verdict from the shared process; None where only a process of its own can tell."""
        living = self._sandbox.child("shared")
        verdict = self._run(test, frame, living)
        if not self._now.healthy or living.programs >= PROGRAMS_PER_CHILD or living.has_grown():
            self._sandbox.discard("shared")
        return None if self._now.unsure else verdict

    def _in_single(self, test: "_Test", frame: bytes) -> Verdict:
        """A verdict from a process of its own; from a second one if the first was killed, perhaps by others."""
        for _ in range(2):
            living = self._sandbox.child("single")
            try:
                verdict = self._run(test, frame, living)
            finally:
                self._sandbox.discard("single")
            if not self._now.died:
                break
        return verdict

    def _run(self, test: "_Test", frame: bytes, living: Child) -> Verdict:
        now = self._now = _Run(test.task_id, living)
        try:
            living.start_clock(test.limits)
            self._load(frame)
            random.seed(test.task_id)
            test.check(self._call)
            result = PASSED if self._now.failure is None else self._now.failure
        except _Failed as error:
            result = str(error)
        except NotPlain as error:
            result = f"failed: {error}"
        except OutOfTime:
            result, now.healthy = TIMED_OUT, False
        except Fault as error:
            result, now.healthy, now.unsure, now.died = f"failed: {error}", False, True, True
        except (KeyboardInterrupt, ServerLost, SweepError):
            raise
        except BaseException as error:
            result = getattr(error, "words", None) or _failed([type(error).__name__], str(error))
        return Verdict(result == PASSED, result)

    def _load(self, frame: bytes) -> None:
        reply = self._now.child.ask(frame)
        if reply == child.WILD:
            self._now.unsure = True
            raise _Failed("failed: not run")
        if reply[:1] == child.ERROR:
            names, text = _read_error(reply[1:])
            self._doubt(names)
            raise _Failed(_failed(names, text))
        if reply != child.LOADED:
            raise Fault("an answer that is none")

    def _call(self, *arguments: Any, **keywords: Any) -> Any:
        """Stands in for the function under test."""
        try:
            call = child.CALL + marshal.dumps((arguments, keywords))
        except ValueError as error:
            raise SweepError(
                f"{self._now.task_id}: its test calls the function with an argument that is not plain data ({error})",
                "numbers, text, and containers of them, which can be handed to another process",
                "leave that problem out, or write its test with plain arguments",
            ) from error
        try:
            reply = self._now.child.ask(call)
            if reply[:1] == child.VALUE:
                return decode(reply[1:])
            if reply[:1] != child.ERROR:
                raise Fault("an answer that is none")
        except (Fault, NotPlain) as error:
            self._now.failure = TIMED_OUT if isinstance(error, OutOfTime) else f"failed: {error}"
            raise
        names, text = _read_error(reply[1:])
        self._doubt(names)
        return self._raise(names, text)

    def _doubt(self, names: list[str]) -> None:
        if not _OF_THE_PROCESS.isdisjoint(names):
            self._now.unsure, self._now.healthy = True, False

    def _raise(self, names: list[str], text: str) -> None:
        """What the function raised, for a test that expects it: the nearest of Python's own errors."""
        for name in names:
            kind = getattr(builtins, name, None)
            if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _NEVER_RAISED):
                with contextlib.suppress(TypeError):  # UnicodeDecodeError and its like want five arguments
                    error = kind(text)
                    error.words = _failed(names, text)  # type: ignore[attr-defined]  # KeyError quotes once more
                    raise error
        self._now.failure = _failed(names, text)
        raise _Failed(self._now.failure)


@dataclass(frozen=True)
class _Test:
    task_id: str
    prompt: str
    entry_point: str
    check: Callable[[Callable[..., Any]], None]
    limits: Limits


def _compile_test(problem: Problem, stand_in: Callable[..., Any]) -> _Test:
    """The problem's ``check``, compiled beside the prompt's helpers, and limits by its canonical solution.

    Raises:
        SweepError: the test can't be compiled, or the canonical solution fails it.
    """
    body = problem.canonical_solution if problem.canonical_solution is not None else "    pass\n"
    namespace: dict[str, Any] = {}
    try:
        exec(compile(f"{problem.prompt}{body}\n{problem.test}\n", problem.task_id, "exec"), namespace)
        check, cpu_seconds = namespace["check"], CPU_SECONDS
        if problem.canonical_solution is not None:
            random.seed(problem.task_id)
            start = time.process_time()
            check(namespace[problem.entry_point])
            cpu_seconds = max(CPU_SECONDS, CPU_OVER_CANONICAL * (time.process_time() - start))
    except (Exception, SystemExit) as error:
        raise SweepError(
            f"{problem.task_id}: its own solution fails its test: {type(error).__name__}: {error}",
            "a test that defines check(candidate) and that the canonical solution passes",
            "mend the problem file at this task",
        ) from error
    namespace[problem.entry_point] = stand_in  # some tests call the function by its name
    limits = Limits(cpu_seconds, WALL_SECONDS)
    return _Test(problem.task_id, problem.prompt, problem.entry_point, check, limits)


def _read_error(body: bytes) -> tuple[list[str], str]:
    try:
        names, text = json.loads(body)
        return [str(name)[:80] for name in names], str(text)[:300]
    except (ValueError, TypeError, RecursionError):
        raise Fault("an answer that is none") from None


def _failed(names: list[str], text: str) -> str:
    return f"failed: {names[0] if names else 'an error'}{': ' + text if text else ''}"
