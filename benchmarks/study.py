"""Trainings beside the ladder, for the studies in this folder: planned, trained and evaluated by the product's code.

A study is a list of trials. A trial is a planned run and, for an ablation, a change to the freshly built
decoder. What is done stays in ``.cache/studies``, so a study goes on where it was stopped unless the code has changed.
"""

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sweep.launch  # noqa: F401  (registers the configuration's schema)
from sweep.corpus import Corpus
from sweep.data import prepare_corpus
from sweep.folder import RunFolder, read_json, write_json
from sweep.plan import plan_run, shape_for_budget
from sweep.provenance import code_sha256, code_version
from sweep.run_spec import PlannedRun
from sweep.spec import SweepSpec

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
CACHE = ROOT / ".cache" / "studies"
MORE_CODE = "data.sources.0.train_bytes=48_000_000"  # the default's training text, but twice as much of it

Edit = Callable[[Any], None]  # changes a freshly built Decoder


@dataclass(frozen=True)
class Trial:
    label: str
    run: PlannedRun
    edit: Edit | None = None

    @property
    def folder(self) -> RunFolder:
        change = self.label if self.edit else ""
        key = hashlib.sha256(f"{change}|{self.run.run_id}|{code_sha256()}".encode()).hexdigest()[:16]
        return RunFolder(CACHE / f"{self.run.run_id}-{key}")


def configured(*overrides: str, data: str = MORE_CODE) -> SweepSpec:
    """The default configuration without sampling, on ``data``, and with these overrides."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("sweep", ["name=study", "capability=none", data, *overrides])
    spec = OmegaConf.to_object(config)
    assert isinstance(spec, SweepSpec)
    return spec


def corpus_of(spec: SweepSpec) -> Corpus:
    return prepare_corpus(spec.data, ROOT / spec.machine.cache_dir)


def planned(spec: SweepSpec, corpus: Corpus, budget_flops: float, seed: int) -> PlannedRun:
    """The run that the plan makes for a budget."""
    shape = shape_for_budget(budget_flops, spec.model, spec.data.vocab_size, 1.0)
    return plan_run(shape, budget_flops, seed, "fit", spec, corpus.info["sha256"])


def run_trials(trials: list[Trial], corpus: Corpus, spec: SweepSpec) -> list[dict[str, Any]]:
    """Train and evaluate what is not done, one single-threaded process per core, the longest first."""
    left = sorted((trial for trial in trials if not trial.folder.eval.exists()), key=lambda trial: -trial.run.flops)
    import lightning.fabric  # noqa: F401  (before the fork)

    if left:
        global _JOB
        _JOB = (left, corpus, spec)
        with multiprocessing.get_context("fork").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
            for index in pool.imap_unordered(_run, range(len(left)), chunksize=1):
                done = read_json(left[index].folder.eval)
                print(f"{left[index].label:28} {left[index].run.run_id:36} {done['loss_nats']:.4f}", file=sys.stderr)
    return [result(trial) for trial in trials]


# Inherited by the forked processes: an edit is a function and can't be sent.
_JOB: tuple[list[Trial], Corpus, SweepSpec]


def _run(index: int) -> int:
    import torch

    import sweep.evaluate
    import sweep.train
    import sweep.trained
    from models.transformer import Decoder
    from sweep.tracking import Mirror
    from sweep.workers import keep_freed_memory

    trials, corpus, spec = _JOB
    trial = trials[index]
    torch.set_num_threads(1)
    keep_freed_memory()

    def build(*arguments: Any) -> Decoder:
        model = Decoder(*arguments)
        if trial.edit:
            trial.edit(model)
        return model

    sweep.train.Decoder = sweep.trained.Decoder = build  # type: ignore[assignment, misc]
    mirror = Mirror("disabled", spec.machine.wandb_project, trial.folder.path)
    sweep.train.train(trial.run, trial.folder, corpus, spec.machine, mirror, lambda: False, None)
    sweep.evaluate.evaluate(trial.run, trial.folder, corpus, spec.machine)
    return index


def result(trial: Trial) -> dict[str, Any]:
    measured, trained = read_json(trial.folder.eval), read_json(trial.folder.train)
    keys = ("loss_nats", "loss_repeated_nats", "loss_new_nats", "copy_score_nats", "copy_second_nats")
    return {
        "label": trial.label,
        "budget_flops": trial.run.budget_flops,
        "flops": trial.run.flops,
        "width": trial.run.spec.model.width,
        "depth": trial.run.spec.model.depth,
        "num_tokens": trial.run.num_tokens,
        "num_steps": trial.run.spec.num_steps,
        "seed": trial.run.spec.seed,
        "learning_rate": trial.run.spec.learning_rate,
        **{key: measured[key] for key in keys},
        "train_seconds": trained["train_seconds"],
    }


def write_result(name: str, value: dict[str, Any]) -> None:
    """Keep what a benchmark found, and the version of the code that it found it with."""
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", {"code": code_version(), **value})
    print(json.dumps({"written": f"{RESULTS.name}/{name}.json"}))
