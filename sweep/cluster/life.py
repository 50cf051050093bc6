"""How an element of a job array goes: its own file, written when it starts and when it ends.

Slurm forgets a job minutes after its end; this file stays. An element that starts again and again without getting
anywhere (killed for its memory, for instance) gives up here.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sweep.cluster.lease import Holder
from sweep.errors import CorruptFile, SweepError
from sweep.folder import HASH_KEY, SweepFolder, read_json, sha256_of, write_json
from sweep.provenance import utc_now
from sweep.run_spec import PlannedRun

MAX_DEATHS = 5


@dataclass(frozen=True)
class Life:
    element: str
    restart: int
    host: str
    state: str  # running, stopped (saved; to be queued again), cancelled, done or failed
    reason: str
    started_utc: str
    changed_utc: str
    stood: str  # how far the runs were at the start
    deaths: int  # starts in a row that ended without a word and without getting further


def read_life(path: Path) -> Life | None:
    """The life in a file; None if there is none, or a damaged one."""
    try:
        value: dict[str, Any] = read_json(path)
        return Life(**{key: item for key, item in value.items() if key != HASH_KEY})
    except (CorruptFile, TypeError):
        return None


def begin(path: Path, holder: Holder, runs: list[PlannedRun], folder: SweepFolder) -> tuple[Path, Life]:
    """Write that the element has started.

    Raises:
        SweepError: it has died too often without getting any further.
    """
    stood = how_far(runs, folder)
    before, deaths = read_life(path), 0
    if before is not None and before.state == "running" and before.stood == stood:
        is_new = (before.element, before.restart) != (holder.element, holder.restart)  # else the same one tries again
        deaths = before.deaths + is_new
    now = utc_now()
    life = Life(holder.element, holder.restart, holder.host, "running", "", now, now, stood, deaths)
    if deaths >= MAX_DEATHS:
        end((path, life), "failed", f"died {deaths} times without getting any further")
        raise SweepError(
            f"element {holder.element} died {deaths} times without a word and without getting any further",
            "progress between two starts",
            f"see its log in {path.parent / 'logs'}: most often it was killed for its memory"
            " (raise machine.slurm.memory, lower machine.num_workers), then launch again",
        )
    write_json(path, asdict(life))
    return path, life


def end(begun: tuple[Path, Life], state: str, reason: str) -> None:
    path, life = begun
    write_json(path, asdict(replace(life, state=state, reason=reason, changed_utc=utc_now())))


def how_far(runs: list[PlannedRun], folder: SweepFolder) -> str:
    """A hash that changes when any of the runs gets further: by a checkpoint, a result or a batch of samples."""
    marks = []
    for run in runs:
        files = folder.run(run.run_id)
        at = files.checkpoint.read_text(errors="replace") if files.checkpoint.exists() else ""
        sizes = [path.stat().st_size if path.exists() else 0 for path in (files.train, files.eval, files.samples)]
        marks.append([at, *sizes, files.counts.exists()])
    return sha256_of(marks)
