"""The corpus: what is read, what is held out, and that tokens come once, in an order that is the seed's."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweep.corpora import spool
from sweep.corpus import FORMAT, Corpus, open_corpus, windows
from sweep.data import prepare_corpus
from sweep.errors import SweepError
from sweep.folder import HASH_KEY, read_json, write_json
from sweep.micro.problems import micro_problems
from sweep.micro.scan import scan
from sweep.mixture import num_windows
from sweep.spec import DataSpec
from tests.corpora import code_spec, files_spec

SPEC = code_spec()


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
    order = corpus.mixture(length).order(3, count)
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
    mixture = corpus.mixture(64)
    count = num_windows(corpus.train_tokens, 64)
    assert (mixture.num_windows, mixture.longest) == ((count,), count)
    for seed in range(3):
        assert np.array_equal(mixture.order(seed, count), np.random.default_rng(seed).permutation(count))


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
    mixture = mixed.mixture(length)
    num_code, num_micro = mixture.num_windows
    order = mixture.order(3, mixture.longest)
    assert sorted(order) == list(range(num_code + num_micro))
    is_micro = order >= num_code
    for percent in range(1, 101):
        windows_seen = len(order) * percent // 100
        assert abs(is_micro[:windows_seen].sum() - 0.2 * windows_seen) <= 2
    assert not np.array_equal(order, mixture.order(4, mixture.longest))


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
    monkeypatch.setattr("sweep.corpora.micro_share.training_documents", lambda seed: leak)
    with pytest.raises(SweepError, match="Micro/0"):
        prepare_corpus(replace(SPEC, micro_fraction=0.05), tmp_path)
    assert not list(tmp_path.glob("corpus/*/train.bin"))


# ---- documents --------------------------------------------------------------------------------


def test_the_table_of_documents_says_what_stands_where(mixed: Corpus) -> None:
    from sweep.corpora.installed import package_files

    sources = {name: (package, text) for name, package, text in package_files(SPEC.sources[0])}
    tokenizer = mixed.tokenizer()
    for split in ("train", "held_out"):
        stream, rows = mixed.stream(split), mixed.documents(split).to_pylist()
        assert len(rows) == mixed.info[split]["documents"]
        assert sum(row["num_tokens"] for row in rows) == len(stream)
        assert [row["start_token"] for row in rows] == np.cumsum([0, *[r["num_tokens"] for r in rows]])[:-1].tolist()
        assert {row["group"] for row in rows} == ({"stdlib", "micro"} if split == "train" else {"click"})
        for row in rows:
            tokens = stream[row["start_token"] : row["start_token"] + row["num_tokens"]]
            assert tokens[-1] == mixed.end_token
            assert mixed.token_bytes()[tokens].sum() == row["num_bytes"]
            if row["source"] == "python":
                assert (row["group"], tokenizer.decode(tokens.tolist())) == sources[row["name"]]


# ---- interruptions ----------------------------------------------------------------------------


def bits(corpus: Corpus) -> dict[str, str]:
    """The hash of every file of a corpus."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(corpus.folder.iterdir())}


def rows_file(path: Path, count: int, seed: int = 0) -> Path:
    """Documents of random words, each of one of 40 repositories."""
    random = np.random.default_rng(seed)
    words = np.array([f"word{number}" for number in range(2000)])
    rows = (
        {"text": f"document {number} of {seed}\n" + " ".join(random.choice(words, 60)), "repo": f"r{number % 40}"}
        for number in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_neither_workers_nor_kills_change_a_bit(tmp_path: Path) -> None:
    """A preparation that is killed (SIGKILL) again and again ends in the files of an undisturbed one."""
    path = rows_file(tmp_path / "rows.jsonl", 1500)
    spec = files_spec(path, group_column="repo", held_out_fraction=0.1)
    with small_shards():
        undisturbed = prepare_corpus(spec, tmp_path / "one", 1)
    killed, cache = 0, tmp_path / "killed"
    seen: list[int] = []
    for wait_files in range(2, 200, 12):
        child = multiprocessing.get_context("fork").Process(target=_prepare, args=(spec, cache))
        child.start()
        while child.is_alive() and len(list(cache.glob("corpus/*.partial/documents/*"))) < wait_files:
            time.sleep(0.001)
        if child.exitcode is None:
            os.kill(child.pid or 0, signal.SIGKILL)
            killed += 1
            seen.append(len(list(cache.glob("corpus/*.partial/documents/*-*.parquet"))))
            assert not list(cache.glob("corpus/*/corpus.json"))  # never half a corpus
        child.join()
        if child.exitcode == 0:
            break
    else:
        _prepare(spec, cache)
    again = prepare_corpus(spec, cache)
    assert killed >= 3
    assert seen == sorted(seen)  # shards that are done are kept
    assert bits(again) == bits(undisturbed)
    assert not list(cache.glob("corpus/*.partial"))


def _prepare(spec: DataSpec, cache: Path) -> None:
    with small_shards():
        prepare_corpus(spec, cache, 3)


@contextmanager
def small_shards() -> Iterator[None]:
    """Shards of 64 KB, so that a small corpus has many."""
    before, spool.SHARD_BYTES = spool.SHARD_BYTES, 1 << 16
    yield
    spool.SHARD_BYTES = before


def test_the_size_of_shards_changes_no_token(tmp_path: Path) -> None:
    spec = files_spec(rows_file(tmp_path / "rows.jsonl", 1000))
    whole = prepare_corpus(spec, tmp_path / "whole")
    with small_shards():
        cut = prepare_corpus(spec, tmp_path / "cut")
    assert bits(whole) == bits(cut)


def test_a_cache_of_another_version_is_never_read(corpus: Corpus, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(corpus.folder, old)
    info = read_json(old / "corpus.json")
    write_json(old / "corpus.json", {**{k: v for k, v in info.items() if k != HASH_KEY}, "format": FORMAT - 1})
    with pytest.raises(SweepError, match=f"format {FORMAT - 1}, this code reads format {FORMAT}") as refused:
        open_corpus(old, corpus.sha256)
    assert len(refused.value.args) == 3
    assert open_corpus(corpus.folder, corpus.sha256).sha256 == corpus.sha256


# ---- mixtures ---------------------------------------------------------------------------------


def test_sources_have_their_shares_at_every_step(tmp_path: Path) -> None:
    """Three sources and micro documents: windows counted from the stream's own table of documents."""
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    spec = files_spec(rows_file(tmp_path / "a.jsonl", 500, 1), micro_fraction=0.1)
    sources = [
        replace(
            spec.sources[0], name=name, weight=weight, paths=[str(rows_file(tmp_path / f"{name}.jsonl", 500, seed))]
        )
        for seed, (name, weight) in enumerate(weights.items(), 1)
    ]
    corpus = prepare_corpus(replace(spec, sources=sources), tmp_path / "cache")
    length = 32
    mixture = corpus.mixture(length)
    order = mixture.order(5, mixture.longest)
    assert len(set(order.tolist())) == len(order)
    rows = corpus.documents("train").to_pylist()
    starts = np.array([row["start_token"] for row in rows])
    of_window = np.array([row["source"] for row in rows])[np.searchsorted(starts, order * length, side="right") - 1]
    steps = np.arange(1, len(order) + 1)
    for name, weight in {**{name: 0.9 * weight for name, weight in weights.items()}, "micro": 0.1}.items():
        assert np.abs(np.cumsum(of_window == name) - weight * steps).max() < 1 + 1e-9, name
    with pytest.raises(SweepError, match="in this mixture"):
        mixture.order(5, mixture.longest + 1)


def test_the_mixture_is_part_of_what_a_corpus_is(tmp_path: Path) -> None:
    spec = files_spec(rows_file(tmp_path / "a.jsonl", 300, 1))
    other = replace(spec.sources[0], name="b", paths=[str(rows_file(tmp_path / "b.jsonl", 300, 2))])
    hashes = set()
    for first, second in ((None, None), (0.5, 0.5), (0.25, 0.75)):
        sources = [replace(spec.sources[0], weight=first), replace(other, weight=second)]
        hashes.add(prepare_corpus(replace(spec, sources=sources), tmp_path / "cache").sha256)
    assert len(hashes) == 3
