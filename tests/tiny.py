"""A sweep small enough for tests: the real pipeline on a megabyte of the standard library."""

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sweep.launch  # noqa: F401  (registers the schema)
from models.config import DecoderConfig
from models.parametrization import Parametrization, parametrize
from sweep.spec import SweepSpec, check
from tests.forked import Command, run_module, start_module

ROOT = Path(__file__).parent.parent

OVERRIDES = [
    "experiment=smoke",
    "data.sources.0.train_packages=[stdlib]",
    "data.sources.0.held_out_packages=[click]",
    "data.sources.0.train_bytes=1000000",
    "data.sources.0.held_out_bytes=150000",
    "data.vocab_size=300",
    "data.tokenizer_bytes=200000",
    "model.context_length=32",
    "model.depth=1",
    "grid.budgets_flops=[4e7,6e7,9e7,1.4e8,2.1e8]",
    "grid.num_seeds=[2,1,1,1,1]",
    "grid.target_flops=2.4e9",
    "fit.more_cut_offs=[0.09,0.05]",  # the same five budgets again, and too few
    "evaluation.held_out_tokens=5000",
    "evaluation.copy_sequences=20",
    "evaluation.copy_length=15",
    "evaluation.position_bins=4",
    "machine.tracking=none",
    "machine.target_threads=1",  # at this size a second one is in the way, most of all on a busy machine
]

# Two grids without a target. Sizes of 4, 8 and 12 channels, and a rate a tenth and ten times the usual.
ISOFLOP = [
    "grid.budgets_flops=[1e8,1.6e8]",
    "grid.num_seeds=[1,1]",
    "grid.target_flops=null",
    "grid.width_factors=[1,2,3]",
    "grid.share_trunks=true",
    "recipe.warmup_fraction=0.1",
    "recipe.decay_fraction=0.4",
]
TUNING = [
    "grid.budgets_flops=[4e7]",
    "grid.num_seeds=[1]",
    "grid.target_flops=null",
    "grid.learning_rate_factors=[0.1,1,10]",
]


def overrides(base: Path, name: str, *more: str) -> list[str]:
    """The command line of a tiny sweep below ``base``; the corpus is shared through the cache."""
    places = [f"sweeps_dir={base}/sweeps", f"machine.cache_dir={base}/cache", f"name={name}"]
    return [*OVERRIDES, *places, *more]


def launch(base: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    """``python -m sweep.launch`` as a user types it."""
    return run("sweep.launch", *overrides(base, name, *more))


def spec_of(*overrides: str) -> SweepSpec:
    """What a command line composes to, checked."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        spec = OmegaConf.to_object(compose("sweep", overrides=["name=test", *overrides]))
    assert isinstance(spec, SweepSpec)
    check(spec)
    return spec


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module(module, arguments, ROOT)


def start(module: str, *arguments: str) -> AbstractContextManager[Command]:
    return start_module(module, arguments, ROOT)


def rules(config: DecoderConfig, **changes: Any) -> Parametrization:
    """The ladder's rules for one shape, but for ``changes``."""
    recipe: dict[str, Any] = {
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "hidden_learning_rate": 0.01,
        "adam_eps": 1e-10,
        "weight_decay_per_step": 0.0,
        "base_width": 64,
        "base_depth": 3,
    }
    return parametrize(config, **{**recipe, **changes})
