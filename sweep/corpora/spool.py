"""Documents on their way into a corpus: shards on a disk, so that memory is bounded and a kill costs one shard.

    <partial>/documents/0-00000.text      texts of the source 0, one after the other
                        0-00000.parquet   name, group, held_out, num_bytes of each; the reader's state after the last
                        0-whole.json      all of the source is here; what was left out
                        0-00000.lines.npz hashes of lines, for near-duplicates
                        0-00000.tokens    of the documents that are kept; 0-00000.lengths.npy: how many each has

A shard is there when its last file is, which is renamed into place; what is made from it depends on nothing else, so
shards can be worked on by any number of processes.
"""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.corpora.near_duplicates import line_hashes
from sweep.corpora.sources import Document, Reader
from sweep.corpora.tokenizer import Encoder
from sweep.folder import read_json, write_json, write_whole

SHARD_BYTES = 16 << 20  # of text
_STATE = b"reader"


@dataclass(frozen=True)
class Shard:
    """One shard's files."""

    stem: str  # <partial>/documents/<source>-<number>

    @property
    def source(self) -> int:
        return int(Path(self.stem).name.split("-")[0])

    def path(self, ending: str) -> Path:
        return Path(f"{self.stem}.{ending}")

    def table(self) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.read_table(self.path("parquet"))

    def texts(self) -> list[str]:
        """The texts of all its documents."""
        content = self.path("text").read_bytes()
        ends = np.cumsum(self.table()["num_bytes"].to_numpy())
        return [content[start:end].decode() for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def shards_of(partial: Path) -> list[Shard]:
    """All shards that are there, source by source, each source's in their order."""
    return [Shard(str(path)[: -len(".parquet")]) for path in sorted((partial / "documents").glob("*-*.parquet"))]


def spool_source(partial: Path, index: int, reader: Reader, is_held_out: Any) -> Iterator[int]:
    """Write what is not there yet of one source into shards; yields the bytes of text so far, shard by shard."""
    folder = partial / "documents"
    whole = folder / f"{index:03}-whole.json"
    if whole.exists():
        return
    done = [shard for shard in shards_of(partial) if shard.source == index]
    if done:
        reader.position = _state_of(done[-1])
    batch: list[tuple[Document, bool]] = []
    num_bytes, number = 0, len(done)
    for document in reader:
        batch.append((document, is_held_out(document)))
        num_bytes += len(document.text)
        if num_bytes >= SHARD_BYTES:
            _write_shard(Shard(str(folder / f"{index:03}-{number:06}")), batch, reader.state())
            yield reader.position["bytes"]
            batch, num_bytes, number = [], 0, number + 1
    if batch:
        _write_shard(Shard(str(folder / f"{index:03}-{number:06}")), batch, reader.state())
        yield reader.position["bytes"]
    write_json(whole, {"left_out": reader.position["left_out"], "not_utf8": reader.position["not_utf8"]})


def left_out(partial: Path, index: int) -> dict[str, Any]:
    """What was left out of a source, by reason, and some of the files that are not UTF-8."""
    found = read_json(partial / "documents" / f"{index:03}-whole.json")
    return {"left_out": found["left_out"], "not_utf8": found["not_utf8"]}


def _write_shard(shard: Shard, batch: list[tuple[Document, bool]], state: dict[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    texts = [document.text.encode() for document, _ in batch]
    table = pyarrow.table(
        {
            "name": [document.name for document, _ in batch],
            "group": [document.group for document, _ in batch],
            "held_out": [held_out for _, held_out in batch],
            "num_bytes": [len(text) for text in texts],
        }
    ).replace_schema_metadata({_STATE: json.dumps(state)})
    write_whole(shard.path("text"), b"".join(texts))
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    write_whole(shard.path("parquet"), content.getvalue())


def _state_of(shard: Shard) -> dict[str, Any]:
    return json.loads(shard.table().schema.metadata[_STATE])


def hash_lines(shard: Shard) -> None:
    """Write the hashes of the lines of every document of a shard."""
    hashes = [line_hashes(text) for text in shard.texts()]
    content = io.BytesIO()
    np.savez(content, lines=np.concatenate(hashes), lengths=np.array([len(lines) for lines in hashes]))
    write_whole(shard.path("lines.npz"), content.getvalue())


def lines_of(shard: Shard) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes of the lines of all documents, and how many each document has."""
    with np.load(shard.path("lines.npz")) as found:
        return found["lines"], found["lengths"]


def encode_shard(shard: Shard, kept: NDArray[np.bool_], partial: Path, end_token: int, dtype: str) -> None:
    """Write the tokens of a shard's kept documents; the others get none."""
    encoder = _encoder(str(partial / "tokenizer.json"), end_token, dtype)
    texts = [text for text, is_kept in zip(shard.texts(), kept, strict=True) if is_kept]
    tokens = encoder.encode(texts)
    lengths = np.zeros(len(kept), dtype=np.int64)
    lengths[kept] = [len(part) for part in tokens]
    write_whole(shard.path("tokens"), b"".join(part.tobytes() for part in tokens))
    content = io.BytesIO()
    np.save(content, lengths)
    write_whole(shard.path("lengths.npy"), content.getvalue())


@lru_cache(maxsize=1)
def _encoder(path: str, end_token: int, dtype: str) -> Encoder:
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # shards are worked on in parallel
    return Encoder(Tokenizer.from_file(path), end_token, dtype)
