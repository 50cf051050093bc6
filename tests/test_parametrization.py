"""The width and depth rules: a table of values, and a coordinate check on real steps."""

import pytest
import torch
import torch.nn.functional as F

from models.config import DecoderConfig
from models.transformer import Decoder, parameter_groups
from tests.tiny import rules


def config_of(width: int, depth: int = 3) -> DecoderConfig:
    return DecoderConfig(width, depth, max(1, width // 32), 4, 3, vocab_size=256, context_length=32)


@pytest.mark.parametrize(
    ("width", "depth", "hidden_rate", "logits", "residual"),
    [
        (64, 3, 0.01, 1.0, 1.0),  # the base shape: no factor anywhere
        (128, 3, 0.005, 0.5, 1.0),  # twice the width halves the hidden rate and the logits
        (32, 3, 0.02, 2.0, 1.0),
        (64, 6, 0.01, 1.0, 0.5),  # twice the depth halves the branches and leaves the rates
    ],
)
def test_rules_as_a_table(width: int, depth: int, hidden_rate: float, logits: float, residual: float) -> None:
    values = rules(config_of(width, depth))
    assert values.learning_rate == {"embedding": 0.04, "hidden": hidden_rate, "vector": 0.01}
    assert values.logit_multiplier == logits
    assert values.residual_multiplier == residual
    assert values.hidden_std == width**-0.5


def stream_change(width: int, depth: int, base_width: int, base_depth: int) -> float:
    """Root mean square change of the residual stream at the last norm, over a few Adam steps on one batch."""
    torch.manual_seed(0)
    config = config_of(width, depth)
    values = rules(
        config, learning_rate=0.002, hidden_learning_rate=0.002, base_width=base_width, base_depth=base_depth
    )
    model = Decoder(config, values)
    stream: list[torch.Tensor] = []
    model.blocks[-1].register_forward_hook(lambda module, inputs, output: stream.append(output.detach()))
    groups = [{"params": p, "lr": values.learning_rate[name]} for name, p in parameter_groups(model).items()]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    tokens_BT = (7 * torch.arange(33)[None] + torch.arange(8)[:, None]) % 256
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(tokens_BT[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten()).backward()
        optimizer.step()
    model(tokens_BT[:, :-1])
    return float((stream[-1] - stream[0]).square().mean().sqrt())


def test_updates_keep_their_size_over_width_and_depth() -> None:
    """Eight times the width or five times the depth moves the residual stream alike within a factor of two.

    With the rules switched off (each shape its own base) the same steps move the wider model over twice as far.
    """
    small = stream_change(32, 3, base_width=64, base_depth=3)
    assert 0.5 < stream_change(256, 3, base_width=64, base_depth=3) / small < 2
    assert 0.5 < stream_change(32, 15, base_width=64, base_depth=3) / small < 2
    assert stream_change(256, 3, base_width=256, base_depth=3) / stream_change(32, 3, base_width=32, base_depth=3) > 2
    assert stream_change(32, 15, base_width=32, base_depth=15) / stream_change(32, 3, base_width=32, base_depth=3) > 2
