"""Programs that try to pass without being right, to harm, or to look wrong though they are right.

Each is (name, task of HumanEval, completion, must it pass). They are grouped by what they try; the sandbox has to
close the group, so a new idea for a program belongs here even if it is judged rightly at once.
"""

ADD = "HumanEval/53"  # add(x, y)
CLOSE = "HumanEval/0"  # has_close_elements(numbers, threshold) -> bool
SORT_THIRD = "HumanEval/33"
GREATEST = "HumanEval/35"  # max_element
PRIMES = "HumanEval/31"

Program = tuple[str, str, str, bool]


def wrong(name: str, completion: str, task: str = ADD) -> Program:
    return name, task, completion, False


def right(name: str, completion: str, task: str = ADD) -> Program:
    return name, task, completion, True


FORGED = [
    wrong("exit at import", "    return 0\nimport os\nos._exit(0)\n"),
    wrong("exit in the call", "    import os\n    os._exit(0)\n"),
    wrong("quit in the call", "    raise SystemExit(0)\n"),
    wrong("interrupt", "    raise KeyboardInterrupt\n"),
    wrong("exit handler", "    return 0\nimport atexit, os\natexit.register(os._exit, 0)\n"),
    wrong("equal to everything", "    class E:\n        __eq__ = lambda s, o: True\n    return E()\n"),
    wrong("unequal to nothing", "    class E(int):\n        __eq__ = lambda s, o: True\n    return E(-1)\n"),
    wrong("true list", "    class E(list):\n        __eq__ = lambda s, o: True\n    return E()\n", PRIMES),
    wrong(
        "claims a class", "    class E:\n        __class__ = int\n        __eq__ = lambda s, o: True\n    return E()\n"
    ),
    wrong("its own check", "    return 0\ndef check(candidate):\n    pass\n"),
    wrong("patches abs", "    import builtins\n    builtins.abs = lambda v: 0\n    return 9.0\n", "HumanEval/2"),
    wrong(
        "patches the test's sort", "    import builtins\n    builtins.tuple = lambda v: 0\n    return l\n", SORT_THIRD
    ),
    wrong("no more assertions", "    import builtins\n    builtins.AssertionError = None\n    return 0\n"),
    wrong("stop of iteration", "    raise StopIteration\n"),
    wrong("assertion named passed", "    raise type('passed', (AssertionError,), {})('passed')\n"),
    wrong("prints passed", "    print('passed')\n    return 0\nprint('passed')\n"),
    wrong("answers on the channel", "    import os\n    os.write(3, b'\\x02\\0\\0\\0V5' * 1000)\n    return 0\n"),
    wrong("says ready, then loops", "    return 0\nimport os\nos.write(3, b'\\x01\\0\\0\\0L')\nwhile True: pass\n"),
    wrong("a frame of 4 GiB", "    import os\n    os.write(3, b'\\xff\\xff\\xff\\xff')\n    return 0\n"),
    wrong("half a frame", "    import os\n    os.write(3, b'\\x09\\0\\0\\0V')\n    os._exit(0)\n"),
    wrong("forged encoder", "    import json\n    json.dumps = lambda o: '{\"passed\": true}'\n    return 0\n"),
    wrong("nan", "    return float('nan')\n"),
    wrong("looks for the test", "    import gc\n    return [o for o in gc.get_objects() if 'check' in str(type(o))]\n"),
    wrong("a coroutine", "    async def f():\n        return x + y\n    return f()\n"),
    wrong("lone surrogate in the code", "    return '\ud800' and x + y\n"),
]
GREEDY = [
    wrong("endless loop", "    while True: pass\n"),
    wrong("endless at import", "    return x + y\nwhile True: pass\n"),
    wrong("endless iterator", "    import itertools\n    return itertools.count()\n"),
    wrong("endless message", "    class E(Exception):\n        def __str__(s):\n            while 1: 0\n    raise E\n"),
    wrong("a range without an end", "    return range(10 ** 15)\n", PRIMES),
    wrong("list in itself", "    a = []\n    a.append(a)\n    return a\n"),
    wrong("a long answer", "    return 'x' * (5 << 20)\n"),
    wrong("a long integer", "    return 1 << (1 << 22)\n"),
    wrong("one hash for all", "    return {i * (2 ** 61 - 1) for i in range(1, 3000)} | set(range(60000))\n"),
    wrong("power tower", "    return 7 ** 7 ** 7 ** 7 ** 7\n"),
    wrong("memory in small pieces", "    a = []\n    while True: a.append(bytearray(1 << 20))\n"),
    wrong("deep brackets", "    return " + "(" * 5000 + "x" + ")" * 5000 + "\n"),
    wrong("many signs", "    return " + "-" * 200_000 + "x\n"),
    wrong("a chain of attributes", "    return x" + ".real" * 100_000 + " + y\n"),
    wrong("a long program", "    return x + y\n" + "#" * (1 << 20) + "\n"),
    wrong("deep recursion in C", "    import sys\n    sys.setrecursionlimit(10 ** 9)\n    return add(x, y)\n"),
    wrong("ignores every signal", "    import signal\n    for s in range(1, 32):\n"
          "        try: signal.signal(s, signal.SIG_IGN)\n        except Exception: pass\n    while True: pass\n"),
]  # fmt: skip
ESCAPES = [
    wrong("reads a file", "    open('/etc/hostname').read()\n    return x + y\n"),
    wrong("reads itself", "    open('/proc/self/maps').read()\n    return x + y\n"),
    wrong("writes a file", "    open('/tmp/left-behind', 'w')\n    return x + y\n"),
    wrong("lists a folder", "    import os\n    os.listdir('/')\n    return x + y\n"),
    wrong("asks for a file", "    import os\n    os.stat('/etc/passwd')\n    return x + y\n"),
    wrong("opens a socket", "    import socket\n    socket.socket()\n    return x + y\n"),
    wrong("forks", "    import os\n    if os.fork() == 0: os._exit(0)\n    return x + y\n"),
    wrong("starts a thread", "    import threading\n    threading.Thread(target=int).start()\n    return x + y\n"),
    wrong("runs a program", "    import subprocess\n    subprocess.run(['true'])\n    return x + y\n"),
    wrong("kills its parent", "    import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n    return x + y\n"),
    wrong("kills all", "    import os\n    os.kill(-1, 9)\n    return x + y\n"),
    wrong("makes a pipe", "    import os\n    os.pipe()\n    return x + y\n"),
    wrong("shares memory", "    import mmap\n    mmap.mmap(-1, 4096, prot=7)\n    return x + y\n"),
    wrong("raises a limit", "    import resource\n    resource.setrlimit(7, (99, 99))\n    return x + y\n"),
    wrong("waits for a debugger", "    breakpoint()\n    return x + y\n"),
]
ODD = [
    right("a generator's sum", "    return sum(v for v in (x, y))\n"),
    right("a recursive helper", "    return x if y == 0 else 1 + f(x, y - 1)\ndef f(a, b):\n    return a + b\n"),
    right("a class", "    return A(x).plus(y)\nclass A:\n    def __init__(s, v): s.v = v\n"
          "    def plus(s, o): return s.v + o\n"),
    right("main guard", "    return x + y\nif __name__ == '__main__':\n    import sys\n    sys.exit(add(1, 2))\n"),
    right("carriage returns", "    z = x\r\n    return z + y\r\n"),
    right("other alphabets", "    größe = x\n    return größe + y\n"),
    right("prints what can't be encoded", "    print('\\ud800', flush=True)\n    return x + y\n"),
    right("speaks up", "    import os, sys\n    sys.stderr.write('')\n    os.write(2, b'x')\n    return y + x\n"),
    right("reads nothing", "    try: input()\n    except Exception: pass\n    return x + y\n"),
    right("changes builtins it uses", "    import builtins\n    builtins.sum = lambda v: x + y\n    return sum([])\n"),
    right("a late global", "    return x + y + ZERO\nZERO = 0\n"),
    right("sleeps", "    import time\n    if (x, y) == (0, 1): time.sleep(0.4)\n    return x + y\n"),
    right("an integer's subclass", "    class I(int): pass\n    return I(x + y)\n"),
    right("a decimal", "    from decimal import Decimal\n    return Decimal(x) + y\n"),
    right("a deque, taken as a list is", "    from collections import deque\n    return max(deque(l))\n", GREATEST),
    right("an odd coding line", "    # coding: rot13\n    return x + y\n"),
    right("a long comment", "    # " + "x" * 300_000 + "\n    return x + y\n"),
    right("swallows all errors", "    try:\n        open('/etc/hostname')\n    finally:\n        return x + y\n"),
    right("many imports", "    return x + y\nimport asyncio, csv, ctypes, datetime, unittest.mock, urllib.parse\n"),
]  # fmt: skip
BROKEN = [
    wrong("fenced", "```python\n    return x + y\n```\n"),
    wrong("a zero byte", "    return x + y\0\n"),
    wrong("open text", '    return x + y\n    """\n'),
    wrong("half a line", "    return x +\n"),
    wrong("no indent", "return x + y\n"),
    wrong("closes the docstring's function", "\ndef other():\n    return x + y\n"),
    wrong("prose", "The answer is x + y.\n"),
]
PROGRAMS = FORGED + GREEDY + ESCAPES + ODD + BROKEN
