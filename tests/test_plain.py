"""Plain data across the border: what comes back equals what went in, and forged messages give no value."""

import array
import collections
import decimal
import enum
import fractions
import json
import math
from typing import Any, NamedTuple

import pytest

from sweep.humaneval.plain import MAX_BYTES, MAX_DEPTH, MAX_HASHED, NotPlain, Opaque, decode, encode


def across(value: Any) -> Any:
    return decode(json.dumps(encode(value)).encode())


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 3


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -7, 2**63, 2**64, -(2**70), 10**4000, 0.1, -0.0, math.inf, 1e-320, 3 + 4j, b"\0\xff"),
        *("", "ä\0\ud800", [], [1, [2, (3,)]], (), {1: [2], "a": (1, 2)}, {(1, 2): {3}}, set(), frozenset({1, (2,)})),
        *(bytearray(b"ab"), range(3, 30, 4), fractions.Fraction(-3, 7), decimal.Decimal("1.10"), float("-inf")),
        *(collections.deque([1, 2]), [True, 1, 1.0], array.array("q", [1, -(2**60)]), array.array("d", [0.5])),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_comes_back_is_of_the_same_type_and_value(value: Any) -> None:
    back = across(value)
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)  # -0.0, 1 against True inside of lists


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, 2), (1, 2)),
        (Colour.RED, 3),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict([(1, 2)]), {1: 2}),
        (collections.defaultdict(list, {1: [2]}), {1: [2]}),
        (collections.UserList([1, (2,)]), [1, (2,)]),
        (collections.UserDict({1: [2]}), {1: [2]}),
        (collections.UserString("ab"), "ab"),
        (type("Text", (str,), {"__str__": lambda self: "forged"})("real"), "real"),
        (type("Number", (float,), {"__float__": lambda self: 0.0, "__eq__": lambda *_: True})(2.5), 2.5),
        (type("Items", (list,), {"__iter__": lambda self: iter([9])})([1, 2]), [1, 2]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_is_read_through_its_base(value: Any, plain: Any) -> None:
    assert across(value) == plain
    assert type(across(value)) is type(plain)


def test_views_and_iterators_keep_their_kind() -> None:
    assert across({1: 2}.keys()) == {1}
    assert list(across({1: [2]}.values())) == [[2]]
    assert across({1: 2}.items()) == {(1, 2)}
    for iterator in (map(abs, [-1]), iter([1]), (v for v in [1]), filter(None, [0, 1]), zip("a", "b", strict=True)):
        back = across(iterator)
        assert len(list(back)) == 1
        assert next(back, "empty") == "empty"


@pytest.mark.parametrize(
    "question",
    [
        lambda o: o == 1, lambda o: o != 1, lambda o: o < 1, bool, len, list, str, repr, lambda o: o[0],
        lambda o: o + 1, lambda o: 1 + o, lambda o: o - 1, lambda o: 1 - o, abs, float, int, round, hash,
        lambda o: o in [1],
        lambda o: [o, 2] == [1, 2], lambda o: f"{o}", lambda o: 1 in o, lambda o: o(), next, sorted, set,
    ],
)  # fmt: skip
def test_nothing_can_be_learnt_from_what_is_not_plain(question: Any) -> None:
    opaque = across(object())
    assert isinstance(opaque, Opaque)
    with pytest.raises(NotPlain, match="returned a object"):
        if question is set:
            question([opaque])
        else:
            question(opaque)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_bounded_on_both_sides() -> None:
    assert across(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(NotPlain, match="deep"):
        encode(nested(MAX_DEPTH + 1))
    for forged in ("[" * 1000 + "]" * 1000, "[" * 100_000 + "]" * 100_000, '{"tuple": [' * 300 + "]}" * 300):
        with pytest.raises(NotPlain):
            decode(forged.encode())


@pytest.mark.parametrize(
    "forged",
    [
        *('{"a": 1}', "{}", '{"tuple": 3}', '{"int": "zz"}', '{"int": 5}', '{"set": [[1]]}', '{"set": [{"set": []}]}'),
        *('{"fraction": [1, 0]}', '{"fraction": ["x"]}', '{"range": [1, 2, 0]}', '{"range": [0, 1000000000000]}'),
        *('{"bytes": "0"}', '{"complex": [1, 2, 3]}', '{"dict": [[1]]}', '{"dict": [[[], 1]]}', '{"decimal": "x"}'),
        *('{"fraction": [{"decimal": "1E+99999999"}]}', '{"fraction": ["1e999999999"]}', '{"range": ["1"]}'),
        *('{"decimal": [0, [1], 999999999]}', '{"decimal": "1E+99999999"}', '{"fraction": [0.5]}'),
        *('{"tuple": [], "set": []}', '{"__class__": "os"}', "\\", "", "1 2", "9" * 5000, '{"decimal": null}'),
        *(
            '{"array": 3}',
            '{"array": ["q"]}',
            '{"array": ["?", []]}',
            '{"array": ["q", [0.5]]}',
            '{"array": ["b", [300]]}',
        ),
        '{"int": "0x' + "f" * 20_000 + '"}',
        '{"decimal": "' + "1" * 20_000 + '"}',
        '{"set": [' + ",".join(map(str, range(MAX_HASHED + 1))) + "]}",
        '{"dict": [' + ",".join(f"[{n}, 1]" for n in range(MAX_HASHED + 1)) + "]}",
        "[" + ",".join('{"set": [' + ",".join(map(str, range(4000))) + "]}" for _ in range(3)) + "]",
        '"' + "x" * MAX_BYTES + '"',
    ],
    ids=lambda text: text[:30],
)
def test_a_forged_message_gives_no_value(forged: str) -> None:
    with pytest.raises(NotPlain):
        decode(forged.encode())


def test_a_message_in_another_encoding_gives_no_value() -> None:
    with pytest.raises(NotPlain):
        decode(b"\xff\xfe\x00")
