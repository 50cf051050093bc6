"""The order in which a run sees the windows of several sources: every source has its share at every step.

The training stream holds the sources one after the other. The order of a run is a function of its seed alone, so a
run can be resumed at any step without a reader's state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from sweep.errors import SweepError


def num_windows(num_tokens: int, length: int) -> int:
    """Windows of ``length`` inputs in a stream; the last target is one token further."""
    return max(0, (num_tokens - 1) // length)


def windows_of_parts(tokens: Sequence[int], length: int) -> list[int]:
    """How many windows of a stream begin in each of its parts, which have these numbers of tokens."""
    ends = np.cumsum([0, *tokens])
    firsts = np.minimum(-(-ends // length), num_windows(int(ends[-1]), length))
    return [int(count) for count in np.diff(firsts)]


@dataclass(frozen=True)
class Mixture:
    """Windows of each part of the training stream, and the share that each has in what a run sees."""

    num_windows: tuple[int, ...]
    weights: tuple[Fraction, ...]

    @classmethod
    def of(cls, num_windows: Sequence[int], weights: Sequence[Fraction] | None = None) -> "Mixture":
        """A mixture by ``weights``, which add up to one; without them each part counts as much as it holds."""
        total = max(1, sum(num_windows))
        shares = weights or [Fraction(count, total) for count in num_windows]
        return cls(tuple(num_windows), tuple(shares))

    @property
    def longest(self) -> int:
        """Windows of the longest run that sees none twice."""
        return self._lasts(self.scarcest) if any(self.weights) else 0

    @property
    def scarcest(self) -> int:
        """The part that is used up first."""
        return min((part for part, weight in enumerate(self.weights) if weight), key=self._lasts, default=0)

    def _lasts(self, part: int) -> int:
        # A part is never more than its share, rounded up (see ``parts_in_turn``).
        return math.floor(self.num_windows[part] / self.weights[part])

    def order(self, seed: int, count: int) -> NDArray[np.int64]:
        """The first ``count`` windows that a run with this seed sees, as rows of the stream; none comes twice.

        Raises:
            SweepError: a part has fewer windows than its share.
        """
        if count > self.longest:
            raise SweepError(
                f"{count:,} windows are asked for, the corpus has {self.longest:,} in this mixture",
                "a corpus in which no token has to be seen twice",
                "plan shorter runs, or prepare a larger corpus",
            )
        generator = np.random.default_rng(seed)
        turns = parts_in_turn(self.weights, count)
        order, start = np.empty(count, dtype=np.int64), 0
        for part, windows in enumerate(self.num_windows):
            here = turns == part
            order[here] = start + generator.permutation(windows)[: here.sum()]
            start += windows
        return order


def parts_in_turn(weights: Sequence[Fraction], count: int) -> NDArray[np.int16]:
    """Which part's turn it is at each of ``count`` steps, so that at every step each part has had its share.

    After any k steps a part of weight w has had more than w*k - 1 and fewer than w*k + 1 turns. Tijdeman's rule ("The
    chairman assignment problem", Discrete Mathematics 32, 1980): of the parts that are behind by 1/(2n - 2) or more,
    n parts in all, the one goes next that would first be too far behind.
    """
    present = [part for part, weight in enumerate(weights) if weight]
    if len(present) < 2:
        return np.full(count, present[0] if present else 0, dtype=np.int16)
    whole = math.lcm(*(weights[part].denominator for part in present))
    shares = [int(weights[part] * whole) for part in present]
    scale = 2 * len(present) - 2
    # Whole numbers: ``behind`` counts turns times whole times scale. After ``whole`` steps all are even again.
    gains, turn_costs = [share * scale for share in shares], whole * scale
    behind, turns = [0] * len(present), np.empty(min(count, whole), dtype=np.int16)
    for step in range(len(turns)):
        behind = [now + gain for now, gain in zip(behind, gains, strict=True)]
        # A part is too far behind after (turn_costs - whole - behind) / gain more steps.
        due = [
            (Fraction(turn_costs - whole - now, gain), index)
            for index, (now, gain) in enumerate(zip(behind, gains, strict=True))
            if now >= whole
        ]
        _, first = min(due)
        behind[first] -= turn_costs
        turns[step] = present[first]
    return np.resize(turns, count)
