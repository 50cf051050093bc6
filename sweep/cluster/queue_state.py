"""What Slurm's queue and the elements' own files say of a sweep's jobs, joined."""

from collections import Counter
from dataclasses import dataclass, field

from sweep.cluster.life import Life, read_life
from sweep.cluster.submission import (
    FORECAST,
    REPORT,
    RUNS,
    Element,
    in_queue,
    life_of,
    log_of,
    read_submission,
    slurm_folder,
    submissions,
)
from sweep.errors import SweepError
from sweep.folder import SweepFolder

_LOG_LINES = 4


@dataclass(frozen=True)
class RunJob:
    """The newest job that was to train a run."""

    job_id: str
    state: str  # as the queue says, or how its own file ends
    restarts: int
    in_queue: bool

    @property
    def how_it_ended(self) -> str:
        return "died without a word" if self.state == "running" else f"is {self.state}"


@dataclass
class QueueState:
    jobs: dict[str, RunJob] = field(default_factory=dict)  # by run id
    counts: dict[str, int] = field(default_factory=dict)  # of jobs in the queue, such as "runs PENDING (Priority)"
    failed: list[dict[str, object]] = field(default_factory=list)
    command: str = ""  # that launches the sweep
    error: str = ""  # why the queue can't be asked


def queue_state(folder: SweepFolder) -> QueueState:
    """The jobs of a sweep; empty if it was never on a cluster."""
    state = QueueState()
    if not slurm_folder(folder).exists():
        return state
    elements: list[Element] = []
    try:
        elements = in_queue(folder)
    except SweepError as error:
        state.error = str(error)
    state.counts = dict(Counter(_kind(element) for element in elements))
    queued = {(element.number, element.part): element for element in elements}
    traceless: list[str] = []
    seen: set[str] = set()
    for number in reversed(submissions(folder)):
        try:
            submission = read_submission(folder, number)
        except SweepError as error:
            state.failed.append({"job": "unknown", "part": str(number), "how": error.args[0], "log": []})
            continue
        newest = not state.command
        state.command = state.command or submission.command
        stages: dict[int | str, list[str]] = {FORECAST: [], REPORT: []} if newest else {}
        for part, run_ids in {**submission.parts, **stages}.items():
            new = [run_id for run_id in run_ids if run_id not in seen]
            if run_ids and not new:
                continue  # a later submission has them all
            life = read_life(life_of(folder, number, part))
            job = _job(queued.get((number, part)), life)
            if job is not None:
                state.jobs |= dict.fromkeys(new, job)
                seen |= set(new)
            elif isinstance(part, int):
                traceless.append(f"{number}-{part}")
                seen |= set(new)
            if job is not None and not job.in_queue and life is not None and life.state in ("failed", "running"):
                state.failed.append(_failure(folder, number, part, life))
    if state.error:
        state.failed = []  # whether any of them has ended can't be told
    elif traceless:
        how = f"left the queue without a trace: cancelled as they waited, or no node sees {folder.path.resolve()}"
        state.failed.append({"job": "ids unknown", "part": f"{len(traceless)} elements", "how": how, "log": []})
    return state


def _kind(element: Element) -> str:
    waits = element.job.state == "PENDING" and element.job.reason not in ("None", "")
    return f"{element.stage} {element.job.state.lower()}" + (f" ({element.job.reason})" if waits else "")


def _job(element: Element | None, life: Life | None) -> RunJob | None:
    if element is not None:
        return RunJob(element.job.job_id, element.job.state, life.restart if life else 0, in_queue=True)
    return RunJob(life.element, life.state, life.restart, in_queue=False) if life else None


def _failure(folder: SweepFolder, number: int, part: int | str, life: Life) -> dict[str, object]:
    stage = part if isinstance(part, str) else RUNS
    log = log_of(folder, number, stage, life.element)
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if log.exists() else []
    how = f"failed: {life.reason}" if life.state == "failed" else f"died on {life.host} without a word"
    return {"job": life.element, "part": f"{number}-{part}", "how": f"{how}; its log is {log}", "log": lines}
