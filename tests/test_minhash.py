"""Near-duplicates: every pair that is similar enough, by comparing the sets of all pairs in plain Python."""

import random

import numpy as np
import pytest

from sweep.search.minhash import SHINGLE_WORDS, NearDuplicate, NearDuplicateSearch, Shingles, nearer, shingles_of
from sweep.search.overlap import words_of
from sweep.search.token_text import END_OF_DOCUMENT

THRESHOLD = 0.7


def shingles(texts: list[list[str]]) -> Shingles:
    return shingles_of(words_of(b"".join(" ".join(t).encode() + END_OF_DOCUMENT for t in texts)), len(texts))


def jaccard(one: list[str], other: list[str]) -> float:
    sets = [{tuple(t[i : i + SHINGLE_WORDS]) for i in range(len(t) - SHINGLE_WORDS + 1)} for t in (one, other)]
    union = len(sets[0] | sets[1])
    return len(sets[0] & sets[1]) / union if union else 0.0


def changed(text: list[str], share: float, rng: random.Random) -> list[str]:
    """The text with a run of its words replaced."""
    length = round(share * len(text))
    start = rng.randrange(len(text) - length + 1)
    return [*text[:start], *(f"other{rng.randrange(10**6)}" for _ in range(length)), *text[start + length :]]


def test_the_nearest_of_all_documents_is_found_with_its_exact_similarity() -> None:
    rng = random.Random(0)
    mine = [[f"word{rng.randrange(500)}" for _ in range(rng.randrange(60, 400))] for _ in range(40)]
    theirs = [[f"word{rng.randrange(500)}" for _ in range(rng.randrange(1, 400))] for _ in range(200)]
    for number, share in enumerate(np.linspace(0, 0.6, 40)):  # from the same text to one that shares less than half
        theirs[5 * number] = changed(mine[number], float(share), rng)
    theirs[3] = list(theirs[0])  # a second copy: the earlier document counts
    search = NearDuplicateSearch(shingles(mine), THRESHOLD)
    for first in range(0, 200, 13):
        search.look(shingles(theirs[first : first + 13]), first)
    expected: list[NearDuplicate | None] = []
    for text in mine:
        similarity, document = max((jaccard(text, other), -number) for number, other in enumerate(theirs))
        expected.append(NearDuplicate(-document, similarity) if similarity >= THRESHOLD else None)
    assert search.nearest == expected
    assert 5 < sum(pair is None for pair in expected) < 35


def test_documents_without_a_shingle_are_like_nothing() -> None:
    short = [["a", "b"], []]
    search = NearDuplicateSearch(shingles(short), THRESHOLD)
    search.look(shingles([["a", "b"], [], ["a", "b", "c", "d", "e"]]), 0)
    assert search.nearest == [None, None]


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_findings_the_more_similar_counts_then_the_earlier(order: int) -> None:
    first, second, third = NearDuplicate(4, 0.8), NearDuplicate(9, 0.9), NearDuplicate(2, 0.9)
    assert nearer(*(first, second)[::order]) == second
    assert nearer(*(second, third)[::order]) == third
    assert nearer(*(None, first)[::order]) == first
    assert nearer(None, None) is None
