"""Status: what is done, running, queued, missing and why, from the files of a sweep and Slurm's queue.

python -m sweep.status sweeps/NAME [--watch] [--json]
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sweep.capability import capability_of, is_sampled
from sweep.cluster.queue_state import QueueState, queue_state
from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import SweepFolder, open_sweep, read_json
from sweep.progress import last_row, time_text
from sweep.run_spec import Plan, PlannedRun, read_plan

_WATCH_SECONDS = 5.0
_MANY_RUNS = 60  # of more than so many, only those that need a look are listed


def status_of(folder: SweepFolder) -> dict[str, Any]:
    """Every planned run with its status, the jobs in the queue, and which stages have left their files."""
    plan = read_plan(folder)
    runs = run_rows(plan, folder)
    queue = queue_state(folder)
    for run, row in zip(plan.runs, runs, strict=True):
        if row["status"] == "running":
            row |= _speed(run, last_row(folder.run(run.run_id).metrics))
        job = queue.jobs.get(row["run_id"])
        row |= {
            "job": job.job_id if job else None,
            "job_state": job.state if job else None,
            "requeued": job.restarts if job else None,
        }
        if job and not job.in_queue and not queue.error and row["status"] in ("planned", "running"):
            row["reason"] += f"; its job {job.job_id} {job.how_it_ended}"
        elif job and row["status"] == "planned":
            row["reason"] = f"job {job.job_id} {job.state.lower()}"
    ends = (*folder.sealed_files, folder.seal, folder.verdict, folder.report)
    made = ends if plan.has_target else (folder.plan, folder.records, folder.optimum)
    stages = {path.name: path.exists() for path in made}
    return {
        "sweep": plan.name,
        "runs": runs,
        "files": stages,
        "queue": {"error": queue.error, "states": queue.counts, "failed_jobs": queue.failed},
        "next": _what_next(plan, folder, runs, queue),
    }


def run_rows(plan: Plan, folder: SweepFolder) -> list[dict[str, Any]]:
    """One row per planned run, from its files."""
    capability = capability_of(plan)
    rows = []
    for run in plan.runs:
        files = folder.run(run.run_id)
        loss = None
        try:
            state = files.state()
            status, reason, step = state.status, state.reason, state.step
            if status == "done":
                loss = read_json(files.eval)["loss_nats"]
                if not is_sampled(folder, run.run_id, capability):
                    status, reason = "running", "trained and evaluated, not sampled to the end yet"
        except CorruptFile as error:
            status, reason, step = "failed", f"damaged: {error}; the next launch makes it again", 0
        rows.append(
            {
                "run_id": run.run_id,
                "role": run.role,
                "status": status,
                "reason": reason,
                "flops": run.flops,
                "step": step,
                "num_steps": run.spec.num_steps,
                "loss_nats": loss,
            }
        )
    return rows


def _speed(run: PlannedRun, row: dict[str, float]) -> dict[str, float | None]:
    speed = row.get("tokens_per_second")
    left = run.num_tokens - row.get("tokens", 0)
    return {
        "train_loss_nats": row.get("train_loss_nats"),
        "tokens_per_second": speed,
        "seconds_to_go": left / speed if speed else None,
    }


def _what_next(plan: Plan, folder: SweepFolder, runs: list[dict[str, Any]], queue: QueueState) -> str:
    end = (folder.verdict, folder.report) if plan.has_target else (folder.optimum,)
    if all(path.exists() for path in end):
        return f"nothing: see {end[-1]}" + (f", or python -m sweep.verify {folder.path}" if plan.has_target else "")
    if queue.error:
        return f"ask on a machine with Slurm's commands: {queue.error.splitlines()[0]}"
    if queue.counts:
        return f"nothing: the jobs go on by themselves; python -m sweep.cancel {folder.path} ends them"
    bad = Counter(row["status"] for row in runs)["failed"]
    mend = f"mend what stopped the {bad} failed runs, then " if bad else ""
    command = queue.command or f"python -m sweep.launch name={plan.name} ..., as it was launched before"
    return f"{mend}go on with: {command}"


def text_of(status: dict[str, Any]) -> str:
    """The status for people."""
    counts = Counter(row["status"] for row in status["runs"])
    lines = [f"{status['sweep']}: " + ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))]
    queue = status["queue"]
    if queue["states"]:
        lines.append("  in the queue: " + ", ".join(f"{number} {name}" for name, number in queue["states"].items()))
    many = len(status["runs"]) > _MANY_RUNS
    shown = [row for row in status["runs"] if not many or _needs_a_look(row)]
    lines += [_run_line(row) for row in shown]
    if len(shown) < len(status["runs"]):
        lines.append(
            f"  ({len(status['runs']) - len(shown)} runs that are done or waiting are not listed; --json has all)"
        )
    for failed in queue["failed_jobs"]:
        lines += [f"  job {failed['job']} ({failed['part']}) {failed['how']}", *(f"    | {t}" for t in failed["log"])]
    lines.append("  files: " + ", ".join(f"{name} {'yes' if made else 'no'}" for name, made in status["files"].items()))
    return "\n".join([*lines, f"  next: {status['next']}"])


def _needs_a_look(row: dict[str, Any]) -> bool:
    return row["status"] not in ("done", "planned") or bool(row.get("requeued"))


def _run_line(row: dict[str, Any]) -> str:
    text = f"loss {row['loss_nats']:.4f}" if row["loss_nats"] is not None else row["reason"]
    if row.get("train_loss_nats"):
        text += f", train loss {row['train_loss_nats']:.3f}"
    if row.get("seconds_to_go"):
        text += f", {row['tokens_per_second']:,.0f} tokens/s, {time_text(row['seconds_to_go'])} to go"
    if row.get("requeued"):
        text += f", requeued {row['requeued']} times"
    steps = f"step {row['step']}/{row['num_steps']}"
    return f"  {row['run_id']:<40} {row['role']:<7} {row['status']:<9} {row['flops']:.3g} FLOPs  {steps:<16} {text}"


def _watch(folder: SweepFolder) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    while True:
        status = status_of(folder)
        console.clear()
        console.print(text_of(status), markup=False)
        if all(status["files"].values()):
            return
        time.sleep(_WATCH_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.status", description="What is done, running and missing.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--watch", action="store_true", help=f"again every {_WATCH_SECONDS:g} s, until all is made")
    options = parser.parse_args()
    folder = open_sweep(options.sweep)
    if options.watch and options.json:
        raise SweepError("--watch and --json", "one of the two", "ask for --json again and again from your program")
    if options.watch:
        _watch(folder)
        return 0
    status = status_of(folder)
    print(json.dumps(status, indent=1, allow_nan=False) if options.json else text_of(status))
    return 0


if __name__ == "__main__":
    run_main(main)
