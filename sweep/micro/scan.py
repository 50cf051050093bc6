"""Search training documents for what is evaluated, by reading their code: no use is made of how they were held out.

An evaluated problem is found in a document if one of its functions has the same argument and docstring, or returns the
same expression whatever the argument is called. Bodies of the form ``y = A; return B`` count as B with A for y. An
expression that is a single step without a constant, such as ``s.upper()``, stands in training by design, said in other
words or of an argument of another name.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from sweep.micro.problems import micro_problems
from sweep.micro.steps import STEPS


@dataclass(frozen=True)
class Hit:
    task_id: str
    kind: Literal["docstring", "expression"]
    document: str


def scan(documents: Iterable[str], problems: Iterable[Mapping[str, str]] | None = None) -> list[Hit]:
    """Evaluated problems (by default the whole set) that a document shows; empty if none does.

    Documents that are not Python are searched for the problems' prompts.
    """
    problems = list(micro_problems() if problems is None else problems)
    docstrings: dict[tuple[str, str], str] = {}
    expressions: dict[str, str] = {}
    for problem in problems:
        for said, meant in _functions(problem["prompt"] + problem["canonical_solution"]):
            docstrings[said] = problem["task_id"]
            if meant not in _PLAIN_EXPRESSIONS:
                expressions[meant] = problem["task_id"]
    hits = []
    for document in documents:
        try:
            functions = _functions(re.sub(r"^def \w+", "def f", document))  # many differ in the name alone
        except (SyntaxError, ValueError):
            hits += [Hit(p["task_id"], "docstring", document) for p in problems if p["prompt"] in document]
            continue
        for said, meant in functions:
            if said in docstrings:
                hits.append(Hit(docstrings[said], "docstring", document))
            if meant in expressions:
                hits.append(Hit(expressions[meant], "expression", document))
    return hits


class _Rename(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node)


def _normalised(expression: ast.expr, argument: str, local: dict[str, ast.expr]) -> str:
    """The expression's syntax tree with the argument called x and local names replaced by what they stand for."""
    x = ast.Name("x", ast.Load())
    inner = {name: _Rename({argument: x}).visit(value) for name, value in local.items()}
    return ast.unparse(_Rename({argument: x, **inner}).visit(expression))


@lru_cache(maxsize=100_000)
def _functions(text: str) -> list[tuple[tuple[str, str], str]]:
    """Of each function of one argument: (argument, docstring) and its normalised expression."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and len(node.args.args) == 1:
            argument, docstring = node.args.args[0].arg, ast.get_docstring(node) or ""
            local = {
                line.targets[0].id: line.value
                for line in node.body
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
            }
            returned = next((line.value for line in node.body if isinstance(line, ast.Return) and line.value), None)
            if returned is not None:
                found.append(((argument, docstring), _normalised(returned, argument, local)))
    return found


def _plain_expressions() -> set[str]:
    plain = (step.expression.replace("{x}", "x") for step in STEPS if step.constant is None)
    return {ast.unparse(ast.parse(text, mode="eval")) for text in plain}


_PLAIN_EXPRESSIONS = _plain_expressions()
