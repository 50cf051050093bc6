"""How fast is text made into tokens? MB per CPU second, beside ``tokenizers``' own batch encoding of the same texts.

    python -m benchmarks.tokenizing_speed

The texts are the default corpus's Python source, the tokenizer is one trained on a part of it, given as a file.
Measured are the whole preparation (start of its processes, reading, near-duplicates, encoding, assembling), its
encoding alone, and ``encode_batch``; each in processes of its own, one thread, in turn.
"""

import json
import os
import resource
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.study import configured, write_result
from sweep.corpora.installed import package_files
from sweep.corpora.tokenizer import Encoder, stream_dtype, train_tokenizer
from sweep.data import prepare_corpus
from sweep.data_spec import DataSpec, SourceSpec

ROUNDS = 5


def cpu_seconds_of_child(work: Callable[..., Any], *arguments: Any) -> float:
    """CPU seconds of a fresh process, its children and its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        pool.submit(work, *arguments).result()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(spec: DataSpec) -> None:
    with tempfile.TemporaryDirectory() as cache:
        prepare_corpus(spec, Path(cache))


def encode(rows: Path, tokenizer: Path, spec: DataSpec) -> None:
    from tokenizers import Tokenizer

    encoder = Encoder(Tokenizer.from_file(str(tokenizer)), 0, stream_dtype(spec.vocab_size))
    encoder.encode([json.loads(line)["text"] for line in rows.open()])


def encode_batch(rows: Path, tokenizer: Path) -> None:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    texts = [json.loads(line)["text"] for line in rows.open()]
    for start in range(0, len(texts), 256):
        for encoding in loaded.encode_batch(texts[start : start + 256], add_special_tokens=False):
            assert encoding.ids


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    spec = configured("data.sources.0.train_bytes=24_000_000").data
    texts = [text for _, _, text in package_files(spec.sources[0])]
    with tempfile.TemporaryDirectory() as folder:
        rows, tokenizer = Path(folder) / "rows.jsonl", Path(folder) / "tokenizer.json"
        rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        train_tokenizer(texts[:300], spec.vocab_size).save(str(tokenizer))
        source = SourceSpec("rows", "files", paths=[str(rows)])
        given = replace(spec, sources=[source], tokenizer=str(tokenizer), end_of_document="<|endofdocument|>")
        given = replace(given, held_out_fraction=0.01)
        seconds: dict[str, list[float]] = {"preparation": [], "encoding": [], "encode_batch": []}
        for _ in range(ROUNDS):
            seconds["preparation"].append(cpu_seconds_of_child(prepare, given))
            seconds["encoding"].append(cpu_seconds_of_child(encode, rows, tokenizer, given))
            seconds["encode_batch"].append(cpu_seconds_of_child(encode_batch, rows, tokenizer))
            print({name: round(values[-1], 2) for name, values in seconds.items()}, flush=True)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    theirs = seconds["encode_batch"]
    found = {
        "megabytes": megabytes,
        "rounds": ROUNDS,
        "megabytes_per_cpu_second": {name: megabytes / statistics.median(values) for name, values in seconds.items()},
        "of_encode_batch": {
            name: statistics.median([their / our for their, our in zip(theirs, seconds[name], strict=True)])
            for name in ("preparation", "encoding")
        },
    }
    write_result("tokenizing_speed", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
