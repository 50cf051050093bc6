"""The evaluated problems, in HumanEval's format, each with a test that trivial and near answers fail.

A problem is a function whose last line is to be finished. What makes it easy or hard is how common its steps and facts
are in training, how many of them it has, and how much of the line is left to write. Problems are drawn as training
examples are, so what they ask is spread over as many decades of frequency.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from sweep.micro.facts import Fact
from sweep.micro.grammar import VARIABLE_IN_PROMPT, Composition, Function, Grammar, nested
from sweep.micro.inputs import draw_argument
from sweep.micro.steps import STEPS

NUM_PROBLEMS = 180
MAX_CHARS = 190  # of prompt and solution: about 80 tokens
_SEED = "micro problems 1"
# Pieces (words, numbers, runs of signs) left to write, and how often; None leaves the whole expression.
_PIECES_LEFT: dict[int | None, float] = {1: 0.5, 2: 0.27, 3: 0.13, 4: 0.05, None: 0.05}
_PIECE = re.compile(r" ?[A-Za-z_]+| ?\d+| ?[^\s\w]+")
_TRIED_ARGUMENTS = 120
_MIN_ASSERTS, _MAX_ASSERTS = 8, 14
_MAX_CASE_CHARS = 160
_EDGES: dict[str, list[Any]] = {"int": [0, -1], "str": [""], "list": [[]]}


@cache
def micro_problems() -> tuple[dict[str, str], ...]:
    """The problem set: HumanEval's fields, all values text, the same on every machine."""
    rng = random.Random(_SEED)
    grammar = Grammar(_SEED)
    problems: list[dict[str, str]] = []
    seen: set[str] = set()
    while len(problems) < NUM_PROBLEMS:
        function = grammar.function()
        if not function.is_evaluable or len(function.text) > MAX_CHARS or function.docstring in seen:
            continue
        shown, left = _split(function, rng)
        problem = make_problem(function, shown, left, f"Micro/{len(problems)}", rng)
        if problem is not None:
            seen.add(function.docstring)
            problems.append(problem)
    return tuple(problems)


def _split(function: Function, rng: random.Random) -> tuple[str, str]:
    """What the prompt shows of the solution, and what is left: more than brackets and the argument."""
    solution = function.solution
    left = rng.choices(list(_PIECES_LEFT), list(_PIECES_LEFT.values()))[0]
    starts = [match.start() for match in _PIECE.finditer(solution)]
    place = max(0, len(starts) - left) if left else 0
    given = re.compile(rf"[\s()'\[\]]|\b({function.variable}|{VARIABLE_IN_PROMPT})\b")
    while place > 0 and not given.sub("", solution[starts[place] :]):
        place -= 1
    return solution[: starts[place]], solution[starts[place] :]


def make_problem(function: Function, shown: str, left: str, task_id: str, rng: random.Random) -> dict[str, str] | None:
    """HumanEval's fields for ``function``, or None if no short test can tell it from a simpler function.

    The arguments of the test are chosen so that all of these fail: returning the argument or a constant, any
    single step in place of the function, leaving out a step, a number that is one or two off.
    """
    cases = _cases(function.composition, rng)
    values = [value for _, value in cases]
    rivals = [outcomes for outcomes in _rival_outcomes(function.composition, cases) if outcomes != values]
    telling = _telling_cases(cases, rivals)
    if telling is None:
        return None
    asserts = "".join(f"    assert candidate({argument!r}) == {value!r}\n" for argument, value in telling)
    return {
        "task_id": task_id,
        "prompt": function.prompt + shown,
        "entry_point": function.name,
        "canonical_solution": left,
        "test": f"def check(candidate):\n{asserts}",
    }


def _cases(composition: Composition, rng: random.Random) -> list[tuple[Any, Any]]:
    """Arguments for which the function has a value, none twice, each with that value."""
    constants = [fact.constant for fact in composition.constants if fact]
    compute = _compiled(composition.expression("x"))
    cases: dict[str, tuple[Any, Any]] = {}
    drawn = [draw_argument(composition.takes, constants, rng) for _ in range(_TRIED_ARGUMENTS)]
    for argument in (*_EDGES[composition.takes], *drawn):
        value = _value(compute, argument)
        if value is not _RAISED and len(repr((argument, value))) <= _MAX_CASE_CHARS:
            cases.setdefault(repr(argument), (argument, value))
    return list(cases.values())


_RAISED = object()


def _compiled(expression: str) -> Callable[[Any], Any]:
    return eval(f"lambda x: {expression}")  # an expression of our own lexicon


def _value(compute: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return compute(argument)
    except (ValueError, IndexError, ArithmeticError, TypeError, AttributeError):
        return _RAISED


def _rival_outcomes(composition: Composition, cases: list[tuple[Any, Any]]) -> list[list[Any]]:
    """What simpler or near functions return for the same arguments.

    These are the argument, any one step, any step left out, and another constant.
    """
    facts = [fact for fact in composition.constants if fact]
    rivals = {"x"}
    for step in STEPS:
        if step.takes == composition.takes:
            constants = [repr(fact.constant) for fact in facts if fact.type == step.constant] if step.constant else [""]
            rivals |= {step.expression.replace("{c}", constant).replace("{x}", "x") for constant in constants}
    rivals |= {other.expression("x") for other in _with_other_constants(composition)}
    filled = composition.filled_steps()
    if composition.form == "choice":
        rivals |= {text.replace("{x}", "x") for text in filled}
    else:
        rivals |= {nested([*filled[:out], *filled[out + 1 :]], "x") for out in range(len(filled))}
    return [[_value(compute, argument) for argument, _ in cases] for compute in map(_compiled, sorted(rivals))]


def _with_other_constants(composition: Composition) -> Iterator[Composition]:
    for place, fact in enumerate(composition.constants):
        if fact and isinstance(fact.constant, int):
            for difference in (-2, -1, 1, 2):
                other = Fact(fact.phrase, fact.constant + difference)
                constants = (*composition.constants[:place], other, *composition.constants[place + 1 :])
                yield replace(composition, constants=constants)


def _telling_cases(cases: list[tuple[Any, Any]], rivals: list[list[Any]]) -> list[tuple[Any, Any]] | None:
    """Few cases that tell the function from every rival, then more with values not yet seen; None if none do."""
    kills = [
        {index for index, rival in enumerate(rivals) if not _same(rival[case], value)}
        for case, (_, value) in enumerate(cases)
    ]
    alive, chosen = set(range(len(rivals))), list[int]()
    if cases:  # an edge, if the function has a value for it
        chosen.append(0)
        alive -= kills[0]
    while alive:
        best = max(range(len(cases)), key=lambda case: len(kills[case] & alive))
        if not kills[best] & alive or len(chosen) == _MAX_ASSERTS:
            return None
        chosen.append(best)
        alive -= kills[best]
    for only_new in (True, False):
        for case, (_, value) in enumerate(cases):
            is_new = not any(_same(value, cases[other][1]) for other in chosen)
            if len(chosen) < _MIN_ASSERTS and case not in chosen and (is_new or not only_new):
                chosen.append(case)
    telling = [cases[case] for case in sorted(chosen)]
    is_constant = all(_same(value, telling[0][1]) for _, value in telling)
    return None if len(telling) < _MIN_ASSERTS or is_constant else telling


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b
