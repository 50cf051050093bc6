"""One token at a time: a decoder that keeps what it has already computed, for many rows that share prompts.

Shape suffixes: N blocks, S prompts, R rows of each prompt, B all rows (S R, those of one prompt side by side),
P positions of a prompt, L positions since, H heads, K head width, D width, C = 3 D, J taps, V vocabulary.

All rows of a ``Decoding`` stand at the same number of tokens after their prompts. The keys and values of a prompt
are kept once for all its rows, those of what follows per row in buffers of a fixed size; a row attends to both in one
softmax. Rows that are done can be dropped on the way. Beside keys and values a block keeps the last J - 1 projections, which its short convolution looks back at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.transformer import Block, Decoder


@dataclass(frozen=True)
class Prompt:
    """What a decoder keeps of a prompt that it has read, and its logits for the token after it."""

    keys_NHPK: Tensor
    values_NHPK: Tensor
    projected_NJC: Tensor  # of its last J - 1 tokens, before the convolution; zeros stand before the first token
    logits_V: Tensor

    @property
    def length(self) -> int:
        return self.keys_NHPK.shape[2]


@torch.inference_mode()
def read_prompt(model: Decoder, tokens_P: Tensor) -> Prompt:
    """Run the decoder over a prompt of at least one token and at most its context."""
    length, looks_back = len(tokens_P), model.config.conv_taps - 1
    cos_PK, sin_PK = model.rotary(length)
    keys, values, projected = [], [], []
    x_BPD = model.embedding(tokens_P[None])
    for block in _blocks(model):
        qkv_BPC = block.project(x_BPD)
        q_BHPK, k_BHPK, v_BHPK = block.heads(block.conv(qkv_BPC), cos_PK, sin_PK)
        x_BPD = block.finish(x_BPD, block.attend(q_BHPK, k_BHPK, v_BHPK))
        keys.append(k_BHPK[0])
        values.append(v_BHPK[0])
        projected.append(F.pad(qkv_BPC[0], (0, 0, looks_back, 0))[length:])
    return Prompt(torch.stack(keys), torch.stack(values), torch.stack(projected), model.head(x_BPD[:, -1])[0])


class Decoding:
    """Rows that go on from their prompts, ``rows_per_prompt`` from each, for at most ``max_steps`` tokens.

    ``logits_BV`` are the logits for each row's next token; rows of one prompt stand side by side. A row that has
    reached the end of the model's context may stay, while longer ones of shorter prompts go on; its logits mean nothing.
    """

    def __init__(self, model: Decoder, prompts: Sequence[Prompt], rows_per_prompt: int, max_steps: int) -> None:
        config = model.config
        self._model = model
        self._rows, self._steps, self._max_steps = rows_per_prompt, 0, max_steps
        self._lengths_S = torch.tensor([prompt.length for prompt in prompts])
        longest = int(self._lengths_S.max())
        self._keys_NSHPK = _padded([prompt.keys_NHPK for prompt in prompts], longest)
        self._values_NSHPK = _padded([prompt.values_NHPK for prompt in prompts], longest)
        missing_SP = torch.arange(longest) >= self._lengths_S[:, None]
        self._mask_SHRP = torch.zeros(missing_SP.shape, dtype=self._keys_NSHPK.dtype)
        self._mask_SHRP = self._mask_SHRP.masked_fill(missing_SP, -torch.inf)[:, None, None]
        shape = (config.depth, len(prompts), config.num_heads, rows_per_prompt, max_steps, config.head_width)
        self._own_keys_NSHRLK = torch.empty(shape, dtype=self._keys_NSHPK.dtype)
        self._own_values_NSHRLK = torch.empty_like(self._own_keys_NSHRLK)
        projected_NSJC = torch.stack([prompt.projected_NJC for prompt in prompts], 1)
        rows_NBJC = projected_NSJC.repeat_interleave(rows_per_prompt, dim=1)
        # Per block, the nearest token's first.
        self._before = [[*reversed(rows_BJC.split(1, dim=1))] for rows_BJC in rows_NBJC]
        self.logits_BV = torch.stack([prompt.logits_V for prompt in prompts]).repeat_interleave(rows_per_prompt, 0)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append one token to every row; returns ``logits_BV`` for the token after it."""
        if self._steps == self._max_steps:
            raise ValueError(f"{self._max_steps} tokens were appended already; that is all there is room for")
        context = self._model.config.context_length
        positions_B = (self._lengths_S + self._steps).clamp(max=context - 1).repeat_interleave(self._rows)
        cos, sin = (table[positions_B, None, None] for table in self._model.rotary(context))
        self._steps += 1
        x_BTD = self._model.embedding(tokens_B[:, None])
        for number, block in enumerate(_blocks(self._model)):
            qkv_BTC = block.project(x_BTD)
            mixed_BTC = block.conv.mix(qkv_BTC, self._before[number])
            self._before[number] = [qkv_BTC, *self._before[number][:-1]]
            q_SHRK, k_SHRK, v_SHRK = (self._by_prompt(part) for part in block.heads(mixed_BTC, cos, sin))
            self._own_keys_NSHRLK[number, :, :, :, self._steps - 1] = k_SHRK
            self._own_values_NSHRLK[number, :, :, :, self._steps - 1] = v_SHRK
            attended_SHRK = self._attend(number, q_SHRK * block.attention_scale)
            x_BTD = block.finish(x_BTD, attended_SHRK.transpose(1, 2).reshape(x_BTD.shape))
        self.logits_BV = self._model.head(x_BTD)[:, 0]
        return self.logits_BV

    @torch.inference_mode()
    def keep(self, wanted_B: Tensor) -> Tensor:
        """Drop rows that are not wanted, as far as equal numbers of rows for each prompt allow.

        Returns the old index of every row that is still there, wanted ones of a prompt before others.
        """
        wanted_SR = wanted_B.view(-1, self._rows)
        wanted_S = wanted_SR.sum(1)
        prompts = wanted_S.nonzero()[:, 0]
        rows_SR = wanted_SR[prompts].int().argsort(dim=1, descending=True, stable=True)[:, : int(wanted_S.max())]
        rows_B = (prompts[:, None] * self._rows + rows_SR).flatten()
        self._lengths_S, self._mask_SHRP = self._lengths_S[prompts], self._mask_SHRP[prompts]
        self._keys_NSHPK, self._values_NSHPK = self._keys_NSHPK[:, prompts], self._values_NSHPK[:, prompts]
        self._own_keys_NSHRLK = self._some_rows(self._own_keys_NSHRLK, prompts, rows_SR)
        self._own_values_NSHRLK = self._some_rows(self._own_values_NSHRLK, prompts, rows_SR)
        self._before = [[past_BTC[rows_B] for past_BTC in before] for before in self._before]
        self._rows, self.logits_BV = rows_SR.shape[1], self.logits_BV[rows_B]
        return rows_B

    def _some_rows(self, own_NSHRLK: Tensor, prompts: Tensor, rows_SR: Tensor) -> Tensor:
        blocks, _, heads, _, capacity, width = own_NSHRLK.shape
        some = own_NSHRLK.new_empty((blocks, len(prompts), heads, rows_SR.shape[1], capacity, width))
        used = slice(self._steps)
        for number in range(blocks):
            for head in range(heads):
                some[number, :, head, :, used] = own_NSHRLK[number, prompts[:, None], head, rows_SR, used]
        return some

    def _by_prompt(self, part_BHTK: Tensor) -> Tensor:
        _, heads, _, width = part_BHTK.shape
        return part_BHTK.reshape(-1, self._rows, heads, width).transpose(1, 2).contiguous()

    def _attend(self, number: int, q_SHRK: Tensor) -> Tensor:
        keys_SHPK, values_SHPK = self._keys_NSHPK[number], self._values_NSHPK[number]
        own_keys_SHRLK = self._own_keys_NSHRLK[number, :, :, :, : self._steps]
        own_values_SHRLK = self._own_values_NSHRLK[number, :, :, :, : self._steps]
        to_prompt_SHRP = q_SHRK @ keys_SHPK.transpose(-1, -2) + self._mask_SHRP
        to_own_SHRL = (own_keys_SHRLK @ q_SHRK[..., None])[..., 0]
        weights = torch.cat((to_prompt_SHRP, to_own_SHRL), -1).softmax(-1)
        prompt_weights, own_weights = weights.split((keys_SHPK.shape[2], self._steps), dim=-1)
        return prompt_weights @ values_SHPK + (own_weights[..., None, :] @ own_values_SHRLK)[..., 0, :]


def _blocks(model: Decoder) -> Sequence[Block]:
    return model.blocks  # type: ignore[return-value]


def _padded(parts_NHPK: Sequence[Tensor], length: int) -> Tensor:
    """Stack (N, H, P, K) of several P into (N, S, H, P, K), with zeros behind the shorter ones."""
    return torch.stack([F.pad(part, (0, 0, 0, length - part.shape[2])) for part in parts_NHPK], 1)
