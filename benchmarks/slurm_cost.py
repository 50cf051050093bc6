"""What a cluster costs a sweep: the time of plan, submission and status, and what an element adds to its runs.

    python -m benchmarks.slurm_cost [--runs 10000] [--rounds 5]

On a private Slurm of this machine (tests/slurm_cluster.py). Plan, submission (really made, the jobs held) and status
of a sweep of so many runs are each a process of its own; its wall and CPU seconds and its peak of memory are given.
Half of the runs are made to look finished by files of made-up content: nothing is trained.

For the overhead a group of ten small runs is trained by this machine's pool of workers, in a process that has
imported everything, and by an element of an array, in turns, one worker each. What the element takes longer is shared
by its runs.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.study import configured, corpus_of, write_result
from sweep.cluster.life import read_life
from sweep.cluster.submission import TARGET, job_name, life_of
from sweep.cluster.submit import submit_sweep
from sweep.folder import SweepFolder, read_json, write_json
from sweep.pipeline import run_pipeline
from sweep.plan import freeze_plan, make_plan
from sweep.run_spec import Plan, read_plan
from sweep.spec import SweepSpec
from sweep.status import status_of, text_of
from sweep.workers import Job, run_all
from tests.slurm_cluster import SlurmCluster

_SEEDS_EACH = 10
_SMALL = (
    *("experiment=smoke", "machine=slurm", "machine.tracking=none", "data.sources.0.train_bytes=3_000_000"),
    *("grid.budgets_flops=[2e9,3e9,4e9,6e9,8e9]", "grid.num_seeds=[2,2,2,2,2]", "grid.target_flops=2.4e11"),
)
_CORPUS = {"sha256": "0", "files": {}, "train": {"tokens": 10**12}, "held_out": {"tokens": 10**7}, "near_duplicates": 0}


def large_sweep(num_runs: int, sweeps: Path) -> SweepSpec:
    """A ladder of so many runs, in steps of a tenth of a percent."""
    num_budgets = num_runs // _SEEDS_EACH
    budgets = [1e12 * 1.001**index for index in range(num_budgets)]
    return configured(
        "machine=slurm",
        f"sweeps_dir={sweeps}",
        f"grid.budgets_flops={json.dumps(budgets)}",
        f"grid.num_seeds={json.dumps([_SEEDS_EACH] * num_budgets)}",
        f"grid.target_flops={budgets[-1] * 100}",
        "machine.slurm.extra=[--hold]",
        "machine.flops_per_second=1e12",
    )


def pretend_finished(plan: Plan, folder: SweepFolder) -> None:
    """Files of made-up content for every other run, such as status reads them."""
    for run in plan.fit_runs[::2]:
        files = folder.run(run.run_id)
        machine = {"accelerator": "cpu", "precision": "32-true"}
        done = {
            "status": "done",
            "step": run.spec.num_steps,
            "flops": run.flops,
            "train_seconds": 1.0,
            "machine": machine,
        }
        write_json(files.train, done)
        write_json(files.eval, {"run_id": run.run_id, "loss_nats": 3.0})


def in_a_process(what: Callable[[], Any]) -> dict[str, Any]:
    """Wall and CPU seconds and peak memory of a call in a fresh interpreter, whose start and imports are included."""
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        said, used = pool.apply(_with_use, (what,))
    return {"seconds": time.perf_counter() - start, **used, "said": said}


def _with_use(what: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    said, own = what(), resource.getrusage(resource.RUSAGE_SELF)
    commands = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = own.ru_utime + own.ru_stime + commands.ru_utime + commands.ru_stime
    return said, {"cpu_seconds": cpu_seconds, "peak_mib": own.ru_maxrss / 1024}


def plan_large(num_runs: int, sweeps: Path) -> int:
    spec = large_sweep(num_runs, sweeps)
    plan = make_plan(spec, _CORPUS)
    freeze_plan(plan, SweepFolder(sweeps / spec.name))
    return len(plan.runs)


def submit_large(num_runs: int, sweeps: Path) -> dict[str, list[str]]:
    spec = large_sweep(num_runs, sweeps)
    folder = SweepFolder(sweeps / spec.name)
    return submit_sweep(read_plan(folder), folder, sweeps, spec.machine, "benchmark")


def ask(folder: SweepFolder) -> str:
    return text_of(status_of(folder))


def large(num_runs: int, cluster_folder: Path) -> dict[str, Any]:
    sweeps = cluster_folder / "sweeps"
    folder = SweepFolder(sweeps / "study")
    planned = in_a_process(partial(plan_large, num_runs, sweeps))
    plan = read_plan(folder)
    pretend_finished(plan, folder)
    submitted = in_a_process(partial(submit_large, num_runs, sweeps))
    asked = in_a_process(partial(ask, folder))
    num_elements = len(read_json(folder.path / "slurm" / "1.json")["groups"])
    return {"runs": len(plan.runs), "elements": num_elements, "plan": planned, "submit": submitted, "status": asked}


def overhead(num_rounds: int, cluster: SlurmCluster) -> list[dict[str, float]]:
    """Wall seconds of one group of runs in this machine's pool and as an element of an array, in turns."""
    rounds = []
    for index in range(num_rounds):
        place = cluster.folder / f"sweeps-{index}"
        spec = configured(*_SMALL, f"sweeps_dir={place}")
        corpus, pool_folder = corpus_of(spec), SweepFolder(cluster.folder / f"pool-{index}")
        plan = make_plan(spec, corpus.info)
        start = time.monotonic()
        run_all(plan.fit_runs, Job(plan, pool_folder, corpus, spec.machine, "disabled", None))
        pool_seconds = time.monotonic() - start
        run_pipeline(spec)
        folder = SweepFolder(place / spec.name)
        while (life := read_life(life_of(folder, 1, 0))) is None or life.state == "running":
            time.sleep(0.5)
        cluster.run("scancel", "--name", job_name(folder, 1, TARGET))
        element_seconds = _job_seconds(cluster, life.element)
        rounds.append({"runs": len(plan.fit_runs), "pool_seconds": pool_seconds, "element_seconds": element_seconds})
    return rounds


def _job_seconds(cluster: SlurmCluster, element: str) -> float:
    """From a job's start to its end, by Slurm's clock, which counts whole seconds."""
    while "JobState=COMPLETED" not in (job := cluster.run("scontrol", "show", "job", element)):
        time.sleep(0.2)
    start, end = (datetime.fromisoformat(re.findall(rf"{name}=(\S+)", job)[0]) for name in ("StartTime", "EndTime"))
    return (end - start).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm_cost", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, SlurmCluster(Path(folder)) as cluster:
        os.environ.update(cluster.environment)
        sizes = large(options.runs, cluster.folder)
        cluster.run("scancel", "--me")
        rounds = overhead(options.rounds, cluster)
    each = [(one["element_seconds"] - one["pool_seconds"]) / one["runs"] for one in rounds]
    result = {**sizes, "rounds": rounds, "overhead_seconds_per_run": statistics.median(each)}
    print(json.dumps(result, indent=1))
    write_result("slurm_cost", result)


if __name__ == "__main__":
    main()
