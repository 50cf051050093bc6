"""The order of the sources: exact shares at every step, whatever the weights."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from sweep.mixture import Mixture, num_windows, parts_in_turn, windows_of_parts


def random_weights(random: np.random.Generator) -> list[Fraction]:
    num_parts = int(random.integers(2, 8))
    whole = int(random.integers(num_parts, 400))
    cuts = np.sort(random.choice(np.arange(1, whole), num_parts - 1, replace=False))
    return [Fraction(int(size), whole) for size in np.diff(np.concatenate([[0], cuts, [whole]]))]


def test_every_part_has_had_its_share_after_every_step() -> None:
    """Tijdeman's bound, 1 - 1/(2n - 2), in whole numbers; one and a half periods of 200 mixtures."""
    random = np.random.default_rng(0)
    for _ in range(200):
        weights = random_weights(random)
        whole = max(weight.denominator for weight in weights)
        turns = parts_in_turn(weights, count := whole * 3 // 2)
        bound = 1 - Fraction(1, 2 * len(weights) - 2)
        for part, weight in enumerate(weights):
            had = np.cumsum(turns == part)
            gaps = np.abs(had * weight.denominator - np.arange(1, count + 1) * weight.numerator)
            assert Fraction(int(gaps.max()), weight.denominator) <= bound


def test_a_shorter_run_sees_the_beginning_of_a_longer_one() -> None:
    mixture = Mixture.of([500, 300, 90], [Fraction(6, 10), Fraction(3, 10), Fraction(1, 10)])
    assert mixture.longest == 833  # 500 / 0.6
    assert mixture.scarcest == 0
    order = mixture.order(7, 833)
    assert np.array_equal(mixture.order(7, 200), order[:200])
    assert len(set(order.tolist())) == 833
    assert not np.array_equal(order, mixture.order(8, 833))


def merged_by_times(counts: tuple[int, int], seed: int) -> NDArray[np.int64]:
    """Another road for two parts: window i of n at time (i + 1/2) / n, sorted by time, the first part at a tie."""
    generator = np.random.default_rng(seed)
    parts = [generator.permutation(count) for count in counts]
    times = [
        ((Fraction(2 * i + 1, 2 * len(part)), index), start + int(window))
        for index, (part, start) in enumerate(zip(parts, (0, counts[0]), strict=True))
        for i, window in enumerate(part)
    ]
    return np.array([window for _, window in sorted(times)])


def test_two_parts_without_weights_are_merged_evenly() -> None:
    random = np.random.default_rng(1)
    for seed in range(60):
        counts = int(random.integers(1, 300)), int(random.integers(0, 100))
        mixture = Mixture.of(counts)
        assert mixture.longest == sum(counts)
        assert np.array_equal(mixture.order(seed, sum(counts)), merged_by_times(counts, seed))


def test_windows_belong_to_the_part_in_which_they_begin() -> None:
    length = 8
    for tokens in ([100], [33, 67], [5, 3, 92], [96, 4], [1, 99], [100, 0]):
        part_of_token = np.repeat(np.arange(len(tokens)), tokens)
        starts = np.arange(num_windows(sum(tokens), length)) * length
        expected = np.bincount(part_of_token[starts], minlength=len(tokens))
        assert windows_of_parts(tokens, length) == expected.tolist()


@pytest.mark.parametrize("counts", [[0], [10, 0], [0, 10]])
def test_a_part_without_windows_has_no_turn(counts: list[int]) -> None:
    assert Mixture.of(counts).longest == sum(counts)
    assert Mixture.of(counts, [Fraction(1, len(counts))] * len(counts)).longest == 0
    assert sorted(Mixture.of(counts).order(0, sum(counts))) == list(range(sum(counts)))
