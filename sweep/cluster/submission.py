"""What was submitted to Slurm for a sweep, and what of it is still in the queue.

    sweeps/<name>/slurm/
      1.json         the first submission: groups of runs, machine, place of the corpus          submit
      1-17.json      the life of its element 17: its job, how often it started, how it ended     that element
      logs/          what the jobs printed, one file each

Job names carry the sweep, the submission and the first group of an array, so the queue alone tells which runs are
waiting or running: a launch that was killed between two submissions leaves nothing that is not found again.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sweep.cluster import slurm
from sweep.cluster.slurm import QueuedJob
from sweep.errors import CorruptFile, SweepError
from sweep.folder import HASH_KEY, SweepFolder, read_json, sha256_of, write_json
from sweep.spec import MachineSpec, SlurmSpec

RUNS, FORECAST, TARGET, REPORT = "runs", "forecast", "target", "report"


@dataclass(frozen=True)
class Submission:
    """One launch's share of a sweep; ``groups`` are the run ids of each element."""

    number: int
    groups: list[list[str]]
    machine: MachineSpec
    corpus_folder: str
    target: str  # its run id; empty without one
    command: str  # that launched the sweep
    stood: str  # how far the runs were then (sweep/cluster/life.py)

    @property
    def parts(self) -> dict[int | str, list[str]]:
        """The run ids of all its jobs that train: the groups by number, and the target."""
        return {**dict(enumerate(self.groups)), TARGET: [self.target]}

    @property
    def slurm(self) -> SlurmSpec:
        assert self.machine.slurm is not None  # only launches with machine=slurm submit
        return self.machine.slurm


@dataclass(frozen=True)
class Element:
    """A job of the sweep in the queue: an element of an array of runs, or one of the stages after them."""

    job: QueuedJob
    number: int  # of its submission
    stage: str
    group: int | None  # of the array of runs

    @property
    def part(self) -> int | str:
        """What of the submission it does, as in ``Submission.parts`` and ``life_of``."""
        return self.stage if self.group is None else self.group


def slurm_folder(folder: SweepFolder) -> Path:
    return folder.path / "slurm"


def log_pattern(folder: SweepFolder, number: int, stage: str) -> str:
    """Where a job's output goes, in the form that sbatch understands."""
    logs = str(slurm_folder(folder).resolve() / "logs").replace("%", "%%")
    return f"{logs}/{number}-{stage}-{'%A_%a' if stage == RUNS else '%j'}.out"


def log_of(folder: SweepFolder, number: int, stage: str, job_id: str) -> Path:
    return slurm_folder(folder) / "logs" / f"{number}-{stage}-{job_id}.out"


def life_of(folder: SweepFolder, number: int, part: int | str) -> Path:
    """The file in which an element (by its group) or a stage (by its name) tells how it goes."""
    return slurm_folder(folder) / f"{number}-{part}.json"


def submissions(folder: SweepFolder) -> list[int]:
    """Numbers of the submissions so far, in order."""
    names = [path.stem for path in slurm_folder(folder).glob("*.json")]
    return sorted(int(name) for name in names if name.isdecimal())


def write_submission(folder: SweepFolder, submission: Submission) -> None:
    write_json(slurm_folder(folder) / f"{submission.number}.json", asdict(submission))


def read_submission(folder: SweepFolder, number: int) -> Submission:
    """A submission of the sweep.

    Raises:
        SweepError: there is none of that number, or it is damaged.
    """
    path = slurm_folder(folder) / f"{number}.json"
    try:
        value: dict[str, Any] = {key: item for key, item in read_json(path).items() if key != HASH_KEY}
        machine = {**value["machine"], "slurm": SlurmSpec(**value["machine"]["slurm"])}
        return Submission(**{**value, "machine": MachineSpec(**machine)})
    except (CorruptFile, TypeError, KeyError) as error:
        raise SweepError(
            f"{path} can't be read: {error}",
            f"one of the submissions {submissions(folder)} as a launch with machine=slurm wrote it",
            f"python -m sweep.cancel {folder.path} ends what is in the queue; then launch again",
        ) from error


def job_name(folder: SweepFolder, number: int, stage: str, first_group: int = 0) -> str:
    return f"{_prefix(folder)}{number}.{stage}.{first_group}"


def _prefix(folder: SweepFolder) -> str:
    place = sha256_of(str(folder.path.resolve()))[:8]  # sweeps of one name in two folders are two sweeps
    return f"{folder.path.resolve().name}.{place}."


def in_queue(folder: SweepFolder, state: str = "") -> list[Element]:
    """The sweep's jobs that are waiting or running, or those that ended in ``state`` and are not forgotten yet.

    Raises:
        SweepError: Slurm does not answer.
    """
    prefix = _prefix(folder)
    found = []
    for job in slurm.queue(prefix, state):
        parts = re.fullmatch(r"(\d+)\.(\w+)\.(\d+)", job.name.removeprefix(prefix))
        if parts:
            group = int(parts[3]) + job.task if job.task is not None else None
            found.append(Element(job, int(parts[1]), parts[2], group))
    return found


def runs_in_queue(folder: SweepFolder, elements: list[Element]) -> dict[str, Element]:
    """The runs whose element is waiting or running."""
    groups = {
        number: read_submission(folder, number).groups for number in {e.number for e in elements if e.stage == RUNS}
    }
    return {
        run_id: element
        for element in elements
        if element.stage == RUNS and element.group is not None
        for run_id in groups[element.number][element.group]
    }
