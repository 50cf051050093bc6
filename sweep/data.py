"""Prepare a corpus: documents read, near-duplicates dropped, a tokenizer, and every document as tokens, once.

Reads what ``data.sources`` names; leaves a cache named by the hash of all that went into it (sweep/corpus.py says what
is in it). On the way, in ``<cache>/corpus/<hash>.partial``:

    read      documents in shards (sweep/corpora/spool.py), what is held out marked                     one process
    compare   hashes of lines, shard by shard; then which documents are new                     all workers; one
    tokenizer trained on the first documents of the training order, or given                    one
    encode    tokens, shard by shard                                                            all workers
    assemble  the training documents of each source, shuffled, one source after the other       one

A preparation that was killed goes on with the shards that are there, to the same bits. The tokenizer and pyarrow have
threads, which must not be in a process that forks workers; so all that needs them is done in children.
"""

import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.corpora.assemble import assemble
from sweep.corpora.catalogue import Catalogue
from sweep.corpora.near_duplicates import LineTable, keep_new
from sweep.corpora.sources import Reader, fingerprint, held_out_rule
from sweep.corpora.spool import Shard, encode_shard, hash_lines, left_out, lines_of, shards_of, spool_source
from sweep.corpora.tokenizer import load_tokenizer, stream_dtype, tokenizer_path, train_tokenizer
from sweep.corpus import FORMAT, Corpus, read_corpus
from sweep.data_spec import TRAINED, DataSpec, check_data, mixture_weights
from sweep.errors import CorruptFile, SweepError
from sweep.folder import locked, set_aside, sha256_of, sha256_of_file, write_whole
from sweep.humaneval.guard import die_with_parent
from sweep.micro.documents import lexicon_sha256
from sweep.progress import Steps

log = logging.getLogger("sweep")


def prepare_corpus(spec: DataSpec, cache_dir: Path, num_workers: int = 1) -> Corpus:
    """The corpus for ``spec``, from the cache if the same documents were prepared before.

    ``num_workers`` (0: one per core) changes nothing in it.

    Raises:
        SweepError: a source is not there, empty or damaged; the tokenizer does not fit; nothing is held out; the
            cache can't be written.
    """
    check_data(spec)
    found = [fingerprint(source) for source in spec.sources]
    folder = cache_dir / "corpus" / _cache_key(spec, [digest for digest, _ in found])[:16]
    corpus = _load(folder)
    if corpus is None:
        with _writing(folder.parent), _one_at_a_time(folder):
            corpus = _load(folder)  # another launch may have prepared it meanwhile
            if corpus is None:
                _build(spec, [there for _, there in found], folder, num_workers or os.cpu_count() or 1)
                corpus = _load(folder)
    assert corpus is not None
    return corpus


def _cache_key(spec: DataSpec, fingerprints: list[str]) -> str:
    import tokenizers

    parts = [asdict(spec), tokenizers.__version__, FORMAT, fingerprints]
    if spec.micro_fraction:
        parts.append(lexicon_sha256())
    if spec.tokenizer != TRAINED:
        parts.append(sha256_of_file(tokenizer_path(spec.tokenizer)))
    return sha256_of(parts)


def _load(folder: Path) -> Corpus | None:
    if not folder.exists():
        return None
    try:
        return read_corpus(folder)
    except (CorruptFile, OSError) as error:
        log.warning("data: %s; set aside as %s and prepared again", error, set_aside(folder))
        return None


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SweepError(
            f"the corpus can't be prepared in {cache} ({error})",
            "files that can be read, and a folder that can be written to, with room for twice the text",
            "set machine.cache_dir to another place, or make room and launch again: what is done is kept",
        ) from error


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    told = False
    while True:
        with locked(folder.with_name(f"{folder.name}.lock")) as held:
            if held:
                yield
                return
        if not told:
            log.info("data: another process prepares this corpus; waiting for it")
            told = True
        time.sleep(0.5)


# ---- building ---------------------------------------------------------------------------------


def _build(spec: DataSpec, found: list[Any], folder: Path, num_workers: int) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    (partial / "documents").mkdir(parents=True, exist_ok=True)
    import pyarrow.parquet  # noqa: F401  (before the forks: half a second for each of them)

    log.info("data: preparing %s (once)", ", ".join(source.name for source in spec.sources))
    with _processes(1) as one:
        one.submit(_read, spec, found, partial).result()
    shards = shards_of(partial)
    left = [shard for shard in shards if not shard.path("lines.npz").exists()]
    _for_all("data: compare", left, num_workers, hash_lines)
    with _processes(1) as one:
        kept, end_token = one.submit(_choose, spec, shards, partial).result()
    left = [shard for shard in shards if not shard.path("lengths.npy").exists()]
    dtype = stream_dtype(spec.vocab_size).name
    numbers = {shard: number for number, shard in enumerate(shards)}
    arguments = [(kept[numbers[shard]], partial, end_token, dtype) for shard in left]
    _for_all("data: encode", left, num_workers, encode_shard, arguments)
    with _processes(1) as one:
        one.submit(assemble, spec, shards, kept, end_token, partial).result()
    shutil.rmtree(folder, ignore_errors=True)
    (partial / "whole").rename(folder)
    shutil.rmtree(partial)


@contextmanager
def _processes(number: int) -> Iterator[ProcessPoolExecutor]:
    # They must not outlive this one: they inherit the sweep's lock.
    try:
        with ProcessPoolExecutor(number, multiprocessing.get_context("fork"), initializer=die_with_parent) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise SweepError(
            "a process that prepared the corpus was killed",
            f"memory for {number} of them at a time (a kernel that is out of it kills without a word)",
            "launch again: what is done is kept; with machine.num_workers=1 it takes the least memory",
        ) from error


def _for_all(
    what: str,
    shards: list[Shard],
    num_workers: int,
    work: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]] = (),
) -> None:
    if not shards:
        return
    megabytes = {shard: shard.path("text").stat().st_size / 1e6 for shard in shards}
    with _processes(min(num_workers, len(shards))) as pool, Steps(what, sum(megabytes.values()), "MB") as steps:
        rest = arguments or [()] * len(shards)
        futures = {pool.submit(work, shard, *more): shard for shard, more in zip(shards, rest, strict=True)}
        done = 0.0
        try:
            for future in as_completed(futures):
                future.result()
                done += megabytes[futures[future]]
                steps.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _read(spec: DataSpec, found: list[Any], partial: Path) -> None:
    if spec.tokenizer != TRAINED:  # one that does not fit is refused before hours of reading
        load_tokenizer(tokenizer_path(spec.tokenizer), spec)
    is_held_out = held_out_rule(spec)
    for index, (source, there) in enumerate(zip(spec.sources, found, strict=True)):
        limit = None if source.max_bytes is None else source.max_bytes / 1e6
        with Steps(f"data: read {source.name}", limit, "MB") as steps:
            for num_bytes in spool_source(partial, index, Reader(source, there), is_held_out):
                steps.update(num_bytes / 1e6)
        missed = left_out(partial, index)
        for reason, count in missed["left_out"].items():
            names = f", such as {', '.join(missed['not_utf8'])}" if reason == "not UTF-8" and missed["not_utf8"] else ""
            log.info("data: %s: %s left out: %s%s", source.name, f"{count:,}", reason, names)


def _choose(spec: DataSpec, shards: list[Shard], partial: Path) -> tuple[list[NDArray[np.bool_]], int]:
    """Which documents of each shard are kept, and the token that ends a document; the tokenizer is then there."""
    _check_some(spec, shards, partial)
    catalogue = Catalogue.of(shards)
    kept = _new_documents(spec, shards, catalogue, partial)
    orders = catalogue.orders(np.concatenate(kept), spec)
    for source, train in zip(spec.sources, orders["train"], strict=True):
        if not len(train):
            mine = catalogue.source == spec.sources.index(source)
            raise SweepError(
                f"the source {source.name} of data.sources has no training document: of {mine.sum()} read"
                f" {(mine & catalogue.held_out).sum()} are held out, the others near-duplicates",
                "documents to train on from every source",
                "lower data.held_out_fraction, correct group_column, or take the source out",
            )
    if not any(len(held_out) for held_out in orders["held_out"]):
        raise SweepError(
            f"no document is held out: data.held_out_fraction is {spec.held_out_fraction:g} and"
            f" {len(catalogue.shard):,} documents were read",
            "held-out documents, to measure the loss on; whole groups where there are groups",
            "raise data.held_out_fraction, name groups in data.held_out_groups, or give more documents",
        )
    path = partial / "tokenizer.json"
    if spec.tokenizer != TRAINED:
        tokenizer, end_token = load_tokenizer(tokenizer_path(spec.tokenizer), spec)
        write_whole(path, tokenizer.to_str(pretty=True).encode())
        return kept, end_token
    if not path.exists():
        texts = _first_texts(spec, shards, catalogue, orders["train"])
        write_whole(path, train_tokenizer(texts, spec.vocab_size).to_str(pretty=True).encode())
    return kept, 0


def _check_some(spec: DataSpec, shards: list[Shard], partial: Path) -> None:
    there = {shard.source for shard in shards}
    for index, source in enumerate(spec.sources):
        if index not in there:
            reasons = left_out(partial, index)["left_out"]
            why = "; ".join(f"{count:,} left out: {reason}" for reason, count in reasons.items())
            raise SweepError(
                f"the source {source.name} of data.sources has no document ({why or 'it is empty'})",
                "documents with text",
                "correct its paths or columns, its filters or max_document_bytes",
            )


def _new_documents(spec: DataSpec, shards: list[Shard], catalogue: Catalogue, partial: Path) -> list[NDArray[np.bool_]]:
    """Which documents of each shard are no near-duplicates, held-out ones first: a twin in training is dropped."""
    path = partial / "kept.npy"
    bounds = np.searchsorted(catalogue.shard, np.arange(1, len(shards)))
    if path.exists():
        return np.split(np.load(path), bounds)
    table = LineTable.for_text(int(catalogue.num_bytes.sum()), spec.line_table_bytes)
    kept = [np.zeros(len(part), dtype=np.bool_) for part in np.split(catalogue.shard, bounds)]
    for side in (True, False):
        for shard, held_out, keep in zip(shards, np.split(catalogue.held_out, bounds), kept, strict=True):
            rows = held_out == side
            if rows.any():
                lines, lengths = lines_of(shard)
                of_rows = lines[np.repeat(rows, lengths)]
                keep[rows] = keep_new(of_rows, lengths[rows], table, spec.max_shared_line_fraction)
    with path.with_suffix(".partial").open("wb") as file:
        np.save(file, np.concatenate(kept))
    path.with_suffix(".partial").replace(path)
    return kept


def _first_texts(
    spec: DataSpec, shards: list[Shard], catalogue: Catalogue, orders: list[NDArray[np.int64]]
) -> list[str]:
    """Texts to train a tokenizer on: of each source its share, from the beginning of its training order."""
    sizes = [int(catalogue.num_bytes[order].sum()) for order in orders]
    shares = mixture_weights(spec) or [Fraction(size, sum(sizes)) for size in sizes]
    texts = []
    for order, share in zip(orders, shares, strict=True):
        num_chars = 0
        for document in order:
            with shards[catalogue.shard[document]].path("text").open("rb") as file:
                file.seek(catalogue.start_byte[document])
                texts.append(file.read(catalogue.num_bytes[document]).decode())
            num_chars += len(texts[-1])
            if num_chars >= spec.tokenizer_bytes * share:
                break
    return texts
