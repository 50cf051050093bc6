"""Cancel: end a sweep's jobs in Slurm's queue. What they have done stays; a launch goes on from there.

python -m sweep.cancel sweeps/NAME
"""

import argparse
import time
from pathlib import Path

from sweep.cluster import slurm
from sweep.cluster.submission import RUNS, in_queue
from sweep.errors import run_main
from sweep.folder import SweepFolder, open_sweep

_WAIT_SECONDS, _POLL_SECONDS = 60.0, 0.5


def cancel_sweep(folder: SweepFolder) -> list[str]:
    """End the sweep's jobs that wait or run, stages first, so that none starts as its turn comes; returns their ids.

    They save on their way out, so it waits a while until they are gone: a launch would take them to be at work.

    Raises:
        SweepError: Slurm does not answer.
    """
    elements = sorted(in_queue(folder), key=lambda element: element.stage == RUNS)
    ids = list(dict.fromkeys(element.job.array_id for element in elements))
    for job_id in ids:
        slurm.cancel([job_id])
    deadline = time.monotonic() + _WAIT_SECONDS
    while in_queue(folder) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return ids


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.cancel", description="End a sweep's jobs in Slurm's queue.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    folder = open_sweep(parser.parse_args().sweep)
    ids = cancel_sweep(folder)
    print(f"cancelled: {' '.join(ids)}" if ids else f"no job of {folder.path} is in the queue")
    return 0


if __name__ == "__main__":
    run_main(main)
