"""Samples: what a run wrote for a problem, with verdict and error, the commonest completion first.

python -m sweep.samples sweeps/NAME RUN TASK [--failed | --passed] [--top 5] [--json]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import RunFolder, SweepFolder, open_sweep
from sweep.sample_store import ProblemSamples, read_samples


def run_folder(folder: SweepFolder, run: str) -> RunFolder:
    """The folder of the run of which ``run`` is the id or its beginning.

    Raises:
        SweepError: there is no such run, or several.
    """
    names = sorted(path.name for path in (folder.path / "runs").glob("*") if path.is_dir())
    fitting = [run] if run in names else [name for name in names if name.startswith(run)]
    if len(fitting) != 1:
        raise SweepError(
            f"{len(fitting)} runs of {folder.path} begin with {run!r}",
            f"one of: {', '.join(fitting or names)}",
            "give more of the run's id; python -m sweep.status shows them",
        )
    return folder.run(fitting[0])


def samples_of(run: RunFolder, task_id: str) -> ProblemSamples:
    """The samples of one problem.

    Raises:
        SweepError: none are stored.
    """
    if not run.samples.exists():
        raise SweepError(
            f"{run.path} holds no samples", "a run that was sampled", "launch the sweep again, or wait for it"
        )
    try:
        problems = read_samples(run.samples)
    except CorruptFile as error:
        raise SweepError(str(error), "the file as it was written", "launch again: it is made anew") from error
    if task_id not in problems:
        some = ", ".join(sorted(problems)[:8])
        raise SweepError(
            f"{run.samples} has no problem {task_id}", f"one of its {len(problems)}: {some} ...", "check it"
        )
    return problems[task_id]


def listed(samples: ProblemSamples, passed: bool | None, top: int) -> list[dict[str, Any]]:
    """The commonest completions, of one verdict or of both."""
    wanted = [one for one in samples.completions if passed is None or one.verdict.passed == passed]
    wanted.sort(key=lambda one: (-len(one.numbers), min(one.numbers)))
    return [
        {
            "completion": completion.text,
            "passed": completion.verdict.passed,
            "result": completion.verdict.result,
            "count": len(completion.numbers),
            "numbers": sorted(completion.numbers),
        }
        for completion in wanted[:top]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.samples", description="What a run wrote for a problem.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    parser.add_argument("run", help="a run's id, or its beginning")
    parser.add_argument("task", help="a problem's task_id")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", dest="passed", action="store_false", default=None, help="only those that failed")
    which.add_argument("--passed", dest="passed", action="store_true", default=None, help="only those that passed")
    parser.add_argument("--top", type=int, default=5, help="how many completions (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    samples = samples_of(run_folder(open_sweep(options.sweep), options.run), options.task)
    rows = listed(samples, options.passed, options.top)
    if options.json:
        print(json.dumps({"task_id": options.task, "completions": rows}, indent=1))
        return 0
    num_passed = sum(len(one.numbers) for one in samples.completions if one.verdict.passed)
    different = len(samples.completions)
    print(f"{options.task}: {len(samples.of_number)} samples, {num_passed} passed, {different} different completions")
    for row in rows:
        verdict = row["result"]
        print(
            f"\n--- {row['count']} times, first as sample {row['numbers'][0]}, {verdict}\n{row['completion']}", end=""
        )
    return 0


if __name__ == "__main__":
    run_main(main)
