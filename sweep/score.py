"""HumanEval verdicts on anybody's samples, with the reference harness's files and words.

    python -m sweep.score samples.jsonl [--problems FILE] [--k 1,10,100] [--json]

``samples.jsonl`` (or ``.jsonl.gz``) holds one JSON object per line with ``task_id`` and ``completion``; the
program is the problem's prompt and the completion. ``samples.jsonl_results.jsonl`` gets every scored line with
``result``, ``passed`` and ``judged_by``: the walls that stood around the program, and the problems' hash.
A line that can't be scored is named and left out, and the exit status is 1; so it is if there was none to score.
Started again after an
interruption, the command goes on behind the last verdict written.
"""

import argparse
import gzip
import io
import json
import os
import sys
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sweep.errors import SweepError, run_main
from sweep.folder import locked
from sweep.humaneval.checker import Verdict
from sweep.humaneval.pool import Pool, Sample
from sweep.humaneval.problems import Problem, problems_sha256, read_problems
from sweep.pass_rates import pass_at_k

_SHOWN_BAD_LINES = 20


class Samples:
    """The scorable lines of a samples file, read as a stream; ``bad_lines`` grows with what is left out, and why."""

    def __init__(self, path: Path, problems: dict[str, Problem]) -> None:
        self._path, self._problems = path, problems
        self.bad_lines: list[str] = []
        self.num_bad_lines = 0

    def rows(self) -> Iterator[dict[str, Any]]:
        """Raises SweepError if the file can't be read at all."""
        try:
            with _open(self._path) as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        row = self._row(number, line)
                        if row is not None:
                            yield row
        except (OSError, EOFError, zlib.error) as error:
            raise SweepError(
                f"{self._path} can't be read: {error}",
                "a file of JSON lines, each with task_id and completion, .jsonl or .jsonl.gz",
                "check the path, the rights, and whether a .gz is whole",
            ) from error

    def _row(self, number: int, line: bytes) -> dict[str, Any] | None:
        try:
            row = json.loads(line)
            reason = self._reason(row)
        except (ValueError, RecursionError) as error:
            reason = f"not a line of JSON in UTF-8 ({error})"
        if reason is None:
            return dict(row)
        self.num_bad_lines += 1
        if self.num_bad_lines <= _SHOWN_BAD_LINES:
            self.bad_lines.append(f"{self._path}, line {number}: {reason}")
        return None

    def _reason(self, row: Any) -> str | None:
        if not isinstance(row, dict):
            return "not an object with task_id and completion"
        for name in ("task_id", "completion"):
            if not isinstance(row.get(name), str):
                return f"{name} is {'missing' if name not in row else 'not text'}"
        if row["task_id"] not in self._problems:
            return f"task_id {row['task_id'][:80]!r} is not among the {len(self._problems)} problems"
        return None


def _open(path: Path) -> IO[bytes]:
    return io.BufferedReader(gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def score(path: Path, problems: dict[str, Problem], num_workers: int, unsafe: bool, ks: list[int]) -> dict[str, Any]:
    """Judge every sample, write ``<samples>_results.jsonl`` and return the summary that ``--json`` prints.

    Raises:
        SweepError: the samples can't be read, a problem is broken, or no sound sandbox can be had.
    """
    samples = Samples(path, problems)
    results = path.with_name(f"{path.name}_results.jsonl")
    attempts: Counter[str] = Counter()
    passes: Counter[str] = Counter()
    with Pool(problems, num_workers, unsafe) as pool:
        judged_by = f"{_walls(pool.layers)}; problems {problems_sha256(problems.values())[:16]}"
        for row, verdict in _written(samples, pool, judged_by, results):
            attempts[row["task_id"]] += 1
            passes[row["task_id"]] += verdict.passed
    return {
        "results": str(results),
        "samples": attempts.total(),
        "bad_lines": samples.num_bad_lines,
        "examples_of_bad_lines": samples.bad_lines,
        "problems": len(problems),
        "problems_attempted": len(attempts),
        **_pass_at(ks, attempts, passes),
        "judged_by": judged_by,
    }


def _written(samples: Samples, pool: Pool, judged_by: str, results: Path) -> Iterator[tuple[dict[str, Any], Verdict]]:
    """Every row with its verdict, once it is on disk; the file has its own name when all are.

    Raises:
        SweepError: another command writes there, or nothing can be written.
    """
    part = results.with_name(f"{results.name}.part")
    try:
        with locked(part) as free:
            if not free:
                raise SweepError(
                    f"another command writes {part}", "one command for one file of samples", "wait for it, or stop it"
                )
            kept = _keep(part, samples, judged_by, pool)
            with part.open("ab") as file, _progress() as progress:
                task = progress.add_task("scored", total=None)
                for number, (row, verdict) in enumerate(_judged(samples, pool)):
                    progress.advance(task)
                    if number >= kept:
                        result = {**row, "result": verdict.result, "passed": verdict.passed, "judged_by": judged_by}
                        file.write(json.dumps(result).encode() + b"\n")
                        file.flush()
                    yield row, verdict
                os.fsync(file.fileno())
            part.replace(results)
    except OSError as error:
        raise SweepError(
            f"{results} can't be written: {error}",
            "a folder with room that may be written to, beside the samples",
            "copy the samples to such a place; verdicts found so far are kept",
        ) from error


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _judged(samples: Samples, pool: Pool) -> Iterator[tuple[dict[str, Any], Verdict]]:
    rows: deque[dict[str, Any]] = deque()

    def stream() -> Iterator[Sample]:
        for row in samples.rows():
            rows.append(row)
            yield row["task_id"], row["completion"]

    for verdict in pool.judge(stream()):
        yield rows.popleft(), verdict


def _keep(part: Path, samples: Samples, judged_by: str, pool: Pool) -> int:
    """Rows of an interrupted start that still hold, given to the pool as known; cuts the file behind them."""
    if not part.exists():
        return 0
    kept = end = 0
    with part.open("rb") as file:
        for line, row in zip(file, Samples(samples._path, samples._problems).rows(), strict=False):
            try:
                old = json.loads(line)
                same = {**row, **{name: old[name] for name in ("result", "passed", "judged_by")}} == old
            except (ValueError, TypeError, KeyError):
                break
            if not same or old["judged_by"] != judged_by or not line.endswith(b"\n"):
                break
            pool.remember((row["task_id"], row["completion"]), Verdict(old["passed"], old["result"]))
            kept, end = kept + 1, end + len(line)
    os.truncate(part, end)
    return kept


def _pass_at(ks: list[int], attempts: Counter[str], passes: Counter[str]) -> dict[str, float]:
    """pass@k over the attempted problems, for every k that each of them has samples for."""
    fewest = min(attempts.values(), default=0)
    return {
        f"pass@{k}": float(pass_at_k(list(attempts.values()), [passes[task] for task in attempts], k).mean())
        for k in ks
        if k <= fewest
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.score", description=__doc__.split("\n")[0])
    parser.add_argument(
        "samples", type=Path, help="JSON lines (.jsonl, .jsonl.gz); verdicts go to <samples>_results.jsonl"
    )
    parser.add_argument(
        "--problems", type=Path, help="problems in HumanEval's format, .jsonl or .jsonl.gz, instead of it"
    )
    parser.add_argument("--k", default="1,10,100", help="pass@k for these k (default 1,10,100)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="checkers at work (default: one per core)")
    parser.add_argument("--unsafe", action="store_true", help="run without a system-call filter where there is none")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    ks = _numbers(options.k)
    if options.workers < 1:
        raise SweepError(f"--workers is {options.workers}", "1 or more", "leave it out for one per core")
    summary = score(options.samples, read_problems(options.problems), options.workers, options.unsafe, ks)
    for line in summary["examples_of_bad_lines"]:
        print(f"not scored: {line}", file=sys.stderr)
    if summary["bad_lines"] > _SHOWN_BAD_LINES:
        print(f"not scored: {summary['bad_lines'] - _SHOWN_BAD_LINES} lines more", file=sys.stderr)
    if options.json:
        print(json.dumps(summary, indent=1))
    else:
        _show(summary, ks)
    return 1 if summary["bad_lines"] or not summary["samples"] else 0


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise SweepError(f"--k is {text!r}", "numbers of 1 or more, with commas between", "give such as --k 1,10,100")
    return numbers


def _show(summary: dict[str, Any], ks: list[int]) -> None:
    if not summary["samples"]:
        print("no sample could be scored: the file holds no line of JSON with a known task_id and a completion")
        return
    print(f"{summary['samples']} samples of {summary['problems_attempted']} of {summary['problems']} problems")
    for k in ks:
        value = summary.get(f"pass@{k}")
        print(f"pass@{k:<4} {f'not every attempted problem has {k} samples' if value is None else f'{value:.4f}'}")
    if summary["problems_attempted"] < summary["problems"]:
        print("the problems without a sample are not counted in")
    print(f"judged by {summary['judged_by']}")
    print(f"results in {summary['results']}")


def _walls(layers: dict[str, Any]) -> str:
    """The layers around every program of these samples, in words."""
    walls = ["seccomp"] if layers["seccomp"] else ["NO SYSTEM-CALL FILTER (--unsafe)"]
    walls += [f"landlock {layers['landlock']}"] if layers["landlock"] else []
    walls += [f"namespaces {' '.join(layers['namespaces'])}"] if layers["namespaces"] else []
    return ", ".join([*walls, "rlimits", *(["no root"] if layers["user_dropped"] else [])])


if __name__ == "__main__":
    run_main(main)
