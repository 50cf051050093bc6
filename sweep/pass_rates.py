"""Pass rates from counts: n samples, c of them correct, and whether sampling stopped at a success.

A half stops at its r-th success (inverse binomial sampling) or, if that does not come, at its budget of n samples. For
such a rule the estimator that averages over the orders in which the counts can have come is unbiased (Girshick,
Mosteller and Savage 1946, "Unbiased estimates for certain binomial sampling problems"): the number of orders that begin
with a success over the number of all is (r-1)/(n-1) for a stopped half (Haldane 1945) and c/n for one that ran out.

The share of orders that begin with j failures estimates (1-p)^j, and log p = -sum_j (1-p)^j / j. The sum of these is
psi(r) - psi(n) for a stopped half and psi(c+1) - psi(n+1) for the other. Only the terms beyond the budget are missing,
so whatever r is the estimate of log p is too high by sum_{j>n} (1-p)^j / j, about E1(n p), n being the budget: nothing
without a budget, 0.05 nats at n p = 2, and unbounded where n p is small. No estimator from one problem mends that.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

Array = NDArray[np.float64]


def pass_rate(samples: ArrayLike, correct: ArrayLike, stopped: ArrayLike = False) -> Array:
    """Unbiased estimate of p: (c-1)/(n-1) where sampling stopped at a success, c/n elsewhere.

    Raises:
        ValueError: counts that no sampling gives, or a stop at the first success, from which no rate is known.
    """
    n, c, at_success = _checked(samples, correct, stopped)
    return (c - at_success) / (n - at_success)


def log_pass_rate(samples: ArrayLike, correct: ArrayLike, stopped: ArrayLike = False) -> Array:
    """Estimate of log p in nats: psi(c) - psi(n) where sampling stopped at a success, psi(c+1) - psi(n+1) elsewhere.

    Finite for every count; unbiased but for the term in the module's docstring.

    Raises:
        ValueError: as ``pass_rate``.
    """
    n, c, at_success = _checked(samples, correct, stopped)
    return digamma(c + 1 - at_success) - digamma(n + 1 - at_success)


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> Array:
    """Unbiased estimate of the chance that one of k samples is right: 1 - C(n-c, k) / C(n, k), for fixed n.

    Source: Chen et al. 2021, "Evaluating large language models trained on code", equation 1.

    Raises:
        ValueError: fewer than k samples, or counts that no sampling gives.
    """
    n, c, _ = _checked(samples, correct, False)
    if k < 1 or np.any(n < k):
        raise ValueError(f"pass@{k} needs k >= 1 and at least k samples")
    none = np.ones(n.shape)
    for drawn in range(k):
        none = none * np.maximum(n - c - drawn, 0) / (n - drawn)
    return 1 - none


def _checked(samples: ArrayLike, correct: ArrayLike, stopped: ArrayLike) -> tuple[Array, Array, Array]:
    n, c, at_success = np.broadcast_arrays(*(np.asarray(one, dtype=float) for one in (samples, correct, stopped)))
    if np.any(n < 1) or np.any(c < 0) or np.any(c > n):
        raise ValueError("counts must have 1 <= samples and 0 <= correct <= samples")
    if np.any((at_success == 1) & (c < 2)):
        raise ValueError("a half that stopped at its first success says nothing of the rate; stop at 2 at least")
    return n, c, at_success
