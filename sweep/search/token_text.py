"""The text of a token stream, document by document, exactly as it went into a byte-level tokenizer.

Shape suffixes: V vocabulary, N tokens, B bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.corpora.tokenizer import token_contents

END_OF_DOCUMENT = b"\xff"  # no byte of UTF-8, so none of any document
_SCANNED_TOKENS = 1 << 22


@dataclass(frozen=True)
class TokenText:
    """What the tokens of a vocabulary stand for, as one run of bytes that is looked up by token."""

    bytes_B: NDArray[np.uint8]
    start_V: NDArray[np.int32]
    length_V: NDArray[np.int32]

    def decode(self, tokens_N: NDArray[np.integer]) -> bytes:
        """The bytes of the documents that the tokens are, each ended by ``END_OF_DOCUMENT``."""
        lengths_N = self.length_V[tokens_N]
        ends_N = np.cumsum(lengths_N)
        shift_N = self.start_V[tokens_N] - (ends_N - lengths_N)
        places_B = np.repeat(shift_N, lengths_N)
        places_B += np.arange(len(places_B), dtype=places_B.dtype)
        return self.bytes_B[places_B].tobytes()


def token_text(tokenizer: Any, end_token: int) -> TokenText:
    """The bytes of every token of a byte-level ``tokenizers.Tokenizer``; ``end_token`` ends a document."""
    parts = token_contents(tokenizer)
    parts[end_token] = END_OF_DOCUMENT
    length_V = np.array([len(part) for part in parts], dtype=np.int32)
    start_V = (np.cumsum(length_V) - length_V).astype(np.int32)
    return TokenText(np.frombuffer(b"".join(parts), np.uint8), start_V, length_V)


def document_ends(stream_N: NDArray[np.integer], end_token: int) -> NDArray[np.int64]:
    """Where each document of the stream ends, its end token included; shape (documents,)."""
    parts = [
        start + 1 + np.flatnonzero(stream_N[start : start + _SCANNED_TOKENS] == end_token)
        for start in range(0, len(stream_N), _SCANNED_TOKENS)
    ]
    return np.concatenate(parts or [np.empty(0, np.int64)])


def chunks(ends: NDArray[np.int64], first: int, last: int, chunk_tokens: int) -> Iterator[tuple[int, int]]:
    """Documents ``first`` to ``last`` in runs of about ``chunk_tokens`` tokens; no document is split."""
    while first < last:
        begin = ends[first - 1] if first else 0
        after = max(first + 1, min(last, int(np.searchsorted(ends, begin + chunk_tokens, side="right"))))
        yield first, after
        first = after
