"""From encoded shards to the files of a corpus: the streams, and which document stands where in them."""

import logging
import os
import shutil
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.corpora.catalogue import Catalogue
from sweep.corpora.micro_share import MICRO, MicroDocument, micro_documents
from sweep.corpora.spool import Shard, left_out
from sweep.corpora.tokenizer import Encoder, stream_dtype, token_contents
from sweep.corpus import FORMAT
from sweep.data_spec import DataSpec, mixture_weights
from sweep.folder import sha256_of, sha256_of_file, write_json

log = logging.getLogger("sweep")

_SPLITS = "train", "held_out"


def assemble(spec: DataSpec, shards: list[Shard], kept: list[NDArray[np.bool_]], end_token: int, partial: Path) -> None:
    """Write the corpus as it will lie in the cache, into ``<partial>/whole``."""
    from tokenizers import Tokenizer

    whole = partial / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    shutil.copyfile(partial / "tokenizer.json", whole / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(whole / "tokenizer.json"))
    dtype = stream_dtype(spec.vocab_size)
    catalogue = Catalogue.of(shards)
    orders = catalogue.orders(np.concatenate(kept), spec)
    documents = _Documents(shards, catalogue, dtype, [source.name for source in spec.sources])
    weights = mixture_weights(spec)
    tokens = [int(documents.num_tokens[order].sum()) for order in orders["train"]]
    code_tokens = sum(tokens) if weights is None else int(min(n / w for n, w in zip(tokens, weights, strict=True)))
    micro = micro_documents(Encoder(tokenizer, end_token, dtype), spec, code_tokens)

    info: dict[str, Any] = {
        "format": FORMAT,
        "source": asdict(spec),
        "dtype": dtype.name,
        "end_token": end_token,
        "near_duplicates": int((~np.concatenate(kept) & ~catalogue.held_out).sum()),
        "micro": {"documents": len(micro), "tokens": sum(len(document.tokens) for document in micro)},
        "sources": [
            {"name": source.name, "kind": source.kind, **left_out(partial, index)}
            for index, source in enumerate(spec.sources)
        ],
        "mixture": _mixture_info(spec, tokens, sum(len(document.tokens) for document in micro)),
    }
    for split in _SPLITS:
        info[split] = documents.write(whole, split, orders[split], micro if split == "train" else [])
    info["token_bytes"] = [len(content) for content in token_contents(tokenizer)]
    info["files"] = {name: sha256_of_file(whole / name) for name in ("train.bin", "held_out.bin", "tokenizer.json")}
    names = [f"{split}_documents.parquet" for split in _SPLITS]
    info["document_files"] = {name: sha256_of_file(whole / name) for name in names}
    # One source has no mixture to state: its order follows from the stream.
    mixed = {} if len(spec.sources) == 1 else {"mixture": info["mixture"]}
    info["sha256"] = sha256_of({**info["files"], **mixed})
    write_json(whole / "corpus.json", info)
    log.info("data: %s training tokens, corpus %s", f"{info['train']['tokens']:,}", info["sha256"][:12])


def _mixture_info(spec: DataSpec, tokens: list[int], micro_tokens: int) -> list[dict[str, Any]]:
    """The parts of the training stream in their order, with the share of each as an exact fraction."""
    weights = mixture_weights(spec)
    micro = Fraction(str(spec.micro_fraction)) if micro_tokens else Fraction(0)
    shares = [None] * len(tokens) if weights is None else [str(weight * (1 - micro)) for weight in weights]
    names = [source.name for source in spec.sources]
    parts = [
        {"source": name, "tokens": count, "weight": share}
        for name, count, share in zip(names, tokens, shares, strict=True)
    ]
    if micro_tokens:
        parts.append({"source": MICRO, "tokens": micro_tokens, "weight": None if weights is None else str(micro)})
    return parts


class _Documents:
    """The tokens of all documents, wherever they lie in the shards."""

    def __init__(self, shards: list[Shard], catalogue: Catalogue, dtype: np.dtype[Any], sources: list[str]) -> None:
        import pyarrow

        lengths = [np.load(shard.path("lengths.npy")) for shard in shards]
        self.num_tokens = np.concatenate(lengths)
        self._start_token = np.concatenate([np.cumsum(part) - part for part in lengths])  # in the shard's tokens
        self._shards, self._catalogue, self._dtype, self._sources = shards, catalogue, dtype, np.array(sources)
        tables = pyarrow.concat_tables([shard.table().select(["name", "group"]) for shard in shards])
        self._names = tables.replace_schema_metadata(None)

    def write(
        self, whole: Path, split: str, orders: list[NDArray[np.int64]], micro: list[MicroDocument]
    ) -> dict[str, int]:
        """Write a split's stream and the table of its documents; returns how many it has of what."""
        order = np.concatenate(orders)
        with (whole / f"{split}.bin").open("wb") as stream:
            for document in order:
                stream.write(self._tokens(document))
            for micro_document in micro:
                stream.write(micro_document.tokens.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        micro_bytes = [len(document.text.encode()) for document in micro]
        num_tokens = np.concatenate([self.num_tokens[order], [len(document.tokens) for document in micro]])
        num_bytes = np.concatenate([self._catalogue.num_bytes[order], micro_bytes])
        self._write_table(whole / f"{split}_documents.parquet", order, num_tokens, num_bytes)
        return {"documents": len(num_tokens), "bytes": int(num_bytes.sum()), "tokens": int(num_tokens.sum())}

    def _tokens(self, document: np.int64) -> bytes:
        with self._shards[self._catalogue.shard[document]].path("tokens").open("rb") as file:
            file.seek(int(self._start_token[document]) * self._dtype.itemsize)
            return file.read(int(self.num_tokens[document]) * self._dtype.itemsize)

    def _write_table(
        self, path: Path, order: NDArray[np.int64], num_tokens: NDArray[Any], num_bytes: NDArray[Any]
    ) -> None:
        import pyarrow
        import pyarrow.parquet

        num_micro = len(num_tokens) - len(order)
        named = self._names.take(order)
        micro = pyarrow.table(
            {"name": [f"{MICRO}/{number}" for number in range(num_micro)], "group": [MICRO] * num_micro},
            schema=named.schema,
        )
        named = pyarrow.concat_tables([named, micro])
        sources = [*self._sources[self._catalogue.source[order]], *[MICRO] * num_micro]
        columns = {
            "name": named["name"],
            "source": pyarrow.array(sources, pyarrow.string()),
            "group": named["group"],
            "start_token": (np.cumsum(num_tokens) - num_tokens).astype(np.int64),
            "num_tokens": num_tokens.astype(np.int64),
            "num_bytes": num_bytes.astype(np.int64),
        }
        pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")
