"""Kill a sweep at random moments, half of them in a training, and launch it again, until it goes through.

    python -m tests.kill_drill KILLS SEED [override ...]

The launches are forked from one process that has imported everything, so a kill hits the sweep's own work and
not the imports. The launch alone is killed (SIGKILL): its workers have to notice that by themselves. Prints
one JSON object: how many launches were killed, and at how many different steps of how many runs.
"""

import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sweep.launch  # noqa: F401  (registers the schema)
from sweep.folder import SweepFolder
from sweep.pipeline import run_pipeline
from sweep.spec import SweepSpec

ROOT = Path(__file__).parent.parent


def drill(spec: SweepSpec, num_kills: int, seed: int) -> dict[str, int]:
    import lightning.fabric
    import torch  # noqa: F401

    del lightning
    generator = random.Random(seed)
    context = multiprocessing.get_context("fork")
    folder = SweepFolder(Path(spec.sweeps_dir) / spec.name)
    killed, interrupted_runs = 0, set()
    while killed < num_kills:
        process = context.Process(target=run_pipeline, args=(spec,))
        before = _written(folder)
        process.start()
        # Every other kill waits for a training, so that some hit one however slow the machine is; and not for long
        # then, so that the sweep is not through before the last kill on a fast one.
        in_training = killed % 2
        while in_training and process.is_alive() and _written(folder) == before:
            time.sleep(0.01)
        deadline = time.monotonic() + (generator.uniform(0.1, 0.4) if in_training else generator.uniform(0.3, 1.0))
        while process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not process.is_alive():
            break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += 1
        for run in folder.path.glob("runs/*"):
            if (run / "metrics.jsonl").exists() and not (run / "train.json").exists():
                interrupted_runs.add(run.name)
    last = context.Process(target=run_pipeline, args=(spec,))
    last.start()
    last.join()
    resumed = sum(
        row.get("event") == "resumed" for run in folder.path.glob("runs/*") for row in folder.run(run.name).rows()
    )
    return {"killed": killed, "interrupted": len(interrupted_runs), "resumed": resumed, "exit": last.exitcode or 0}


def _written(folder: SweepFolder) -> int:
    """Bytes that trainings have logged."""
    return sum(path.stat().st_size for path in folder.path.glob("runs/*/metrics.jsonl"))


def main() -> None:
    logging.getLogger("sweep").addHandler(logging.StreamHandler())
    num_kills, seed, *overrides = sys.argv[1:]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        spec = OmegaConf.to_object(compose("sweep", overrides=overrides))
    assert isinstance(spec, SweepSpec)
    print(json.dumps(drill(spec, int(num_kills), int(seed))))


if __name__ == "__main__":
    main()
