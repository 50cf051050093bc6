"""Loss spikes: a planted jump is found and measured, noise and a falling curve are not."""

import numpy as np
import pytest

from sweep.gates import spike_in


def falling(seed: int = 0, noise: float = 0.03) -> list[float]:
    """A hundred rows from 7 down to 3 nats with noise."""
    steps = np.arange(100)
    return (3 + 4 * np.exp(-steps / 15) + noise * np.random.default_rng(seed).standard_normal(100)).tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 0.03, 0.1])
def test_noise_is_no_spike(seed: int, noise: float) -> None:
    assert spike_in(falling(seed, noise)) is None


@pytest.mark.parametrize("row", [9, 50, 99])
@pytest.mark.parametrize("height", [1.5, 4.0])
def test_a_planted_spike_is_found_at_its_row(row: int, height: float) -> None:
    losses = falling()
    usual = float(np.median(losses[row - 9 : row]))
    losses[row] = usual + height
    assert spike_in(losses) == (row, pytest.approx(height))


def test_the_highest_of_two_is_named() -> None:
    losses = falling()
    losses[40] += 1.0
    losses[70] += 2.0
    found = spike_in(losses)
    assert found is not None
    assert found[0] == 70


def test_a_jump_below_the_least_is_no_spike_even_without_noise() -> None:
    losses = [3.0] * 50
    losses[30] = 3.29
    assert spike_in(losses) is None
    losses[30] = 3.31
    assert spike_in(losses) == (30, pytest.approx(0.31))


def test_a_run_too_short_to_tell_has_none() -> None:
    assert spike_in([1.0] * 8 + [9.0]) is None
    assert spike_in([]) is None
