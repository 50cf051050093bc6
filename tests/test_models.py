"""The decoder: counts against torch's own, causality, and copying from the first step on."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.config import DecoderConfig, count_params, forward_flops_per_token, train_flops_per_token
from models.transformer import Decoder, parameter_groups
from tests.tiny import rules

SHAPES = [(18, 2, 1), (16, 3, 1), (48, 2, 1), (64, 4, 2), (96, 5, 3)]


def config_of(width: int, depth: int, heads: int, vocab_size: int = 300, context: int = 64) -> DecoderConfig:
    return DecoderConfig(width, depth, heads, mlp_ratio=4, conv_taps=3, vocab_size=vocab_size, context_length=context)


def decoder(config: DecoderConfig, seed: int = 0) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(config, rules(config))


@pytest.mark.parametrize(("width", "depth", "heads"), SHAPES)
def test_counted_parameters_are_the_models(width: int, depth: int, heads: int) -> None:
    config = config_of(width, depth, heads)
    with torch.device("meta"):
        model = decoder(config)
    assert count_params(config)["total"] == sum(p.numel() for p in model.parameters())
    assert count_params(config)["embedding"] == model.embedding.weight.numel()
    assert count_params(config)["conv"] == sum(b.conv.taps_JC.numel() for b in model.blocks)  # type: ignore[union-attr, operator, misc]


@pytest.mark.parametrize(("width", "depth", "heads"), SHAPES)
def test_counted_flops_are_those_of_torchs_counter(width: int, depth: int, heads: int) -> None:
    """The counter sees matrix products and the full attention square, and no elementwise convolution."""
    config, batch = config_of(width, depth, heads), 2
    with torch.device("meta"):
        model = decoder(config)
        tokens_BT = torch.zeros(batch, config.context_length, dtype=torch.long)
    with FlopCounterMode(display=False) as forward:
        logits_BTV = model(tokens_BT)
    parts = forward_flops_per_token(config, causal=False)
    num_tokens = batch * config.context_length
    assert forward.get_total_flops() == num_tokens * (sum(parts.values()) - parts["conv"])
    with FlopCounterMode(display=False) as both:
        logits_BTV = model(tokens_BT)
        logits_BTV.sum().backward()
    assert both.get_total_flops() == num_tokens * 3 * (sum(parts.values()) - parts["conv"])


def test_counted_convolution_is_that_of_a_depthwise_conv1d() -> None:
    config = config_of(32, 1, 1)
    x_BCT = torch.zeros(1, 3 * config.width, config.context_length + config.conv_taps - 1, device="meta")
    weight = torch.zeros(3 * config.width, 1, config.conv_taps, device="meta")
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.conv1d(x_BCT, weight, groups=3 * config.width)
    assert counter.get_total_flops() == config.context_length * forward_flops_per_token(config)["conv"]


def test_causal_attention_costs_the_lower_triangle() -> None:
    config = config_of(32, 1, 1, context=10)
    square = forward_flops_per_token(config, causal=False)["attention_scores"] * 10
    assert forward_flops_per_token(config)["attention_scores"] * 10 == square * 55 / 100
    assert train_flops_per_token(config) == 3 * sum(forward_flops_per_token(config).values())


def test_no_position_sees_a_later_token() -> None:
    model = decoder(config_of(32, 2, 1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # silent branches would hide a leak
            parameter.add_(torch.randn_like(parameter) * 0.1)
        tokens_BT = torch.randint(0, 300, (1, 40))
        changed_BT = tokens_BT.clone()
        changed_BT[0, 25:] = (changed_BT[0, 25:] + 1) % 300
        before, after = model(tokens_BT), model(changed_BT)
    assert torch.equal(before[:, :25], after[:, :25])
    assert not torch.equal(before[:, 25:], after[:, 25:])


def test_a_query_matches_the_token_after_its_own_earlier_showing() -> None:
    """At initialisation, in every head, attention from a repeated token goes to what followed it before."""
    model = decoder(config_of(64, 1, 2, context=32))
    block = model.blocks[0]
    length, repeat = 16, 8
    tokens_BT = torch.randperm(300)[:length].repeat(1, 2)
    x_BTD = model.embedding(tokens_BT)
    normed = torch.nn.functional.rms_norm(x_BTD, x_BTD.shape[-1:])
    q, k, _ = block.conv(block.qkv(normed)).chunk(3, dim=-1)  # type: ignore[operator]
    heads = [(part.view(2 * length, 2, 32).transpose(0, 1)) for part in (q, k)]
    scores_HTT = torch.nn.functional.cosine_similarity(heads[0][:, :, None], heads[1][:, None], dim=-1)
    now = length + repeat
    best_H = scores_HTT[:, now, :now].argmax(-1)
    assert best_H.tolist() == [repeat + 1, repeat + 1]


def test_every_parameter_has_a_group_and_learns() -> None:
    model = decoder(config_of(32, 2, 1))
    groups = parameter_groups(model)
    assert {id(p) for group in groups.values() for p in group} == {id(p) for p in model.parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model(torch.randint(0, 300, (2, 64))).logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("bad", [{"width": 31}, {"conv_taps": 1}, {"depth": 0}])
def test_an_impossible_shape_is_refused_by_name(bad: dict[str, int]) -> None:
    good = {"width": 32, "depth": 2, "num_heads": 1, "mlp_ratio": 4, "conv_taps": 3}
    with pytest.raises(ValueError, match=next(iter(bad))):
        DecoderConfig(**{**good, **bad}, vocab_size=100, context_length=16)
