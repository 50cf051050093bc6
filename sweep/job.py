"""What a Slurm job of a sweep does; slurm/*.sbatch call it.

    python -m sweep.job runs SWEEP SUBMISSION GROUP      train, evaluate and sample a group of small runs
    python -m sweep.job forecast SWEEP SUBMISSION        collect, fit, seal
    python -m sweep.job target SWEEP SUBMISSION          train, evaluate and sample the target
    python -m sweep.job report SWEEP SUBMISSION          verify, report

Exit code 75 asks to be queued again: it was told that its time is nearly up, and saved. Forecast and report look at the
files, not at how the jobs before them ended, and submit again what died without saying why.
"""

import argparse
import logging
import os
import time
from pathlib import Path

from sweep.capability import capability_of, is_sampled
from sweep.cluster.element import DISK_POLL_SECONDS, MAX_TRIES, follow, train_group, wait_until_writable
from sweep.cluster.lease import holder_here
from sweep.cluster.life import begin, end, how_far, read_life
from sweep.cluster.slurm import rename, requeue
from sweep.cluster.submission import (
    FORECAST,
    REPORT,
    RUNS,
    TARGET,
    Submission,
    in_queue,
    job_name,
    life_of,
    read_submission,
)
from sweep.cluster.submit import submit_sweep
from sweep.devices import devices_of
from sweep.errors import SweepError, run_main
from sweep.folder import SweepFolder, open_sweep
from sweep.pending import refuse_failures
from sweep.pipeline import conclude, forecast, locked_sweep, show_forecast
from sweep.run_spec import Plan, PlannedRun, read_plan
from sweep.tracking import decide_mode
from sweep.workers import EXIT_FENCED

log = logging.getLogger("sweep")

_LOCK_WAIT_SECONDS = 900.0  # a launch may hold the lock, for as long as its corpus takes


def _ended(plan: Plan, folder: SweepFolder, submission: Submission, runs: list[PlannedRun]) -> bool:
    """Whether all ``runs`` have ended; those that died without a word are submitted again.

    Raises:
        SweepError: runs failed, or nothing got any further since the submission.
    """
    capability = capability_of(plan)
    states = [folder.run(run.run_id).state() for run in runs]
    died = [
        run.run_id
        for run, state in zip(runs, states, strict=True)
        if state.status in ("planned", "running")
        or (state.status == "done" and not is_sampled(folder, run.run_id, capability))
    ]
    failed = any(state.status == "failed" for state in states)
    if not died or failed or how_far(plan.runs, folder) == submission.stood:
        refuse_failures(runs, folder, capability)
        return True
    if cancelled := set(died) & _cancelled(folder, submission):
        raise SweepError(
            f"{len(cancelled)} runs are not done since their job was cancelled, such as {min(cancelled)}",
            "runs that come to their own end",
            f"to go on: {submission.command}",
        )
    log.warning("%d runs are not done and nothing says why, such as %s; submitted again", len(died), died[0])
    corpus = Path(submission.corpus_folder)
    ids = submit_sweep(plan, folder, corpus, submission.machine, submission.command)
    log.info("slurm: %s", ids or "nothing submitted: they are in the queue")
    return False


def _cancelled(folder: SweepFolder, submission: Submission) -> set[str]:
    """Runs of the submission whose job somebody cancelled, by what it wrote on its way out or by Slurm's memory."""
    elements = in_queue(folder, state="CANCELLED")
    cancelled = {element.part for element in elements if element.number == submission.number}
    for part in submission.parts:
        life = read_life(life_of(folder, submission.number, part))
        if life is not None and life.state == "cancelled":
            cancelled.add(part)
    return {run_id for part, run_ids in submission.parts.items() if part in cancelled for run_id in run_ids}


def run_job(stage: str, folder: SweepFolder, submission: Submission, group: int) -> int:
    """Do what a job is for, again if the disk failed meanwhile; returns its exit code."""
    for _ in range(MAX_TRIES):
        wait_until_writable(folder)
        try:
            return _run_stage(stage, folder, submission, group)
        except OSError as error:
            log.warning("%s: again in %g s", error, DISK_POLL_SECONDS)
            time.sleep(DISK_POLL_SECONDS)
    return _run_stage(stage, folder, submission, group)


def _run_stage(stage: str, folder: SweepFolder, submission: Submission, group: int) -> int:
    plan = read_plan(folder)
    if stage == RUNS:
        if not 0 <= group < len(submission.groups):
            raise SweepError(
                f"group {group} of submission {submission.number}",
                f"one of its {len(submission.groups)} groups, counted from 0",
                f"sbatch --array=0-{len(submission.groups) - 1} for all of them",
            )
        run_ids = set(submission.groups[group])
        return train_group(plan, folder, submission, [run for run in plan.runs if run.run_id in run_ids], group)
    if stage == TARGET:
        devices = devices_of(plan.target, submission.machine)
        if devices.started_by_srun and devices.rank > 0:
            os._exit(follow(plan, folder, submission))  # an ordinary end of several ranks can abort in gloo
        return train_group(plan, folder, submission, [plan.target], TARGET)
    life = begin(life_of(folder, submission.number, stage), holder_here(), [], folder)
    try:
        with locked_sweep(folder, _LOCK_WAIT_SECONDS):
            code = _forecast(plan, folder, submission) if stage == FORECAST else _report(plan, folder, submission)
    except Exception as error:
        end(life, "failed", str(error).partition("\n")[0] or repr(error))
        raise
    end(life, "done", "")
    return code


def _forecast(plan: Plan, folder: SweepFolder, submission: Submission) -> int:
    if _ended(plan, folder, submission, plan.fit_runs):
        forecast(plan, folder)
        if plan.has_target:
            show_forecast(plan, folder, decide_mode(submission.machine.tracking), submission.machine)
    return 0


def _report(plan: Plan, folder: SweepFolder, submission: Submission) -> int:
    if not folder.fit.exists():
        raise SweepError(
            f"{folder.path} has no forecast",
            "a forecast to compare the target with",
            f"see python -m sweep.status {folder.path} for what failed, mend it and launch again",
        )
    if not _ended(plan, folder, submission, [plan.target]):
        return 0
    return conclude(plan, folder, decide_mode(submission.machine.tracking), submission.machine)


def _take_name(folder: SweepFolder, submission: Submission, stage: str, group: int) -> None:
    """See to it that the job has the name by which the sweep's jobs are known, also if it was submitted by hand."""
    element = holder_here().element
    name = job_name(folder, submission.number, stage, group - int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)))
    if os.environ.get("SLURM_JOB_NAME") != name:
        try:
            rename(element, name)
        except SweepError as error:
            log.warning("job %s can't be named %s, so status and cancel don't know it: %s", element, name, error)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.job", description="The work of one Slurm job of a sweep.")
    parser.add_argument("stage", choices=(RUNS, FORECAST, TARGET, REPORT))
    parser.add_argument("sweep", type=Path, help="the sweep's folder, on a disk that the nodes see")
    parser.add_argument("submission", type=int, help="number of a file in SWEEP/slurm")
    parser.add_argument("group", type=int, nargs="?", default=0, help="which of its groups of runs")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    folder = open_sweep(options.sweep)
    parent_pid = os.getppid()
    submission = read_submission(folder, options.submission)
    _take_name(folder, submission, options.stage, options.group)
    code = run_job(options.stage, folder, submission, options.group)
    if os.getppid() != parent_pid and code != EXIT_FENCED:
        # Slurm's own process for the step was killed: nobody hears how this one ends, and srun would wait for ever.
        requeue(holder_here().element)
    return code


if __name__ == "__main__":
    run_main(main)
