"""Memory over a million programs: the pool, its checker, the fork server and its children.

    python -m benchmarks.scoring_memory [--programs 1000000]

Different programs (benchmarks/mutants.py: 70 % broken, 25 % wrong, 5 % right), judged by one worker. After each
twentieth of them the resident memory of every process is read; what grows is the pool's memory of verdicts.
"""

import argparse
import os
import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.mutants import broken, right, wrong
from benchmarks.study import write_result
from sweep.humaneval.pool import Pool, Sample
from sweep.humaneval.problems import read_problems
from sweep.provenance import library_versions

POINTS = 20
_SLOW = {"HumanEval/36", "HumanEval/39", "HumanEval/75", "HumanEval/83", "HumanEval/147"}  # long tests, not memory


def programs(count: int) -> Iterator[Sample]:
    problems = [problem for task, problem in read_problems().items() if task not in _SLOW]
    generator = random.Random(0)
    for number in range(count):
        make = generator.choices([broken, wrong, right], [0.7, 0.25, 0.05])[0]
        problem = generator.choice(problems)
        yield problem.task_id, f"{make(problem, generator)}\n# {number}\n"


def resident_mib() -> dict[str, float]:
    """Of this process and its descendants, by how far down they are: pool, checker, servers, children."""
    parents, memory = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            memory[int(path.name)] = int((path / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        except OSError:
            continue
    level, sums = {os.getpid()}, {}
    for name in ("pool", "checker", "server's parent", "server", "children"):
        sums[name] = round(sum(memory[pid] for pid in level), 1)
        level = {pid for pid, parent in parents.items() if parent in level}
    return sums


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=1_000_000)
    options = parser.parse_args()
    rows = []
    with Pool(read_problems(), num_workers=1) as pool:
        for number, _ in enumerate(pool.judge(programs(options.programs)), 1):
            if number % (options.programs // POINTS) == 0:
                rows.append({"programs": number, **resident_mib()})
                print(rows[-1], flush=True)
    write_result("scoring_memory", {"libraries": library_versions(), "rows": rows})


if __name__ == "__main__":
    main()
