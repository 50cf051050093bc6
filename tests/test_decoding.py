"""One token at a time gives the logits of the whole sequence at once, whatever is shared, masked or dropped."""

import pytest
import torch

from models.config import DecoderConfig
from models.decoding import Decoding, FoldedDecoder, read_prompt
from models.transformer import Decoder
from tests.tiny import rules

VOCABULARY, CONTEXT = 97, 40


def decoder(width: int, heads: int, depth: int = 2, taps: int = 3, dtype: torch.dtype = torch.float32) -> Decoder:
    """Random weights everywhere, so that no branch is silent and no tap is zero."""
    torch.manual_seed(0)
    config = DecoderConfig(width, depth, heads, 4, taps, VOCABULARY, CONTEXT)
    model = Decoder(config, rules(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.to(dtype).eval()


def largest_difference(model: Decoder, prompts: list[int], rows: int, steps: int) -> float:
    """Between decoding and the full forward pass, over all rows and positions, relative to the largest logit."""
    tokens = [torch.randint(0, VOCABULARY, (length,)) for length in prompts]
    after_BL = torch.randint(0, VOCABULARY, (len(prompts) * rows, steps))
    decoding = Decoding(FoldedDecoder(model), [read_prompt(model, prompt) for prompt in tokens], rows)
    logits_LBV = [decoding.logits_BV, *(decoding.step(after_BL[:, step]) for step in range(steps))]
    worst = 0.0
    for row, after in enumerate(after_BL):
        prompt = tokens[row // rows]
        with torch.no_grad():
            full_TV = model(torch.cat((prompt, after))[None])[0, len(prompt) - 1 :]
        difference = (torch.stack([logits[row] for logits in logits_LBV]) - full_TV).abs().max() / full_TV.abs().max()
        worst = max(worst, difference.item())
    return worst


@pytest.mark.parametrize(("width", "heads", "taps"), [(16, 1, 3), (24, 1, 2), (32, 2, 4), (96, 3, 3)])
def test_decoding_gives_the_logits_of_the_full_pass(width: int, heads: int, taps: int) -> None:
    assert largest_difference(decoder(width, heads, taps=taps), [7, 20, 12], rows=3, steps=CONTEXT - 20) < 1e-5


@pytest.mark.parametrize("prompts", [[1], [1, 2, 9], [39], [20, 20]])
def test_in_float64_nothing_but_rounding_is_left(prompts: list[int]) -> None:
    """Prompts shorter than the convolution looks back, one that leaves room for a single token, equal ones."""
    model = decoder(32, 2, dtype=torch.float64)
    assert largest_difference(model, prompts, rows=2, steps=CONTEXT - max(prompts)) < 1e-12


def test_rows_can_be_dropped_and_the_others_go_on() -> None:
    """Of three prompts with four rows: one loses all, one keeps two, one keeps one (and a filler)."""
    model = decoder(32, 2, dtype=torch.float64)
    tokens = [torch.randint(0, VOCABULARY, (length,)) for length in (5, 9, 3)]
    after_BL = torch.randint(0, VOCABULARY, (12, 20))
    wanted_B = torch.zeros(12, dtype=torch.bool)
    wanted_B[[0, 3, 10]] = True
    decoding = Decoding(FoldedDecoder(model), [read_prompt(model, prompt) for prompt in tokens], 4)
    for step in range(8):
        decoding.step(after_BL[:, step])
    rows = decoding.keep(wanted_B)
    assert rows.tolist() == [0, 3, 10, 8]
    for step in range(8, 20):
        logits_BV = decoding.step(after_BL[rows, step])
    for row, logits_V in zip(rows.tolist(), logits_BV, strict=True):
        with torch.no_grad():
            full_V = model(torch.cat((tokens[row // 4], after_BL[row]))[None])[0, -1]
        assert torch.allclose(logits_V, full_V, rtol=0, atol=1e-10)


def test_a_row_at_the_end_of_its_context_does_not_disturb_the_others() -> None:
    model = decoder(16, 1, dtype=torch.float64)
    tokens = [torch.randint(0, VOCABULARY, (length,)) for length in (CONTEXT, 10)]
    after_BL = torch.randint(0, VOCABULARY, (2, CONTEXT - 10))
    decoding = Decoding(FoldedDecoder(model), [read_prompt(model, prompt) for prompt in tokens], 1)
    for step in range(CONTEXT - 10):
        logits_BV = decoding.step(after_BL[:, step])
    with torch.no_grad():
        full_V = model(torch.cat((tokens[1], after_BL[1]))[None])[0, -1]
    assert torch.allclose(logits_BV[1], full_V, rtol=0, atol=1e-10)
