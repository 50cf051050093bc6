"""Measures on losses that are known, and on a model that copies."""

import math

import numpy as np
import pytest
import torch

from models.config import DecoderConfig
from models.transformer import Decoder
from sweep.evaluate import copy_scores, summarise_losses, token_losses
from tests.tiny import rules


def test_a_uniform_model_loses_the_logarithm_of_the_vocabulary() -> None:
    losses = np.full((10, 8), math.log(256))
    summary = summarise_losses(losses, np.full((10, 8), 5), np.full(256, 2), bins=4)
    assert summary["loss_nats"] == pytest.approx(math.log(256))
    assert summary["loss_se_nats"] == pytest.approx(0)
    assert summary["bits_per_byte"] == pytest.approx(4)  # eight bits for two bytes
    assert summary["loss_by_position_nats"] == pytest.approx([math.log(256)] * 4)


def test_the_standard_error_is_that_of_windows_not_of_tokens() -> None:
    """Tokens that all share their window's loss carry no more information than the window."""
    generator = np.random.default_rng(0)
    per_window = generator.normal(3, 0.5, 400)
    summary = summarise_losses(np.repeat(per_window[:, None], 50, axis=1), np.ones((400, 50), int), np.ones(4, int), 5)
    assert summary["loss_se_nats"] == pytest.approx(0.5 / 20, rel=0.15)


def test_loss_by_position_goes_from_the_first_to_the_last() -> None:
    losses = np.tile(np.arange(8.0), (3, 1))
    assert summarise_losses(losses, np.ones((3, 8), int), np.ones(4, int), 4)["loss_by_position_nats"] == [
        *(0.5, 2.5, 4.5, 6.5)
    ]


def test_copy_scores_take_each_showing_and_neither_the_seam() -> None:
    """Five tokens twice: nine losses; four of the first showing, the seam's, four of the second."""
    losses = np.array([[7.0, 7.0, 7.0, 7.0, 100.0, 2.0, 2.0, 2.0, 2.0]])
    scores = copy_scores(losses, copy_length=5)
    assert scores == {"copy_first_nats": 7.0, "copy_second_nats": 2.0, "copy_score_nats": 5.0}


def test_token_losses_are_the_negative_log_probabilities_of_the_next_tokens() -> None:
    torch.manual_seed(0)
    config = DecoderConfig(16, 1, 1, 4, 3, vocab_size=50, context_length=12)
    model = Decoder(config, rules(config))
    tokens = torch.randint(0, 50, (2, 13))
    probabilities = model(tokens[:, :-1]).softmax(-1)
    by_hand = [[-math.log(probabilities[b, t, tokens[b, t + 1]].item()) for t in range(12)] for b in range(2)]
    assert token_losses(model, tokens).numpy() == pytest.approx(np.array(by_hand), rel=1e-5)
