"""A sweep's folder on disk: the names of its files, and the only ways they are written and read.

    sweeps/<name>/
      plan.json  contamination.json  records.csv  passes.json  optimum.json  fit.json  seal.json  verdict.json
      report.html  figures/  wandb/  slurm/
      runs/<run_id>/  metrics.jsonl  checkpoint/  train.json  eval.json  samples.jsonl.gz  counts.json

Files are written whole under another name and renamed, so a reader never sees half of one. Each
JSON file carries the SHA-256 of its own content: an altered or damaged file is noticed when read.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweep.errors import CorruptFile, SweepError

Status = Literal["planned", "running", "done", "diverged", "failed"]
HASH_KEY = "content_sha256"


def sha256_of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, shortest exact floats)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either there in full or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object together with the hash of its content; what holds no object in turn stands on one line."""
    write_whole(path, (_indented({**value, HASH_KEY: sha256_of(value)}, "\n") + "\n").encode())


def _indented(item: Any, line: str) -> str:
    if isinstance(item, list) and item and isinstance(item[0], dict):
        # Rows, such as the plan's runs: to be found with grep; and a plan of ten thousand takes a second, not three.
        return f"[{line} " + f",{line} ".join(json.dumps(row, allow_nan=False) for row in item) + f"{line}]"
    if isinstance(item, dict) and not _is_row(item):
        pairs = (f"{json.dumps(key)}: {_indented(each, line + ' ')}" for key, each in item.items())
        return f"{{{line} " + f",{line} ".join(pairs) + f"{line}}}"
    return json.dumps(item, allow_nan=False)


def _is_row(item: dict[str, Any]) -> bool:
    """Whether no object is in it: such as a problem's counts, of which there are thousands."""
    return not any(
        isinstance(each, dict) or (isinstance(each, list) and each and isinstance(each[0], dict | list))
        for each in item.values()
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read an object written by ``write_json``; its hash is checked and stays under ``HASH_KEY``.

    Raises:
        CorruptFile: not JSON, or not the content that was hashed.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise CorruptFile(f"{path} can't be read as JSON ({error})") from error
    if not isinstance(value, dict) or HASH_KEY not in value:
        raise CorruptFile(f"{path} has no {HASH_KEY}")
    content = {key: item for key, item in value.items() if key != HASH_KEY}
    if sha256_of(content) != value[HASH_KEY]:
        raise CorruptFile(f"{path} is not what was written: its content does not match its {HASH_KEY}")
    return value


def set_aside(path: Path) -> Path:
    """Rename a corrupt file, so that it can be looked at but is in nobody's way; returns its new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    path.rename(aside)
    return aside


def saved_state(pointer: Path) -> Path:
    """The file of weights that ``pointer`` names, after checking its hash.

    Raises:
        CorruptFile: it is missing or damaged.
    """
    named = read_json(pointer)
    path = pointer.with_name(named["file"])
    if not path.exists() or sha256_of_file(path) != named["sha256"]:
        raise CorruptFile(f"{path} is missing or is not what was saved")
    return path


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path``; yields False if somebody else holds it. The system frees it at death."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock file ``path``; asking needs no right to write, nor a disk that can be written."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@dataclass(frozen=True)
class RunState:
    """What the files of one run say about it."""

    status: Status
    reason: str  # empty for a run that is done
    step: int  # of its last row in metrics.jsonl


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The file that names the newest state and its hash."""
        return self.path / "checkpoint" / "latest.json"

    @property
    def kept(self) -> Path:
        """The file that names the state at the beginning of the decay, kept for runs that branch off there."""
        return self.path / "checkpoint" / "kept.json"

    @property
    def compiled_whole(self) -> Path:
        """Marks that what was compiled for the run, beside it, is all there; gone when the run is done."""
        return self.path / "compiled" / "whole"

    def checkpoint_state(self) -> Path:
        """The newest saved state.

        Raises:
            CorruptFile: it is missing or damaged.
        """
        return saved_state(self.checkpoint)

    @property
    def train(self) -> Path:
        return self.path / "train.json"

    @property
    def eval(self) -> Path:
        return self.path / "eval.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl.gz"

    @property
    def counts(self) -> Path:
        return self.path / "counts.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def lease(self) -> Path:
        """On a cluster, the element that may write here."""
        return self.path / "lease.json"

    def rows(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl up to the first that is damaged (a kill may cut the last one short)."""
        rows = []
        if self.metrics.exists():
            for line in self.metrics.read_text(errors="replace").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if not isinstance(row, dict) or "step" not in row:
                    break
                rows.append(row)
        return rows

    def state(self) -> RunState:
        """The run's status.

        Raises:
            CorruptFile: train.json or eval.json is damaged.
        """
        if self.train.exists():
            train = read_json(self.train)
            if train["status"] != "done":
                return RunState(train["status"], train["reason"], train["step"])
            if self.eval.exists():
                read_json(self.eval)
                return RunState("done", "", train["step"])
            return RunState("running", "trained, not evaluated yet", train["step"])
        if not self.metrics.exists():
            return RunState("planned", "not started", 0)
        step = max((row["step"] for row in self.rows()), default=0)
        held = is_locked(self.lock)
        reason = f"at step {step}" if held else f"stopped after step {step}; the next launch goes on"
        return RunState("running", reason, step)


@dataclass(frozen=True)
class SweepFolder:
    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def contamination(self) -> Path:
        return self.path / "contamination.json"

    @property
    def records(self) -> Path:
        return self.path / "records.csv"

    @property
    def fit(self) -> Path:
        return self.path / "fit.json"

    @property
    def optimum(self) -> Path:
        return self.path / "optimum.json"

    @property
    def seal(self) -> Path:
        return self.path / "seal.json"

    @property
    def passes(self) -> Path:
        return self.path / "passes.json"

    @property
    def sealed_files(self) -> list[Path]:
        """What a seal rests on; counts of samples only where there are some, and what an older sweep did not have."""
        return [self.plan, self.records, self.fit, *(p for p in (self.passes, self.contamination) if p.exists())]

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def published(self) -> Path:
        """In a published forecast: what was copied and when. Nothing else is written there afterwards."""
        return self.path / "published.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def run(self, run_id: str) -> RunFolder:
        return RunFolder(self.path / "runs" / run_id)

    def same_run_elsewhere(self, run_id: str) -> list[RunFolder]:
        """Folders of the same run in the sweeps beside this one; equal ids mean equal results."""
        beside = sorted(self.path.resolve().parent.glob(f"*/runs/{run_id}"))
        return [RunFolder(path) for path in beside if path.parent.parent != self.path.resolve()]


def open_sweep(path: str | Path) -> SweepFolder:
    """The folder of a planned sweep.

    Raises:
        SweepError: there is none.
    """
    folder = SweepFolder(Path(path))
    if not folder.plan.exists():
        raise SweepError(
            f"{path} holds no plan.json",
            "the folder of a sweep, as python -m sweep.launch makes it (sweeps/NAME)",
            "check the path, or launch the sweep first",
        )
    return folder
