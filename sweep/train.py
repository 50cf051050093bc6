"""Train one planned run, interruptibly; a resumed run gives the same bits as an undisturbed one.

Writes ``metrics.jsonl`` (the truth that wandb mirrors), ``checkpoint/`` and, at
the end, ``train.json``. Resuming cuts ``metrics.jsonl`` back to the checkpoint's step: rows after
it are made again. Data order is a function of seed and step, so the step is all the state it needs.
"""

import json
import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from models.transformer import Decoder, NextTokenLoss
from sweep.data import Corpus, training_order, windows
from sweep.folder import CorruptFile, RunFolder, Status, saved_state, set_aside, sha256_of_file, write_json, write_whole
from sweep.gates import spike_in
from sweep.optim import lr_multiplier, make_optimizers, set_learning_rate
from sweep.provenance import code_sha256, library_versions, utc_now
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec
from sweep.tracking import Mirror

log = logging.getLogger("sweep")


class Stopped(Exception):
    """The run saved a checkpoint and stopped because it was asked to."""


@dataclass
class _Progress:
    """What must survive an interruption besides weights and optimizer."""

    step: int = 0
    loss_sum: float = 0.0  # over the steps since the last row of metrics.jsonl
    loss_count: int = 0


def train(
    run: PlannedRun,
    folder: RunFolder,
    corpus: Corpus,
    machine: MachineSpec,
    mirror: Mirror,
    should_stop: Callable[[], bool],
    seal_sha256: str | None,
) -> None:
    """Train ``run`` from its checkpoint, if there is one, to the end of its schedule.

    ``seal_sha256`` names the seal that was there before the first step (the target's; else None).

    Raises:
        Stopped: ``should_stop`` said so; a checkpoint was saved. What it raises itself ends the run unsaved.
    """
    spec = run.spec
    fabric = Fabric(accelerator=machine.accelerator, devices=1, precision=machine.precision)  # type: ignore[arg-type]
    fabric.seed_everything(spec.seed, verbose=False)
    model = Decoder(spec.model, spec.parametrization)
    loss_of, *optimizers = fabric.setup(
        _compiled(NextTokenLoss(model), run, machine, folder), *make_optimizers(model, run)
    )
    state = {"model": model, **{f"optimizer_{index}": optimizer for index, optimizer in enumerate(optimizers)}}

    length = spec.model.context_length
    stream = corpus.stream("train")
    num_code_windows, num_micro_windows = corpus.train_windows(length)
    order = training_order(num_code_windows, spec.seed, num_micro_windows)
    log_every = max(1, spec.num_steps // machine.log_rows_per_run)
    flops_per_token = run.flops / run.num_tokens

    progress = _restore(fabric, run, folder, state)
    _cut_back(folder, progress.step)
    append_row(folder, _start_row(progress.step, seal_sha256))
    mirror.replay(folder.rows())
    last_save = last_row = time.monotonic()
    num_parts = 1

    while progress.step < spec.num_steps:
        multiplier = lr_multiplier(
            progress.step * spec.batch_tokens,
            spec.batch_tokens,
            warmup_tokens=spec.warmup_tokens,
            decay_tokens=spec.decay_tokens,
            num_tokens=spec.num_tokens,
        )
        set_learning_rate(optimizers, multiplier)
        rows = order[progress.step * spec.batch_rows : (progress.step + 1) * spec.batch_rows]
        batch = fabric.to_device(torch.from_numpy(windows(stream, rows, length)))

        try:
            loss = _backward(fabric, loss_of, batch, num_parts)
        except torch.OutOfMemoryError:
            if num_parts >= spec.batch_rows:
                raise
            num_parts *= 2
            log.warning("run %s: out of memory; the batch is taken in %d parts from now on", run.run_id, num_parts)
            loss_of.zero_grad(set_to_none=True)
            continue  # nothing has been updated: the same step again
        grad_norm = clip_grad_norm_(model.parameters(), spec.grad_clip_norm).item()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        stop = should_stop()  # before anything is written: on a cluster it raises if the run is another's by now
        progress.step += 1
        progress.loss_sum += loss
        progress.loss_count += 1
        if not math.isfinite(progress.loss_sum + grad_norm):
            reason = f"the training loss or its gradient was not finite at step {progress.step}"
            _finish(folder, run, machine, "diverged", reason, progress)
            return
        now = time.monotonic()
        if progress.step % log_every == 0 or progress.step == spec.num_steps:
            tokens = progress.step * spec.batch_tokens
            seconds = now - last_row
            row = {
                "step": progress.step,
                "tokens": tokens,
                "flops": tokens * flops_per_token,
                "train_loss_nats": progress.loss_sum / progress.loss_count,
                "learning_rate": spec.learning_rate * multiplier,
                "grad_norm": grad_norm,
                "tokens_per_second": progress.loss_count * spec.batch_tokens / seconds,
                "interval_seconds": seconds,
                "utc": utc_now(),
            }
            append_row(folder, row)
            mirror.log(row)
            last_row = now
            progress.loss_sum, progress.loss_count = 0.0, 0
        if progress.step == run.keeps_step:
            _save_as(fabric, folder.kept, progress.step, {**state, "progress": {}})
        if stop and progress.step < spec.num_steps:
            _save(fabric, folder, state, progress)
            raise Stopped(f"{run.run_id} stopped after step {progress.step} of {spec.num_steps}")
        if now - last_save >= machine.checkpoint_seconds:
            _save(fabric, folder, state, progress)
            last_save = now

    _save(fabric, folder, state, progress)
    shutil.rmtree(folder.compiled_whole.parent, ignore_errors=True)
    _finish(folder, run, machine, "done", "", progress)


def _backward(fabric: Fabric, loss_of: Any, batch: Tensor, num_parts: int) -> float:
    """Gradients of the batch's mean loss, taken in parts if it does not fit into memory at once; returns the loss."""
    total = 0.0
    for part in batch.chunk(num_parts):
        loss = loss_of(part[:, :-1], part[:, 1:]) * (len(part) / len(batch))
        fabric.backward(loss)
        total += loss.item()
    return total


def _compiled(loss_of: torch.nn.Module, run: PlannedRun, machine: MachineSpec, folder: RunFolder) -> Any:
    """Compile what pays for it: runs of many FLOPs, and only where there is a compiler.

    By the run's size, never by what happens to be free: compiled and plain arithmetic differ in their last bits.
    """
    if machine.compile_from_flops is None or run.budget_flops < machine.compile_from_flops:
        return loss_of
    on_cpu = machine.accelerator == "cpu"
    if on_cpu and shutil.which(os.environ.get("CXX", "g++")) is None:
        log.warning("run %s is not compiled: there is no C++ compiler (g++, or the one that CXX names)", run.run_id)
        return loss_of
    if not folder.compiled_whole.exists():  # a kill in the midst of it leaves libraries that can't be loaded
        shutil.rmtree(folder.compiled_whole.parent, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.compiled_whole.parent.resolve())
    from torch._inductor import config as inductor_config

    inductor_config.compile_threads = 1  # a pool of helpers would outlive the worker
    return torch.compile(loss_of, dynamic=False, mode="default" if on_cpu else "reduce-overhead")


# ---- metrics.jsonl ----------------------------------------------------------------------------


def append_row(folder: RunFolder, row: dict[str, Any]) -> None:
    """Add a row. A kill can't lose it; it is made safe from a power cut with the next checkpoint."""
    folder.metrics.parent.mkdir(parents=True, exist_ok=True)
    with folder.metrics.open("a") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def _start_row(step: int, seal_sha256: str | None) -> dict[str, Any]:
    event = "resumed" if step else "started"
    return {"event": event, "step": step, "utc": utc_now(), "seal_sha256": seal_sha256}


def _cut_back(folder: RunFolder, step: int) -> None:
    """Drop measurements after ``step``, keep every record of a start: it tells when the run first began."""
    rows = [row for row in folder.rows() if row["step"] <= step or "event" in row]
    if folder.metrics.exists():
        write_whole(folder.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())


# ---- checkpoint -------------------------------------------------------------------------------


def _save(fabric: Fabric, folder: RunFolder, state: dict[str, Any], progress: _Progress) -> None:
    """Keep the state of this step instead of the one before, after the rows that lead to it."""
    with folder.metrics.open("a") as file:  # its rows up to here are not made again
        os.fsync(file.fileno())
    path = _save_as(fabric, folder.checkpoint, progress.step, {**state, "progress": vars(progress).copy()})
    for older in path.parent.glob(f"{folder.checkpoint.stem}-*.pt"):
        if older != path:
            older.unlink()
    if folder.compiled_whole.parent.exists():  # a step has been made, so the compiler is through
        folder.compiled_whole.touch()


def _save_as(fabric: Fabric, pointer: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state, then point at it; a kill in between leaves the older pair whole."""
    path = pointer.with_name(f"{pointer.stem}-{step}.pt")
    fabric.save(path, state)
    write_json(pointer, {"file": path.name, "sha256": sha256_of_file(path)})
    return path


def _restore(fabric: Fabric, run: PlannedRun, folder: RunFolder, state: dict[str, Any]) -> _Progress:
    """Load the run's own checkpoint, or the state where it branches off another run, or start at the beginning."""
    if folder.checkpoint.exists():
        try:
            return _Progress(**_load(fabric, folder.checkpoint, state))
        except CorruptFile as error:
            aside = set_aside(folder.checkpoint)
            log.warning("%s; set aside as %s, the run starts again", error, aside.name)
    if run.branches_from:
        try:
            _load(fabric, RunFolder(folder.path.with_name(run.branches_from)).kept, state)
            return _Progress(step=run.branches_at_step)
        except CorruptFile as error:
            log.warning("run %s can't branch from %s (%s); it is trained alone", run.run_id, run.branches_from, error)
    return _Progress()


def _load(fabric: Fabric, pointer: Path, state: dict[str, Any]) -> dict[str, Any]:
    """Fill model and optimizers; returns the progress saved with them.

    Raises:
        CorruptFile: what ``pointer`` names is missing or damaged; nothing was filled.
    """
    filled: dict[str, Any] = {**state, "progress": None}
    fabric.load(saved_state(pointer), filled, weights_only=True)
    return filled["progress"]


# ---- train.json -------------------------------------------------------------------------------


def _finish(
    folder: RunFolder, run: PlannedRun, machine: MachineSpec, status: Status, reason: str, progress: _Progress
) -> None:
    rows = folder.rows()
    measured = [row for row in rows if "train_loss_nats" in row]
    seconds = sum(row["interval_seconds"] for row in measured)
    spike = spike_in([row["train_loss_nats"] for row in measured])
    marks = [f"loss spike of {spike[1]:.2f} nats at step {measured[spike[0]]['step']}"] if spike else []
    summary = {
        "run_id": run.run_id,
        "status": status,
        "reason": reason,
        "marks": marks,
        "step": progress.step,
        "tokens": progress.step * run.spec.batch_tokens,
        "flops": run.flops * progress.step / run.spec.num_steps,
        "started_utc": rows[0]["utc"],
        "seal_sha256": rows[0]["seal_sha256"],
        "finished_utc": utc_now(),
        "train_loss_nats": measured[-1]["train_loss_nats"] if measured else None,
        "train_seconds": seconds,
        "code_sha256": code_sha256(),
        "libraries": library_versions(),
        "machine": {"accelerator": machine.accelerator, "precision": machine.precision, "host": platform.node()},
    }
    write_json(folder.train, summary)
