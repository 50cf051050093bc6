"""Search kernels: which word n-grams and which substrings of some texts stand in others. Hashes find, bytes decide.

A gram is a run of n words; words stand between white space, in lower case and without punctuation (Brown et al. 2020,
"Language models are few-shot learners", appendix C). A substring is looked for after all spaces and symbols are
removed (OpenAI 2023, "GPT-4 technical report", appendix C). ASCII alone is classified: every other byte counts as part
of a letter and is kept as it is.

Polynomial hashes of all places are compared with those of the patterns, and every candidate is then compared byte by
byte: nothing is found that is not there, and nothing is missed, as equal bytes have equal hashes.

Shape suffixes: B bytes, W words, P patterns, H distinct hashes of patterns.
"""

import functools
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.search.token_text import END_OF_DOCUMENT

Hashes = NDArray[np.unsignedinteger[Any]]

NOT_FOUND = np.iinfo(np.int64).max
_SPACES = string.whitespace.encode()
_KEPT = (string.ascii_letters + string.digits).encode()
_SYMBOLS = bytes(byte for byte in range(128) if byte not in _KEPT)
_PUNCTUATION = bytes(byte for byte in _SYMBOLS if byte not in _SPACES)
_UPPER, _LOWER = string.ascii_uppercase.encode(), string.ascii_lowercase.encode()
_WORD_BYTES = bytes.maketrans(_SPACES + _UPPER, b" " * len(_SPACES) + _LOWER)

# Of the hashes: they decide the speed, never the result. Odd numbers have an inverse modulo a power of two.
_BYTE_VALUES = np.random.default_rng(0).integers(1 << 63, size=256, dtype=np.uint64)
_CHARACTER_VALUES = (_BYTE_VALUES >> np.uint64(31)).astype(np.uint32)  # 32 bits: twice as many in a core's cache
_BYTE_BASE, _WORD_BASE, _MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD
_MODULUS = 1 << 64
_BLOCK_BYTES = 1 << 16  # whose hashes stay in the cache of a core
_SPARE_BITS, _MOST_BITS = 7, 22  # one in 128 places of the table is taken, unless that is more than 4 MB


def only_characters(text: bytes) -> bytes:
    """The text without spaces and symbols."""
    return text.translate(None, _SYMBOLS)


def only_words(text: bytes) -> bytes:
    """The text in lower case, without punctuation, all white space a space; several in a row are left."""
    return text.translate(_WORD_BYTES, _PUNCTUATION)


def rolling_hashes(values: Hashes, length: int, base: int) -> Hashes:
    """The sum over j of values[i + j] * base^(length - 1 - j) for every run of ``length`` values.

    Modulo 2^64 or, for values of 32 bits, 2^32. By doubling: the hash of 2m values is that of the first m times base^m,
    plus that of the next m.
    """
    if len(values) < length:
        return values[:0]
    number, bits = values.dtype.type, 8 * values.dtype.itemsize
    done, result = 0, values
    part, part_hashes = 1, values  # hashes of runs of ``part`` values
    while True:
        power = number(pow(base, part, 1 << bits))
        if length & part:
            result = result[: len(part_hashes) - done] * power + part_hashes[done:] if done else part_hashes
            done += part
        if done == length:
            return result
        part_hashes = part_hashes[:-part] * power + part_hashes[part:]
        part *= 2


# ---- words --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """The words of texts that each end with ``END_OF_DOCUMENT``: their places, their hashes, whose they are."""

    text: bytes
    start_W: NDArray[np.int64]
    end_W: NDArray[np.int64]
    hash_W: Hashes
    document_W: NDArray[np.int64]

    def gram(self, word: int, n: int) -> bytes:
        """The ``n`` words from this one on, a space between them."""
        return b" ".join(self.text[self.start_W[word] : self.end_W[word + n - 1]].split())

    def gram_hashes(self, n: int) -> tuple[Hashes, NDArray[np.int64]]:
        """Hash and first word of all runs of ``n`` words of one document."""
        hashes = rolling_hashes(self.hash_W, n, _WORD_BASE)
        whole = np.flatnonzero(self.document_W[: len(hashes)] == self.document_W[len(self.document_W) - len(hashes) :])
        return hashes[whole], whole


def words_of(documents: bytes) -> Words:
    """The words of documents that each end with ``END_OF_DOCUMENT``."""
    text = only_words(documents)
    bytes_B = np.frombuffer(text, np.uint8)
    is_end_B = bytes_B == END_OF_DOCUMENT[0]
    edges = np.flatnonzero(np.diff((bytes_B != ord(" ")) & ~is_end_B, prepend=False, append=False))
    start_W, end_W = edges[::2], edges[1::2]
    powers_B, inverse_powers_B = _powers(1 << (len(text) + 1).bit_length())
    sums_B = np.zeros(len(text) + 1, np.uint64)
    np.cumsum(np.take(_BYTE_VALUES, bytes_B) * powers_B[: len(text)], out=sums_B[1:])
    hash_W = (sums_B[end_W] - sums_B[start_W]) * inverse_powers_B[start_W]
    hash_W = (hash_W ^ (hash_W >> np.uint64(32))) * np.uint64(_MIX)
    words_before_end = np.searchsorted(start_W, np.flatnonzero(is_end_B))
    document_W = np.repeat(np.arange(len(words_before_end)), np.diff(words_before_end, prepend=0))
    return Words(text, start_W, end_W, hash_W, document_W)


@functools.lru_cache(maxsize=4)
def _powers(length: int) -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse modulo 2^64, each of shape (length,)."""
    found = []
    for base in (_BYTE_BASE, pow(_BYTE_BASE, -1, _MODULUS)):
        factors = np.full(length, base, np.uint64)
        factors[0] = 1
        found.append(np.cumprod(factors, dtype=np.uint64))
    return found[0], found[1]


# ---- search -------------------------------------------------------------------------------------


class Search:
    """Patterns that are looked for, and for each the first document in which it was found so far."""

    def __init__(self, hash_P: Hashes) -> None:
        self.first_document_P = np.full(len(hash_P), NOT_FOUND, np.int64)
        self._by_hash_P = np.argsort(hash_P, kind="stable")
        self._hash_H, starts = np.unique(hash_P[self._by_hash_P], return_index=True)
        self._bounds = np.append(starts, len(hash_P))
        self._is_open_H = np.ones(len(self._hash_H), bool)
        bits = min(len(self._hash_H).bit_length() + _SPARE_BITS, _MOST_BITS)
        self._shift = hash_P.dtype.type(8 * hash_P.dtype.itemsize - bits)
        self._may_be = np.zeros(1 << bits, bool)
        self._may_be[self._hash_H >> self._shift] = True

    def look(self, hashes: Hashes, is_pattern: Callable[[int, int], bool], document_of: Callable[[int], int]) -> None:
        """Compare places of a text, in the order of its documents, with all patterns that were not found before.

        ``is_pattern(place, pattern)`` compares their bytes.
        """
        candidates = np.flatnonzero(np.take(self._may_be, hashes >> self._shift))
        if len(candidates) == 0:
            return
        number_H = np.minimum(np.searchsorted(self._hash_H, hashes[candidates]), len(self._hash_H) - 1)
        known = (self._hash_H[number_H] == hashes[candidates]) & self._is_open_H[number_H]
        for place, number in zip(candidates[known].tolist(), number_H[known].tolist(), strict=True):
            if self._is_open_H[number]:
                same_hash = self._by_hash_P[self._bounds[number] : self._bounds[number + 1]]
                for pattern in same_hash[self.first_document_P[same_hash] == NOT_FOUND].tolist():
                    if is_pattern(place, pattern):
                        self.first_document_P[pattern] = document_of(place)
                self._is_open_H[number] = bool((self.first_document_P[same_hash] == NOT_FOUND).any())


class GramSearch:
    """All runs of ``n`` words of some texts, to be found in others."""

    def __init__(self, texts: Iterable[bytes], n: int) -> None:
        self.n = n
        self._words = words_of(_joined(texts))
        hash_P, self._word_P = self._words.gram_hashes(n)
        self.text_P = self._words.document_W[self._word_P]
        """The text that each gram is of, by number."""
        self._search = Search(hash_P)

    @property
    def first_document(self) -> NDArray[np.int64]:
        return self._search.first_document_P

    def look(self, words: Words, first_document: int) -> None:
        """Look into documents, of which the first has the number ``first_document``."""
        hashes, word_of_place = words.gram_hashes(self.n)

        def is_pattern(place: int, pattern: int) -> bool:
            return words.gram(int(word_of_place[place]), self.n) == self._words.gram(int(self._word_P[pattern]), self.n)

        self._search.look(
            hashes, is_pattern, lambda place: first_document + int(words.document_W[word_of_place[place]])
        )


class SubstringSearch:
    """Strings, to be found in texts of which ``normalise`` leaves what is looked at; it keeps ``END_OF_DOCUMENT``.

    A string is known by the hash of its beginning: its first ``length`` bytes or, if it is shorter, as many as the
    largest power of two within its own length. So one pass serves all strings of that length or more.
    """

    def __init__(self, patterns: Sequence[bytes], length: int, normalise: Callable[[bytes], bytes]) -> None:
        self.patterns = patterns
        self._normalise = normalise
        beginning_P = np.array(
            [length if len(one) >= length else 1 << (len(one).bit_length() - 1) for one in patterns], dtype=np.int64
        )
        self._searches = []
        for beginning in np.unique(beginning_P).tolist():
            pattern_Q = np.flatnonzero(beginning_P == beginning)
            starts = b"".join(patterns[pattern][:beginning] for pattern in pattern_Q.tolist())
            hashes = rolling_hashes(_CHARACTER_VALUES[np.frombuffer(starts, np.uint8)], beginning, _BYTE_BASE)
            self._searches.append((beginning, pattern_Q, Search(_mixed(hashes[::beginning]))))

    @property
    def first_document(self) -> NDArray[np.int64]:
        found = np.full(len(self.patterns), NOT_FOUND, np.int64)
        for _, pattern_Q, search in self._searches:
            found[pattern_Q] = search.first_document_P
        return found

    def look(self, documents: bytes, first_document: int) -> None:
        """Look into documents that each end with ``END_OF_DOCUMENT``; the first has the number ``first_document``."""
        text = self._normalise(documents)
        bytes_B = np.frombuffer(text, np.uint8)
        for beginning, pattern_Q, search in self._searches:
            mine = [self.patterns[pattern] for pattern in pattern_Q.tolist()]
            for start in range(0, len(text), _BLOCK_BYTES):
                values = np.take(_CHARACTER_VALUES, bytes_B[start : start + _BLOCK_BYTES + beginning - 1])
                search.look(
                    _mixed(rolling_hashes(values, beginning, _BYTE_BASE)),
                    lambda place, pattern: text.startswith(mine[pattern], start + place),  # noqa: B023  (called at once)
                    lambda place: first_document + text.count(END_OF_DOCUMENT, 0, start + place),  # noqa: B023
                )


def _mixed(hashes: Hashes) -> Hashes:
    """High bits that depend on all characters: the last alone moves a sum's high bits little."""
    return hashes * np.uint32(_MIX & 0xFFFFFFFF)


def _joined(texts: Iterable[bytes]) -> bytes:
    return b"".join(text + END_OF_DOCUMENT for text in texts)
