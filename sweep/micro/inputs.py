"""Arguments to test a function on: ordinary values, edges, and values around the function's own constants."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from sweep.micro.steps import ValueType

_WORDS = ("apple", "Banana", "cat", "DOG", "egg9", "fig", "42", "a", "level", "Noon", "x-y", "to_do", "u.v", "The End")
_FILLING = "abCd 12 Efg hij KLM no pQ rstu VwX yz abcdefg"


def draw_argument(kind: ValueType, constants: Sequence[int | str], rng: random.Random) -> Any:
    """An argument of this type; each of ``constants`` shapes it half of the time: is in it, its length, or near."""
    near = [constant for constant in constants if rng.random() < 0.5]
    numbers = [constant for constant in near if isinstance(constant, int)]
    texts = [constant for constant in near if isinstance(constant, str)]
    if kind == "int":
        return _draw_int(numbers, rng)
    return _draw_str(numbers, texts, rng) if kind == "str" else _draw_list(numbers, rng)


def _draw_int(near: list[int], rng: random.Random) -> int:
    if near:
        return rng.choice(near) * rng.choice((1, 1, 1, 2, 3)) + rng.choice((0, 0, -1, 1, rng.randint(-9, 9)))
    return rng.choice((0, 1, rng.randint(2, 20), rng.randint(2, 99), rng.randint(100, 2000), -rng.randint(1, 40)))


def _draw_str(lengths: list[int], parts: list[str], rng: random.Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    for part in parts:
        for _ in range(rng.choice((1, 1, 2))):
            words.insert(rng.choice((0, len(words))), part)
    text = rng.choice((" ", " ", "")).join(words)
    if lengths and not parts:
        text = (text + _FILLING)[: max(0, rng.choice(lengths) + rng.choice((-1, 0, 1, 3)))]
    changes: list[Callable[[str], str]] = [str, str, str, str.upper, str.lower, str.title, _mirrored]
    changes += [" {}  ".format, "  {}".format, "{} ".format]
    return rng.choice(changes)(text)


def _draw_list(near: list[int], rng: random.Random) -> list[int]:
    values = [rng.randint(-6, 12) for _ in range(rng.choice((0, 1, 3, 4, 5, 6, 8)))]
    for number in near:
        for _ in range(rng.choice((1, 1, 2))):
            values.insert(rng.randint(0, len(values)), number + rng.choice((0, 0, 0, 1, -1)))
        if number < 20 and rng.random() < 0.3:
            filled = values + [rng.randint(-6, 12) for _ in range(number + 1)]
            values = filled[: max(0, number + rng.choice((-1, 0, 1)))]
    changes: list[Callable[[list[int]], list[int]]] = [list, list, list, sorted, _mirrored, _nonzero]
    return rng.choice(changes)(values)


def _mirrored(sequence: Any) -> Any:
    return sequence + sequence[::-1]


def _nonzero(values: list[int]) -> list[int]:
    return [value for value in values if value]
