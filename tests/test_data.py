"""The corpus: what is read, what is held out, and that tokens come once, in an order that is the seed's."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweep.data import (
    Corpus,
    Document,
    drop_near_duplicates,
    num_windows,
    prepare_corpus,
    training_order,
    windows,
)
from sweep.errors import SweepError
from sweep.micro.problems import micro_problems
from sweep.micro.scan import scan
from sweep.spec import DataSpec

SPEC = DataSpec(
    train_packages=["stdlib"],
    held_out_packages=["click"],
    train_bytes=600_000,
    held_out_bytes=100_000,
    max_file_bytes=100_000,
    max_line_chars=400,
    max_shared_line_fraction=0.5,
    vocab_size=300,
    tokenizer_bytes=200_000,
    shuffle_seed=0,
    micro_fraction=0.0,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepare_corpus(SPEC, tmp_path_factory.mktemp("cache"))


def text_of(corpus: Corpus, split: str) -> str:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    return tokenizer.decode(corpus.stream(split).tolist(), skip_special_tokens=True)


def test_tokens_decode_to_the_files_they_came_from(corpus: Corpus) -> None:
    """Nothing is lost on the way: the held-out stream is whole files of click, byte for byte."""
    import click

    held_out, train = text_of(corpus, "held_out"), text_of(corpus, "train")
    sources = [path.read_text() for path in Path(click.__file__).parent.glob("*.py")]
    whole = [source for source in sources if len(source) > 200 and source in held_out]
    assert len(whole) == corpus.info["held_out"]["documents"] > 0
    assert sum(len(source.encode()) for source in whole) == corpus.info["held_out"]["bytes"]
    assert not any(source in train for source in whole)


def test_token_bytes_add_up_to_the_bytes_of_the_source(corpus: Corpus) -> None:
    for split in ("train", "held_out"):
        stream = corpus.stream(split)
        assert len(stream) == corpus.info[split]["tokens"]
        assert corpus.token_bytes()[stream].sum() == corpus.info[split]["bytes"]
        assert (stream == 0).sum() == corpus.info[split]["documents"]
        assert stream.max() < SPEC.vocab_size


def test_the_same_files_give_the_same_bits_and_the_cache_is_used(corpus: Corpus, tmp_path: Path) -> None:
    again = prepare_corpus(SPEC, tmp_path)
    assert again.folder != corpus.folder
    assert again.sha256 == corpus.sha256
    before = (again.folder / "train.bin").stat().st_mtime_ns
    prepare_corpus(SPEC, tmp_path)
    assert (again.folder / "train.bin").stat().st_mtime_ns == before


def test_a_damaged_cache_is_set_aside_and_made_again(corpus: Corpus, tmp_path: Path) -> None:
    first = prepare_corpus(SPEC, tmp_path)
    data = bytearray((first.folder / "train.bin").read_bytes())
    data[1000] ^= 1
    (first.folder / "train.bin").write_bytes(data)
    assert prepare_corpus(SPEC, tmp_path).sha256 == corpus.sha256
    assert list(first.folder.parent.glob("*.corrupt-1"))


def test_every_window_comes_once_and_targets_are_the_next_tokens(corpus: Corpus) -> None:
    stream, length = corpus.stream("train"), 64
    count = num_windows(len(stream), length)
    order = training_order(count, seed=3)
    assert sorted(order) == list(range(count))
    batch = windows(stream, order[:5], length)
    assert batch.shape == (5, length + 1)
    for row, index in zip(batch, order[:5], strict=True):
        assert np.array_equal(row, stream[index * length : index * length + length + 1])
    inputs_seen = np.concatenate([windows(stream, order, length)[:, :-1].ravel()])
    assert len(inputs_seen) == count * length <= len(stream)


# ---- micro documents --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepare_corpus(replace(SPEC, micro_fraction=0.2), tmp_path_factory.mktemp("mixed"))


def test_without_micro_documents_the_corpus_is_code_alone(corpus: Corpus) -> None:
    assert corpus.info["micro"] == {"documents": 0, "tokens": 0}
    assert corpus.train_windows(64) == (num_windows(corpus.train_tokens, 64), 0)
    for seed in range(3):
        assert np.array_equal(training_order(1000, seed), np.random.default_rng(seed).permutation(1000))


def test_micro_documents_leave_code_tokenizer_and_held_out_tokens_as_they_are(corpus: Corpus, mixed: Corpus) -> None:
    code = corpus.stream("train")
    assert np.array_equal(mixed.stream("train")[: len(code)], code)
    for name in ("held_out.bin", "tokenizer.json"):
        digests = {hashlib.sha256((each.folder / name).read_bytes()).digest() for each in (corpus, mixed)}
        assert len(digests) == 1
    assert mixed.sha256 != corpus.sha256


def test_the_share_of_micro_tokens_is_the_stated_one(mixed: Corpus) -> None:
    assert mixed.info["micro"]["tokens"] / mixed.train_tokens == pytest.approx(0.2, abs=1e-3)
    stream = mixed.stream("train")
    code_tokens = mixed.train_tokens - mixed.info["micro"]["tokens"]
    assert (stream[code_tokens:] == 0).sum() == mixed.info["micro"]["documents"]
    assert stream[code_tokens - 1] == stream[-1] == 0  # whole documents
    assert mixed.token_bytes()[stream].sum() == mixed.info["train"]["bytes"]


def test_every_part_of_the_order_holds_the_micro_windows_share(mixed: Corpus) -> None:
    length = 64
    num_code, num_micro = mixed.train_windows(length)
    order = training_order(num_code, 3, num_micro)
    assert sorted(order) == list(range(num_code + num_micro))
    is_micro = order >= num_code
    for percent in range(1, 101):
        windows_seen = len(order) * percent // 100
        assert abs(is_micro[:windows_seen].sum() - 0.2 * windows_seen) <= 2
    assert not np.array_equal(order, training_order(num_code, 4, num_micro))


def test_micro_documents_in_the_stream_are_unique_and_show_nothing_evaluated(mixed: Corpus) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(mixed.folder / "tokenizer.json"))
    micro = mixed.stream("train")[mixed.train_tokens - mixed.info["micro"]["tokens"] :]
    ends = np.flatnonzero(micro == 0)
    texts = [tokenizer.decode(part[part != 0].tolist()) for part in np.split(micro, ends + 1)[:-1]]
    assert len(set(texts)) == len(texts) == mixed.info["micro"]["documents"]
    assert scan(texts) == []


def test_prompt_and_solution_have_the_tokens_of_the_whole(corpus: Corpus) -> None:
    """A model that is given the prompt's tokens can write the solution as it stood in training."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    for problem in micro_problems():
        prompt, solution = problem["prompt"], problem["canonical_solution"]
        apart = tokenizer.encode(prompt).ids + tokenizer.encode(solution).ids
        assert apart == tokenizer.encode(prompt + solution).ids, prompt


def test_a_corpus_whose_micro_documents_leak_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    problem = micro_problems()[0]
    leak = [problem["prompt"] + problem["canonical_solution"]] * 20_000
    monkeypatch.setattr("sweep.data.training_documents", lambda seed: leak)
    with pytest.raises(SweepError, match="Micro/0"):
        prepare_corpus(replace(SPEC, micro_fraction=0.05), tmp_path)
    assert not list(tmp_path.glob("corpus/*/train.bin"))


def test_the_order_is_the_seeds() -> None:
    assert np.array_equal(training_order(1000, 1), training_order(1000, 1))
    assert not np.array_equal(training_order(1000, 1), training_order(1000, 2))


def test_planted_near_duplicates_are_dropped_and_others_kept() -> None:
    lines = [f"some_variable_{number} = compute_something({number})" for number in range(40)]
    original = Document("a/x.py", "\n".join(lines))
    twin = Document("b/x.py", "\n".join([*lines[:35], "this_line_stands_nowhere_else = True"]))
    cousin = Document("c/y.py", "\n".join(lines[:10] + [f"other_line_of_its_own_{n} = {n}" for n in range(30)]))
    assert drop_near_duplicates([original, twin, cousin], set(), 0.5) == [original, cousin]


def test_training_files_like_held_out_ones_are_dropped() -> None:
    held_out = Document("held/x.py", "\n".join(f"a_held_out_line_number_{n} = {n}" for n in range(20)))
    seen: set[int] = set()
    assert drop_near_duplicates([held_out], seen, 0.5) == [held_out]
    assert drop_near_duplicates([Document("train/x.py", held_out.text)], seen, 0.5) == []
