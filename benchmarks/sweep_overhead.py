"""What a sweep costs beside its trainings: the default ladder's small runs, and forty tiny runs on two workers.

    python -m benchmarks.sweep_overhead [--ladder-budgets 2e10 ...] [--tiny-runs 40]

Both are trained and evaluated by ``sweep.workers.run_all``, untracked, in a fresh folder. Of each:

* worker seconds (workers times wall seconds of ``run_all``) over the runs' own seconds of training, train_seconds;
* wall seconds over those of perfect packing: the runs' own seconds of training and evaluation, from the first row of
  metrics.jsonl to eval.json, shared evenly by the workers. Forking and building a model count as overhead;
  importing torch, which a launch does once, is timed apart;
* the idle tail: the share of the worker seconds in which a worker waited for others' last runs, with none left to take.
"""

import argparse
import math
import os
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.study import ROOT, configured, corpus_of, write_result
from sweep.corpus import Corpus
from sweep.folder import SweepFolder, read_json
from sweep.plan import make_plan
from sweep.provenance import library_versions
from sweep.run_spec import PlannedRun
from sweep.spec import SweepSpec
from sweep.workers import Job, run_all

TINY_RUNS, TINY_FLOPS = 40, (2e9, 8e9)  # one to three seconds each
TINY_WORKERS = 2


def tiny_budgets(num_runs: int) -> list[float]:
    """Different sizes, evenly spread on a logarithmic scale."""
    low, high = (math.log(flops) for flops in TINY_FLOPS)
    return [math.exp(low + (high - low) * index / max(1, num_runs - 1)) for index in range(num_runs)]


def measure(spec: SweepSpec, corpus: Corpus) -> dict[str, Any]:
    plan = make_plan(spec, corpus.info)
    # In the checkout, not in memory as a temporary folder may be: writing safely to a disk is part of the cost.
    with tempfile.TemporaryDirectory(dir=ROOT / spec.machine.cache_dir) as path:
        folder = SweepFolder(Path(path) / "overhead")
        start = time.time()
        ended = run_all(plan.fit_runs, Job(plan, folder, corpus, spec.machine, "disabled", None))
        wall_seconds = time.time() - start
        if not ended:
            raise SystemExit("interrupted: nothing measured")
        return summary(plan.fit_runs, folder, spec.machine.num_workers or os.cpu_count() or 1, wall_seconds)


def summary(runs: list[PlannedRun], folder: SweepFolder, num_workers: int, wall_seconds: float) -> dict[str, Any]:
    train_seconds, own_seconds, ends = [], [], []
    for run in runs:
        files = folder.run(run.run_id)
        ends.append(files.eval.stat().st_mtime)
        own_seconds.append(ends[-1] - datetime.fromisoformat(files.rows()[0]["utc"]).timestamp())
        train_seconds.append(read_json(files.train)["train_seconds"])
    worker_seconds = num_workers * wall_seconds
    # The last runs to end, one per worker, are the last of their workers.
    tail_seconds = sum(max(ends) - end for end in sorted(ends)[-num_workers:])
    return {
        "num_runs": len(runs),
        "num_workers": num_workers,
        "wall_seconds": wall_seconds,
        "worker_seconds": worker_seconds,
        "train_seconds": sum(train_seconds),
        "own_seconds": sum(own_seconds),
        "shortest_own_seconds": min(own_seconds),
        "longest_own_seconds": max(own_seconds),
        "idle_tail_seconds": tail_seconds,
        "worker_seconds_over_train_seconds": worker_seconds / sum(train_seconds),
        "wall_over_perfect_packing": worker_seconds / sum(own_seconds),
        "idle_tail_share": tail_seconds / worker_seconds,
    }


def line(name: str, result: dict[str, Any]) -> str:
    return (
        f"{name:8} {result['num_runs']:4} {result['num_workers']:7}"
        f" {result['shortest_own_seconds']:6.1f} to {result['longest_own_seconds']:5.1f} {result['wall_seconds']:8.1f}"
        f" {result['worker_seconds_over_train_seconds']:14.3f} {result['wall_over_perfect_packing']:16.3f}"
        f" {result['idle_tail_share']:9.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ladder-budgets", type=float, nargs="+", help="one run each, instead of the whole ladder")
    parser.add_argument("--tiny-runs", type=int, default=TINY_RUNS)
    arguments = parser.parse_args()
    ladder = one_run_each(arguments.ladder_budgets) if arguments.ladder_budgets else []
    tiny = one_run_each(tiny_budgets(arguments.tiny_runs))
    settings = {"ladder": configured(*ladder), "tiny": configured(*tiny, f"machine.num_workers={TINY_WORKERS}")}
    corpus = corpus_of(settings["ladder"])
    import_seconds = seconds_to_import()
    print(f"importing torch and lightning, once a launch: {import_seconds:.1f} s")
    print("         runs workers  own seconds     wall  worker/train s  over perfect   idle tail")
    results = {}
    for name, spec in settings.items():
        results[name] = measure(spec, corpus)
        print(line(name, results[name]), flush=True)
    facts = {"libraries": library_versions(), "import_seconds": import_seconds}
    write_result("sweep_overhead", {**facts, **results})


def seconds_to_import() -> float:
    start = time.time()
    import lightning.fabric  # noqa: F401
    import torch  # noqa: F401

    return time.time() - start


def one_run_each(budgets: list[float]) -> list[str]:
    return [f"grid.budgets_flops={budgets}", f"grid.num_seeds={[1] * len(budgets)}"]


if __name__ == "__main__":
    main()
