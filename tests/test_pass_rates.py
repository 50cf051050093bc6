"""Estimators of pass rates against their distributions, term by term."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, nbinom

from sweep.pass_rates import log_pass_rate, pass_at_k, pass_rate


def outcomes(p: float, budget: int, stop_at: int | None) -> list[tuple[int, int, bool, float]]:
    """(samples, correct, stopped, probability) for every end of drawing until ``stop_at`` are correct."""
    last = budget if stop_at is None else stop_at - 1
    rows = [(budget, c, False, float(binom.pmf(c, budget, p))) for c in range(min(last, budget) + 1)]
    if stop_at is not None:
        rows += [(n, stop_at, True, float(nbinom.pmf(n - stop_at, stop_at, p))) for n in range(stop_at, budget + 1)]
    assert sum(row[3] for row in rows) == pytest.approx(1, abs=1e-12)
    return rows


@pytest.mark.parametrize("p", [0.02, 0.3, 0.97])
@pytest.mark.parametrize(("budget", "stop_at"), [(30, None), (30, 2), (30, 7), (5, 5), (3, 20), (400, 20)])
def test_the_rate_is_unbiased_under_every_rule(p: float, budget: int, stop_at: int | None) -> None:
    mean = sum(weight * float(pass_rate(n, c, stopped)) for n, c, stopped, weight in outcomes(p, budget, stop_at))
    assert mean == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("p", [0.02, 0.3, 0.97])
@pytest.mark.parametrize(("budget", "stop_at"), [(30, None), (30, 2), (30, 7), (5, 5), (3, 20), (400, 20)])
def test_the_log_rate_lacks_the_terms_beyond_the_budget_alone(p: float, budget: int, stop_at: int | None) -> None:
    """E - log p = sum over j > budget of (1-p)^j / j, whatever the rule."""
    mean = sum(weight * float(log_pass_rate(n, c, stopped)) for n, c, stopped, weight in outcomes(p, budget, stop_at))
    within = sum((1 - p) ** j / j for j in range(1, budget + 1))
    assert mean == pytest.approx(-within, abs=1e-10)
    assert mean - math.log(p) == pytest.approx(-math.log(p) - within, abs=1e-10)


def test_the_log_rate_of_inverse_sampling_is_unbiased() -> None:
    """Without a budget nothing is missing."""
    p, stop_at = 0.2, 4
    n = np.arange(stop_at, 2000)
    mean = nbinom.pmf(n - stop_at, stop_at, p) @ log_pass_rate(n, np.full_like(n, stop_at), True)
    assert mean == pytest.approx(math.log(p), abs=1e-12)


def test_a_plug_in_of_the_solved_is_biased() -> None:
    """What the filter "solved at least once" does to one problem: at n p = 1 it is half a nat too high."""
    rows = [(n, c, weight) for n, c, _, weight in outcomes(0.001, 1000, None) if c > 0]
    solved = sum(weight for *_, weight in rows)
    assert sum(weight * math.log(c / n) for n, c, weight in rows) / solved - math.log(0.001) > 0.3


@pytest.mark.parametrize("n", [1, 4, 7])
def test_pass_at_k_counts_the_subsets(n: int) -> None:
    for correct in range(n + 1):
        for k in range(1, n + 1):
            subsets = list(combinations([1] * correct + [0] * (n - correct), k))
            share = sum(any(subset) for subset in subsets) / len(subsets)
            assert float(pass_at_k(n, correct, k)) == pytest.approx(share, abs=1e-12)


def test_pass_at_k_of_many_samples() -> None:
    """Against the product of Chen et al.'s reference code, and exact at its ends."""
    for n, c, k in ((10_000, 3, 100), (200, 199, 1), (1_000_000, 1, 1)):
        product = 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
        assert float(pass_at_k(n, c, k)) == pytest.approx(product, rel=1e-8)
    assert pass_at_k([5, 5, 5], [0, 3, 5], 3).tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(("n", "c", "stopped"), [(0, 0, False), (3, 4, False), (3, -1, False), (1, 1, True)])
def test_impossible_counts_are_refused(n: int, c: int, stopped: bool) -> None:
    for estimate in (pass_rate, log_pass_rate):
        with pytest.raises(ValueError, match=r"counts|first success"):
            estimate(n, c, stopped)


@pytest.mark.parametrize("k", [0, 6])
def test_pass_at_k_refuses_more_than_there_are(k: int) -> None:
    with pytest.raises(ValueError, match="at least k samples"):
        pass_at_k(5, 1, k)
