"""Compose steps into small functions, say them in words and in Python, and tell what is held out.

A function is held out or trained on by the hash of what is said (its docstring) and of what is meant (its
expression). Evaluated functions have both in the held-out part, training examples neither. So no training
example has the docstring or, under another name of the argument, the expression of an evaluated one; a single step
without a constant is held out by its docstring alone.
"""

import hashlib
import random
import re
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Literal, TypeVar

from sweep.micro.facts import FACTS, LITERALS, Fact
from sweep.micro.steps import STEPS, Step, ValueType

T = TypeVar("T")
Form = Literal["one", "given", "two", "three", "choice"]
FORMS: dict[Form, float] = {"one": 0.72, "given": 0.12, "two": 0.1, "three": 0.02, "choice": 0.04}  # shares
FACT_SHARE = 0.6  # of the constants; the others stand in the docstring as they are
RARE_PHRASE_SHARE = 0.25  # of a step's second phrase
_DEPTH = {"one": 1, "given": 2, "two": 2, "three": 3}  # "given" is "two" whose first step stands in the prompt
_HELD_OUT_PART = 8  # one docstring, and one expression, in so many

# The argument's name, the commonest first, tells its type.
VARIABLES: dict[ValueType, tuple[str, ...]] = {
    "int": ("x", "n", "i", "a", "k"),
    "str": ("s", "name", "t", "key", "line"),
    "list": ("data", "args", "xs", "row", "res"),
}
_NAME_WORDS = (
    *("f", "g", "get", "run", "call", "value", "method", "mode", "shape", "option", "use", "key", "node", "pre", "out"),
    *("sub", "log", "test", "add", "read", "make", "find", "next", "part", "index", "base", "item", "core", "size"),
    *("end", "time", "code", "step", "unit", "path", "word"),
)
VARIABLE_IN_PROMPT = "y"


@dataclass(frozen=True)
class Composition:
    """What a function does, whatever it and its argument are called and however it is said."""

    form: Form
    steps: tuple[Step, ...]
    constants: tuple[Fact | None, ...]  # one for each step

    @property
    def takes(self) -> ValueType:
        return self.steps[0].takes

    @property
    def is_plain(self) -> bool:
        """Whether it is a single step without a constant."""
        return len(self.steps) == 1 and self.constants[0] is None

    def filled_steps(self) -> list[str]:
        """Each step's expression with its constant, still of ``{x}``."""
        pairs = zip(self.steps, self.constants, strict=True)
        return [step.expression.replace("{c}", repr(fact.constant) if fact else "") for step, fact in pairs]

    def expression(self, variable: str) -> str:
        """The whole function as one expression."""
        filled = self.filled_steps()
        if self.form == "choice":
            condition, yes, no = (text.replace("{x}", variable) for text in filled)
            return f"{yes} if {condition} else {no}"
        return nested(filled, variable)


def nested(filled: list[str], variable: str) -> str:
    """Steps applied one after the other, the first one innermost."""
    inner = variable
    for outer in filled:
        if re.search(r"^[-~]| ", _without_brackets(inner)):  # an operator that the outer step may not split
            outer = re.sub(r"(?<!\()\{x\}|\{x\}(?![),])", "({x})", outer)  # but not what is an argument already
        inner = outer.replace("{x}", inner)
    return inner


def _without_brackets(text: str) -> str:
    while (shorter := re.sub(r"\([^()]*\)|\[[^\[\]]*\]|'[^']*'", "", text)) != text:
        text = shorter
    return text


@dataclass(frozen=True)
class Function:
    """A composition with a name, an argument's name and one of the phrases of each step."""

    composition: Composition
    name: str
    variable: str
    phrasing: tuple[int, ...]

    @property
    def docstring(self) -> str:
        composition = self.composition
        texts = [
            step.phrases[index].replace("{c}", fact.phrase if fact else "")
            for step, index, fact in zip(composition.steps, self.phrasing, composition.constants, strict=True)
        ]
        if composition.form == "choice":
            condition, yes, no = (text.replace("{x}", self.variable) for text in texts)
            return f"{yes} if {condition.removeprefix('if ')} else {no}"
        said = self.variable
        for text in texts:
            said = text.replace("{x}", said)
        return said

    @property
    def prompt(self) -> str:
        """Everything up to the expression; the last token, " return", borders on a space."""
        given = ""
        if self.composition.form == "given":
            first = self.composition.filled_steps()[0].replace("{x}", self.variable)
            given = f"    {VARIABLE_IN_PROMPT} = {first}\n"
        return f'def {self.name}({self.variable}):\n    """{self.docstring}"""\n{given}    return'

    @property
    def solution(self) -> str:
        if self.composition.form == "given":
            return f" {self.composition.filled_steps()[1].replace('{x}', VARIABLE_IN_PROMPT)}\n"
        return f" {self.composition.expression(self.variable)}\n"

    @property
    def text(self) -> str:
        return self.prompt + self.solution

    @property
    def hold_out_keys(self) -> list[str]:
        """What is said and, unless it is a single step without a constant, what is meant."""
        composition = self.composition
        return [self.docstring] if composition.is_plain else [self.docstring, composition.expression("x")]

    @property
    def is_evaluable(self) -> bool:
        return all(_in_held_out_part(key) for key in self.hold_out_keys)

    @property
    def is_trainable(self) -> bool:
        return not any(_in_held_out_part(key) for key in self.hold_out_keys)


def _in_held_out_part(key: str) -> bool:
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT_PART == 0


# ---- drawing ----------------------------------------------------------------------------------


def zipf(rank: int, exponent: float) -> float:
    """Weight of the item of this rank (from 1), a little flatter at the top than Zipf's own law."""
    return (rank + 1.0) ** -exponent


def _ranks(items: tuple[T, ...]) -> dict[T, int]:
    """A rank for each item, drawn once and for all, so that every kind of item is common and rare alike."""
    order = list(items)
    random.Random(0).shuffle(order)
    return {item: rank for rank, item in enumerate(order, start=1)}


# Zipf: the learner of a mixture like this improves smoothly, since there is always something that is just
# frequent enough to be learned next (Michaud et al. 2023).
STEP_WEIGHTS = {step: zipf(rank, 1.35) for step, rank in _ranks(STEPS).items()}
FACT_WEIGHTS = {fact: zipf(rank, 1.0) for fact, rank in _ranks(FACTS).items()}


class Grammar:
    """Draws functions, each independent of the others; the same seed draws the same ones."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)

    def function(self) -> Function:
        composition = self._composition()
        variables = VARIABLES[composition.takes]
        return Function(
            composition=composition,
            name=self._name(),
            variable=self._rng.choices(variables, [rank**-2.0 for rank in range(1, len(variables) + 1)])[0],
            phrasing=tuple(int(self._rng.random() < RARE_PHRASE_SHARE) for _ in composition.steps),
        )

    def _composition(self) -> Composition:
        form = self._rng.choices(list(FORMS), list(FORMS.values()))[0]
        takes = self._rng.choice(tuple(VARIABLES))
        if form == "choice":
            steps = [self._step(takes, ("bool",)), self._step(takes, (takes,)), self._step(takes, (takes,))]
            while steps[2] == steps[1]:
                steps[2] = self._step(takes, (takes,))
        else:
            steps = []
            for left in reversed(range(_DEPTH[form])):  # nothing is done to a bool: it comes last or not at all
                gives: tuple[ValueType, ...] = ("int", "str", "list") if left else ("int", "str", "list", "bool")
                steps.append(self._step(steps[-1].gives if steps else takes, gives))
        return Composition(form, tuple(steps), tuple(self._constant(step) for step in steps))

    def _step(self, takes: ValueType, gives: tuple[ValueType, ...]) -> Step:
        steps, sums = _steps_between(takes, gives)
        return self._rng.choices(steps, cum_weights=sums)[0]

    def _constant(self, step: Step) -> Fact | None:
        if step.constant is None:
            return None
        facts, sums = _constants(step.constant, self._rng.random() < FACT_SHARE)
        return self._rng.choices(facts, cum_weights=sums)[0]

    def _name(self) -> str:
        """One word half of the time; enough others that no training example need come twice."""
        words = self._rng.choices(_NAME_WORDS, k=2)
        length = self._rng.random()
        if length < 0.5 or words[0] == words[1]:
            return words[0]
        return "_".join(words if length < 0.85 else [*words, str(self._rng.randrange(10))])


@cache
def _steps_between(takes: ValueType, gives: tuple[ValueType, ...]) -> tuple[list[Step], list[float]]:
    steps = [step for step in STEPS if step.takes == takes and step.gives in gives]
    return steps, list(accumulate(STEP_WEIGHTS[step] for step in steps))


@cache
def _constants(kind: str, from_facts: bool) -> tuple[list[Fact], list[float]]:
    facts = [fact for fact in (FACTS if from_facts else LITERALS) if fact.type == kind]
    weights = [FACT_WEIGHTS[fact] if from_facts else 1.0 / (index + 1) for index, fact in enumerate(facts)]
    return facts, list(accumulate(weights))
