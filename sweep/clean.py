"""The held-out loss without the documents that stand in the training data.

Shape suffixes: B windows, T position.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.contamination import held_out_sha256
from sweep.corpus import Corpus
from sweep.search.token_text import document_ends

NOT_SEARCHED = "the training data was not searched for held-out text"


def clean_places(corpus: Corpus, contamination: dict[str, Any], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the held-out token at each place of the stream is of a document that is not hit; any shape."""
    ends = document_ends(corpus.stream("held_out"), corpus.end_token)
    is_clean = np.ones(len(ends) + 1, bool)
    is_clean[[row["document"] for row in contamination["held_out"]["hit_documents"]]] = False
    return is_clean[np.searchsorted(ends, places, side="right")]


def clean_losses(
    losses_BT: NDArray[np.float64], is_clean_BT: NDArray[np.bool_] | None, contamination: dict[str, Any] | None
) -> dict[str, Any]:
    """Mean loss of the tokens that are left, their number, and the search that they are left by.

    The loss is None, with a reason, where nothing is left or nothing was searched (``is_clean_BT`` is None then).
    """
    if is_clean_BT is None or contamination is None:
        return {"clean_loss_nats": None, "clean_tokens": None, "clean_reason": NOT_SEARCHED, "searched_sha256": None}
    left = losses_BT[is_clean_BT]
    return {
        "clean_loss_nats": float(left.mean()) if left.size else None,
        "clean_tokens": int(left.size),
        "clean_reason": "" if left.size else "every document of the evaluation stands in the training data",
        "searched_sha256": held_out_sha256(contamination),
    }
