"""Several checkers at work on a stream of samples: verdicts in order, none lost to a checker's death."""

import contextlib
import hashlib
import subprocess
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from sweep.errors import SweepError
from sweep.humaneval.checker import TIMED_OUT, Verdict
from sweep.humaneval.problems import Problem
from sweep.humaneval.worker import Order

_IN_FLIGHT = 32  # jobs given to a worker ahead of its answers,
_IN_FLIGHT_CHARS = 16_384  # and their length: a pipe that is full would make the pool wait for a worker that hangs
_AHEAD = 4096  # samples read ahead of the oldest one without a verdict
_REMEMBERED = 1 << 17  # verdicts kept for equal samples; far more than are read ahead
_SILENT_SECONDS = 30.0  # a worker without an answer for so long is ended
_STOP_SECONDS = 3.0
_MOST_SILENCES, _MOST_DEATHS = 1, 3  # of checkers at one program, before it is given up; others may have killed them
_START_TRIES = 3

Sample = tuple[str, str]  # task id, completion


@dataclass
class _Job:
    key: bytes
    sample: Sample
    deaths: int = 0


@dataclass
class _Worker:
    process: "subprocess.Popen[bytes]"
    connection: "Connection[Any, Any]"
    heard: float
    jobs: "deque[_Job]" = field(default_factory=deque)
    chars: int = 0  # of all jobs

    def takes(self, job: _Job) -> bool:
        chars = self.chars + len(job.sample[1])
        return not self.jobs or (len(self.jobs) < _IN_FLIGHT and chars <= _IN_FLIGHT_CHARS)


class Pool:
    """Workers that judge samples of ``problems``. A context manager."""

    def __init__(self, problems: dict[str, Problem], num_workers: int, unsafe: bool = False) -> None:
        """Start the workers and verify their sandboxes.

        Raises:
            SweepError: a sandbox could not be had, or let something through.
        """
        self._order = Order(problems, unsafe)
        self._workers: list[_Worker] = []
        self._known: OrderedDict[bytes, Verdict] = OrderedDict()
        self._waiting: set[bytes] = set()
        self._queue: deque[_Job] = deque()
        self.layers: dict[str, Any] = {}
        try:
            for _ in range(num_workers):
                self._workers.append(self._start())
        except BaseException:
            self.close()
            raise

    def judge(self, samples: Iterable[Sample]) -> Iterator[Verdict]:
        """One verdict per sample, in the samples' order.

        Equal samples are run once, as long as no hundred thousand others lie between them. Samples are read a few
        thousand ahead, so memory is bounded.

        Raises:
            SweepError: a problem of the file is broken, or the sandbox was lost for good.
        """
        source = iter(samples)
        ahead: deque[bytes] = deque()
        exhausted = False
        while True:
            while not exhausted and len(ahead) < _AHEAD:
                sample = next(source, None)
                if sample is None:
                    exhausted = True
                    break
                key = _key(sample)
                ahead.append(key)
                if key in self._known:
                    self._known.move_to_end(key)
                elif key not in self._waiting:
                    self._waiting.add(key)
                    self._queue.append(_Job(key, sample))
            if not ahead:
                return
            while ahead[0] not in self._known:
                self._work()
            yield self._known[ahead.popleft()]

    def remember(self, sample: Sample, verdict: Verdict) -> None:
        """A verdict of an earlier start, which need not be found again."""
        self._know(_key(sample), verdict)

    def _know(self, key: bytes, verdict: Verdict) -> None:
        self._known[key] = verdict
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _work(self) -> None:
        """Hand out what is queued, take in what is answered, replace who died."""
        for worker in self._workers:
            while self._queue and worker.takes(self._queue[0]):
                self._hand_out(worker, self._queue.popleft())
        for connection in wait([worker.connection for worker in self._workers], timeout=1.0):
            worker = next(worker for worker in self._workers if worker.connection is connection)
            try:
                while worker.connection.poll():
                    self._take_in(worker, worker.connection.recv())
            except (EOFError, OSError):
                self._replace(worker, Verdict(False, "failed: its checker died with it"), _MOST_DEATHS)
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.jobs and now - worker.heard > _SILENT_SECONDS:
                self._replace(worker, Verdict(False, TIMED_OUT), _MOST_SILENCES)

    def _hand_out(self, worker: _Worker, job: _Job) -> None:
        if not worker.jobs:
            worker.heard = time.monotonic()
        worker.jobs.append(job)
        worker.chars += len(job.sample[1])
        with contextlib.suppress(OSError):  # a dead one is found when its answers are read
            worker.connection.send(job.sample)

    def _take_in(self, worker: _Worker, verdict: Verdict | SweepError) -> None:
        if isinstance(verdict, SweepError):
            raise verdict
        worker.heard = time.monotonic()
        job = worker.jobs.popleft()
        worker.chars -= len(job.sample[1])
        self._settle(job, verdict)

    def _settle(self, job: _Job, verdict: Verdict) -> None:
        self._know(job.key, verdict)
        self._waiting.discard(job.key)

    def _replace(self, worker: _Worker, verdict: Verdict, most: int) -> None:
        """End a worker; its jobs go back to the queue, but one that was at work too often gets this verdict."""
        worker.process.kill()  # it may hang; its sandbox dies with it
        _end(worker)
        self._workers.remove(worker)
        if worker.jobs:
            worker.jobs[0].deaths += 1
            if worker.jobs[0].deaths > most:
                self._settle(worker.jobs.popleft(), verdict)
        self._queue.extendleft(reversed(worker.jobs))
        self._workers.append(self._start())

    def _start(self) -> _Worker:
        for _ in range(_START_TRIES):
            worker, hello = self._try_to_start()
            if isinstance(hello, dict):
                self.layers = hello
                return worker
            _end(worker)
            if hello is not None:
                raise hello
        raise SweepError(
            f"a checker process ended at its start {_START_TRIES} times",
            "one that starts",
            "look whether this machine's memory or processes run out",
        )

    def _try_to_start(self) -> tuple[_Worker, dict[str, Any] | SweepError | None]:
        """A worker and what it says: its sandbox's layers, an error, or nothing if it was ended."""
        ours, theirs = Pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", "sweep.humaneval.worker", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is for the pool, which then ends its workers
        )
        theirs.close()
        worker = _Worker(process, ours, time.monotonic())
        try:
            ours.send(self._order)
            return worker, ours.recv()
        except (EOFError, OSError):
            return worker, None

    def close(self) -> None:
        """End all workers and their sandboxes."""
        for worker in self._workers:
            _end(worker)
        self._workers.clear()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _end(worker: _Worker) -> None:
    worker.connection.close()  # at which it ends itself, unless it hangs
    try:
        worker.process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()


def _key(sample: Sample) -> bytes:
    task_id, completion = (text.encode("utf-8", "surrogatepass") for text in sample)
    return hashlib.blake2b(task_id + b"\0" + completion, digest_size=16).digest()
