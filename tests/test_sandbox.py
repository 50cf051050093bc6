"""The sandbox as a whole: HumanEval's own solutions, hostile programs, the canary, and processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.humaneval import canary
from sweep.humaneval.checker import CPU_SECONDS, Checker
from sweep.humaneval.problems import Problem, read_problems
from sweep.humaneval.sandbox import Sandbox
from sweep.humaneval.worker import OPTIONS
from tests import hostile

PROBLEMS = read_problems()


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    with Sandbox(OPTIONS) as sandbox:
        yield Checker(PROBLEMS, sandbox)


def test_every_canonical_solution_passes(checker: Checker) -> None:
    verdicts = {task: checker.judge(task, problem.canonical_solution or "") for task, problem in PROBLEMS.items()}
    assert len(verdicts) == 164
    assert {task: verdict.result for task, verdict in verdicts.items() if not verdict.passed} == {}


@pytest.mark.parametrize("program", hostile.PROGRAMS, ids=lambda program: program[0])
def test_hostile_and_odd_programs(checker: Checker, program: hostile.Program) -> None:
    _, task, completion, must_pass = program
    verdict = checker.judge(task, completion)
    assert verdict.passed == must_pass, verdict.result
    assert checker.judge(hostile.ADD, "    return x + y\n").passed  # whatever it did, the next one is judged rightly


def test_one_program_leaves_nothing_for_the_next(checker: Checker) -> None:
    """Each first program would make the second pass if the two shared anything."""
    for first, second in [
        ("    return 0\nimport builtins\nbuiltins.secret = 1\n", "    return x + y + secret - 1\n"),
        ("    return 0\nimport math\nmath.secret = 1\n", "    import math\n    return x + y + math.secret - 1\n"),
        ("    return 0\nimport string\ns = string.Formatter()\nd = s.get_field('0.__globals__', [string.capwords], 0)\n"
         "d[0]['secret'] = 1\n", "    import string\n    return x + y + string.secret - 1\n"),
        ("    return 0\nglobal_secret = 1\n", "    return x + y + global_secret - 1\n"),
    ]:  # fmt: skip
        assert not checker.judge(hostile.ADD, first).passed
        verdict = checker.judge(hostile.ADD, second)
        assert "secret" in verdict.result, verdict.result


# Found by people who tried: each first program once changed what the second one saw in the process that they shared.
LEFT_BEHIND = {
    "a class by call, and copy": (
        "    return x + y\nimport copy, math\nfrom numbers import ABCMeta\n"
        "R = ABCMeta('R', (), {'__reduce_ex__': lambda s, p: ((lambda: math), (), (None, {'floor': lambda v: 7}))})\n"
        "copy.copy(R())\n",
        "    import math\n    return math.floor(x + y)\n",
        True,
    ),
    "a list that deepcopy shares": (
        "    return x + y\nimport copy\nfrom collections import namedtuple\nM = namedtuple('M', 'get')\n"
        "def grab(d, nil):\n    nil.append(lambda a, b: a + b)\ncopy.deepcopy([1], M(grab))\n",
        "    return G[0](x, y)\nimport copy\nfrom collections import namedtuple\nM = namedtuple('M', 'get')\nG = []\n"
        "def grab(d, nil):\n    G.extend(nil)\ncopy.deepcopy([1], M(grab))\n",
        False,
    ),
    "an attribute of a module": (
        "    return x + y\nimport typing, math\ntyping.Annotated[lambda: math, 'x']()\n",
        "    import math\n    return x + y if 'x' in '{0.__orig_class__}'.format(math) else 0\n",
        False,
    ),
    "a pattern in the cache": (
        "    return x + y\nimport re\nfrom numbers import ABCMeta\n"
        "E = ABCMeta('E', (int,), {'__hash__': lambda s: 0, '__eq__': lambda s, o: True})\n"
        "re.sub('[aeiou]', '', 'x', 0, E(2))\n",
        "    import re\n    return x + y if re.sub('[aeiou]', '', 'A') == '' else 0\n",
        False,
    ),
    "memory": (
        "    return x + y\nB = []\ndef fill():\n    try:\n        while True: B.append(bytes(1 << 24))\n"
        "    except MemoryError: pass\nfill()\nB.append(B)\n",
        "    try: z = bytes(500 << 20)\n    except MemoryError: return 0\n    return x + y\n",
        True,
    ),
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_a_program_leaves_behind_is_not_there_for_the_next(checker: Checker, name: str) -> None:
    first, second, is_right = LEFT_BEHIND[name]
    for _ in range(2):
        checker.judge(hostile.ADD, first)
        assert checker.judge(hostile.ADD, second).passed == is_right


def test_what_a_program_leaves_behind_does_not_run_in_the_next_ones_time(checker: Checker) -> None:
    """A generator that is freed runs its ``finally``; so would one in a cycle, at a collection of garbage."""
    forever = "    try:\n        yield\n    finally:\n        while True: pass\n"
    held = f"    return 0\ndef g():\n{forever}held = g()\nnext(held)\n"
    cycle = held + "held = [held]\nheld.append(held)\ndel held\n"
    for first in (held, cycle):
        assert checker.judge(hostile.ADD, first).result == "failed: AssertionError"
        garbage = "    for i in range(3000):\n        a = []\n        a.append(a)\n    return x + y\n"
        for _ in range(3):
            assert checker.judge(hostile.ADD, garbage).passed


def test_time_is_the_programs_own_not_the_clocks(checker: Checker) -> None:
    waits = "    import time\n    if (x, y) == (0, 1): time.sleep({})\n    return x + y\n"
    assert checker.judge(hostile.ADD, waits.format(2 * CPU_SECONDS)).passed
    burns = (
        "    import time\n    end = time.process_time() + {}\n    while time.process_time() < end: pass\n    return 0\n"
    )
    assert checker.judge(hostile.ADD, burns.format(4 * CPU_SECONDS)).result == "timed out"


def test_a_test_that_expects_an_error_gets_it() -> None:
    test = (
        "def check(candidate):\n    try:\n        candidate(-1)\n    except ValueError:\n        pass\n"
        "    else:\n        raise AssertionError('no error')\n    assert candidate(4) == 2\n"
    )
    problem = Problem("root", "def root(x):\n", "root", test, None)
    with Sandbox(OPTIONS) as sandbox:
        checker = Checker({"root": problem}, sandbox)
        body = "    if x < 0:\n        raise {}('negative')\n    return round(x ** 0.5)\n"
        assert checker.judge("root", body.format("ValueError")).passed
        assert checker.judge("root", "    class Negative(ValueError): pass\n" + body.format("Negative")).passed
        assert checker.judge("root", body.format("KeyError")).result == "failed: KeyError: 'negative'"
        assert checker.judge("root", "    return 2\n").result == "failed: AssertionError: no error"
        # What ends the test's own code is never handed to it: an exit is no ValueError, whatever it is called.
        assert not checker.judge("root", "    if x < 0:\n        raise SystemExit\n    return 2\n").passed


def test_a_problem_whose_solution_fails_is_named() -> None:
    problem = Problem(
        "Odd/1", "def one():\n", "one", "def check(candidate):\n    assert candidate() == 1\n", "    return 2\n"
    )
    with Sandbox(OPTIONS) as sandbox, pytest.raises(SweepError, match="Odd/1: its own solution fails"):
        Checker({"Odd/1": problem}, sandbox).judge("Odd/1", "    return 1\n")


def test_a_problem_that_looks_at_its_argument_is_named() -> None:
    test = "def check(candidate):\n    l = [3, 1]\n    candidate(l)\n    assert l == [1, 3]\n"
    problem = Problem("Odd/3", "def order(l):\n", "order", test, "    l.sort()\n")
    with Sandbox(OPTIONS) as sandbox, pytest.raises(SweepError, match=r"Odd/3: .* not across two"):
        Checker({"Odd/3": problem}, sandbox).judge("Odd/3", "    l.sort()\n")


def test_arguments_that_are_not_data_are_named() -> None:
    test = "def check(candidate):\n    assert candidate(lambda: 1) == 1\n"
    problem = Problem("Odd/2", "def run(f):\n", "run", test, "    return f()\n")
    with Sandbox(OPTIONS) as sandbox, pytest.raises(SweepError, match=r"Odd/2: .*not plain data"):
        Checker({"Odd/2": problem}, sandbox).judge("Odd/2", "    return f()\n")


def test_canary_finds_nothing_open_and_much_without_the_filter() -> None:
    with Sandbox(OPTIONS) as sandbox:
        assert canary.verify(sandbox, OPTIONS.memory_bytes, unsafe=False) == []
        assert sandbox.layers["seccomp"]
    with Sandbox(replace(OPTIONS, filter_system_calls=False)) as sandbox:
        allowed = canary.verify(sandbox, OPTIONS.memory_bytes, unsafe=True)
        assert "make a socket pair" in allowed
        assert not sandbox.layers.get("seccomp")
        with pytest.raises(SweepError, match=r"could: .*socket pair"):
            canary.verify(sandbox, OPTIONS.memory_bytes, unsafe=False)


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def descendants(pid: int) -> list[int]:
    found = children_of(pid)
    return found + [deeper for child in found for deeper in descendants(child)]


@pytest.mark.slow
def test_a_server_or_child_killed_from_outside_loses_no_verdict(checker: Checker) -> None:
    right, slow = "    return x + y\n", "    import time\n    time.sleep(0.02)\n    return x + y\n"
    for depth in range(3):  # the server's first process, the server, a child
        assert checker.judge(hostile.ADD, right).passed
        servers = children_of(os.getpid())
        family = [pid for server in servers for pid in (server, *descendants(server))]
        os.kill(family[min(depth, len(family) - 1)], signal.SIGKILL)
        assert checker.judge(hostile.ADD, right).passed
        assert checker.judge(hostile.ADD, slow).passed


def test_nothing_is_left_running_when_the_checker_is_killed() -> None:
    code = (
        "import os, time\nfrom sweep.humaneval.sandbox import Sandbox\nfrom sweep.humaneval.worker import OPTIONS\n"
        "s = Sandbox(OPTIONS)\ns.child('shared')\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        family = descendants(process.pid)
        assert len(family) >= 2
        process.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in family):
        time.sleep(0.05)
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
