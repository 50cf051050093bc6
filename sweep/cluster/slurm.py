"""Slurm's own commands and what they answer. Nothing here knows what a sweep is.

Only what every version since 22.05 gives in the same form is used: ``sbatch``, ``squeue -o``, ``scancel`` and
``scontrol show config``; no accounting is needed.
"""

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.errors import SweepError

_TIMEOUT_SECONDS = 60.0
_TRIES = 3
_WAIT_SECONDS = 3.0
# A controller that restarts or is busy says one of these; the same command works seconds later.
_PASSING = re.compile("Unable to contact slurm|Socket timed out|Connection refused|Zero Bytes|temporarily unable", re.I)
_ASK_FOR_LESS = "ask for less: machine.slurm.gres, cpus, target_cpus or memory (sinfo -o '%P %l %c %m %G')"
_FIXES = (
    ("policy", "wait until other jobs of yours have ended, or ask for less (sacctmgr show qos, squeue --me)"),
    ("generic resource", "set machine.slurm.gres and target_gres to what sinfo -o '%P %G' lists, such as gpu:1"),
    ("account", "set machine.slurm.account to one of yours (sacctmgr show associations user=$USER)"),
    ("partition", "set machine.slurm.partition to one that sinfo lists"),
    ("node configuration", _ASK_FOR_LESS),
    ("processors requested", _ASK_FOR_LESS),
    ("time limit", "lower machine.slurm.max_minutes to the partition's limit (sinfo -o '%P %l')"),
    ("array", "lower machine.slurm.max_running, or raise element_minutes so that fewer elements are needed"),
    ("limit", "wait for other jobs to end, or raise machine.slurm.element_minutes so that fewer elements are needed"),
)


@dataclass(frozen=True)
class QueuedJob:
    """A job, or an element of an array, that is waiting or running."""

    job_id: str  # 123, or 123_4 for an element
    name: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str  # why it is not running

    @property
    def array_id(self) -> str:
        return self.job_id.partition("_")[0]

    @property
    def task(self) -> int | None:
        """Its index in the array."""
        task = self.job_id.partition("_")[2]
        return int(task) if task else None


def submit(script: Path, arguments: Sequence[str], options: Sequence[str]) -> str:
    """Submit a script and return its job id.

    Raises:
        SweepError: sbatch is missing or refuses.
    """
    return _call(["sbatch", "--parsable", *options, str(script), *arguments]).strip().partition(";")[0]


def test(script: Path, arguments: Sequence[str], options: Sequence[str]) -> None:
    """Ask whether such a job could be submitted, without submitting it.

    Raises:
        SweepError: sbatch is missing or would refuse.
    """
    _call(["sbatch", "--test-only", *options, str(script), *arguments])


def queue(name_prefix: str, state: str = "") -> list[QueuedJob]:
    """The user's jobs whose names begin so, arrays by element: those that have not ended, or those in ``state``.

    Of a job that has ended Slurm knows for some minutes only.

    Raises:
        SweepError: squeue is missing or fails.
    """
    jobs = []
    chosen = ["-t", state] if state else []
    for line in _call(["squeue", "--me", "-h", "-r", *chosen, "-o", "%i|%T|%r|%j"]).splitlines():
        job_id, state, reason, name = line.split("|", 3)
        if name.startswith(name_prefix):
            jobs.append(QueuedJob(job_id, name, state, reason))
    return jobs


def rename(job_id: str, name: str) -> None:
    """Give a job, or an element, another name.

    Raises:
        SweepError: scontrol is missing or refuses.
    """
    _call(["scontrol", "update", f"JobId={job_id}", f"JobName={name}"])


def cancel(job_ids: Sequence[str]) -> None:
    """End jobs, whole arrays or elements (``123_4``).

    Raises:
        SweepError: scancel is missing or fails.
    """
    if job_ids:
        _call(["scancel", *job_ids])


def requeue(job_id: str) -> None:
    """End a job, or an element (``123_4``), and put it back into the queue.

    Raises:
        SweepError: scontrol is missing or refuses.
    """
    _call(["scontrol", "requeue", job_id])


def max_array_size() -> int:
    """The number of elements that an array may have at most; its largest index is one less.

    Raises:
        SweepError: scontrol is missing or fails.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _call(["scontrol", "show", "config"]), re.M)
    return int(found.group(1)) if found else 1001  # Slurm's default


def _call(command: list[str]) -> str:
    program = command[0]
    # What a job inherits from the job that submits it must not decide its size.
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", "SRUN_"))
    }
    environment |= {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    for left in reversed(range(_TRIES)):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, env=environment)
        except FileNotFoundError as error:
            raise SweepError(
                f"{program} is not on the path",
                "Slurm's commands on the machine that launches, such as a cluster's login node",
                "log in there (or load its Slurm module), or launch on this machine with machine=local",
            ) from error
        except subprocess.TimeoutExpired as error:
            words = b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes)).decode().strip()
            raise SweepError(
                f"{program} did not come to an end within {_TIMEOUT_SECONDS:g} s ({words or 'it said nothing'})",
                "a Slurm controller that answers, and room in its queue",
                "see scontrol ping and squeue; if the queue is full, wait or raise machine.slurm.element_minutes",
            ) from error
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
        if done.returncode == 0:
            return done.stdout
        if not left or not _PASSING.search(said):
            break
        time.sleep(_WAIT_SECONDS)
    fix = next((fix for word, fix in _FIXES if word in said.lower()), "mend what Slurm names, then launch again")
    raise SweepError(f"{program} refused: {said}", f"a job that this cluster takes ({' '.join(command)})", fix)
