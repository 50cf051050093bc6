"""Gates: what marks a run, and the rule by which a mark keeps it out of a fit.

a loss or gradient that is not finite    the run is ``diverged`` and out of every fit
a spike in the training loss             marked, shown with the fit, and kept in it: the loss at the end counts
a token seen twice                       no such run exists: the plan refuses it
a best value at the edge of its grid     marked, and no best value is given (``sweep/optimum.py``)
"""

from itertools import pairwise

import numpy as np

_WINDOW = 9  # rows before a row that tell what is usual there
_LEAST_NATS = 0.3
_TIMES_NOISE = 8.0


def spike_in(losses: list[float]) -> tuple[int, float] | None:
    """The row at which the training loss jumps most, and by how much; None if it never jumps beyond its noise.

    ``losses`` are those of the rows of metrics.jsonl. A jump is a row's loss over the median of the nine rows before
    it: at least 0.3 nats and eight times the usual difference between neighbouring rows.
    """
    if len(losses) <= _WINDOW:
        return None
    noise = float(np.median([abs(after - before) for before, after in pairwise(losses)]))
    rises = [losses[i] - float(np.median(losses[i - _WINDOW : i])) for i in range(_WINDOW, len(losses))]
    highest = int(np.argmax(rises))
    if rises[highest] < max(_LEAST_NATS, _TIMES_NOISE * noise):
        return None
    return highest + _WINDOW, rises[highest]
