"""Programs as a model would write them: HumanEval's own solutions, broken in one place each, by a seed.

Classes: *broken* (does not compile, or fails at once on a wrong name), *wrong* (compiles, and something in it is
another operator, constant, condition or order), *right* (the solution, perhaps under other names), *endless*.
"""

import ast
import random
from collections.abc import Callable

from sweep.humaneval.problems import Problem

ENDLESS = "    while True:\n        pass\n"
_OPERATORS = [ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod]
_COMPARISONS = [ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq]


def right(problem: Problem, generator: random.Random) -> str:
    solution = problem.canonical_solution or ""
    tail = generator.choice(["", "# done\n", f"unused = {generator.random()}\n"])
    return solution + "\n" * generator.randrange(3) + tail


def broken(problem: Problem, generator: random.Random) -> str:
    """Cut short in the middle of a token, a bracket too many, or a name that is not there."""
    solution = problem.canonical_solution or ""
    kind = generator.randrange(4)
    if kind == 0:
        return solution[: generator.randrange(5, max(6, len(solution) - 2))].rstrip() + " ("
    if kind == 1:
        lines = solution.split("\n")
        lines.insert(generator.randrange(len(lines)), "   x = = 3")
        return "\n".join(lines)
    return f"    {generator.choice(['result', 'total', 'helper(1)', 'nums'])}{generator.randrange(10**6)}\n" + solution


def wrong(problem: Problem, generator: random.Random) -> str:
    """One operator, comparison, constant, condition or statement of the solution replaced."""
    tree = ast.parse(problem.prompt + (problem.canonical_solution or ""))
    function = next(
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point
    )
    first = 1 if isinstance(function.body[0], ast.Expr) and isinstance(function.body[0].value, ast.Constant) else 0
    function.body = function.body[first:]
    changes = [change for node in function.body for inner in ast.walk(node) for change in _changes(inner, generator)]
    changes += [lambda: _drop(function, generator)] if len(function.body) > 1 else []
    generator.choice(changes or [lambda: _replace_result(function)])()
    body = ast.unparse(ast.fix_missing_locations(ast.Module(function.body, [])))
    return "\n".join("    " + line for line in body.split("\n")) + "\n"


def endless(problem: Problem, generator: random.Random) -> str:
    return f"    # {generator.random()}\n" + ENDLESS + (problem.canonical_solution or "")


def mixed(problems: list[Problem], shares: dict[str, float], count: int, seed: int) -> list[tuple[str, str, str]]:
    """(class, task id, completion), ``count`` of them with the classes' shares."""
    makers: dict[str, Callable[[Problem, random.Random], str]] = {
        **{"broken": broken, "wrong": wrong, "right": right, "endless": endless}
    }
    generator = random.Random(seed)
    kinds = [kind for kind, share in shares.items() for _ in range(round(share * count))]
    generator.shuffle(kinds)
    samples = []
    for kind in kinds:
        problem = generator.choice(problems)
        samples.append((kind, problem.task_id, makers[kind](problem, generator)))
    return samples


def _changes(node: ast.AST, generator: random.Random) -> list[Callable[[], None]]:
    changes: list[Callable[[], None]] = []
    if isinstance(node, ast.BinOp):
        others = [kind for kind in _OPERATORS if not isinstance(node.op, kind)]
        changes.append(lambda: setattr(node, "op", generator.choice(others)()))
    if isinstance(node, ast.Compare):
        changes.append(lambda: node.ops.__setitem__(0, generator.choice(_COMPARISONS)()))
    if isinstance(node, ast.Constant) and type(node.value) is int:
        changes.append(lambda: setattr(node, "value", node.value + generator.choice([-1, 1, 2])))  # type: ignore[operator]
    if isinstance(node, ast.Constant) and type(node.value) is str:
        changes.append(lambda: setattr(node, "value", node.value + " "))  # type: ignore[operator]
    if isinstance(node, ast.If | ast.IfExp):
        changes.append(lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test)))
    if isinstance(node, ast.Call) and len(node.args) > 1:
        changes.append(node.args.reverse)
    if isinstance(node, ast.Return) and node.value is not None:
        changes.append(lambda: setattr(node, "value", None))
    return changes


def _drop(function: ast.FunctionDef, generator: random.Random) -> None:
    del function.body[generator.randrange(len(function.body))]


def _replace_result(function: ast.FunctionDef) -> None:
    function.body = [ast.Return(ast.Constant(None))]
