"""A sweep's folder through all its stages without a training: planted losses and counts, everything else is real."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.capability import sampling_settings
from sweep.collect import collect
from sweep.fit import fit_folder
from sweep.folder import HASH_KEY, SweepFolder, write_json
from sweep.plan import freeze_plan
from sweep.provenance import utc_now
from sweep.run_spec import Plan, PlannedRun
from sweep.seal import seal_sweep
from sweep.verify import verify_sweep
from tests import planted
from tests.test_capability import SPEC, counts_of
from tests.test_capability import plan as plan_of_both_laws

_CORPUS = {
    "sha256": "0123456789abcdef",
    "train": {"documents": 70, "bytes": 1000, "tokens": 400},
    "held_out": {"documents": 7, "bytes": 100, "tokens": 40},
}


def plan(name: str = "planted") -> Plan:
    """Twelve small runs at six budgets and a target, sampled on 38 problems."""
    bare = plan_of_both_laws()
    return replace(bare, name=name, corpus=_CORPUS, config={**bare.config, "data": {"vocab_size": 300}})


def make_sweep(path: Path, plan: Plan) -> SweepFolder:
    """A planned sweep."""
    folder = SweepFolder(path)
    freeze_plan(plan, folder)
    return folder


def measure(run: PlannedRun, folder: SweepFolder, loss_nats: float, seed: int, seal_sha256: str | None = None) -> None:
    """What training, evaluation and sampling of one run leave behind."""
    files = folder.run(run.run_id)
    train: dict[str, Any] = {"run_id": run.run_id, "status": "done", "reason": "", "marks": [], "step": 100}
    train |= {"flops": run.flops, "started_utc": utc_now(), "finished_utc": utc_now(), "seal_sha256": seal_sha256}
    train |= {"train_loss_nats": loss_nats, "train_seconds": 36.0, "code_sha256": "one version"}
    train |= {"machine": {"accelerator": "cpu", "per_node": 2, "num_nodes": 1}}
    measured: dict[str, Any] = {"run_id": run.run_id, "loss_nats": loss_nats, "loss_se_nats": 0.01}
    measured |= {"bits_per_byte": 2.0, "loss_repeated_nats": 1.0, "loss_new_nats": 4.0}
    measured |= {"copy_first_nats": 7.0, "copy_second_nats": 4.5, "copy_score_nats": 2.5}
    measured |= {"loss_by_position_nats": [4.0, 3.0]}
    write_json(files.train, train)
    write_json(files.eval, measured)
    settings = sampling_settings(SPEC)
    write_json(files.counts, {"settings": settings, "done": True, "problems": counts_of(run.flops, seed)})


def train_ladder(folder: SweepFolder, plan: Plan) -> None:
    for seed, run in enumerate(plan.fit_runs):
        measure(run, folder, float(planted.quiet(planted.RUNS)[seed]), seed)


def forecast(folder: SweepFolder, plan: Plan) -> dict[str, Any]:
    collect(plan, folder)
    return fit_folder(folder)


def judge(folder: SweepFolder, plan: Plan, loss_nats: float) -> dict[str, Any]:
    """Seal, train the target to a loss, and judge it."""
    seal_sha256 = seal_sweep(folder)[HASH_KEY]
    start = {"event": "started", "step": 0, "utc": utc_now(), "seal_sha256": seal_sha256}
    measure(plan.target, folder, loss_nats, 99, seal_sha256)
    folder.run(plan.target.run_id).metrics.write_text(json.dumps(start) + "\n")
    return verify_sweep(folder)
