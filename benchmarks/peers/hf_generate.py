"""Contestant: ``generate`` of transformers, all samples of the prompt in one call. A step is one such call.

Its best settings for this: one thread, inference mode, a key-value cache (dynamic or static, both take part), every
sample a returned sequence of the one prompt, no filter on the distribution and no end token, so that it only samples.
"""

import json
import sys
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM  # type: ignore[import-not-found]

from benchmarks.peers.turns import Turns


def main(job: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = job["shape"]
    config = LlamaConfig(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["width"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["num_heads"],
        # Its MLP has three matrices, ours two: as many parameters.
        intermediate_size=round(shape["mlp_ratio"] * shape["width"] * 2 / 3),
        max_position_embeddings=shape["context_length"],
        tie_word_embeddings=True,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    prompt_BT = torch.tensor([job["prompt_tokens"]])
    turns = Turns(torch.get_num_threads())
    while True:
        with torch.inference_mode():
            written_BT = model.generate(
                prompt_BT,
                attention_mask=torch.ones_like(prompt_BT),
                do_sample=True,
                temperature=job["temperature"],
                top_k=0,
                top_p=1.0,
                max_new_tokens=job["new_tokens"],
                num_return_sequences=job["num_samples"],
                use_cache=True,
                cache_implementation=job["cache"],
            )
        assert written_BT.shape == (job["num_samples"], prompt_BT.shape[1] + job["new_tokens"])
        turns.step_done()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
