"""Contestant: ``litgpt.pretrain.main`` itself, on a decoder of the same shape. It waits where it asks for a batch.

Ordinary: the defaults of ``litgpt pretrain`` but for precision (fp32; its default is bf16-mixed, which most CPUs only
emulate), no logger, no saving, no validation, and batches that are not accumulated. Every switch: one thread, fused
AdamW, the loss in one chunk, tied embedding, no biases, a line of log every 100 steps instead of every step.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Fabric
from litgpt import pretrain  # type: ignore[import-not-found]
from litgpt.args import EvalArgs, TrainArgs  # type: ignore[import-not-found]
from litgpt.config import Config  # type: ignore[import-not-found]
from litgpt.data import DataModule  # type: ignore[import-not-found]
from torch.utils.data import DataLoader

from benchmarks.peers.turns import Turns
from benchmarks.peers.windows import Windows

NEVER = 10**9


class BatchesInTurns:
    """Shuffled batches of row numbers; asking for the next says that the step on the one before is done."""

    def __init__(self, num_rows: int, batch_rows: int, turns: Turns) -> None:
        self._num_rows, self._batch_rows, self._turns = num_rows, batch_rows, turns
        self._started = False

    def __iter__(self) -> Iterator[list[int]]:
        for rows in torch.randperm(self._num_rows).split(self._batch_rows):
            if self._started:
                self._turns.step_done()
            self._started = True
            yield rows.tolist()


class Corpus(DataModule):
    def __init__(self, windows: Windows, batch_rows: int, turns: Turns) -> None:
        super().__init__()
        self._windows, self._batch_rows, self._turns = windows, batch_rows, turns

    def connect(self, **_: Any) -> None:
        pass

    def train_dataloader(self) -> DataLoader[Any]:
        batches = BatchesInTurns(len(self._windows), self._batch_rows, self._turns)
        return DataLoader(self._windows, batch_sampler=batches)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self._windows, batch_size=self._batch_rows)


def throw_every_switch() -> None:
    """Those that ``litgpt pretrain`` has no argument for."""
    torch.set_num_threads(1)
    pretrain.chunked_cross_entropy = partial(pretrain.chunked_cross_entropy, chunk_size=0)
    instantiate = pretrain.instantiate_torch_optimizer

    def fused(optimizer: str, parameters: Any, **_: Any) -> Any:
        return instantiate(optimizer, parameters, fused=True)

    pretrain.instantiate_torch_optimizer = fused


def main(job: dict[str, Any]) -> None:
    shape, rows, every_switch = job["shape"], job["batch_rows"], job["every_switch"]
    if every_switch:
        throw_every_switch()
    config = Config(
        block_size=shape["context_length"],
        vocab_size=shape["vocab_size"],
        n_layer=shape["depth"],
        n_head=shape["num_heads"],
        n_embd=shape["width"],
        intermediate_size=shape["mlp_ratio"] * shape["width"],
        bias=not every_switch,
    )
    # It tries two validation batches before it trains: a graph more to compile, and nothing of it is measured.
    pretrain.validate = lambda *_, **__: torch.tensor(0.0)
    windows = Windows(Path(job["tokens"]), shape["context_length"])
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    fabric.launch()
    pretrain.main(
        fabric=fabric,
        devices=1,
        num_nodes=1,
        seed=42,
        initial_checkpoint_dir=None,
        resume=False,
        config=config,
        data=Corpus(windows, rows, Turns(torch.get_num_threads())),
        out_dir=Path(job["folder"]),
        tokenizer_dir=None,
        tokenizer=None,
        train=TrainArgs(
            save_interval=None,
            log_interval=100 if every_switch else 1,
            global_batch_size=rows,
            micro_batch_size=rows,
            max_tokens=int(3e12),
            max_norm=1.0,
            min_lr=4e-5,
            lr_warmup_steps=2000,
            tie_embeddings=every_switch,
        ),
        eval=EvalArgs(interval=NEVER, final_validation=False),
        optimizer="AdamW",
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
