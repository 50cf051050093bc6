"""Pre-norm decoder whose keys start out as the keys of the previous token.

Shape suffixes: B batch, T position, D width, H heads, K head width, V vocabulary,
C channels of the short convolution (queries, keys and values side by side: 3 D), J its taps.

An ordinary decoder learns to copy from its context (induction heads, Olsson et al. 2022) suddenly, at
some compute; a scaling law fitted below that point says nothing about models above it. Here a
causal depthwise convolution over queries, keys and values starts as a shift by one position for
the keys and as the identity for the rest. A query then matches the token *after* its own earlier
showing from the first step on. The last block's output matrix starts as a fraction of its value matrix
transposed, so that what is attended to, that next token, is added to the stream as its own embedding,
which the tied head reads as a guess. Every size copies, and small ones need no steps to learn it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import DecoderConfig
from models.parametrization import Parametrization

ROTARY_BASE = 10_000.0
NORM_EPS = 1e-5
INITIAL_LOGIT_SCALE = 0.1
INITIAL_COPY_GAIN = 0.3


def rotary_tables(context_length: int, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, shape (T, R), for the R = K/2 channels of each head (or one less: pairs) that rotary turns."""
    rotated = head_width // 4 * 2
    frequency = ROTARY_BASE ** (-torch.arange(0, rotated, 2, dtype=torch.float32) / rotated)
    angle = torch.arange(context_length, dtype=torch.float32)[:, None] * frequency[None]
    return torch.cat((angle.cos(), angle.cos()), -1), torch.cat((angle.sin(), angle.sin()), -1)


def apply_rotary(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turn the first R channels of each head by their position; leave the others to content alone."""
    rotated = cos_TK.shape[-1]
    turn, keep = x_BHTK[..., :rotated], x_BHTK[..., rotated:]
    half = rotated // 2
    swapped = torch.cat((-turn[..., half:], turn[..., :half]), -1)
    return torch.cat((turn * cos_TK + swapped * sin_TK, keep), -1)


class ShortConv(nn.Module):
    """Causal depthwise convolution over (B, T, C), at first the identity but for keys: those shift by one."""

    def __init__(self, width: int, num_taps: int) -> None:
        super().__init__()
        taps_JC = torch.zeros(num_taps, 3 * width)
        taps_JC[0, :width] = 1.0  # queries
        taps_JC[1, width : 2 * width] = 1.0  # keys, of the token before
        taps_JC[0, 2 * width :] = 1.0  # values
        self.taps_JC = nn.Parameter(taps_JC)

    def forward(self, x_BTC: Tensor) -> Tensor:
        num_taps, length = self.taps_JC.shape[0], x_BTC.shape[1]
        padded = F.pad(x_BTC, (0, 0, num_taps - 1, 0))
        starts = range(num_taps - 2, -1, -1)
        return self.mix(x_BTC, [padded[:, start : start + length] for start in starts])

    def mix(self, now_BTC: Tensor, before: Sequence[Tensor]) -> Tensor:
        """Weigh each position with the J - 1 ``before`` it, the nearest first; all of one shape."""
        out_BTC = now_BTC * self.taps_JC[0]
        for lag, before_BTC in enumerate(before, start=1):
            out_BTC = torch.addcmul(out_BTC, before_BTC, self.taps_JC[lag])
        return out_BTC


class Block(nn.Module):
    def __init__(self, config: DecoderConfig, parametrization: Parametrization) -> None:
        super().__init__()
        d = config.width
        self.num_heads, self.head_width = config.num_heads, config.head_width
        self.attention_scale = parametrization.attention_scale
        self.residual_multiplier = parametrization.residual_multiplier
        self.attention_gain = nn.Parameter(torch.ones(d))
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.conv = ShortConv(d, config.conv_taps)
        self.attention_out = nn.Linear(d, d, bias=False)
        self.mlp_gain = nn.Parameter(torch.ones(d))
        self.mlp_up = nn.Linear(d, config.mlp_ratio * d, bias=False)
        self.mlp_down = nn.Linear(config.mlp_ratio * d, d, bias=False)

    def init_weights(self, hidden_std: float) -> None:
        d = self.qkv.in_features
        nn.init.normal_(self.qkv.weight, std=hidden_std)
        with torch.no_grad():  # a key looks like a query, so equal tokens match before any training
            self.qkv.weight[d : 2 * d].copy_(self.qkv.weight[:d])
        nn.init.normal_(self.mlp_up.weight, std=hidden_std)
        nn.init.zeros_(self.attention_out.weight)  # every branch starts silent
        nn.init.zeros_(self.mlp_down.weight)

    def init_copying(self) -> None:
        """Let attention add a share of the attended token's own representation to the stream, at any depth alike."""
        d = self.qkv.in_features
        with torch.no_grad():
            gain = INITIAL_COPY_GAIN / self.residual_multiplier
            self.attention_out.weight.copy_(gain * self.qkv.weight[2 * d :].T)

    def project(self, x_BTD: Tensor) -> Tensor:
        """Queries, keys and values of the normed stream, before the short convolution."""
        return self.qkv(F.rms_norm(x_BTD, x_BTD.shape[-1:], self.attention_gain, NORM_EPS))

    def heads(self, qkv_BTC: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (normed and turned by their positions) and values, each (B, H, T, K), after the convolution."""
        batch, length, _ = qkv_BTC.shape
        qkv_BHTK = qkv_BTC.view(batch, length, 3 * self.num_heads, self.head_width).transpose(1, 2)
        qk_BHTK, v_BHTK = qkv_BHTK.split((2 * self.num_heads, self.num_heads), dim=1)
        qk_BHTK = F.rms_norm(qk_BHTK, (self.head_width,), eps=NORM_EPS)
        q_BHTK, k_BHTK = apply_rotary(qk_BHTK, cos_TK, sin_TK).chunk(2, dim=1)
        return q_BHTK, k_BHTK, v_BHTK

    def attend(self, q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
        """What each position takes from itself and those before it, heads side by side: (B, T, D)."""
        out_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True, scale=self.attention_scale)
        return out_BHTK.transpose(1, 2).flatten(2)

    def finish(self, x_BTD: Tensor, attended_BTD: Tensor) -> Tensor:
        """Add to the stream what was attended to, then the MLP's branch."""
        x_BTD = torch.add(x_BTD, self.attention_out(attended_BTD), alpha=self.residual_multiplier)
        normed = F.rms_norm(x_BTD, x_BTD.shape[-1:], self.mlp_gain, NORM_EPS)
        hidden = F.relu(self.mlp_up(normed)).square()
        return torch.add(x_BTD, self.mlp_down(hidden), alpha=self.residual_multiplier)

    def forward(self, x_BTD: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        q_BHTK, k_BHTK, v_BHTK = self.heads(self.conv(self.project(x_BTD)), cos_TK, sin_TK)
        return self.finish(x_BTD, self.attend(q_BHTK, k_BHTK, v_BHTK))


class Decoder(nn.Module):
    """Decoder-only transformer with tied embedding; ``forward`` maps tokens (B, T) to logits (B, T, V)."""

    def __init__(self, config: DecoderConfig, parametrization: Parametrization) -> None:
        super().__init__()
        self.config = config
        self.logit_multiplier = parametrization.logit_multiplier
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList([Block(config, parametrization) for _ in range(config.depth)])
        self.final_gain = nn.Parameter(torch.ones(config.width))
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        cos_TK, sin_TK = rotary_tables(config.context_length, config.head_width)
        self.register_buffer("cos_TK", cos_TK, persistent=False)
        self.register_buffer("sin_TK", sin_TK, persistent=False)
        nn.init.normal_(self.embedding.weight, std=parametrization.embedding_std)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.init_weights(parametrization.hidden_std)
        self.blocks[-1].init_copying()  # type: ignore[operator]

    def forward(self, tokens_BT: Tensor) -> Tensor:
        cos_TK, sin_TK = self.rotary(tokens_BT.shape[1])
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD, cos_TK, sin_TK)
        return self.head(x_BTD)

    def rotary(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the first ``length`` positions."""
        return self.cos_TK[:length], self.sin_TK[:length]  # type: ignore[index]

    def head(self, x_BTD: Tensor) -> Tensor:
        """Logits over the vocabulary of the stream after the last block."""
        x_BTD = F.rms_norm(x_BTD, x_BTD.shape[-1:], self.final_gain, NORM_EPS)
        return F.linear(x_BTD * (self.logit_scale * self.logit_multiplier), self.embedding.weight)


class NextTokenLoss(nn.Module):
    """Mean loss in nats of predicting targets (B, T) from inputs (B, T): what is trained, and compiled as one."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return F.cross_entropy(self.decoder(inputs_BT).flatten(0, 1), targets_BT.flatten())


def parameter_groups(model: Decoder) -> dict[str, list[nn.Parameter]]:
    """All parameters, split into the groups of ``Parametrization.learning_rate``."""
    groups: dict[str, list[nn.Parameter]] = {"embedding": [], "hidden": [], "vector": []}
    for name, parameter in model.named_parameters():
        if name == "embedding.weight":
            groups["embedding"].append(parameter)
        elif parameter.ndim == 2 and not name.endswith("conv.taps_JC"):
            groups["hidden"].append(parameter)
        else:
            groups["vector"].append(parameter)
    return groups
