"""Initialisation, multipliers and learning rates as functions of width and depth (no torch in here).

Width follows muP for Adam (Yang et al. 2022, "Tensor Programs V", table 8): matrices from width
to width are drawn with variance 1/width and learn at a rate proportional to 1/width; the
embedding learns at a rate free of width; the logits are multiplied by base_width/width.
Depth follows CompleteP (Dey et al. 2025, alpha = 1): each residual branch is multiplied by
base_depth/depth, which leaves the learning rates of the hidden matrices free of depth. Adam's
epsilon follows the gradients' size.

The numbers are rules of the recipe: at base width and base depth every width or depth factor
is one, and a learning rate tuned there holds at the other sizes.
"""

from dataclasses import dataclass

from models.config import DecoderConfig


@dataclass(frozen=True)
class Parametrization:
    """The values that a decoder of one shape is built and trained with.

    ``learning_rate`` and ``adam_eps`` are keyed by parameter group: ``embedding`` (tied with the
    head), ``hidden`` (matrices from width to width) and ``vector`` (gains, conv taps, logit scale).
    """

    embedding_std: float
    hidden_std: float
    residual_multiplier: float
    logit_multiplier: float
    attention_scale: float
    learning_rate: dict[str, float]
    adam_eps: dict[str, float]


def parametrize(
    config: DecoderConfig, *, learning_rate: float, adam_eps: float, base_width: int, base_depth: int
) -> Parametrization:
    """The recipe's values at one shape, from the two constants tuned at the base shape."""
    width_ratio = config.width / base_width
    depth_ratio = config.depth / base_depth
    return Parametrization(
        embedding_std=0.5,
        hidden_std=config.width**-0.5,
        residual_multiplier=1.0 / depth_ratio,
        logit_multiplier=1.0 / width_ratio,
        # After QK-norm scores are cosines times the head width; 2.5 sharpens them enough for
        # a shifted key to stand out at initialisation.
        attention_scale=2.5 * config.head_width**-0.5,
        learning_rate={
            "embedding": 4.0 * learning_rate,
            "hidden": learning_rate / width_ratio,
            "vector": learning_rate,
        },
        adam_eps={
            "embedding": adam_eps / width_ratio,
            "hidden": adam_eps / (width_ratio * depth_ratio),
            "vector": adam_eps / depth_ratio,
        },
    )
