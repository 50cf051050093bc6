"""From a problem to what a model is shown, and from what it writes to the completion that is scored.

A prompt usually ends in a newline. Its tokens would then end within what the tokenizer makes one token of, a newline
and the spaces after it, and the model would have to go on from a text that it has never seen cut so. So it is shown
the prompt without its trailing whitespace (the *stem*) and writes that whitespace itself; the completion is what it
writes after that, so that prompt + completion is the text that the model wrote.

A function ends before the first line that is neither blank nor indented ("\\nclass", "\\ndef", "\\n#", "\\nif",
"\\nprint" and "\\n@", the usual stop sequences of HumanEval, among others). Only a closing bracket may stand at the
left margin and belong to it. A stop can span tokens, so a text is followed through two states.
Shape suffix: V vocabulary, S states.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.humaneval.problems import Problem

_STATES = WITHIN_LINE, AT_LINE_START = 0, 1
_STOP = re.compile(rb"\n(?=[^\s)\]}])")


def stem(problem: Problem) -> str:
    """What the model is shown."""
    return problem.prompt.rstrip()


def canonical_tail(problem: Problem) -> str:
    """What the model has to write after the stem for its completion to be the canonical solution."""
    return problem.prompt[len(stem(problem)) :] + _one_newline_at_the_end(problem.canonical_solution or "")


def completion(problem: Problem, written: bytes) -> str:
    """The completion in what a model wrote after the stem, stop text and all.

    Where the model goes on in another way than with the prompt's whitespace, the prompt is kept as it is all the
    same. What is not UTF-8 is replaced; trailing newlines become one, so that equal functions are equal texts.
    """
    stop = _STOP.search(written)
    text = written[: stop.start() if stop else None].decode(errors="replace")
    return _one_newline_at_the_end(text.removeprefix(problem.prompt[len(stem(problem)) :]))


def _one_newline_at_the_end(text: str) -> str:
    return text.rstrip("\n") + "\n"


@dataclass(frozen=True)
class StopTable:
    """Whether a function ends within a token, and where in its line the token leaves it: both (V, states)."""

    ends: NDArray[np.bool_]
    next_state: NDArray[np.int8]


def stop_table(token_bytes: list[bytes]) -> StopTable:
    """The table for a vocabulary; the end of a document, which has no bytes, ends a function too."""
    ends_VS = np.zeros((len(token_bytes), len(_STATES)), dtype=np.bool_)
    next_VS = np.zeros((len(token_bytes), len(_STATES)), dtype=np.int8)
    for token, content in enumerate(token_bytes):
        for state in _STATES:
            before = b"\n" if state == AT_LINE_START else b"."
            ends_VS[token, state] = not content or _STOP.search(before + content) is not None
            next_VS[token, state] = AT_LINE_START if (before + content).endswith(b"\n") else WITHIN_LINE
    return StopTable(ends_VS, next_VS)
