"""Near-duplicates: planted ones are dropped, others kept, as with a set of all lines; a full table is refused."""

import numpy as np
import pytest

from sweep.corpora.near_duplicates import LineTable, keep_new, line_hashes
from sweep.errors import SweepError


def kept_of(texts: list[str], table: LineTable) -> list[bool]:
    hashes = [line_hashes(text) for text in texts]
    lengths = np.array([len(lines) for lines in hashes])
    return keep_new(np.concatenate(hashes), lengths, table, 0.5).tolist()


def test_planted_near_duplicates_are_dropped_and_others_kept() -> None:
    lines = [f"some_variable_{number} = compute_something({number})" for number in range(40)]
    original = "\n".join(lines)
    twin = "\n".join([*lines[:35], "this_line_stands_nowhere_else = True"])
    cousin = "\n".join(lines[:10] + [f"other_line_of_its_own_{n} = {n}" for n in range(30)])
    assert kept_of([original, twin, cousin], LineTable(1 << 16)) == [True, False, True]


def test_training_documents_like_held_out_ones_are_dropped() -> None:
    held_out = "\n".join(f"a_held_out_line_number_{n} = {n}" for n in range(20))
    table = LineTable(1 << 16)
    assert kept_of([held_out], table) == [True]
    assert kept_of([held_out], table) == [False]


def test_documents_of_short_lines_are_told_apart_by_their_text() -> None:
    assert kept_of(["short\nlines", "other\nlines", "short\nlines"], LineTable(1 << 16)) == [True, True, False]


def test_the_table_decides_as_a_set_of_all_lines_does() -> None:
    random = np.random.default_rng(0)
    texts = [
        "\n".join(f"line number {n} of all that there are" for n in random.integers(0, 4000, 30)) for _ in range(600)
    ]
    seen: set[str] = set()
    expected = []
    for text in texts:
        lines = set(text.splitlines())
        expected.append(len(lines & seen) <= 0.5 * len(lines))
        seen |= lines if expected[-1] else set()
    assert kept_of(texts, LineTable.for_text(sum(map(len, texts)), 1 << 20)) == expected
    assert 100 < sum(expected) < 500


def test_the_odds_of_a_mistake_are_the_stated_ones() -> None:
    random = np.random.default_rng(1)
    table = LineTable(1 << 17)
    for _ in range(10):
        table.add(random.integers(0, 2**63, 1000).astype(np.uint64))
    fresh = random.integers(0, 2**63, 200_000).astype(np.uint64)
    expected = table.odds * len(fresh)
    assert abs(table.share_seen(fresh) * len(fresh) - expected) < 5 * np.sqrt(expected)


def test_a_full_table_is_refused() -> None:
    texts = ["\n".join(f"line {n} of the long document {d}" for n in range(200)) for d in range(100)]
    with pytest.raises(SweepError, match=r"odds(.*\n)*.*raise data.line_table_bytes"):
        kept_of(texts, LineTable(1 << 16))
