"""Measures on losses that are known, and on a model that copies."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.config import DecoderConfig
from models.transformer import Decoder
from sweep.evaluate import copy_scores, split_by_repetition, summarise_losses, token_losses
from sweep.folder import read_json, write_json
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


def test_a_token_is_repeated_if_its_pair_stood_earlier_in_its_window() -> None:
    """Two windows by hand; each loss is a power of two, so a mean tells which tokens are in it.

    In the first, 1 2 comes again, then 2 1 (an overlapping pair) and 1 2 a third time; 1 3 is new, though both tokens
    are known. The second repeats pairs of the first, which is another window, and one of its own: 5 5.
    """
    tokens = np.array([[1, 2, 1, 2, 1, 3, 1, 2], [1, 2, 3, 1, 5, 5, 5, 9]])
    repeated = np.array([[0, 0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0]], dtype=bool)
    losses = np.exp2(np.arange(14.0)).reshape(2, 7)
    split = split_by_repetition(losses, tokens)
    assert split["repeated_fraction"] == 4 / 14
    assert split["loss_repeated_nats"] == losses[repeated].mean() == (4 + 8 + 64 + 4096) / 4
    assert split["loss_new_nats"] == losses[~repeated].mean()


def test_losses_of_repeated_and_new_tokens_weigh_up_to_the_whole() -> None:
    generator = np.random.default_rng(0)
    losses, tokens = generator.exponential(3, (20, 64)), generator.integers(0, 12, (20, 65))
    split = split_by_repetition(losses, tokens)
    share = split["repeated_fraction"]
    assert 0.1 < share < 0.9
    whole = share * split["loss_repeated_nats"] + (1 - share) * split["loss_new_nats"]
    assert whole == pytest.approx(losses.mean(), rel=1e-12)


def test_a_text_without_any_repetition_can_be_measured(tmp_path: Path) -> None:
    """A value that is missing is no number; eval.json is written all the same."""
    split = split_by_repetition(np.ones((2, 4)), np.arange(10).reshape(2, 5))
    assert (split["repeated_fraction"], split["loss_new_nats"]) == (0, 1)
    write_json(tmp_path / "eval.json", split)
    assert read_json(tmp_path / "eval.json")["loss_new_nats"] == 1


def test_token_losses_are_the_negative_log_probabilities_of_the_next_tokens() -> None:
    torch.manual_seed(0)
    config = DecoderConfig(16, 1, 1, 4, 3, vocab_size=50, context_length=12)
    model = Decoder(config, rules(config))
    tokens = torch.randint(0, 50, (2, 13))
    probabilities = model(tokens[:, :-1]).softmax(-1)
    by_hand = [[-math.log(probabilities[b, t, tokens[b, t + 1]].item()) for t in range(12)] for b in range(2)]
    assert token_losses(model, tokens).numpy() == pytest.approx(np.array(by_hand), rel=1e-5)
