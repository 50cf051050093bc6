"""The search kernels against plain Python on random text, where everything is found by looking at everything."""

import random
import re
from collections.abc import Callable

import numpy as np
import pytest

from sweep.search.overlap import (
    NOT_FOUND,
    GramSearch,
    Search,
    SubstringSearch,
    only_characters,
    only_words,
    rolling_hashes,
    words_of,
)
from sweep.search.token_text import END_OF_DOCUMENT

NAMES = ["alpha", "Beta", "gamma_1", "x", "y", "42", "naïve", "(self)", "==", "...", "été,"]
SPACES = [" ", "  ", "\n", "\t", "\n    ", "\r\n", " \x0c"]


def random_text(rng: random.Random, num_words: int) -> str:
    return "".join(
        rng.choice(NAMES[:6] if rng.random() < 0.8 else NAMES) + rng.choice(SPACES) for _ in range(num_words)
    )


def joined(texts: list[str]) -> bytes:
    return b"".join(text.encode() + END_OF_DOCUMENT for text in texts)


def plain_words(text: str) -> list[str]:
    """Lower case of ASCII, white space as bytes have it, words without ASCII punctuation, no empty one."""
    lower = re.sub("[A-Z]", lambda letter: letter[0].lower(), text)
    words = (re.sub(r"[\x00-\x7f]", keep, word) for word in re.split(r"[ \t\n\r\x0b\x0c]+", lower))
    return [word for word in words if word]


def keep(character: re.Match[str]) -> str:
    return character[0] if re.fullmatch("[a-zA-Z0-9]", character[0]) else ""


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    words = plain_words(text)
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13])
def test_grams_are_found_in_the_first_document_that_has_them(n: int) -> None:
    rng = random.Random(n)
    wanted = [random_text(rng, rng.randrange(0, 40)) for _ in range(30)]
    documents = [random_text(rng, rng.randrange(0, 60)) for _ in range(200)]
    documents[50] = f"{random_text(rng, 3)} {wanted[3]}\n{random_text(rng, 3)}"
    documents[60] = wanted[7].upper().replace(" ", "  ;\n")  # another layout, case and punctuation
    search = GramSearch([text.encode() for text in wanted], n)
    for first in range(0, 200, 17):
        search.look(words_of(joined(documents[first : first + 17])), first)
    expected = []
    there = [set(grams(document, n)) for document in documents]
    for number, text in enumerate(wanted):
        for gram in grams(text, n):
            expected.append((number, next((i for i, has in enumerate(there) if gram in has), NOT_FOUND)))
    assert list(zip(search.text_P.tolist(), search.first_document.tolist(), strict=True)) == expected
    found = [document != NOT_FOUND for _, document in expected]
    assert any(found) and (n < 5 or not all(found))


@pytest.mark.parametrize("normalise", [only_characters, lambda text: text], ids=["characters", "as it is"])
def test_substrings_of_all_lengths_are_found_in_the_first_document_that_has_them(
    normalise: Callable[[bytes], bytes],
) -> None:
    rng = random.Random(0)
    documents = [random_text(rng, rng.randrange(0, 80)) for _ in range(120)]
    patterns = []
    for _ in range(200):
        source = normalise(rng.choice(documents).encode())
        start, length = rng.randrange(max(1, len(source))), rng.choice([1, 2, 7, 8, 31, 50, 50, 50, 63, 120])
        pattern = source[start : start + length]
        if rng.random() < 0.3:
            pattern = pattern[:-1] + b"Q"  # the last byte alone is another
        if pattern:
            patterns.append(pattern)
    search = SubstringSearch(patterns, 50, normalise)
    for first in range(0, 120, 11):
        search.look(joined(documents[first : first + 11]), first)
    there = [normalise(document.encode()) for document in documents]
    expected = [next((i for i, text in enumerate(there) if pattern in text), NOT_FOUND) for pattern in patterns]
    assert search.first_document.tolist() == expected
    assert 20 < expected.count(NOT_FOUND) < len(expected) - 20


def test_substrings_across_the_blocks_of_a_long_document_are_found() -> None:
    text = bytes(np.random.default_rng(0).integers(ord("a"), ord("z") + 1, 200_000).astype(np.uint8))
    starts = [0, 65_486, 65_500, 65_535, 65_536, 131_050, len(text) - 50]
    search = SubstringSearch([text[start : start + 50] for start in starts], 50, only_characters)
    search.look(text + END_OF_DOCUMENT, 7)
    assert search.first_document.tolist() == [7] * len(starts)


def test_nothing_is_found_across_two_documents() -> None:
    first, second = "one two three four", "five six seven eight"
    grams_of_both = GramSearch([f"{first} {second}".encode()], 5)
    grams_of_both.look(words_of(joined([first, second])), 0)
    assert set(grams_of_both.first_document) == {NOT_FOUND}
    substring = SubstringSearch([b"threefourfive"], 50, only_characters)
    substring.look(joined([first, second]), 0)
    assert substring.first_document.tolist() == [NOT_FOUND]


def test_equal_hashes_of_other_bytes_are_no_finding() -> None:
    """All hashes are made the same, so bytes alone can tell; the place that is right comes last."""
    patterns, places = [b"left", b"right"], [b"up", b"down", b"right"]
    search = Search(np.full(2, 99, np.uint64))
    search.look(np.full(3, 99, np.uint64), lambda place, p: places[place] == patterns[p], lambda place: 10 + place)
    assert search.first_document_P.tolist() == [NOT_FOUND, 12]


@pytest.mark.parametrize("length", [1, 2, 3, 13, 31, 32, 50, 64])
def test_rolling_hashes_are_the_polynomials_of_their_definition(length: int) -> None:
    values, base = np.random.default_rng(length).integers(1 << 63, size=100, dtype=np.uint64), 0x9E3779B97F4A7C15
    expected = [
        sum(int(values[i + j]) * base ** (length - 1 - j) for j in range(length)) % 2**64 for i in range(101 - length)
    ]
    assert rolling_hashes(values, length, base).tolist() == expected
    assert len(rolling_hashes(values[: length - 1], length, base)) == 0


def test_normal_forms() -> None:
    text = "Def  f(x_1,\n\ty):  # Größe 3.5\n"
    assert b" ".join(only_words(text.encode()).split()).decode() == "def fx1 y größe 35"
    assert only_characters(text.encode()).decode() == "Deffx1yGröße35"
