"""Contestant: the Hugging Face Trainer on a GPT-2 of the same shape. It waits in a callback at a step's end.

Ordinary: the defaults of ``TrainingArguments`` and ``GPT2Config``, but no saving and no reporting. Every switch: one
thread, torch.compile, fused AdamW, attention by scaled_dot_product_attention, no dropout, no cache of keys and values,
no progress bar.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (  # type: ignore[import-not-found]
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.peers.turns import Turns
from benchmarks.peers.windows import Windows

MAX_STEPS = 10**6


class Examples(Dataset[dict[str, Tensor]]):
    """Windows as the Trainer takes them; the model shifts the labels itself."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tokens = self._windows[index][:-1]
        return {"input_ids": tokens, "labels": tokens}


class TakeTurns(TrainerCallback):
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._turns.step_done()


MODEL_SWITCHES = {
    "attn_implementation": "sdpa",
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "use_cache": False,
}
TRAINER_SWITCHES = {
    "torch_compile": True,
    "optim": "adamw_torch_fused",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


def main(job: dict[str, Any]) -> None:
    shape, every_switch = job["shape"], job["every_switch"]
    if every_switch:
        torch.set_num_threads(1)
    config = GPT2Config(
        vocab_size=shape["vocab_size"],
        n_positions=shape["context_length"],
        n_embd=shape["width"],
        n_layer=shape["depth"],
        n_head=shape["num_heads"],
        n_inner=shape["mlp_ratio"] * shape["width"],
        bos_token_id=0,
        eos_token_id=0,
        **(MODEL_SWITCHES if every_switch else {}),
    )
    arguments = TrainingArguments(
        output_dir=job["folder"],
        use_cpu=True,
        max_steps=MAX_STEPS,
        per_device_train_batch_size=job["batch_rows"],
        save_strategy="no",
        report_to="none",
        **(TRAINER_SWITCHES if every_switch else {}),
    )
    turns = Turns(torch.get_num_threads())
    trainer = Trainer(
        model=GPT2LMHeadModel(config),
        args=arguments,
        train_dataset=Examples(Windows(Path(job["tokens"]), shape["context_length"])),
        callbacks=[TakeTurns(turns)],
    )
    trainer.train()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
