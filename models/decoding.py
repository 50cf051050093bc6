"""One token at a time: a decoder that keeps what it has already computed, for many rows that share prompts.

Shape suffixes: N blocks, S prompts, R rows of each prompt, B all rows (S R, those of one prompt side by side),
P positions of a prompt, L positions since, H heads, M = B H, K head width, D width, C = 3 D, J taps, V vocabulary.

All rows of a ``Decoding`` stand at the same number of tokens after their prompts. The keys and values of a prompt
are kept once for all its rows, those of what follows per row, in pages of a fixed size; a row attends to all in one
softmax. Beside keys and values a block keeps the last J - 1 projections, which its short convolution looks back at.
Rows that are done can be dropped on the way.

At these widths a step costs as much as the number of its operations, so the weights are folded beforehand and the step
is written with few: gains and multipliers go into the matrices, the scale of attention into the rotation of queries.
QK-norm bounds the scores (by 2.5 sqrt(K)), so their exponentials need no maximum subtracted, and the softmax over the
prompt and the pages is a ratio of two sums.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.transformer import NORM_EPS, Block, Decoder

# Positions. One buffer for all would have wide gaps between the rows, and reading it costs twice as much. A page is
# always read whole, its empty places with weight zero: a product over a dozen positions costs four times one over 16.
_PAGE = 16


@dataclass(frozen=True)
class Prompt:
    """What a decoder keeps of a prompt that it has read, and its logits for the token after it."""

    keys: Tensor  # (N, H, P, K)
    values: Tensor  # (N, H, P, K)
    projected: Tensor  # (N, J - 1, C), of its last tokens before the convolution; zeros stand before the first
    logits: Tensor  # (V,)

    @property
    def length(self) -> int:
        return self.keys.shape[2]


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


def _blocks(model: Decoder) -> Sequence[Block]:
    return model.blocks  # type: ignore[return-value]


class FoldedDecoder:
    """A decoder's weights as its steps use them; a copy, so make it anew when the weights have changed."""

    @torch.inference_mode()
    def __init__(self, model: Decoder) -> None:
        config = model.config
        self.config = config
        self.embedding = model.embedding.weight.clone()
        self._norm_eps = self.embedding.new_tensor(NORM_EPS)
        self.pairs_K = _rotary_pairs(config.head_width)
        blocks = _blocks(model)
        self.turn_THK = self._turns(model, blocks[0].attention_scale)
        width, heads = config.width, config.num_heads
        by_head_C = torch.arange(3 * width).view(3, heads, config.head_width)
        by_head_C[:2] = by_head_C[:2][..., self.pairs_K]
        self.channels_C = by_head_C.flatten()
        self.blocks = [_FoldedBlock(block, self.channels_C) for block in blocks]
        logit_scale = model.logit_scale * model.logit_multiplier
        self.head_DV = (self.embedding * model.final_gain * logit_scale).T

    def _turns(self, model: Decoder, attention_scale: float) -> Tensor:
        """Complex factors (T, 2 H, K/2) that turn queries and keys; scores come out ready for a power of two."""
        cos_TK, sin_TK = model.rotary(self.config.context_length)
        half = cos_TK.shape[1] // 2
        turned_TK = torch.complex(cos_TK[:, :half], sin_TK[:, :half])
        turn_TK = F.pad(turned_TK, (0, self.config.head_width // 2 - half), value=1.0)
        turn_THK = turn_TK[:, None].repeat(1, 2 * self.config.num_heads, 1)
        turn_THK[:, : self.config.num_heads] *= attention_scale * math.log2(math.e)
        return turn_THK

    def norm(self, x: Tensor) -> Tensor:
        """RMS norm over the last dimension, in half the calls of ``F.rms_norm``."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * torch.addcmul(self._norm_eps, size, size, value=1 / x.shape[-1]).rsqrt_()


class _FoldedBlock:
    def __init__(self, block: Block, channels_C: Tensor) -> None:
        self.qkv_DC = (block.qkv.weight * block.attention_gain)[channels_C].T
        self.taps = [taps_C[channels_C] for taps_C in block.conv.taps_JC]
        self.out_DD = (block.attention_out.weight * block.residual_multiplier).T
        self.up = (block.mlp_up.weight * block.mlp_gain).T
        self.down = (block.mlp_down.weight * block.residual_multiplier).T


def _rotary_pairs(head_width: int) -> Tensor:
    """Order of a head's channels in which those that rotary turns together are neighbours."""
    rotated = head_width // 4 * 2
    pairs = torch.arange(rotated).view(2, -1).T.flatten()
    return torch.cat((pairs, torch.arange(rotated, head_width)))


class Decoding:
    """Rows that go on from their prompts, ``rows_per_prompt`` from each.

    ``logits_BV`` are the logits for each row's next token; rows of one prompt stand side by side. A row that has
    reached the end of the model's context may stay, while others of shorter prompts go on; its logits mean nothing.
    """

    @torch.inference_mode()
    def __init__(self, model: FoldedDecoder, prompts: Sequence[Prompt], rows_per_prompt: int) -> None:
        self._model, self._rows, self._steps = model, rows_per_prompt, 0
        self._lengths_S = torch.tensor([prompt.length for prompt in prompts])
        keys_NSHPK = _padded([prompt.keys[..., model.pairs_K] for prompt in prompts])
        self._prompt_keys_NSHKP = keys_NSHPK.transpose(-1, -2).contiguous()
        # A column of ones beside the values gives the sum of their weights; where a prompt has ended both are zero.
        self._prompt_values_NSHPK = _padded([F.pad(prompt.values, (0, 1), value=1.0) for prompt in prompts])
        # Per block, keys and values of the tokens since, (B, H, L, K) each; the last page is zero after the step.
        self._pages: list[list[tuple[Tensor, Tensor]]] = [[] for _ in model.blocks]
        projected_NSJC = torch.stack([prompt.projected[..., model.channels_C] for prompt in prompts], 1)
        # Per block, the nearest token's first.
        self._before = [
            [*reversed(rows_BJC.unbind(1))] for rows_BJC in projected_NSJC.repeat_interleave(rows_per_prompt, dim=1)
        ]
        self.logits_BV = torch.stack([prompt.logits for prompt in prompts]).repeat_interleave(rows_per_prompt, 0)

    @property
    def rows_per_prompt(self) -> int:
        return self._rows

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> Tensor:
        """Append one token to every row; returns ``logits_BV`` for the token after it."""
        model = self._model
        positions_S = (self._lengths_S + self._steps).clamp_(max=model.config.context_length - 1)
        turn_S1HK = model.turn_THK[positions_S, None]
        if self._steps % _PAGE == 0:
            shape = (len(tokens_B), model.config.num_heads, _PAGE, model.config.head_width)
            for pages in self._pages:
                pages.append((model.embedding.new_zeros(shape), model.embedding.new_zeros(shape)))
        self._steps += 1
        x_BD = model.embedding.index_select(0, tokens_B)
        for number, block in enumerate(model.blocks):
            qkv_BC = model.norm(x_BD) @ block.qkv_DC
            attended_BD = self._attend(number, self._mixed(number, qkv_BC, block.taps), turn_S1HK)
            x_BD = torch.addmm(x_BD, attended_BD, block.out_DD)
            x_BD = torch.addmm(x_BD, (model.norm(x_BD) @ block.up).relu_().square_(), block.down)
        self.logits_BV = model.norm(x_BD) @ model.head_DV
        return self.logits_BV

    def _mixed(self, number: int, qkv_BC: Tensor, taps: list[Tensor]) -> Tensor:
        """The short convolution."""
        before = self._before[number]
        mixed_BC = qkv_BC * taps[0]
        for before_BC, taps_C in zip(before, taps[1:], strict=True):
            mixed_BC.addcmul_(before_BC, taps_C)
        self._before[number] = [qkv_BC, *before[:-1]]
        return mixed_BC

    def _attend(self, number: int, qkv_BC: Tensor, turn_S1HK: Tensor) -> Tensor:
        heads, width = self._model.config.num_heads, self._model.config.head_width
        qkv_BHK = qkv_BC.view(-1, 3 * heads, width)
        qk_SRHK = self._model.norm(qkv_BHK[:, : 2 * heads]).unflatten(0, (-1, self._rows))
        turned_SRHK = torch.view_as_complex(qk_SRHK.unflatten(-1, (-1, 2))) * turn_S1HK
        q_SRHK, k_SRHK = torch.view_as_real(turned_SRHK).flatten(-2).chunk(2, dim=2)
        q_SRHK = q_SRHK.contiguous()  # or every page would copy it

        place = (self._steps - 1) % _PAGE
        keys_BHLK, values_BHLK = self._pages[number][-1]
        keys_BHLK[:, :, place] = k_SRHK.flatten(0, 1)
        values_BHLK[:, :, place] = qkv_BHK[:, 2 * heads :]

        prompt_SHRP = (q_SRHK.transpose(1, 2) @ self._prompt_keys_NSHKP[number]).exp2_()
        prompt_SRHK = (prompt_SHRP @ self._prompt_values_NSHPK[number]).transpose(1, 2)
        total_M1K = prompt_SRHK[..., :-1].reshape(-1, 1, width)
        weight_M11 = prompt_SRHK[..., -1].reshape(-1, 1, 1)
        q_M1K = q_SRHK.view(-1, 1, width)
        for keys_BHLK, values_BHLK in self._pages[number]:
            # A row times a matrix: several times as fast as a matrix times a column.
            weights_M1L = torch.bmm(q_M1K, keys_BHLK.flatten(0, 1).transpose(1, 2)).exp2_()
            if keys_BHLK is self._pages[number][-1][0]:
                weights_M1L[:, :, place + 1 :] = 0
            total_M1K = torch.baddbmm(total_M1K, weights_M1L, values_BHLK.flatten(0, 1))
            weight_M11 = weight_M11 + weights_M1L.sum(-1, keepdim=True)
        return (total_M1K / weight_M11).view(-1, heads * width)

    @torch.inference_mode()
    def keep(self, wanted_B: Tensor) -> Tensor:
        """Drop rows that are not wanted, as far as equal numbers of rows for each prompt allow.

        Returns the old index of every row that is still there, wanted ones of a prompt before others.
        """
        wanted_SR = wanted_B.view(-1, self._rows)
        wanted_S = wanted_SR.sum(1)
        prompts = wanted_S.nonzero()[:, 0]
        order_SR = wanted_SR[prompts].int().argsort(dim=1, descending=True, stable=True)
        rows_B = (prompts[:, None] * self._rows + order_SR[:, : int(wanted_S.max())]).flatten()
        self._rows = len(rows_B) // len(prompts)
        self._lengths_S = self._lengths_S[prompts]
        self._prompt_keys_NSHKP = self._prompt_keys_NSHKP[:, prompts]
        self._prompt_values_NSHPK = self._prompt_values_NSHPK[:, prompts]
        self._pages = [[(keys[rows_B], values[rows_B]) for keys, values in pages] for pages in self._pages]
        self._before = [[past_BC[rows_B] for past_BC in before] for before in self._before]
        self.logits_BV = self.logits_BV[rows_B]
        return rows_B


def _padded(parts_NHPK: Sequence[Tensor]) -> Tensor:
    """Stack (N, H, P, K) of several P into (N, S, H, P, K), with zeros behind the shorter ones."""
    longest = max(part.shape[2] for part in parts_NHPK)
    return torch.stack([F.pad(part, (0, 0, 0, longest - part.shape[2])) for part in parts_NHPK], 1)
