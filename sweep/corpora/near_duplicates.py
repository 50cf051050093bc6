"""Near-duplicates: documents most of whose lines were seen before, found in bounded memory.

Lines that were seen are kept as bits of a table (a Bloom filter: Bloom 1970, with the double hashing of Kirsch and
Mitzenmacher 2008), eight for each. A line that was never seen is taken for a seen one with odds that are
known; they are far too small to bring a document over the limit as long as the table is not full, and a full one
is refused.
"""

from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from sweep.errors import SweepError

_MIN_LINE_CHARS = 25  # shorter lines stand in unrelated files too and say nothing about copying
_BITS_PER_LINE = 8
_MAX_ODDS = 1e-3  # of a new line to be taken for a seen one
_TABLE_BITS_PER_BYTE = 8  # of text: 200 and more per line
_MIN_TABLE_BITS = 1 << 16


def longer_lines(text: str) -> list[str]:
    """The lines of a document that say something about copying."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if len(line) >= _MIN_LINE_CHARS]


def line_hashes(text: str) -> NDArray[np.uint64]:
    """The hashes of a document's different longer lines; without any, that of the whole text."""
    lines = longer_lines(text) or [text.strip()]
    return np.unique(np.fromiter((xxhash.xxh3_64_intdigest(line.encode()) for line in lines), np.uint64, len(lines)))


class LineTable:
    """The lines that were seen."""

    def __init__(self, num_bits: int) -> None:
        """``num_bits`` is a power of two."""
        self._bits = np.zeros(num_bits // 8, dtype=np.uint8)
        self._mask = np.uint64(num_bits - 1)
        self._num_lines = 0

    @classmethod
    def for_text(cls, num_bytes: int, max_table_bytes: int) -> "LineTable":
        """A table for so many bytes of text, of at most ``max_table_bytes`` (rounded down to a power of two)."""
        wanted = 1 << (max(1, _TABLE_BITS_PER_BYTE * num_bytes) - 1).bit_length()
        most = 1 << ((8 * max_table_bytes).bit_length() - 1)
        return cls(max(_MIN_TABLE_BITS, min(wanted, most)))

    @property
    def odds(self) -> float:
        """The probability that a line which was never added counts as seen."""
        used = 1 - np.exp(-_BITS_PER_LINE * self._num_lines / (8 * len(self._bits)))
        return float(used**_BITS_PER_LINE)

    def share_seen(self, lines: NDArray[np.uint64]) -> float:
        return float(self._are_seen(*self._places(lines)).mean())

    def add(self, lines: NDArray[np.uint64]) -> None:
        bytes_LK, bits_LK = self._places(lines)
        self._num_lines += len(lines) - int(self._are_seen(bytes_LK, bits_LK).sum())
        np.bitwise_or.at(self._bits, bytes_LK, bits_LK)

    def _places(self, lines: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Byte of the table and bit of the byte of each line's bits, shapes (lines, _BITS_PER_LINE)."""
        steps = (lines >> np.uint64(32)) | np.uint64(1)
        places_LK = (lines[:, None] + np.arange(_BITS_PER_LINE, dtype=np.uint64) * steps[:, None]) & self._mask
        return (places_LK >> np.uint64(3)).astype(np.int64), np.uint8(1) << (places_LK & np.uint64(7)).astype(np.uint8)

    def _are_seen(self, bytes_LK: NDArray[np.int64], bits_LK: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return (self._bits[bytes_LK] & bits_LK != 0).all(axis=1)


def keep_new(
    lines: NDArray[np.uint64], lengths: NDArray[np.int64], table: LineTable, max_shared: float
) -> NDArray[np.bool_]:
    """Which documents to keep: those of whose lines at most ``max_shared`` were seen; ``table`` grows.

    ``lines`` holds the hashes of all documents, one after the other, ``lengths`` how many each has.

    Raises:
        SweepError: the table is too small for so many lines.
    """
    kept = np.zeros(len(lengths), dtype=np.bool_)
    for index, (start, end) in enumerate(pairwise(np.cumsum([0, *lengths]))):
        part = lines[start:end]
        if table.share_seen(part) <= max_shared:
            kept[index] = True
            table.add(part)
    if table.odds > _MAX_ODDS:
        raise SweepError(
            f"the table of lines that were seen is full: a new line is taken for a seen one with odds {table.odds:.1e}",
            f"odds of {_MAX_ODDS:g} or less, so that no document is dropped by mistake",
            "raise data.line_table_bytes",
        )
    return kept
