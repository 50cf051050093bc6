"""Arguments to test a function on: ordinary values, edges, and values around the function's own constants."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from sweep.micro.steps import ValueType

_WORDS = "apple Banana cat DOG egg9 fig 42 a level Noon x-y to_do red,green u.v The end".split()


def draw_argument(kind: ValueType, constants: Sequence[int | str], rng: random.Random) -> Any:
    """One argument of this type; half of the draws are built around one of ``constants``."""
    return _DRAW[kind]([c for c in constants if rng.random() < 0.5], rng)


def _draw_int(near: list[int | str], rng: random.Random) -> int:
    numbers = [c for c in near if isinstance(c, int)]
    if not numbers:
        return rng.choice((0, 1, rng.randint(2, 20), rng.randint(2, 99), rng.randint(100, 2000), -rng.randint(1, 40)))
    return rng.choice(numbers) * rng.choice((1, 1, 1, 2, 3)) + rng.choice((0, 0, -1, 1, rng.randint(-9, 9)))


def _draw_str(near: list[int | str], rng: random.Random) -> str:
    words = [rng.choice(_WORDS) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    texts = [c for c in near if isinstance(c, str)]
    for text in texts:
        for _ in range(rng.choice((1, 1, 2))):
            words.insert(rng.choice((0, len(words))), text)
    text = rng.choice((" ", " ", "")).join(words)
    numbers = [c for c in near if isinstance(c, int) and 0 < c < 40]
    if numbers and not texts:
        text = (text + "abCd 12 Efg hij KLM no pQ rstu VwX yz abcdefg")[: rng.choice(numbers) + rng.choice((-1, 0, 1, 3))]
    changes: tuple[Callable[[str], str], ...] = (str, str, str, str.upper, str.lower, str.title, _pad, _mirror, str.split)  # type: ignore[assignment]
    changed = rng.choice(changes)(text)
    return changed if isinstance(changed, str) else "".join(changed)


def _pad(text: str) -> str:
    return f"  {text} "


def _mirror(text: str) -> str:
    return text + text[::-1]


def _draw_list(near: list[int | str], rng: random.Random) -> list[int]:
    values = [rng.randint(-6, 12) for _ in range(rng.choice((0, 1, 3, 4, 5, 6, 8)))]
    for number in (c for c in near if isinstance(c, int)):
        for _ in range(rng.choice((1, 1, 2))):
            values.insert(rng.randint(0, len(values)), number + rng.choice((0, 0, 0, 1, -1)))
        if number < 20 and rng.random() < 0.3:
            values = (values + [rng.randint(-6, 12) for _ in range(number + 1)])[: number + rng.choice((-1, 0, 1))]
    return rng.choice((list, list, list, sorted, _mirrored, _nonzero))(values)


def _mirrored(values: list[int]) -> list[int]:
    return values + values[::-1]


def _nonzero(values: list[int]) -> list[int]:
    return [value for value in values if value]


_DRAW: dict[ValueType, Callable[[list[int | str], random.Random], Any]] = {
    "int": _draw_int,
    "str": _draw_str,
    "list": _draw_list,
}
