"""Train one planned run, interruptibly; a resumed run gives the same bits as an undisturbed one.

Writes ``metrics.jsonl`` (the truth that wandb mirrors), ``checkpoint/`` and, at
the end, ``train.json``. Resuming cuts ``metrics.jsonl`` back to the checkpoint's step: rows after
it are made again. Data order is a function of seed and step, so the step is all the state it needs.

Shape suffixes: B batch, T position, V vocabulary.
"""

import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric

from models.transformer import Decoder
from sweep.data import Corpus, num_windows, training_order, windows
from sweep.folder import CorruptFile, RunFolder, Status, set_aside, sha256_of_file, write_json, write_whole
from sweep.optim import lr_multiplier, make_optimizer, set_learning_rate
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
        Stopped: ``should_stop`` said so; a checkpoint was saved.
    """
    spec = run.spec
    fabric = Fabric(accelerator=machine.accelerator, devices=1, precision=machine.precision)  # type: ignore[arg-type]
    fabric.seed_everything(spec.seed, verbose=False)
    rules = spec.parametrization
    bare_model = Decoder(spec.model, rules)
    model, optimizer = fabric.setup(bare_model, make_optimizer(bare_model, run, rules.adam_eps))

    length = spec.model.context_length
    stream = corpus.stream("train")
    order = training_order(num_windows(len(stream), length), spec.seed)
    log_every = max(1, spec.num_steps // machine.log_rows_per_run)
    flops_per_token = run.flops / run.num_tokens

    progress = _restore(fabric, folder, model, optimizer)
    _cut_back(folder, progress.step)
    append_row(folder, _start_row(progress.step, seal_sha256))
    mirror.replay(folder.rows())
    last_save = last_row = time.monotonic()

    while progress.step < spec.num_steps:
        tokens_before = progress.step * spec.batch_tokens
        multiplier = lr_multiplier(tokens_before, spec.batch_tokens, spec.warmup_tokens, spec.num_tokens)
        set_learning_rate(optimizer, multiplier)
        rows = order[progress.step * spec.batch_rows : (progress.step + 1) * spec.batch_rows]
        batch = fabric.to_device(torch.from_numpy(windows(stream, rows, length)))
        inputs_BT, targets_BT = batch[:, :-1], batch[:, 1:]

        logits_BTV = model(inputs_BT)
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
        fabric.backward(loss)
        norm = fabric.clip_gradients(model, optimizer, max_norm=spec.grad_clip_norm, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert norm is not None
        grad_norm = norm.item()

        progress.step += 1
        progress.loss_sum += loss.item()
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
        if should_stop() and progress.step < spec.num_steps:
            _save(fabric, folder, model, optimizer, progress)
            raise Stopped(f"{run.run_id} stopped after step {progress.step} of {spec.num_steps}")
        if now - last_save >= machine.checkpoint_seconds:
            _save(fabric, folder, model, optimizer, progress)
            last_save = now

    _save(fabric, folder, model, optimizer, progress)
    _finish(folder, run, machine, "done", "", progress)


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


def _save(fabric: Fabric, folder: RunFolder, model: Any, optimizer: Any, progress: _Progress) -> None:
    """Write the state, then point ``latest.json`` at it; a kill in between leaves the older pair whole."""
    with folder.metrics.open("a") as file:  # its rows up to here are not made again
        os.fsync(file.fileno())
    path = folder.checkpoint.with_name(f"step-{progress.step}.pt")
    fabric.save(path, {"model": model, "optimizer": optimizer, "progress": vars(progress).copy()})
    write_json(folder.checkpoint, {"file": path.name, "sha256": sha256_of_file(path)})
    for older in path.parent.glob("step-*.pt"):
        if older != path:
            older.unlink()


def _restore(fabric: Fabric, folder: RunFolder, model: Any, optimizer: Any) -> _Progress:
    """Load the checkpoint if there is one; a corrupt one is set aside and the run starts again."""
    if not folder.checkpoint.exists():
        return _Progress()
    try:
        path = folder.checkpoint_state()
    except CorruptFile as error:
        aside = set_aside(folder.checkpoint)
        log.warning("%s; set aside as %s, the run starts again", error, aside.name)
        return _Progress()
    state: dict[str, Any] = {"model": model, "optimizer": optimizer, "progress": None}
    fabric.load(path, state, weights_only=True)
    return _Progress(**state["progress"])


# ---- train.json -------------------------------------------------------------------------------


def _finish(
    folder: RunFolder, run: PlannedRun, machine: MachineSpec, status: Status, reason: str, progress: _Progress
) -> None:
    rows = folder.rows()
    measured = [row for row in rows if "train_loss_nats" in row]
    seconds = sum(row["interval_seconds"] for row in measured)
    summary = {
        "run_id": run.run_id,
        "status": status,
        "reason": reason,
        "step": progress.step,
        "tokens": progress.step * run.spec.batch_tokens,
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
