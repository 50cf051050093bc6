"""Compile the training pass of long runs, once for all runs of a shape.

The compiler takes most of a minute of a core and writes libraries into a folder; a kill in its midst leaves some that
can't be loaded. So each run compiles into a folder of its own, and what has served for a step is copied to
``<cache_dir>/compiled/``, from where the next run of the same shape takes it in seconds.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from sweep.folder import RunFolder
from sweep.provenance import code_sha256
from sweep.ranks import is_sharded
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec

log = logging.getLogger("sweep")


def compiled(fabric: Fabric, loss_of: torch.nn.Module, run: PlannedRun, machine: MachineSpec, folder: RunFolder) -> Any:
    """``loss_of``, compiled if that pays: runs of many FLOPs, not sharded, and only where there is a compiler.

    By the run's size, never by what happens to be free: compiled and plain arithmetic differ in their last bits.
    """
    if machine.compile_from_flops is None or run.budget_flops < machine.compile_from_flops or is_sharded(fabric):
        return loss_of
    on_cpu = machine.accelerator == "cpu"
    if on_cpu and shutil.which(os.environ.get("CXX", "g++")) is None:
        log.warning("run %s is not compiled: there is no C++ compiler (g++, or the one that CXX names)", run.run_id)
        return loss_of
    if fabric.is_global_zero and not folder.compiled_whole.exists():
        _take_over(_of_shape(run, machine), folder)
    fabric.barrier()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.compiled_whole.parent.resolve())
    from torch._inductor import config as inductor_config

    inductor_config.compile_threads = 1  # a pool of helpers would outlive the worker
    return torch.compile(loss_of, dynamic=False, mode="default" if on_cpu else "reduce-overhead")


def _take_over(kept: Path, folder: RunFolder) -> None:
    """Copy what was kept for the run's shape, the mark last: a kill on the way leaves a folder that is made anew."""
    mark, own = folder.compiled_whole, folder.compiled_whole.parent
    shutil.rmtree(own, ignore_errors=True)
    try:
        shutil.copytree(kept, own, ignore=shutil.ignore_patterns(mark.name))
        mark.touch()
    except OSError:  # the first of its shape, or no room: it compiles
        shutil.rmtree(own, ignore_errors=True)


def keep_compiled(run: PlannedRun, machine: MachineSpec, folder: RunFolder) -> None:
    """After a step, when the compiler is through: mark the run's own folder as whole and keep a copy for others."""
    own = folder.compiled_whole.parent
    if not own.exists() or folder.compiled_whole.exists():
        return
    folder.compiled_whole.touch()
    kept = _of_shape(run, machine)
    part = kept.with_name(f"{kept.name}-{run.run_id}.part")
    with suppress(OSError):  # another run of the shape was faster, or there is no room: then others compile
        shutil.copytree(own, part, dirs_exist_ok=True)
        part.rename(kept)
    shutil.rmtree(part, ignore_errors=True)


def _of_shape(run: PlannedRun, machine: MachineSpec) -> Path:
    """Where what was compiled is kept, by all that decides it."""
    decides = {
        "model": asdict(run.spec.model),
        "rows": [run.spec.batch_rows, machine.rows_per_pass],
        "on": [machine.accelerator, machine.precision, torch.__version__, _processor()],
        "code": code_sha256(),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Path(machine.cache_dir) / "compiled" / digest[:16]


def _processor() -> str:
    """What the compiler makes machine code for: nodes that share a cache may have different processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
