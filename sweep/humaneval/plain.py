"""Plain data that cross from a child to the checker: numbers, text, containers of them, and nothing that acts.

JSON, in which a value of another type than null, bool, number, text or list is an object of one key, its type's
tag. What is not plain arrives as an ``Opaque``, which no test can get anything out of. A subclass (a float that
says it equals everything) arrives as its base class would hold it: its own methods stay behind.

``encode`` runs in the child, after the program: all it can spoil is its own answer. ``decode`` runs in the
checker on bytes that may be forged: it builds data and calls no method of theirs, and bounds depth and length.
"""

import array
import collections
import decimal
import fractions
import json
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 100
MAX_ITEMS = 200_000  # taken from an iterator or a range
MAX_HASHED = 10_000  # in sets and dictionaries: forged items can all have one hash, and cost the square of their number
MAX_INT_BITS = 1 << 16
MAX_DIGITS = 10_000  # of a decimal, before and after its point
MAX_BYTES = 1 << 20  # of a message
_JSON_INT_BITS = 64  # larger ones travel in hexadecimal, whose reading is linear in its length


class NotPlain(BaseException):
    """The value, or its encoding, is not plain data. Not an Exception: no test may swallow it."""


class Opaque:
    """A result that is not plain data. Every question put to it is the test's failure."""

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name

    def _refuse(self, *_: object) -> Any:
        raise NotPlain(f"the function returned a {self.type_name}, which is not plain data")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = __getitem__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __abs__ = __contains__ = __float__ = _refuse
    __int__ = __index__ = __str__ = __repr__ = __format__ = __next__ = __call__ = __round__ = _refuse
    __hash__ = _refuse


_EMPTY: dict[Any, Any] = {}
_KEYS, _VALUES, _ITEMS = type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items())


def encode(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON knows it. Raises NotPlain where it is too deep or too long."""
    if depth > MAX_DEPTH:
        raise NotPlain("nested too deeply")
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is int:
        return value if value.bit_length() <= _JSON_INT_BITS else {"int": hex(value)}
    if kind is list:
        return [encode(item, depth + 1) for item in value]
    tag = _TAGS.get(kind)
    if tag is not None:
        return {tag: _PARTS[tag](value, depth + 1)}
    if hasattr(kind, "__next__"):
        return {"iter": _drain(value, depth + 1)}
    for base, plain in _BASES:
        if issubclass(kind, base):
            return encode(plain(value), depth)
    return {"opaque": str(kind.__name__)[:80]}


def _items(value: Any, depth: int) -> list[Any]:
    return [encode(item, depth) for item in value]


def _pairs(value: dict[Any, Any], depth: int) -> list[Any]:
    return [[encode(key, depth), encode(item, depth)] for key, item in value.items()]


def _drain(value: Any, depth: int) -> list[Any]:
    items: list[Any] = []
    for item in value:
        if len(items) == MAX_ITEMS:
            raise NotPlain("an iterator without an end")
        items.append(encode(item, depth))
    return items


_TAGS: dict[type, str] = {
    **{tuple: "tuple", dict: "dict", set: "set", frozenset: "frozenset", bytes: "bytes", bytearray: "bytearray"},
    **{complex: "complex", range: "range", collections.deque: "deque", fractions.Fraction: "fraction"},
    **{decimal.Decimal: "decimal", array.array: "array", _KEYS: "keys", _VALUES: "values", _ITEMS: "items"},
}
_PARTS: dict[str, Callable[[Any, int], Any]] = {
    **dict.fromkeys(("tuple", "set", "frozenset", "deque", "keys", "values", "items"), _items),
    "dict": _pairs,
    "bytes": lambda value, _: value.hex(),
    "bytearray": lambda value, _: value.hex(),
    "complex": lambda value, _: [value.real, value.imag],
    "range": lambda value, _: [encode(part) for part in (value.start, value.stop, value.step)],
    "fraction": lambda value, _: [encode(value.numerator), encode(value.denominator)],
    "decimal": lambda value, _: str(value),
    "array": lambda value, depth: [value.typecode, _items(value, depth)],
}
# A subclass is read through its base's own methods, whatever it has put in their place.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, lambda value: int.__add__(value, 0)),
    (float, float.__float__),
    (str, lambda value: str.__add__(value, "")),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (collections.deque, lambda value: collections.deque(collections.deque.__iter__(value))),
    (bytes, lambda value: bytes.__add__(value, b"")),
    (complex, complex.__complex__),
    (fractions.Fraction, lambda value: fractions.Fraction(int(value.numerator), int(value.denominator))),
    (decimal.Decimal, decimal.Decimal),
    (collections.UserList, lambda value: list(list.__iter__(value.data))),  # equal to what they wrap
    (collections.UserString, lambda value: str.__add__(value.data, "")),
    (collections.UserDict, lambda value: dict(dict.items(value.data))),
)


def decode(message: bytes) -> Any:
    """The value of a child's answer. Raises NotPlain for whatever ``encode`` does not write."""
    if len(message) > MAX_BYTES:
        raise NotPlain(f"an answer of more than {MAX_BYTES >> 20} MiB")
    try:
        node = json.loads(message)
        if _num_hashed(node) > MAX_HASHED:
            raise NotPlain(f"sets and dictionaries of more than {MAX_HASHED} items")
        return _value(node, 0)
    except NotPlain:
        raise
    except (ValueError, TypeError, ArithmeticError, RecursionError, AttributeError, LookupError) as error:
        raise NotPlain(f"an answer that is not plain data ({type(error).__name__})") from None


def _value(node: Any, depth: int) -> Any:
    if depth > 2 * MAX_DEPTH:
        raise NotPlain("nested too deeply")
    if type(node) is list:
        return [_value(item, depth + 1) for item in node]
    if type(node) is not dict:
        return node
    ((tag, part),) = node.items()
    return _BUILDERS[tag](part, depth + 1)


def _integer(text: str, _: int = 0) -> int:
    if len(text) > MAX_INT_BITS // 4 + 4:
        raise NotPlain(f"an integer of more than {MAX_INT_BITS} bits")
    return int(text, 16)


def _decimal(text: str, _: int) -> decimal.Decimal:
    if type(text) is not str or len(text) > MAX_DIGITS:
        raise NotPlain(f"a decimal of more than {MAX_DIGITS} digits")
    value = decimal.Decimal(text)
    if value.is_finite() and abs(value.adjusted()) > MAX_DIGITS:  # as an integer it would fill the memory
        raise NotPlain(f"a decimal of more than {MAX_DIGITS} digits")
    return value


def _list(part: list[Any], depth: int) -> list[Any]:
    return [_value(item, depth) for item in part]


def _num_hashed(node: Any) -> int:
    """Items of all sets and dictionaries in a message, counted without recursion."""
    count, left = 0, [node]
    while left:
        node = left.pop()
        if type(node) is list:
            left += node
        elif type(node) is dict:
            count += sum(len(part) for tag, part in node.items() if tag in _HASHED and type(part) is list)
            left += node.values()
    return count


def _dict(part: list[Any], depth: int) -> dict[Any, Any]:
    return dict(_list(part, depth))


def _integers(part: list[Any], depth: int) -> list[int]:
    numbers = _list(part, depth)
    if any(type(number) is not int for number in numbers):
        raise NotPlain("a number where an integer belongs")
    return numbers


def _range(part: list[Any], depth: int) -> range:
    value = range(*_integers(part, depth))
    if value[MAX_ITEMS:]:
        raise NotPlain(f"a range of more than {MAX_ITEMS} numbers")
    return value


_HASHED = frozenset(("set", "frozenset", "dict", "keys", "items"))
_BUILDERS: dict[str, Callable[[Any, int], Any]] = {
    "int": _integer,
    "tuple": lambda part, depth: tuple(_list(part, depth)),
    "dict": _dict,
    "set": lambda part, depth: set(_list(part, depth)),
    "frozenset": lambda part, depth: frozenset(_list(part, depth)),
    "deque": lambda part, depth: collections.deque(_list(part, depth)),
    "keys": lambda part, depth: dict.fromkeys(_list(part, depth)).keys(),
    "values": lambda part, depth: dict(enumerate(_list(part, depth))).values(),
    "items": lambda part, depth: dict(_list(part, depth)).items(),
    "iter": lambda part, depth: iter(_list(part, depth)),
    "bytes": lambda part, _: bytes.fromhex(part),
    "bytearray": lambda part, _: bytearray.fromhex(part),
    "complex": lambda part, _: complex(*part),
    "range": _range,
    "fraction": lambda part, depth: fractions.Fraction(*_integers(part, depth)),
    "decimal": _decimal,
    "array": lambda part, depth: array.array(part[0], _list(part[1], depth)),
    "opaque": lambda part, _: Opaque(str(part)[:80]),
}
