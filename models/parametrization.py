"""Initialisation, multipliers, learning rates and weight decay as functions of width and depth (no torch in here).

Width follows muP for Adam (Yang et al. 2022, "Tensor Programs V", table 8): matrices from width
to width are drawn with variance 1/width and learn at a rate proportional to 1/width; the
embedding learns at a rate free of width; the logits are multiplied by base_width/width.
Depth follows CompleteP (Dey et al. 2025, alpha = 1): each residual branch is multiplied by
base_depth/depth, which leaves the learning rates of the hidden matrices free of depth. Adam's
epsilon follows the gradients' size. Muon's update is orthogonal (Jordan et al. 2024), of a size that its
matrix' shape sets by itself, so its rate is free of width too (Bernstein & Newhouse 2024).

Weight decay is given per step at the peak rate and divided by each group's rate: a weight forgets the
same share of itself per step at every width (Wang & Aitchison 2024; CompleteP has the same rule).

The numbers are rules of the recipe: at base width and base depth every width or depth factor
is one, and a learning rate tuned there holds at the other sizes.
"""

from dataclasses import dataclass
from typing import Literal

from models.config import DecoderConfig

Optimizer = Literal["adamw", "muon"]


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
    weight_decay: dict[str, float]


def parametrize(
    config: DecoderConfig,
    *,
    optimizer: Optimizer,
    learning_rate: float,
    hidden_learning_rate: float,
    adam_eps: float,
    weight_decay_per_step: float,
    base_width: int,
    base_depth: int,
) -> Parametrization:
    """The recipe's values at one shape, from constants tuned at the base shape.

    ``weight_decay_per_step`` is the share of a matrix that decay takes in a step at the peak rate.
    """
    width_ratio = config.width / base_width
    depth_ratio = config.depth / base_depth
    rates = {
        "embedding": 4.0 * learning_rate,
        "hidden": hidden_learning_rate / width_ratio if optimizer == "adamw" else hidden_learning_rate,
        "vector": learning_rate,
    }
    return Parametrization(
        embedding_std=0.25,
        hidden_std=config.width**-0.5,
        residual_multiplier=1.0 / depth_ratio,
        logit_multiplier=1.0 / width_ratio,
        # After QK-norm scores are cosines times the head width; 2.5 sharpens them enough for
        # a shifted key to stand out at initialisation.
        attention_scale=2.5 * config.head_width**-0.5,
        learning_rate=rates,
        adam_eps={
            "embedding": adam_eps / width_ratio,
            "hidden": adam_eps / (width_ratio * depth_ratio),
            "vector": adam_eps / depth_ratio,
        },
        weight_decay={
            "embedding": weight_decay_per_step / rates["embedding"],
            "hidden": weight_decay_per_step / rates["hidden"],
            "vector": 0.0,
        },
    )
