"""Which programs may share a process: every road out of a program makes it wild."""

import importlib
from types import BuiltinFunctionType

import pytest

from sweep.humaneval.problems import read_problems
from sweep.humaneval.tame import ALLOWED, is_tame


def tame(source: str) -> bool:
    return is_tame(compile(source, "program", "exec"))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    return sorted(set(x), key=lambda v: -v)",
        "from typing import List\nimport math\ndef f(x: List[int]):\n    return math.sqrt(sum(x))",
        "from collections import Counter, defaultdict\nd = defaultdict(list)\nd[1].append(2)\nc = Counter('ab')",
        "import re\nx = re.sub(r'a', 'b', 'aa')",
        "def f():\n    for _ in range(3):\n        yield _",
        "if __name__ == '__main__':\n    print(1)",
        "x = undefined_name",
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError(str(e)) from e",
        "from functools import lru_cache, reduce\n@lru_cache(None)\ndef f(n):\n    return n and f(n - 1)",
        "import itertools as it, heapq, bisect, string\nq = []\nheapq.heappush(q, 1)",
    ],
)
def test_plain_programs_are_tame(source: str) -> None:
    assert tame(source)


@pytest.mark.parametrize(
    "source",
    [
        *("import os", "import sys", "import random", "import collections.abc", "from typing import *"),
        *("import math\nmath.pi = 3", "import math\ndel math.pi", "class A: pass", "def f(x):\n    x.y = 1"),
        *("().__class__", "x._private", "f.__globals__", "__builtins__", "__import__('os')", "g.gi_frame"),
        *("getattr(x, 'y')", "setattr(x, 'y', 1)", "globals()", "vars(x)", "eval('1')", "exec('1')", "open('x')"),
        *("type('A', (), {})", "super()", "object()", "memoryview(b'')", "compile('', '', 'exec')", "input()"),
        *("import re\nre.enum", "import re\nre.copyreg.dispatch_table", "from collections import namedtuple"),
        *("import operator\noperator.attrgetter('x')", "from operator import methodcaller"),
        *("import functools\nfunctools.wraps(f)", "from functools import update_wrapper", "from typing import final"),
        *("import hashlib\nhashlib.algorithms_available.add('x')", "import string\nstring.Formatter"),
        *("import numbers", "import copy", "import builtins", "import collections\ncollections.abc"),
        *("from typing import Annotated", "from functools import GenericAlias", "from typing import ABCMeta"),
        *("match x:\n    case A(gi_frame=f): pass", "def f():\n    def g():\n        import os\n", "f.f_back"),
        *("lambda: [[__import__('os') for _ in x] for x in y]", "x: int = 3"),
    ],
)  # fmt: skip
def test_every_road_out_is_wild(source: str) -> None:
    assert not tame(source)


def test_an_import_behind_hundreds_of_names_is_seen() -> None:
    names = "\n".join(f"n{index}" for index in range(300))  # the import's argument then needs two bytes
    assert tame(f"{names}\nimport math")
    assert not tame(f"{names}\nimport os")


def test_no_public_name_of_the_allowed_modules_leads_out() -> None:
    """By the other road: try each attribute of each module, and see that none kept is a module or can be written to."""
    modules = {name: importlib.import_module(name) for name in ALLOWED}
    listed = [getattr(modules[module], name) for module, names in ALLOWED.items() for name in names.split()]
    kept = 0
    for module in ALLOWED:
        for name, value in vars(modules[module]).items():
            if tame(f"import {module}\n{module}.{name}"):
                kept += 1
                fixed = isinstance(value, str | float | BuiltinFunctionType)  # as cmath.sin, by math's name
                assert fixed or value in modules.values() or value in listed or module == "typing", (module, name)
    assert kept > 150


def test_most_canonical_solutions_are_tame() -> None:
    programs = [problem.prompt + (problem.canonical_solution or "") for problem in read_problems().values()]
    assert sum(map(tame, programs)) >= 155
