"""Samples on disk, compressed: every completion once, with its verdict and the numbers of the samples that are it.

    samples.jsonl.gz     a gzip member per batch of samples, some lines of JSON each; the first says how they were drawn

A batch is appended and synced. A kill can leave half a member at the end: it is noticed when the file is opened to go
on, cut off, and its samples are drawn again. A completion is written with its first batch only; later
batches name it by its place among the problem's completions.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.errors import CorruptFile
from sweep.folder import set_aside
from sweep.humaneval.checker import Verdict

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Completion:
    text: str
    verdict: Verdict
    numbers: list[int] = field(default_factory=list)  # of the samples that are this text, as they were drawn


@dataclass
class ProblemSamples:
    """All samples of a problem: its completions in the order of their first showing, and which each sample is."""

    completions: list[Completion] = field(default_factory=list)
    index_of: dict[str, int] = field(default_factory=dict)  # by text
    of_number: dict[int, int] = field(default_factory=dict)  # sample number to index

    def verdict(self, text: str) -> Verdict | None:
        """What was said of this text; None if it is new."""
        return self.completions[self.index_of[text]].verdict if text in self.index_of else None

    def passed(self, number: int) -> bool:
        return self.completions[self.of_number[number]].verdict.passed

    def add(self, text: str, verdict: Verdict, numbers: Iterable[int]) -> int:
        """Note samples; returns the index of their completion."""
        index = self.index_of.setdefault(text, len(self.completions))
        if index == len(self.completions):
            self.completions.append(Completion(text, verdict))
        for number in numbers:
            self.completions[index].numbers.append(number)
            self.of_number[number] = index
        return index


class SampleStore:
    """The samples of one run, on disk and in memory; what was stored by other ``settings`` is set aside."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path = path
        self.problems: dict[str, ProblemSamples] = {}
        if path.exists():
            try:
                found, self.problems, whole_bytes = _read(path)
            except CorruptFile:
                found, whole_bytes = {}, 0
            if found == settings:
                os.truncate(path, whole_bytes)
                return
            if found or path.stat().st_size:
                set_aside(path)
            self.problems = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._append([{"settings": settings}])

    def problem(self, task_id: str) -> ProblemSamples:
        return self.problems.setdefault(task_id, ProblemSamples())

    def add(self, batch: dict[str, dict[str, tuple[Verdict, list[int]]]]) -> None:
        """Store a batch: by problem and by text the verdict and the samples' numbers."""
        rows = []
        for task_id, texts in batch.items():
            problem = self.problem(task_id)
            for text, (verdict, numbers) in texts.items():
                is_new = text not in problem.index_of
                row: dict[str, Any] = {"task_id": task_id, "index": problem.add(text, verdict, numbers)}
                if is_new:
                    row |= {"completion": text, "passed": verdict.passed, "result": verdict.result}
                rows.append(row | {"numbers": numbers})
        self._append(rows)

    def _append(self, rows: list[dict[str, Any]]) -> None:
        compressor = zlib.compressobj(wbits=_GZIP)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        member = compressor.compress(text.encode()) + compressor.flush()
        with self._path.open("ab") as file:
            file.write(member)
            file.flush()
            os.fsync(file.fileno())


def read_samples(path: Path) -> dict[str, ProblemSamples]:
    """What is stored, up to the first damage, by problem.

    Raises:
        CorruptFile: not even the beginning is what a store writes.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, ProblemSamples], int]:
    """Settings, problems, and the number of bytes that are whole."""
    problems: dict[str, ProblemSamples] = {}
    settings: dict[str, Any] | None = None
    whole_bytes = 0
    for rows, end in _members(path):
        try:
            if settings is None:
                settings = rows.pop(0)["settings"]
            for row in rows:
                _take(row, problems.setdefault(row["task_id"], ProblemSamples()))
        except (KeyError, IndexError, TypeError) as error:
            raise CorruptFile(f"{path} is no file of samples ({error!r})") from error
        whole_bytes = end
    if settings is None:
        raise CorruptFile(f"{path} is no file of samples, or not even its beginning is whole")
    return settings, problems, whole_bytes


def _take(row: dict[str, Any], problem: ProblemSamples) -> None:
    if "completion" in row:
        problem.add(row["completion"], Verdict(row["passed"], row["result"]), row["numbers"])
    else:
        known = problem.completions[row["index"]]
        problem.add(known.text, known.verdict, row["numbers"])


def _members(path: Path) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Rows of each whole gzip member and where it ends; stops at the first that is damaged or cut."""
    with path.open("rb") as file:
        left = b""
        while True:
            decompressor, text = zlib.decompressobj(_GZIP), b""
            try:
                while not decompressor.eof:
                    piece = left or file.read(_PIECE_BYTES)
                    if not piece:
                        return
                    text += decompressor.decompress(piece)
                    left = decompressor.unused_data
                rows = [json.loads(line) for line in text.splitlines()]
            except (zlib.error, ValueError):
                return
            yield rows, file.tell() - len(left)
