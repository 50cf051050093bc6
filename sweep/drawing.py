"""Draw completions from a trained decoder, many rows at a time; sample i of a problem is the same however it is drawn.

A sample is defined by the model's weights, the prompt, the temperature, the seed, the problem's name and the sample's
number, and by nothing else: at each position the token of the highest ratio of probability to an exponential random
number (the exponential race, as good as Gumbel noise), where the random numbers are a hash of seed, name, number and
position and the probabilities are those in float64. They are computed in float32, whose rounding depends on how many
rows are computed together; a race too close for it to decide is run again in float64, once in thousands of tokens.

The race has two heats, for a group of tokens and for a token of it, since one random number a token would cost more
than the model. Rows of several problems go on side by side; rows that have ended are dropped as soon as enough have.

Shape suffixes: B rows, T positions, V vocabulary, G groups, M members of a group, U random numbers of one race.
"""

import copy
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.decoding import Decoding, FoldedDecoder, read_prompt
from models.transformer import Decoder
from sweep.completions import WITHIN_LINE, StopTable

_ROWS = 512  # side by side; twice as many gain nothing
_GROUP_MEMBERS = 32
_MIN_DROPPED = 0.2  # of the rows, for dropping them to be worth the copying
_DOUBT = 16  # times the largest rounding error seen
_RACE_ROUNDING = 1e-6  # of the race itself, in float32
_GOLDEN_GAMMA, _MIX_1, _MIX_2 = (
    np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@dataclass(frozen=True)
class Request:
    """Samples to draw of one problem: its prompt's tokens and the samples' numbers."""

    task_id: str
    prompt_tokens: list[int]
    numbers: list[int]


class Drawer:
    """Draws from one model; ``temperature`` above zero, at most ``max_new_tokens`` tokens a sample.

    Raises:
        ValueError: the model's logits are not finite.
    """

    def __init__(self, model: Decoder, stops: StopTable, *, temperature: float, max_new_tokens: int, seed: int) -> None:
        self._model, self._folded, self._exact = model, FoldedDecoder(model), copy.deepcopy(model).double()
        self._stops, self._temperature, self._seed = stops, temperature, seed
        self._max_new_tokens = max_new_tokens
        self.rounding_nats = _rounding_error(model, self._exact)
        self.doubt = 1 - math.exp(-2 * _DOUBT * (self.rounding_nats / temperature + _RACE_ROUNDING))
        self.num_races, self.num_doubtful = 0, 0

    @torch.inference_mode()
    def draw(self, requests: Sequence[Request]) -> list[dict[int, list[int]]]:
        """The tokens of every sample, the one that ended it included, by number; one dictionary for each request.

        A prompt must leave room for at least one token in the model's context.
        """
        drawn: list[dict[int, list[int]]] = [{} for _ in requests]
        for wave in _waves(requests):
            parts = [Request(requests[i].task_id, requests[i].prompt_tokens, numbers) for i, numbers in wave]
            for (index, _), samples in zip(wave, self._draw_side_by_side(parts), strict=True):
                drawn[index] |= samples
        return drawn

    def _draw_side_by_side(self, parts: list[Request]) -> list[dict[int, list[int]]]:
        wave = _Wave(parts, self._max_new_tokens, self._model.config.context_length)
        prompts = [read_prompt(self._model, torch.tensor(part.prompt_tokens)) for part in parts]
        decoding = Decoding(self._folded, prompts, wave.rows_per_part)
        keys_B = np.zeros(len(wave.row_B), dtype=np.uint64)
        for part, first in zip(parts, wave.first_rows, strict=True):
            keys = [sample_key(self._seed, part.task_id, number) for number in part.numbers]
            keys_B[first : first + len(keys)] = keys
        while True:
            noise_BU = exponentials(keys_B[wave.row_B], wave.step, self._race_numbers)
            tokens_B, close_B = race(decoding.logits_BV, noise_BU, self._temperature, self.doubt)
            for index in np.flatnonzero(close_B.numpy() & wave.going_B).tolist():
                tokens_B[index] = self._photo_finish(wave.text(index), noise_BU[index])
            self.num_races += int(wave.going_B.sum())
            wave.append(tokens_B.numpy(), self._stops)
            if not wave.going_B.any():
                return wave.samples()
            if wave.worth_dropping(decoding.rows_per_prompt):
                kept_B = decoding.keep(torch.from_numpy(wave.going_B))
                wave.drop_but(kept_B.numpy())
                tokens_B = tokens_B[kept_B]
            decoding.step(tokens_B)

    @property
    def _race_numbers(self) -> int:
        return math.ceil(self._model.config.vocab_size / _GROUP_MEMBERS) + _GROUP_MEMBERS

    @torch.inference_mode()
    def _photo_finish(self, tokens: list[int], noise_U: Tensor) -> int:
        """The winner in float64."""
        self.num_doubtful += 1
        logits_V = read_prompt(self._exact, torch.tensor(tokens)).logits
        winner, _ = race(logits_V[None], noise_U[None].double(), self._temperature, 0.0)
        return int(winner)


class _Wave:
    """What rows that are drawn side by side have written. Its arrays over B follow the rows that are still decoded."""

    def __init__(self, parts: list[Request], max_new_tokens: int, context_length: int) -> None:
        self._parts = parts
        self.rows_per_part = max(len(part.numbers) for part in parts)
        self.first_rows = [index * self.rows_per_part for index in range(len(parts))]
        # The last token needs no place in the context: nothing is predicted from it.
        rooms = [min(max_new_tokens, context_length - len(part.prompt_tokens) + 1) for part in parts]
        self._room_B = np.repeat(rooms, self.rows_per_part)
        self._counts = np.array([len(part.numbers) for part in parts])
        self.row_B = np.arange(len(self._room_B))
        self.going_B = self.row_B % self.rows_per_part < np.repeat(self._counts, self.rows_per_part)
        self._state_B = np.full(len(self.row_B), WITHIN_LINE, dtype=np.int8)
        self._written_BT = np.zeros((len(self.row_B), max(rooms)), dtype=np.int64)  # of all rows, as are the lengths
        self._length_B = np.zeros(len(self.row_B), dtype=np.int64)
        self.step = 0

    def text(self, index: int) -> list[int]:
        """Prompt and what a row has written."""
        row = self.row_B[index]
        return [*self._parts[row // self.rows_per_part].prompt_tokens, *self._written_BT[row, : self.step].tolist()]

    def append(self, tokens_B: NDArray[np.int64], stops: StopTable) -> None:
        self._written_BT[self.row_B, self.step] = tokens_B  # rows that have ended too: their length says what counts
        self.step += 1
        self._length_B[self.row_B[self.going_B]] = self.step
        self.going_B &= ~stops.ends[tokens_B, self._state_B] & (self._room_B > self.step)
        self._state_B = stops.next_state[tokens_B, self._state_B]

    def worth_dropping(self, rows_per_prompt: int) -> bool:
        """Whether clearly fewer rows would be left without those that have ended."""
        going_S = self.going_B.reshape(-1, rows_per_prompt).sum(1)
        left = np.count_nonzero(going_S) * going_S.max()
        return bool(left <= (1 - _MIN_DROPPED) * len(self.going_B))

    def drop_but(self, kept_B: NDArray[np.int64]) -> None:
        self.row_B, self.going_B = self.row_B[kept_B], self.going_B[kept_B]
        self._state_B, self._room_B = self._state_B[kept_B], self._room_B[kept_B]

    def samples(self) -> list[dict[int, list[int]]]:
        return [
            {
                number: self._written_BT[row, : self._length_B[row]].tolist()
                for row, number in enumerate(part.numbers, start=first)
            }
            for part, first in zip(self._parts, self.first_rows, strict=True)
        ]


def _waves(requests: Sequence[Request]) -> Iterator[list[tuple[int, list[int]]]]:
    """Index of the request and some of its numbers, for each wave; of like counts, for few gaps."""
    pieces = [
        (index, request.numbers[start : start + _ROWS])
        for index, request in enumerate(requests)
        for start in range(0, len(request.numbers), _ROWS)
    ]
    pieces.sort(key=lambda piece: -len(piece[1]))
    while pieces:
        side_by_side = max(1, _ROWS // len(pieces[0][1]))
        yield pieces[:side_by_side]
        pieces = pieces[side_by_side:]


@torch.inference_mode()
def _rounding_error(model: Decoder, exact: Decoder) -> float:
    """The largest difference of a logit between float32 and float64, over one context of arbitrary tokens."""
    config = model.config
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, config.context_length))
    tokens_BT = torch.from_numpy(tokens)
    error = (model(tokens_BT).double() - exact(tokens_BT)).abs().max().item()
    if not math.isfinite(error):
        raise ValueError("the model's logits are not finite")
    return error


# ---- the race ---------------------------------------------------------------------------------


def race(logits_BV: Tensor, noise_BU: Tensor, temperature: float, doubt: float) -> tuple[Tensor, Tensor]:
    """Tokens (B,) drawn from softmax(logits / temperature), and which of them (B,) were close calls.

    ``noise_BU`` are independent exponential random numbers, one for each group and then one for each member of a
    group. The winner of weights w and exponentials e is the highest w / e: each wins in proportion to its weight. A
    call is close where in either heat the second's ratio is more than 1 - ``doubt`` of the winner's.
    """
    scale = math.log2(math.e) / temperature
    highest_B1 = logits_BV.amax(1, keepdim=True)
    weights_BV = torch.add(highest_B1 * -scale, logits_BV, alpha=scale).exp2_()
    num_groups = noise_BU.shape[1] - _GROUP_MEMBERS
    missing = num_groups * _GROUP_MEMBERS - weights_BV.shape[1]
    if missing:
        weights_BV = torch.nn.functional.pad(weights_BV, (0, missing))
    weights_BMG = weights_BV.view(-1, _GROUP_MEMBERS, num_groups)
    group_B, close_group_B = _heat(weights_BMG.sum(1) / noise_BU[:, :num_groups], doubt)
    weights_BM = weights_BMG[torch.arange(len(group_B)), :, group_B]
    member_B, close_member_B = _heat(weights_BM / noise_BU[:, num_groups:], doubt)
    return member_B * num_groups + group_B, close_group_B | close_member_B


def _heat(ratios: Tensor, doubt: float) -> tuple[Tensor, Tensor]:
    # Several times as fast as topk(2).
    best_B1, index_B1 = ratios.max(1, keepdim=True)
    second_B = ratios.scatter(1, index_B1, 0).amax(1)
    return index_B1[:, 0], second_B > best_B1[:, 0] * (1 - doubt)


def sample_key(seed: int, task_id: str, number: int) -> int:
    """64 bits that belong to one sample."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}/{task_id}".encode()).digest()[:8], "little")


def exponentials(key_B: NDArray[np.uint64], position: int, count: int) -> Tensor:
    """Exponential random numbers (B, ``count``) of unit mean for one position of samples with these keys, float32.

    Counter-based: output number ``position * count + u`` of SplitMix64 (Steele et al. 2014) started at the key.
    """
    counter_U = np.arange(position * count + 1, (position + 1) * count + 1, dtype=np.uint64) * _GOLDEN_GAMMA
    bits_BU = key_B[:, None] + counter_U
    bits_BU ^= bits_BU >> np.uint64(30)
    bits_BU *= _MIX_1
    bits_BU ^= bits_BU >> np.uint64(27)
    bits_BU *= _MIX_2
    bits_BU ^= bits_BU >> np.uint64(31)
    # 40 bits as a fraction above 0; near 0, where the winners are, float32 keeps them all.
    uniform_BU = torch.from_numpy((bits_BU >> np.uint64(24)).astype(np.float32))
    return uniform_BU.mul_(-(2.0**-40)).sub_(2.0**-41).log1p_().neg_()
