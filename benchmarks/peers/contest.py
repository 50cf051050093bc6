"""The other side: start contestants, let them train in turns, and give the CPU seconds that their steps took."""

import contextlib
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.study import ROOT
from sweep.corpus import Corpus
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec

_CALIBRATION_STEPS = 3
# What contestants compiled, for the next time; whole unless a measurement was cut short. A compiler that is killed
# leaves half a library, and torch would take that from its cache for ever.
_COMPILED = ROOT / ".cache" / "contest-inductor"
_WHOLE = _COMPILED / "whole"
# A contestant's own choice of threads counts, not the caller's; and no library may look for a server.
_NOT_INHERITED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}


class Contestant:
    """A process that trains a block of steps when it is asked to. ``failure`` holds its last words if it died.

    ``module`` is what it runs, ``alone`` whether it needs the machine for itself while it warms up.
    """

    def __init__(
        self, name: str, module: str, argument: str, folder: Path, python: str = sys.executable, alone: bool = False
    ) -> None:
        self.name, self.alone, self.failure, self.num_threads = name, alone, "", 0
        self._command = [python, "-m", module, argument]
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log.txt"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
        environment |= {**_ENVIRONMENT, "TORCHINDUCTOR_CACHE_DIR": str(_COMPILED)}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait_until_warm(self) -> None:
        self.num_threads = (self._answer() or {"num_threads": 0})["num_threads"]

    def cpu_seconds_per_step(self, num_steps: int) -> float:
        """Train ``num_steps``; not a number if the contestant is dead."""
        answer = self._answer(f"go {num_steps}\n")
        return answer["cpu_seconds"] / num_steps if answer else math.nan

    def _answer(self, question: str = "") -> dict[str, Any] | None:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        if self.failure:
            return None
        with contextlib.suppress(BrokenPipeError):  # it is dead, and its output ends
            process.stdin.write(question)
            process.stdin.flush()
        line = process.stdout.readline()
        if line:
            return json.loads(line)
        words = self._log.read_text(errors="replace").strip().replace(f"{ROOT}/", "")
        self.failure = f"exit code {process.wait()}\n{words[-2000:]}"
        return None

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def ours(name: str, run: PlannedRun, corpus: Corpus, machine: MachineSpec, folder: Path) -> Contestant:
    """This project's own training of ``run``."""
    folder.mkdir(parents=True)
    job = folder / "job.pickle"
    job.write_bytes(pickle.dumps((run, corpus, machine)))
    return Contestant(name, "benchmarks.peers.ours", str(job), folder)


def take_turns(
    contestants: list[Contestant], num_rounds: int, block_seconds: float, min_steps: int
) -> dict[str, list[float]]:
    """CPU seconds per step of each contestant in each round, who train one at a time once all are warm.

    A block has ``min_steps`` or, where these would take less, as many steps as take ``block_seconds`` of CPU time.
    """
    if not _WHOLE.exists():
        shutil.rmtree(_COMPILED, ignore_errors=True)
    _WHOLE.unlink(missing_ok=True)
    try:
        _warm_up(contestants)
        alive = [contestant for contestant in contestants if not contestant.failure]
        block = {c.name: _block_steps(c, block_seconds, min_steps) for c in alive}
        if alive == contestants:
            _COMPILED.mkdir(parents=True, exist_ok=True)
            _WHOLE.touch()
        rounds = [{c.name: c.cpu_seconds_per_step(block[c.name]) for c in alive} for _ in range(num_rounds)]
        return {c.name: [each[c.name] for each in rounds] for c in alive}
    finally:
        for contestant in contestants:
            contestant.stop()


def _block_steps(contestant: Contestant, block_seconds: float, min_steps: int) -> int:
    seconds = contestant.cpu_seconds_per_step(_CALIBRATION_STEPS)
    return min_steps if contestant.failure else max(min_steps, math.ceil(block_seconds / seconds))


def _warm_up(contestants: list[Contestant]) -> None:
    """Single-threaded contestants side by side, then the others one after another.

    Threads that have to share their cores wait for each other at every operation.
    """
    together = [contestant for contestant in contestants if not contestant.alone]
    for contestant in together:
        contestant.start()
    for contestant in together:
        contestant.wait_until_warm()
    for contestant in contestants:
        if contestant.alone:
            contestant.start()
            contestant.wait_until_warm()
