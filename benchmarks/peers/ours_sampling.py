"""Contestant: ``sweep.drawing`` itself, in a process set up as a sweep's worker is.

A step is one call for all samples.
"""

import json
import sys
from typing import Any

import numpy as np
import torch

from benchmarks.peers.turns import Turns
from models.config import DecoderConfig
from models.parametrization import Parametrization
from models.transformer import Decoder
from sweep.completions import StopTable
from sweep.drawing import Drawer, Request
from sweep.workers import keep_freed_memory


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    config = DecoderConfig(**job["shape"])
    model = Decoder(config, Parametrization(**job["parametrization"])).eval()
    never = np.zeros((config.vocab_size, 2))
    stops = StopTable(never.astype(np.bool_), never.astype(np.int8))
    options = {"temperature": job["temperature"], "max_new_tokens": job["new_tokens"]}
    drawer = Drawer(model, stops, seed=0, **options)
    turns = Turns(torch.get_num_threads())
    first = 0
    while True:
        numbers = list(range(first, first + job["num_samples"]))
        (drawn,) = drawer.draw([Request("problem", job["prompt_tokens"], numbers)])
        assert all(len(tokens) == job["new_tokens"] for tokens in drawn.values())
        first += job["num_samples"]
        turns.step_done()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
