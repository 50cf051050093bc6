"""Train one planned run, interruptibly; a resumed run gives the same bits as an undisturbed one.

Writes ``metrics.jsonl`` (the truth that wandb mirrors), ``checkpoint/`` and, at the end, ``train.json``; of
several ranks (sweep/ranks.py) the first alone writes. Resuming cuts ``metrics.jsonl`` back to the checkpoint's step:
rows after it are made again. Data order is a function of seed and step, so the step is all the state it needs.
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

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from models.transformer import Decoder, NextTokenLoss
from sweep.compiled import compiled, keep_compiled
from sweep.corpus import Corpus, windows
from sweep.devices import devices_of
from sweep.errors import CorruptFile, SweepError
from sweep.folder import RunFolder, Status, saved_state, set_aside, sha256_of_file, write_json, write_whole
from sweep.gates import spike_in
from sweep.optim import lr_multiplier, make_optimizers, set_learning_rate
from sweep.provenance import code_sha256, library_versions, utc_now
from sweep.ranks import connected, is_sharded, load_module, load_optimizer, number, together, whole_state
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec
from sweep.throughput import Peak, peak_memory_bytes, peak_of
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
    fabric = connected(machine.accelerator, machine.precision, devices_of(run, machine))
    fabric.seed_everything(spec.seed, verbose=False)
    model = Decoder(spec.model, spec.parametrization)
    loss_of = fabric.setup_module(compiled(fabric, NextTokenLoss(model), run, machine, folder))
    optimizers: list[Any] = [fabric.setup_optimizers(optimizer) for optimizer in make_optimizers(model, run)]
    state = {"model": model, **{f"optimizer_{index}": optimizer for index, optimizer in enumerate(optimizers)}}

    length = spec.model.context_length
    stream = corpus.stream("train")
    order = corpus.mixture(length).order(spec.seed, spec.num_steps * spec.batch_rows)
    log_every = max(1, spec.num_steps // machine.log_rows_per_run)
    flops_per_token = run.flops / run.num_tokens
    peak = peak_of(machine, fabric.device, fabric.world_size)

    def tokens_of(rows: NDArray[np.int64]) -> Tensor:
        return fabric.to_device(torch.from_numpy(windows(stream, rows, length)))

    progress = _restore(fabric, run, folder, state)

    def save() -> None:
        _save(fabric, folder, state, progress)
        if fabric.is_global_zero:
            keep_compiled(run, machine, folder)  # a step has been made, so the compiler is through

    if fabric.is_global_zero:
        _cut_back(folder, progress.step)
        append_row(folder, _start_row(progress.step, seal_sha256))
        mirror.replay(folder.rows())
    last_save = last_row = time.monotonic()
    num_parts = _parts_at_first(fabric, spec.batch_rows, machine.rows_per_pass)

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
        with together(fabric, model.parameters()) as step:
            step.loss, num_parts = _backward(fabric, loss_of, tokens_of, rows, num_parts, run.run_id)
            step.stop = should_stop()
            step.save = fabric.is_global_zero and time.monotonic() - last_save >= machine.checkpoint_seconds
        grad_norm = number(clip_grad_norm_(model.parameters(), spec.grad_clip_norm))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        progress.step += 1
        progress.loss_sum += step.loss
        progress.loss_count += 1
        if not math.isfinite(progress.loss_sum + grad_norm):
            reason = f"the training loss or its gradient was not finite at step {progress.step}"
            if fabric.is_global_zero:
                _finish(folder, run, machine, peak, "diverged", reason, progress)
            return
        now = time.monotonic()
        if progress.step % log_every == 0 or progress.step == spec.num_steps:
            tokens = progress.step * spec.batch_tokens
            seconds = now - last_row
            tokens_per_second = progress.loss_count * spec.batch_tokens / seconds
            row = {
                "step": progress.step,
                "tokens": tokens,
                "flops": tokens * flops_per_token,
                "train_loss_nats": progress.loss_sum / progress.loss_count,
                "learning_rate": spec.learning_rate * multiplier,
                "grad_norm": grad_norm,
                "tokens_per_second": tokens_per_second,
                "flops_per_second": tokens_per_second * flops_per_token,
                "mfu": peak.utilisation(tokens_per_second * flops_per_token),
                "peak_memory_bytes": peak_memory_bytes(fabric.device),
                "interval_seconds": seconds,
                "utc": utc_now(),
            }
            if fabric.is_global_zero:
                append_row(folder, row)
                mirror.log(row)
            last_row = now
            progress.loss_sum, progress.loss_count = 0.0, 0
        if progress.step == run.keeps_step:
            _save_as(fabric, folder.kept, progress.step, {**state, "progress": {}})
        if step.stop and progress.step < spec.num_steps:
            save()
            raise Stopped(f"{run.run_id} stopped after step {progress.step} of {spec.num_steps}")
        if step.save:
            save()
            last_save = now

    save()
    if fabric.is_global_zero:
        shutil.rmtree(folder.compiled_whole.parent, ignore_errors=True)
        _finish(folder, run, machine, peak, "done", "", progress)


def _parts_at_first(fabric: Fabric, batch_rows: int, rows_per_pass: int | None) -> int:
    """In how many parts each rank takes its rows: as many on all of them, since FSDP's passes are made together."""
    most_rows = math.ceil(batch_rows / fabric.world_size)
    return 1 if rows_per_pass is None else math.ceil(most_rows / rows_per_pass)


def _backward(
    fabric: Fabric,
    loss_of: Any,
    tokens_of: Callable[[NDArray[np.int64]], Tensor],
    rows: NDArray[np.int64],
    num_parts: int,
    run_id: str,
) -> tuple[float, int]:
    """Gradients of this rank's share of the batch's mean loss; returns the share and in how many parts it was taken.

    A rank without rows of its own takes one at no weight: with FSDP all make their passes together.
    """
    own_rows = np.array_split(rows, fabric.world_size)[fabric.global_rank]
    while True:
        parts = [(part, len(part) / len(rows)) for part in np.array_split(own_rows, num_parts)]
        try:
            weighted = [(tokens_of(part if weight else rows[:1]), weight) for part, weight in parts]
            return sum(_pass(fabric, loss_of, tokens, weight) for tokens, weight in weighted), num_parts
        except torch.OutOfMemoryError as error:
            if is_sharded(fabric):
                raise SweepError(
                    f"out of memory with {len(parts[0][0])} rows in a pass ({error})",
                    "passes that fit: ranks of fsdp make them together, so none can make its own smaller",
                    "set machine.rows_per_pass to fewer rows, or give the target more devices",
                ) from error
            if num_parts >= len(own_rows):
                raise
            num_parts = min(2 * num_parts, len(own_rows))
            log.warning("run %s: out of memory; the batch is taken in %d parts from now on", run_id, num_parts)
            loss_of.zero_grad(set_to_none=True)  # nothing has been updated: the same step again


def _pass(fabric: Fabric, loss_of: Any, tokens: Tensor, weight: float) -> float:
    loss = loss_of(tokens[:, :-1], tokens[:, 1:]) * weight
    fabric.backward(loss)
    return loss.item()


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
    if fabric.is_global_zero:
        with folder.metrics.open("a") as file:  # its rows up to here are not made again
            os.fsync(file.fileno())
    path = _save_as(fabric, folder.checkpoint, progress.step, {**state, "progress": vars(progress).copy()})
    if not fabric.is_global_zero:
        return
    for older in path.parent.glob(f"{folder.checkpoint.stem}-*.pt"):
        if older != path:
            older.unlink()


def _save_as(fabric: Fabric, pointer: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state, then point at it; a kill in between leaves the older pair whole."""
    path = pointer.with_name(f"{pointer.stem}-{step}.pt")
    whole = whole_state(fabric, state)
    if fabric.is_global_zero:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(whole, path)
        write_json(pointer, {"file": path.name, "sha256": sha256_of_file(path)})
    return path


def _restore(fabric: Fabric, run: PlannedRun, folder: RunFolder, state: dict[str, Any]) -> _Progress:
    """Load what the first rank finds: one that looked for itself might see an older file on a shared disk."""
    path = fabric.broadcast(_newest_state(run, folder) if fabric.is_global_zero else None)
    if path is None:
        return _Progress()
    saved = torch.load(path, map_location="cpu", weights_only=True)
    for key, value in state.items():
        if isinstance(value, torch.nn.Module):
            load_module(value, saved[key])
        else:
            load_optimizer(value, saved[key])
    return _Progress(**(saved["progress"] or {"step": run.branches_at_step}))


def _newest_state(run: PlannedRun, folder: RunFolder) -> Path | None:
    """The run's own checkpoint, or the state where it branches off another run, or None: start at the beginning."""
    if folder.checkpoint.exists():
        try:
            return folder.checkpoint_state()
        except CorruptFile as error:
            aside = set_aside(folder.checkpoint)
            log.warning("%s; set aside as %s, the run starts again", error, aside.name)
    if run.branches_from:
        try:
            return saved_state(RunFolder(folder.path.with_name(run.branches_from)).kept)
        except CorruptFile as error:
            log.warning("run %s can't branch from %s (%s); it is trained alone", run.run_id, run.branches_from, error)
    return None


# ---- train.json -------------------------------------------------------------------------------


def _finish(
    folder: RunFolder,
    run: PlannedRun,
    machine: MachineSpec,
    peak: Peak,
    status: Status,
    reason: str,
    progress: _Progress,
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
        "peak_memory_bytes": max(filter(None, (row.get("peak_memory_bytes") for row in measured)), default=None),
        "code_sha256": code_sha256(),
        "libraries": library_versions(),
        "machine": {
            "accelerator": machine.accelerator,
            "precision": machine.precision,
            **vars(devices_of(run, machine)),
            "peak_flops_per_second": peak.flops_per_second,
            "peak_from": peak.source,
            "host": platform.node(),
        },
    }
    write_json(folder.train, summary)
