"""How fast is the training data searched for what is evaluated? CPU time of each part, on one core, and of the whole.

    python -m benchmarks.contamination_speed

46 MB of installed Python source are searched for HumanEval's problems and for 0.8 million held-out tokens by 13-grams,
50-character substrings and MinHash. Beside the 13-gram search plain Python, a set of tuples of words, which has to find
the same. Medians of three rounds; memory is that of a process of its own.
"""

import json
import multiprocessing
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from benchmarks.study import configured, corpus_of, write_result
from sweep.corpus import Corpus
from sweep.humaneval.problems import Problem, read_problems
from sweep.provenance import library_versions
from sweep.search.hits import SEARCH, find_hits
from sweep.search.minhash import NearDuplicateSearch, shingles_of
from sweep.search.overlap import GramSearch, SubstringSearch, only_characters, words_of
from sweep.search.token_text import END_OF_DOCUMENT, chunks, document_ends, token_text
from sweep.search.training_search import _CHUNK_TOKENS, documents_of

ROUNDS = 3
PLAIN_BYTES = 4_000_000
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
_PUNCTUATION = re.compile(r"[^\w\s]|_", re.ASCII)


def parts(corpus: Corpus, problems: list[Problem]) -> dict[str, float]:
    """CPU seconds of one pass in each of its parts."""
    held_out = documents_of(corpus, "held_out")
    examples = [(problem.prompt + str(problem.canonical_solution)).encode() for problem in problems]
    length = SEARCH.substring_characters
    substrings = [only_characters(text)[100 : 100 + length] for text in [*examples, *held_out] if len(text) > 300]
    joined = b"".join(text + END_OF_DOCUMENT for text in held_out)
    grams = {name: GramSearch(texts, SEARCH.ngram_words) for name, texts in (("p", examples), ("h", held_out))}
    characters = SubstringSearch(substrings, length, only_characters)
    near = NearDuplicateSearch(shingles_of(words_of(joined), len(held_out)), SEARCH.similarity)
    stream, text = corpus.stream("train"), token_text(corpus.tokenizer(), corpus.end_token)
    ends = document_ends(stream, corpus.end_token)
    seconds = dict.fromkeys(
        ("text of tokens", "words", "13-grams of problems", "13-grams of held-out text", "substrings", "MinHash"), 0.0
    )

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        seconds[name] += time.process_time() - start
        return result

    for first, after in chunks(ends, 0, len(ends), _CHUNK_TOKENS):
        tokens = stream[ends[first - 1] if first else 0 : ends[after - 1]]
        documents = timed("text of tokens", lambda: text.decode(tokens))  # noqa: B023  (called at once)
        words = timed("words", lambda: words_of(documents))  # noqa: B023
        timed("13-grams of problems", lambda: grams["p"].look(words, first))  # noqa: B023
        timed("13-grams of held-out text", lambda: grams["h"].look(words, first))  # noqa: B023
        timed("substrings", lambda: characters.look(documents, first))  # noqa: B023
        timed("MinHash", lambda: near.look(shingles_of(words, after - first), first))  # noqa: B023
    return seconds


def plain_python(corpus: Corpus, problems: list[Problem]) -> dict[str, float]:
    """MB/s of a set of tuples of words on the first documents; it finds what the kernel finds."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = [word for word in (_PUNCTUATION.sub("", word) for word in text.lower().split()) if word]
        return {tuple(words[start : start + 13]) for start in range(len(words) - 12)}

    wanted = set().union(*(grams(problem.prompt + str(problem.canonical_solution)) for problem in problems))
    stream, text = corpus.stream("train"), token_text(corpus.tokenizer(), corpus.end_token)
    documents = text.decode(stream[: PLAIN_BYTES // 2]).split(END_OF_DOCUMENT)[:-1]
    num_bytes, start = sum(map(len, documents)), time.process_time()
    found = sum(bool(wanted & grams(document.decode())) for document in documents)
    return {"mb_per_s": num_bytes / 1e6 / (time.process_time() - start), "documents_hit": found}


def whole(corpus: Corpus, problems: list[Problem], num_processes: int) -> dict[str, Any]:
    """The search as launch makes it: seconds, CPU seconds and peak memory of its processes."""
    start = time.perf_counter()
    found = find_hits(corpus, problems, is_micro=False, num_processes=num_processes)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "processes": num_processes,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib_of_a_process": usage.ru_maxrss / 1024,
        "hit_problems": [row["task_id"] for row in found["problem_rows"] if row["hit"]],
        "hit_documents": len(found["held_out"]["hit_documents"]),
        "largest_fraction_without_hit": found["held_out"]["largest_fraction_without_hit"],
    }


def main() -> None:
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.contamination_speed"], {**os.environ, **ONE_THREAD}
        )
    corpus, problems = corpus_of(configured()), list(read_problems().values())
    megabytes = corpus.info["train"]["bytes"] / 1e6
    rounds = [parts(corpus, problems) for _ in range(ROUNDS)]
    seconds = {name: float(np.median([each[name] for each in rounds])) for name in rounds[0]}

    def speed(*names: str) -> float:
        return megabytes / sum(seconds[name] for name in names)

    shared = ("text of tokens", "words")
    by_words = ("13-grams of problems", "13-grams of held-out text")
    context = multiprocessing.get_context("fork")
    runs = []
    for number in (1, 2):
        with ProcessPoolExecutor(1, context) as pool:  # whose children are those of the search alone
            runs.append(pool.submit(whole, corpus, problems, number).result())
    found = {
        "libraries": library_versions(),
        "corpus_sha256": corpus.sha256,
        "megabytes": megabytes,
        "cpu_seconds": seconds,
        "mb_per_s": {
            **{name: speed(name) for name in seconds},
            "problems and held-out text, 13-grams and substrings": speed(*shared, *by_words, "substrings"),
            "MinHash with text and words": speed(*shared, "MinHash"),
            "everything": speed(*seconds),
        },
        "plain_python": plain_python(corpus, problems),
        "whole": runs,
    }
    write_result("contamination_speed", found)
    print(json.dumps(found, indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
