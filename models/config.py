"""Shape of a decoder, its exact parameter and FLOP counts, and the memory that training takes (no torch in here).

Conventions, used everywhere in this project:

* A multiply-accumulate is two FLOPs; a backward pass costs twice its forward pass, so training
  costs three forward passes per token.
* Every matrix product counts, the output head included; an embedding look-up costs nothing.
* Attention is counted as it is needed, causally: position ``t`` attends to ``t + 1`` positions.
  (FLOP counters that only see tensor shapes count the full square, about twice as much.)
* The short convolution counts one multiply-accumulate per tap and channel. Norms, rotary
  angles, activations and the softmax are left out, as is usual.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderConfig:
    """Everything that fixes the shape of one decoder-only transformer."""

    width: int
    depth: int
    num_heads: int
    mlp_ratio: int
    conv_taps: int
    vocab_size: int
    context_length: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.conv_taps < 2:
            raise ValueError(f"conv_taps is {self.conv_taps}; shifting keys by one needs at least 2")
        if self.width % (2 * self.num_heads) or self.width < 4 * self.num_heads:
            raise ValueError(
                f"width {self.width} does not split into {self.num_heads} heads of an even number of channels, 4 or"
                " more (rotary turns pairs of them); choose another width or number of heads"
            )

    @property
    def head_width(self) -> int:
        return self.width // self.num_heads


def count_params(config: DecoderConfig) -> dict[str, int]:
    """Trainable parameters by part; ``total`` is their sum, ``non_embedding`` all but the tied embedding."""
    d, layers = config.width, config.depth
    parts = {
        "embedding": config.vocab_size * d,
        "attention": layers * 4 * d * d,
        "mlp": layers * 2 * config.mlp_ratio * d * d,
        "conv": layers * config.conv_taps * 3 * d,
        "gains": (2 * layers + 1) * d + 1,  # two norms a block, the last norm, the logit scale
    }
    total = sum(parts.values())
    return {**parts, "non_embedding": total - parts["embedding"], "total": total}


def forward_flops_per_token(config: DecoderConfig, causal: bool = True) -> dict[str, float]:
    """Forward FLOPs per token by part, averaged over the positions of a full context.

    ``causal=False`` counts the full attention square, for comparison with counters that do so.
    """
    d, layers, context = config.width, config.depth, config.context_length
    attended_positions = (context + 1) / 2 if causal else context
    return {
        "attention_projections": 2 * layers * 4 * d * d,
        "attention_scores": 2 * layers * 2 * d * attended_positions,
        "mlp": 2 * layers * 2 * config.mlp_ratio * d * d,
        "conv": 2 * layers * config.conv_taps * 3 * d,
        "head": 2 * d * config.vocab_size,
    }


def train_flops_per_token(config: DecoderConfig) -> float:
    """FLOPs to train on one token: a forward pass and a backward pass of twice its cost."""
    return 3 * sum(forward_flops_per_token(config).values())


def flops_6nd(config: DecoderConfig, num_tokens: int) -> float:
    """The usual estimate ``6 N D`` with non-embedding N (Kaplan et al. 2020), shown beside the exact count."""
    return 6.0 * count_params(config)["non_embedding"] * num_tokens


def training_bytes(config: DecoderConfig, rows: int) -> int:
    """Memory that training takes with ``rows`` in a pass: an estimate from above, in float32 whatever the precision.

    A parameter has a gradient and two moments beside it. Kept for the backward pass are, per token and block, some
    twenty values a channel (norms, queries, keys, values and what the convolution and attention make of them) and two
    a channel of the MLP; over the vocabulary log-probabilities, and for a moment logits and their gradient.
    """
    channels = config.depth * (22 + 2 * config.mlp_ratio) * config.width + 4 * config.width
    values_per_token = channels + 3 * config.vocab_size
    return 4 * (4 * count_params(config)["total"] + rows * config.context_length * values_per_token)
