"""What counts as contamination: which strings are looked for in the training data, and what has to be found for a hit.

Writes contamination.json, once, before anything is trained.

A **problem** is hit if one of its 13-grams stands in a training document (Brown et al. 2020, "Language models are
few-shot learners", appendix C: of the whole example, so of prompt and canonical solution), or one of three random runs
of 50 letters and digits of its prompt (OpenAI 2023, "GPT-4 technical report", appendix C: of the question alone). A
**held-out document** is hit if half of its 13-grams stand in the training data, or if the Jaccard index of its shingles
with one training document is at least 0.7. What unrelated code shares, licences and imports, is less
(docs/contamination.md says what was measured).

Examples of the graded set (``sweep/micro``) share their parts with training examples by design. Of these a problem is
hit if its docstring and its solution stand in a training document byte for byte, whatever the function is called.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.capability import MICRO, NONE, capability_of, problems_of
from sweep.contamination import contamination_summary, read_contamination
from sweep.corpus import Corpus
from sweep.errors import CorruptFile
from sweep.folder import SweepFolder, read_json, set_aside, write_json
from sweep.humaneval.problems import Problem, problems_sha256
from sweep.run_spec import Plan
from sweep.search.minhash import NUM_BANDS, NUM_VALUES, SHINGLE_WORDS
from sweep.search.overlap import NOT_FOUND, only_characters
from sweep.search.token_text import document_ends
from sweep.search.training_search import Found, Settings, Wanted, documents_of, search_training

log = logging.getLogger("sweep")

SEARCH = Settings(ngram_words=13, substring_characters=50, similarity=0.7)  # the last: Li et al. 2023, "StarCoder"
_SUBSTRINGS = 3
_LEAST_CHARACTERS = 20  # a shorter example is not looked for as a substring: it stands anywhere
_LEAST_FRACTION = 0.5  # of a held-out document's 13-grams
_SEED = 0
METHODS: dict[str, Any] = {
    "version": 1,  # raise it when the code finds something else in the same data
    "ngram_words": SEARCH.ngram_words,
    "substring_characters": SEARCH.substring_characters,
    "substrings": _SUBSTRINGS,
    "least_characters": _LEAST_CHARACTERS,
    "seed": _SEED,
    "held_out_ngram_fraction": _LEAST_FRACTION,
    "held_out_similarity": SEARCH.similarity,
    "shingle_words": SHINGLE_WORDS,
    "minhash_values": NUM_VALUES,
    "minhash_bands": NUM_BANDS,
}


def prepare_contamination(plan: Plan, folder: SweepFolder, corpus: Corpus, num_processes: int) -> None:
    """Write contamination.json, unless it is there for the same data, problems and methods, or the sweep is sealed.

    Raises:
        SweepError: the sweep is sealed and its file is damaged.
    """
    if folder.seal.exists():
        read_contamination(folder)  # evaluations go on with it
        return
    capability = capability_of(plan)
    name = NONE if capability is None else capability.problems
    problems = [] if capability is None else list(problems_of(capability).values())
    key = {
        "corpus_sha256": corpus.sha256,
        "problems": name,
        "problems_sha256": problems_sha256(problems),
        "methods": {**METHODS, "literal_problems": name == MICRO},
    }
    if _is_made_for(key, folder):
        return
    started = time.monotonic()
    found = {**key, **find_hits(corpus, problems, name == MICRO, num_processes)}
    write_json(folder.contamination, found)
    megabytes, seconds = corpus.info["train"]["bytes"] / 1e6, time.monotonic() - started
    log.info("contamination: %.0f MB of training text searched in %.1f s", megabytes, seconds)
    log.info("contamination: %s", "; ".join(contamination_summary(found)))


def _is_made_for(key: dict[str, Any], folder: SweepFolder) -> bool:
    if not folder.contamination.exists():
        return False
    try:
        there = read_json(folder.contamination)
    except CorruptFile as error:
        log.warning("contamination: %s; set aside as %s and made again", error, set_aside(folder.contamination))
        return False
    return {name: there.get(name) for name in key} == key


def find_hits(corpus: Corpus, problems: Sequence[Problem], is_micro: bool, num_processes: int = 1) -> dict[str, Any]:
    """Rows of all problems and of the held-out documents that are hit; the same for any number of processes."""
    held_out = documents_of(corpus, "held_out")
    # Each with a generator of its own: what is held out is cut the same way whatever problems there are.
    prompts = _Substrings([problem.prompt.encode() for problem in problems])
    excerpts = _Substrings(held_out)
    wanted = (
        Wanted(literals=[_without_name(problem) for problem in problems])
        if is_micro
        else Wanted([_whole(problem).encode() for problem in problems], prompts.strings)
    )
    of_problems, of_held_out = search_training(
        corpus, [wanted, Wanted(held_out, excerpts.strings, whole_documents=True)], SEARCH, num_processes
    )
    rows = _literal_rows(problems, of_problems) if is_micro else _problem_rows(problems, prompts, of_problems)
    result = _held_out(corpus, held_out, excerpts, of_held_out)
    _add_names(rows, "document", "document_name", corpus, "train")
    _add_names(result["hit_documents"], "document", "name", corpus, "held_out")
    _add_names(result["hit_documents"], "near_duplicate_of", "near_duplicate_name", corpus, "train")
    return {"problem_rows": rows, "held_out": result}


class _Substrings:
    """Random runs of characters of texts, or the whole of a shorter text; ``owner`` says which text each is of."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        generator = np.random.default_rng(_SEED)
        length = SEARCH.substring_characters
        self.strings: list[bytes] = []
        owners = []
        for number, text in enumerate(texts):
            characters = only_characters(text)
            starts = generator.integers(0, max(1, len(characters) - length + 1), _SUBSTRINGS).tolist()
            if len(characters) >= _LEAST_CHARACTERS:
                strings = dict.fromkeys(characters[start : start + length] for start in starts)
                self.strings += strings
                owners += [number] * len(strings)
        self.owner = np.array(owners, dtype=np.int64)


def _add_names(rows: list[dict[str, Any]], number: str, name: str, corpus: Corpus, split: str) -> None:
    """Give the documents that rows have by number their names."""
    numbers = [row[number] for row in rows if row[number] is not None]
    found = corpus.documents(split)["name"].take(numbers).to_pylist() if numbers else []
    names = dict(zip(numbers, found, strict=True))
    for row in rows:
        row[name] = names.get(row[number])


def _whole(problem: Problem) -> str:
    return problem.prompt + (problem.canonical_solution or "")


def _without_name(problem: Problem) -> bytes:
    """A micro problem from its docstring on: the names of functions are drawn at random."""
    text = _whole(problem)
    return text[text.index('"""') :].encode()


# ---- rows ---------------------------------------------------------------------------------------


def _problem_rows(problems: Sequence[Problem], prompts: _Substrings, found: Found) -> list[dict[str, Any]]:
    rows = []
    for number, problem in enumerate(problems):
        grams = found.grams[found.gram_text == number]
        substrings = found.substrings[prompts.owner == number]
        documents = np.concatenate((grams, substrings))
        documents = documents[documents != NOT_FOUND]
        is_searched = len(grams) + len(substrings) > 0
        rows.append(
            {
                "task_id": problem.task_id,
                "ngrams": len(grams),
                "ngram_hits": int((grams != NOT_FOUND).sum()),
                "substrings": len(substrings),
                "substring_hits": int((substrings != NOT_FOUND).sum()),
                # Where most of it stands; of equals the earliest.
                "document": int(np.bincount(documents).argmax()) if len(documents) else None,
                "hit": len(documents) > 0 if is_searched else None,
                "reason": "" if is_searched else "too short to be searched",
            }
        )
    return rows


def _literal_rows(problems: Sequence[Problem], found: Found) -> list[dict[str, Any]]:
    first = [None if document == NOT_FOUND else document for document in found.literals.tolist()]
    return [
        {"task_id": problem.task_id, "document": document, "hit": document is not None, "reason": ""}
        for problem, document in zip(problems, first, strict=True)
    ]


def _held_out(corpus: Corpus, texts: list[bytes], excerpts: _Substrings, found: Found) -> dict[str, Any]:
    num_documents = len(texts)
    tokens = np.diff(document_ends(corpus.stream("held_out"), corpus.end_token), prepend=0)
    fraction = share_found(found.gram_text, found.grams, num_documents)
    has_substring = share_found(excerpts.owner, found.substrings, num_documents) > 0
    similarity = np.array([0.0 if pair is None else pair.similarity for pair in found.nearest])
    is_hit = (fraction >= _LEAST_FRACTION) | (similarity >= SEARCH.similarity)
    return {
        "num_documents": num_documents,
        "num_tokens": int(tokens.sum()),
        "hit_tokens": int(tokens[is_hit].sum()),
        "documents_with_substring": int(has_substring.sum()),
        "largest_fraction_without_hit": float(fraction[~is_hit].max(initial=0.0)),
        "hit_documents": [
            {
                "document": number,
                "tokens": int(tokens[number]),
                "ngram_fraction": float(fraction[number]),
                "substring_hit": bool(has_substring[number]),
                "near_duplicate_of": pair.document if (pair := found.nearest[number]) else None,
                "similarity": pair.similarity if pair else None,
            }
            for number in np.flatnonzero(is_hit).tolist()
        ],
    }


def share_found(owner: NDArray[np.int64], first_document: NDArray[np.int64], num_owners: int) -> NDArray[np.float64]:
    """Of each owner's patterns the share that was found; 0 for an owner without any."""
    counts = np.bincount(owner, minlength=num_owners)
    return np.bincount(owner, weights=first_document != NOT_FOUND, minlength=num_owners) / np.maximum(counts, 1)
