"""One pass over the training data: texts of other origin are looked for by word n-grams, substrings and MinHash.

Documents are handled whole and a few at a time, so memory does not grow with the corpus (it does with its longest
document). Processes search a part of the documents each; the earliest finding counts, however many they are.
"""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sweep.corpus import Corpus
from sweep.humaneval.guard import die_with_parent
from sweep.search.minhash import NearDuplicate, NearDuplicateSearch, nearer, shingles_of
from sweep.search.overlap import GramSearch, SubstringSearch, only_characters, words_of
from sweep.search.token_text import END_OF_DOCUMENT, chunks, document_ends, token_text

_CHUNK_TOKENS = 100_000  # some hundred kilobytes of text: arrays of its size stay in a core's cache
_MIN_TOKENS_PER_PROCESS = 2_000_000  # a second's work; to start a process takes a tenth of one


@dataclass(frozen=True)
class Settings:
    ngram_words: int
    substring_characters: int
    similarity: float  # of near-duplicates, at least


@dataclass(frozen=True)
class Wanted:
    """What is looked for."""

    texts: Sequence[bytes] = ()  # by all their runs of n words
    substrings: Sequence[bytes] = ()  # of letters and digits, in what documents have of them
    literals: Sequence[bytes] = ()  # byte for byte
    whole_documents: bool = False  # whether the texts are documents, near-duplicates of which are looked for


@dataclass(frozen=True)
class Found:
    """The first training document with each gram, substring and literal (``NOT_FOUND``), and near-duplicates."""

    gram_text: NDArray[np.int64]  # which text each gram is of
    grams: NDArray[np.int64]
    substrings: NDArray[np.int64]
    literals: NDArray[np.int64]
    nearest: list[NearDuplicate | None]

    def earliest(self, other: "Found") -> "Found":
        return Found(
            self.gram_text,
            np.minimum(self.grams, other.grams),
            np.minimum(self.substrings, other.substrings),
            np.minimum(self.literals, other.literals),
            [nearer(*pair) for pair in zip(self.nearest, other.nearest, strict=True)],
        )


def documents_of(corpus: Corpus, split: str) -> list[bytes]:
    """All texts of a split that fits into memory, as the held-out one does."""
    stream, end = corpus.stream(split), corpus.end_token
    text = token_text(corpus.tokenizer(), end).decode(stream[: document_ends(stream, end)[-1]])
    return text.split(END_OF_DOCUMENT)[:-1]


def search_training(corpus: Corpus, wanted: Sequence[Wanted], settings: Settings, num_processes: int) -> list[Found]:
    """Look for everything that is wanted in all training documents; one result for each of ``wanted``."""
    ends = document_ends(corpus.stream("train"), corpus.end_token)
    num_parts = max(1, min(num_processes, int(ends[-1]) // _MIN_TOKENS_PER_PROCESS))
    bounds = [0, *np.searchsorted(ends, ends[-1] * np.arange(1, num_parts) / num_parts).tolist(), len(ends)]
    with ProcessPoolExecutor(num_parts, multiprocessing.get_context("fork"), initializer=_begin) as pool:
        parts = [pool.submit(_search_part, corpus, wanted, settings, first, last) for first, last in pairwise(bounds)]
        results = [part.result() for part in parts]
    merged = results[0]
    for others in results[1:]:
        merged = [one.earliest(other) for one, other in zip(merged, others, strict=True)]
    return merged


def _begin() -> None:
    die_with_parent()
    os.environ["RAYON_NUM_THREADS"] = "1"  # of the sketches: there is a process for every core already


class _Searches:
    """The kernels for one ``Wanted``."""

    def __init__(self, wanted: Wanted, settings: Settings) -> None:
        self.grams = GramSearch(wanted.texts, settings.ngram_words)
        self.substrings = SubstringSearch(wanted.substrings, settings.substring_characters, only_characters)
        self.literals = SubstringSearch(wanted.literals, settings.substring_characters, _as_it_is)
        self.near = None
        if wanted.whole_documents:
            words = words_of(b"".join(text + END_OF_DOCUMENT for text in wanted.texts))
            self.near = NearDuplicateSearch(shingles_of(words, len(wanted.texts)), settings.similarity)

    def found(self) -> Found:
        return Found(
            self.grams.text_P,
            self.grams.first_document,
            self.substrings.first_document,
            self.literals.first_document,
            self.near.nearest if self.near else [],
        )


def _as_it_is(text: bytes) -> bytes:
    return text


def _search_part(corpus: Corpus, wanted: Sequence[Wanted], settings: Settings, first: int, last: int) -> list[Found]:
    stream, end = corpus.stream("train"), corpus.end_token
    text, ends = token_text(corpus.tokenizer(), end), document_ends(stream, end)
    searches = [_Searches(each, settings) for each in wanted]
    for begin, after in chunks(ends, first, last, _CHUNK_TOKENS):
        documents = text.decode(stream[ends[begin - 1] if begin else 0 : ends[after - 1]])
        words = words_of(documents)
        shingles = shingles_of(words, after - begin)
        for search in searches:
            search.grams.look(words, begin)
            search.substrings.look(documents, begin)
            search.literals.look(documents, begin)
            if search.near:
                search.near.look(shingles, begin)
    return [search.found() for search in searches]
