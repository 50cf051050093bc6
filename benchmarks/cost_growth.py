"""Does a FLOP cost the same over the ladder's budgets? CPU seconds per exact training FLOP from 2e10 to 2e13.

    python -m benchmarks.cost_growth [--budgets 2e10 ...] [--rounds 5]

Each budget's run is the plan's: shape, batch and whether it is compiled (machine.compile_from_flops). It is trained by
``sweep.train.train`` in a single-threaded process; after the warm-up the budgets take turns of ten steps (more where
ten take less than 0.3 s), and the medians of the rounds count. A target would be trained on all cores; here it is not.
"""

import argparse
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.contest import ours, take_turns
from benchmarks.study import configured, corpus_of, planned, write_result
from sweep.provenance import library_versions
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec

BUDGETS = (2e10, 5e10, 1e11, 2e11, 5e11, 1e12, 2e12, 5e12, 1e13, 2e13)
BLOCK_STEPS, BLOCK_SECONDS = 10, 0.3
FLAT_FROM_FLOPS = 1e12


def row_of(run: PlannedRun, machine: MachineSpec, seconds_per_step: list[float]) -> dict[str, Any]:
    flops_per_step = run.flops / run.spec.num_steps
    cost = [seconds / flops_per_step for seconds in seconds_per_step]
    return {
        "budget_flops": run.budget_flops,
        "width": run.spec.model.width,
        "batch_rows": run.spec.batch_rows,
        "num_steps": run.spec.num_steps,
        "compiled": machine.compile_from_flops is not None and run.flops >= machine.compile_from_flops,
        "flops_per_step": flops_per_step,
        "cpu_seconds_per_step": statistics.median(seconds_per_step),
        "cpu_seconds_per_flop": statistics.median(cost),
        "cpu_seconds_per_flop_by_round": cost,
    }


def growth_of(rows: list[dict[str, Any]], from_flops: float) -> float | None:
    """Highest over lowest cost of a FLOP among the budgets from ``from_flops`` up; None if there are not two."""
    costs = [row["cpu_seconds_per_flop"] for row in rows if row["budget_flops"] >= from_flops]
    return max(costs) / min(costs) if len(costs) > 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    spec = configured()
    corpus = corpus_of(spec)
    # Waiting for the others would count as time since the last checkpoint.
    machine = replace(spec.machine, checkpoint_seconds=1e9)
    runs = {f"{budget:.1e}": planned(spec, corpus, budget, 0) for budget in arguments.budgets}
    with tempfile.TemporaryDirectory() as folder:
        contestants = [ours(name, run, corpus, machine, Path(folder) / name) for name, run in runs.items()]
        seconds = take_turns(contestants, arguments.rounds, BLOCK_SECONDS, BLOCK_STEPS)
    for contestant in contestants:
        if contestant.failure:
            raise SystemExit(f"the run of {contestant.name} FLOPs ended early:\n{contestant.failure}")
    rows = [row_of(run, machine, seconds[name]) for name, run in runs.items()]
    growth = growth_of(rows, FLAT_FROM_FLOPS)

    print("    budget  width  rows  compiled  ms a step  CPU s per 1e12 FLOPs")
    for row in rows:
        print(
            f"  {row['budget_flops']:8.1e}  {row['width']:5}  {row['batch_rows']:4}  {row['compiled']!s:>8}"
            f"  {row['cpu_seconds_per_step'] * 1e3:9.1f}  {row['cpu_seconds_per_flop'] * 1e12:20.1f}"
        )
    if growth is not None:
        print(f"from {FLAT_FROM_FLOPS:.0e} FLOPs up the dearest FLOP costs {growth:.2f} times the cheapest")
    value = {
        "rounds": arguments.rounds,
        "num_cpus": os.cpu_count(),
        "libraries": library_versions(),
        "flat_from_flops": FLAT_FROM_FLOPS,
        "dearest_over_cheapest_from_there": growth,
        "rows": rows,
    }
    write_result("cost_growth", value)


if __name__ == "__main__":
    main()
