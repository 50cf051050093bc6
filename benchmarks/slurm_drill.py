"""A fault drill: a small sweep on a private Slurm is hit again and again, and has to give what it gives undisturbed.

    python -m benchmarks.slurm_drill [--faults 56] [--seed 0]

The same sweep goes through twice: by the local pipeline, undisturbed, and on four nodes of a private cluster, its
folder on a small disk of its own. While runs are in work, faults of all kinds (benchmarks/slurm_faults.py) are injected
at seeded random moments, most of them into small runs, the others into the target. In the end every run has to be
done, losses, forecast and verdict the same to the last bit, no step kept twice, the seal valid. Needs Slurm's daemons;
faults of the disk need root and are left out otherwise.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drawing import table
from benchmarks.slurm_faults import KINDS, Disk, Kind, Site, Undo, Victim, holders, processes, victims
from benchmarks.slurm_pages import DRILL_HEAD
from benchmarks.study import write_result
from sweep.cluster.lease import Holder, holder_of
from sweep.cluster.submission import submissions
from sweep.folder import RunFolder, SweepFolder, read_json
from sweep.progress import last_row
from sweep.provenance import library_versions
from sweep.run_spec import PlannedRun, read_plan
from sweep.verify import verify_sweep
from tests import tiny
from tests.slurm_cluster import SlurmCluster, why_no_slurm

SWEEP = [
    *tiny.OVERRIDES,
    "name=drill",
    "data.sources.0.train_bytes=7000000",
    "grid.budgets_flops=[4e9,4.8e9,5.8e9,6.9e9,8.3e9]",
    "grid.num_seeds=[3,3,2,2,2]",
    "grid.target_flops=8e10",
    "fit.max_flops_fraction=0.2",
    "recipe.batch_tokens_per_sqrt_token=0.1",  # many steps, to be interrupted between
    "machine.log_rows_per_run=2000",
]
ON_SLURM = ["machine=slurm", "machine.tracking=none", "machine.slurm.memory=1G", "machine.slurm.target_memory=1G"]
ON_SLURM += ["machine.slurm.element_minutes=2.1", "machine.checkpoint_seconds=1", "machine.log_rows_per_run=2000"]
ON_SLURM += ["machine.target_threads=1", "machine.slurm.target_cpus=1"]
DISK_MEBIBYTES = 64
SHARE_OF_SMALL_RUNS = 0.72
_TICK_SECONDS = 0.25
_SURE_SECONDS = 300.0  # without any progress: something hangs


@dataclass
class Fault:
    """One fault, and how the run that it hit went on."""

    kind: Kind
    victim: Victim
    seconds: float  # since the launch
    step: int
    num_starts: int
    holder: Holder | None
    undo_at: float | None = None
    undo: Undo | None = None
    ended_at: float = 0.0
    repeated: int | None = None
    outcome: str = ""
    recovery_seconds: float = 0.0


@dataclass
class Watch:
    """What is seen of a run from outside: its starts, how far it was before each, how often it was finished."""

    files: RunFolder
    starts: list[int] = field(default_factory=list)  # the step at which each began
    repeated: list[int] = field(default_factory=list)  # steps made before a start that had to be made again
    step: int = 0
    finished: set[str] = field(default_factory=set)  # when, as its train.json says
    written_ns: int = 0

    def look(self) -> None:
        with suppress(OSError):
            written_ns = self.files.metrics.stat().st_mtime_ns
            if written_ns != self.written_ns and self.files.metrics.read_bytes().count(b'"event"') > len(self.starts):
                starts = [row["step"] for row in self.files.rows() if "event" in row]
                for begun in starts[len(self.starts) :]:
                    self.starts.append(begun)
                    self.repeated.append(max(0, self.step - begun))
                    self.step = begun
            self.written_ns = written_ns
            self.step = max(self.step, int(last_row(self.files.metrics).get("step", 0)))
            if self.files.train.exists() and (train := read_json(self.files.train))["status"] == "done":
                self.finished.add(train["finished_utc"])


class Drill:
    """Hits a sweep's jobs until as many faults are injected, and sees how each run goes on."""

    def __init__(self, site: Site, base: Path, cache: Path, num_faults: int) -> None:
        self.site, self.base, self.cache = site, base, cache
        self.num_faults = num_faults
        kinds = [kind for kind in KINDS if kind.reach != "disk" or site.disk is not None]
        self.waiting = [kinds[index % len(kinds)] for index in range(num_faults)]
        site.generator.shuffle(self.waiting)
        self.faults: list[Fault] = []
        self.relaunches: list[int] = []  # numbers of submissions
        self.watches: dict[str, Watch] = {}
        self.first_seen: dict[int, tuple[int, int]] = {}  # starts and step of its run, by worker
        self.side_by_side: dict[tuple[str, frozenset[int]], float] = {}
        self.start = time.monotonic()
        self.next_at = 0.0

    @property
    def now(self) -> float:
        return time.monotonic() - self.start

    def launch(self) -> None:
        done = launch(self.base, self.cache, ON_SLURM, self.site.cluster.environment)
        print(f"{self.now:6.1f} s  {' '.join(done.stderr.split())[:300]}", flush=True)

    def go(self) -> None:
        """Through to the report."""
        folder = self.site.folder
        self.launch()
        self.plan = read_plan(folder)
        self.watches = {run.run_id: Watch(folder.run(run.run_id)) for run in self.plan.runs}
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        watcher.start()
        last_progress, progress_at = 0, self.now
        while not (folder.report.exists() and not self._open()):
            self._end_faults()
            self._inject()
            if not self._queued() and not folder.report.exists() and all(f.undo is None for f in self._open()):
                self.relaunches.append(max(submissions(folder)) + 1)
                self.launch()
            progress = sum(len(watch.starts) + watch.step for watch in self.watches.values())
            if progress != last_progress:
                last_progress, progress_at = progress, self.now
            if self.now - progress_at > _SURE_SECONDS:
                raise SystemExit(f"nothing has happened for {_SURE_SECONDS:g} s: {self._queued()}")
            time.sleep(_TICK_SECONDS)
        stop.set()
        watcher.join()
        self.seconds = self.now

    def _watch(self, stop: threading.Event) -> None:
        before: dict[str, set[int]] = {}
        looked = time.monotonic()
        while not stop.wait(_TICK_SECONDS):
            for watch in self.watches.values():
                watch.look()
            found = holders(processes(self.site.cluster), self.site.folder)
            now = time.monotonic()
            for run_id, pids in found.items():
                both = frozenset(pids & before.get(run_id, set()))
                if len(both) > 1:
                    self.side_by_side[run_id, both] = self.side_by_side.get((run_id, both), 0.0) + now - looked
            before, looked = found, now

    def _queued(self) -> str:
        return self.site.cluster.run("squeue", "-h", "-p", "main", "-o", "%i %j %T %r").strip()

    def _open(self) -> list[Fault]:
        return [fault for fault in self.faults if not fault.outcome]

    def _inject(self) -> None:
        if not self.waiting or self.now < self.next_at:
            return
        target = self.plan.target.run_id
        hit = {fault.victim.part for fault in self._open()}
        free = [
            victim
            for victim in victims(processes(self.site.cluster), self.site.folder)
            if victim.part not in hit and self._is_going(victim)
        ]
        small_left = len(self.faults) < SHARE_OF_SMALL_RUNS * self.num_faults
        free = [victim for victim in free if small_left or victim.run_id == target]
        busy = {fault.kind.reach for fault in self._open()} - {"run"}
        kind = next((kind for kind in self.waiting if kind.reach == "run" or not busy), None)
        if not free or kind is None:
            return
        victim = self.site.generator.choice(sorted(free, key=lambda one: one.run_id))
        time.sleep(self.site.generator.uniform(0, _TICK_SECONDS))
        watch = self.watches[victim.run_id]
        holder = holder_of(watch.files.lease)
        self.waiting.remove(kind)
        fault = Fault(kind, victim, self.now, watch.step, len(watch.starts), holder)
        if ends := kind.inject(self.site, victim):
            fault.undo_at, fault.undo = self.now + ends[0], ends[1]
        self.faults.append(fault)
        self.next_at = self.now + self.site.generator.uniform(0.1, 1.5)

    def _is_going(self, victim: Victim) -> bool:
        """Whether its worker has been seen to make steps; the steps before may be those of the worker before."""
        watch = self.watches[victim.run_id]
        now = (len(watch.starts), watch.step)
        first = self.first_seen.setdefault(victim.worker, now)
        if first[0] != now[0]:
            self.first_seen[victim.worker] = first = now
        return now[1] > first[1]

    def _end_faults(self) -> None:
        for fault in self._open():
            if fault.undo is not None and fault.undo_at is not None and self.now >= fault.undo_at:
                fault.undo()
                fault.undo, fault.undo_at = None, self.now
            watch = self.watches[fault.victim.run_id]
            since = self.now - (fault.undo_at or fault.seconds)
            is_done = watch.files.eval.exists()
            began_again = len(watch.starts) > fault.num_starts and watch.step > watch.starts[-1]
            went_on = since > fault.kind.seconds and watch.step > fault.step
            if fault.undo is None and (is_done or began_again or (went_on and not self._is_gone(fault))):
                fault.recovery_seconds = self.now - fault.seconds
                fault.repeated = sum(watch.repeated[fault.num_starts :])
                fault.outcome = self._outcome(fault, watch)
                print(f"{self.now:6.1f} s  {' | '.join(row(self.faults.index(fault) + 1, fault))}", flush=True)

    def _is_gone(self, fault: Fault) -> bool:
        """Whether the worker that was hit has ended, so that the run has to begin again."""
        return not Path(f"/proc/{fault.victim.worker}").exists()

    def _outcome(self, fault: Fault, watch: Watch) -> str:
        there = holder_of(watch.files.lease)
        if len(watch.starts) == fault.num_starts:
            return "went on undisturbed"
        if there == fault.holder or there is None or fault.holder is None:
            return "waited, then went on in place" if fault.kind.reach == "disk" else "worker started again in place"
        if there.element == fault.holder.element:
            outlived = " (old process fenced)" if self._was_fenced(fault) else ""
            return f"requeued{outlived}"
        number = max(submissions(self.site.folder))
        return "launched again" if number in self.relaunches else "submitted again by the sweep's own next job"

    def _was_fenced(self, fault: Fault) -> bool:
        assert fault.holder is not None
        own = f"pid={fault.holder.pid})"
        logs = (self.site.folder.path / "slurm" / "logs").glob("*.out")
        return any(own in line and "leaves it alone" in line for log in logs for line in log.read_text().splitlines())


def row(number: int, fault: Fault) -> list[str]:
    place = f"{fault.victim.run_id[:14]} in {fault.victim.part} on {fault.victim.node}, step {fault.step}"
    costs = [f"{fault.repeated} steps", f"{fault.recovery_seconds:.0f} s"]
    return [str(number), f"{fault.seconds:.0f}", fault.kind.name, place, *costs, fault.outcome]


def launch(base: Path, cache: Path, more: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    places = [f"sweeps_dir={base}/sweeps", f"machine.cache_dir={cache}"]
    command = [sys.executable, "-m", "sweep.launch", *SWEEP, *places, *more]
    return subprocess.run(command, cwd=tiny.ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


def differences(runs: list[PlannedRun], undisturbed: SweepFolder, drilled: SweepFolder) -> list[str]:
    """Everything in which the two sweeps' results differ: evaluations, every row of training, forecast, verdict."""
    found = []
    for run in runs:
        one, other = undisturbed.run(run.run_id), drilled.run(run.run_id)
        if read_json(one.eval) != read_json(other.eval):
            found.append(f"{run.run_id} eval.json")
        if _steps(one) != _steps(other):
            found.append(f"{run.run_id} metrics.jsonl")
    for name, keys in (
        ("fit.json", ("prediction", "low", "high", "coefficients")),
        ("verdict.json", ("held", "error")),
    ):
        first, second = read_json(undisturbed.path / name), read_json(drilled.path / name)
        found += [f"{name} {key}" for key in keys if first[key] != second[key]]
    return found


def _steps(files: RunFolder) -> list[tuple[Any, ...]]:
    """What training measured, step by step, but for time and speed."""
    keys = ("step", "tokens", "train_loss_nats", "grad_norm", "learning_rate")
    return [tuple(row[key] for key in keys) for row in files.rows() if "event" not in row]


def wrong_records(run: PlannedRun, watch: Watch) -> list[str]:
    """What is wrong with the record of a run's training."""
    steps = [step for step, *_ in _steps(watch.files)]
    finished_utc = read_json(watch.files.train)["finished_utc"]
    found = []
    if steps != sorted(set(steps)) or steps[-1] != run.spec.num_steps:
        found.append("steps missing or twice")
    if len(watch.finished) != 1:
        found.append(f"finished {len(watch.finished)} times")
    if any(row["utc"] > finished_utc for row in watch.files.rows()):
        found.append("trained on after its end")
    return [f"{run.run_id}: {what}" for what in found]


def report(drill: Drill, undisturbed: SweepFolder) -> dict[str, Any]:
    """Check the sweep that was hit against the one that was not."""
    folder, plan = drill.site.folder, drill.plan
    states = {run.run_id: folder.run(run.run_id).state().status for run in plan.runs}
    verdict = verify_sweep(folder)
    return {
        "faults": len(drill.faults),
        "by_kind": dict(Counter(fault.kind.name for fault in drill.faults)),
        "by_outcome": dict(Counter(fault.outcome for fault in drill.faults)),
        "in_the_target": sum(fault.victim.run_id == plan.target.run_id for fault in drill.faults),
        "not_injected": [kind.name for kind in drill.waiting],
        "left_out": [] if drill.site.disk else [kind.name for kind in KINDS if kind.reach == "disk"],
        "runs": len(plan.runs),
        "lost": [run_id for run_id, status in states.items() if status != "done"],
        "different": differences(plan.runs, undisturbed, folder),
        "wrong_records": [text for run in plan.runs for text in wrong_records(run, drill.watches[run.run_id])],
        "verdict": verdict["status"],
        "relaunches": len(drill.relaunches),
        "submissions": len(submissions(folder)),
        "starts": sum(len(watch.starts) for watch in drill.watches.values()),
        "steps": sum(run.spec.num_steps for run in plan.runs),
        "steps_made_again": sum(sum(watch.repeated) for watch in drill.watches.values()),
        "longest_side_by_side_seconds": max(drill.side_by_side.values(), default=0.0),
        "seconds": drill.seconds,
        "rows": [row(number, fault) for number, fault in enumerate(drill.faults, 1)],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=4 * len(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="copy the drilled sweep's folder to here")
    options = parser.parse_args()
    if reason := why_no_slurm():
        raise SystemExit(f"no Slurm: {reason}")
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        cache = base / "cache"
        done = launch(base / "undisturbed", cache, ["machine.num_workers=2", "machine.target_threads=1"], {})
        if done.returncode:
            raise SystemExit(done.stderr)
        undisturbed = SweepFolder(base / "undisturbed" / "sweeps" / "drill")
        disk = Disk(base / "disk") if os.geteuid() == 0 else None
        if disk is not None:
            disk.mount(DISK_MEBIBYTES)
            stack.callback(disk.unmount)
        cluster = stack.enter_context(SlurmCluster(base / "slurm", num_nodes=4, cpus=2, memory_mb=8000))
        folder = SweepFolder(base / "disk" / "sweeps" / "drill")
        drill = Drill(Site(cluster, folder, disk, random.Random(options.seed)), base / "disk", cache, options.faults)
        try:
            drill.go()
        finally:
            if options.keep:
                shutil.copytree(folder.path, options.keep)
        result = {**report(drill, undisturbed), "seed": options.seed, "libraries": library_versions()}
    print(table(DRILL_HEAD, result["rows"]))
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1))
    bad = [key for key in ("lost", "different", "wrong_records", "not_injected") if result[key]]
    if bad or result["verdict"] != "judged":
        print(f"NOT KEPT: the drill found {', '.join(bad) or result['verdict']}")
        return 1
    write_result("slurm_drill", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
