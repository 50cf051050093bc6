"""Contestant: ``sweep.train.train`` itself, in a process set up as a sweep's worker is.

Its argument is a pickle of run, corpus and machine. It asks after every step whether to stop: that is where it waits.
"""

import pickle
import sys
from pathlib import Path

import torch

from benchmarks.peers.turns import Turns
from sweep.folder import RunFolder
from sweep.tracking import Mirror
from sweep.train import train
from sweep.workers import keep_freed_memory


def main(job: Path) -> None:
    run, corpus, machine = pickle.loads(job.read_bytes())
    torch.set_num_threads(1)
    keep_freed_memory()
    turns = Turns(torch.get_num_threads())

    def should_stop() -> bool:
        turns.step_done()
        return False

    folder = RunFolder(job.parent / "run")
    train(run, folder, corpus, machine, Mirror("disabled", machine.wandb_project, folder.path), should_stop, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
