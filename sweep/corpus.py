"""A prepared corpus as it lies on a disk: streams of tokens, and which document stands where in them.

    <cache>/corpus/<hash>/  train.bin  held_out.bin  tokenizer.json  train_documents.parquet  held_out_documents.parquet
                            corpus.json

Both ``.bin`` files are streams of uint16 tokens (uint32 for vocabularies above 65,536), each document ended by the
end token. The training stream holds the sources one after the other, the micro documents last.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import CorruptFile, SweepError
from sweep.folder import read_json, sha256_of_file
from sweep.mixture import Mixture, windows_of_parts

FORMAT = 3  # of the cache; raise it when other tokens would be made from the same documents, or other files written


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus; ``sha256`` covers both token streams, the tokenizer and the mixture of several sources."""

    folder: Path
    info: dict[str, Any]

    @property
    def sha256(self) -> str:
        return self.info["sha256"]

    @property
    def train_tokens(self) -> int:
        return self.info["train"]["tokens"]

    @property
    def end_token(self) -> int:
        """The token that ends a document."""
        return self.info["end_token"]

    def mixture(self, length: int) -> Mixture:
        """The windows of ``length`` of each part of the training stream, and their shares."""
        return mixture_of(self.info, length)

    def stream(self, split: str) -> NDArray[Any]:
        """All tokens of train or held_out, as they lie on the disk."""
        return np.memmap(self.folder / f"{split}.bin", dtype=self.info["dtype"], mode="r")

    def documents(self, split: str) -> Any:
        """A row per document of a stream, in its order (a ``pyarrow.Table``).

        Columns: name, source, group, start_token, num_tokens (with the end token), num_bytes (of its text).
        """
        import pyarrow.parquet  # late: half a second

        return pyarrow.parquet.read_table(self.folder / f"{split}_documents.parquet")

    def tokenizer(self) -> Any:
        """The tokenizer that made the streams (a ``tokenizers.Tokenizer``)."""
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    def token_bytes(self) -> NDArray[np.int64]:
        """Bytes of text that each token of the vocabulary stands for, shape (V,); the end token has none."""
        return np.asarray(self.info["token_bytes"], dtype=np.int64)


def mixture_of(info: dict[str, Any], length: int) -> Mixture:
    """The mixture that a corpus's description (``corpus.json``) tells of, in windows of ``length``."""
    parts = info["mixture"]
    weights = [Fraction(part["weight"]) for part in parts if part["weight"] is not None]
    return Mixture.of(windows_of_parts([part["tokens"] for part in parts], length), weights or None)


def windows(stream: NDArray[Any], rows: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Windows of the stream, shape (rows, length + 1): inputs and, one later, what they should predict."""
    starts = rows[:, None] * length
    return stream[starts + np.arange(length + 1)[None]].astype(np.int64)


def open_corpus(folder: Path, sha256: str) -> Corpus:
    """A corpus that was prepared before, for a run planned with it.

    Raises:
        SweepError: it is not there, damaged, or another one.
    """
    try:
        corpus = read_corpus(folder)
        if corpus.sha256 != sha256:
            raise CorruptFile(f"{folder} holds the corpus {corpus.sha256}")
    except (CorruptFile, OSError) as error:
        raise SweepError(
            f"no corpus for this plan: {error}",
            f"the corpus {sha256} on a disk that every node sees",
            "set machine.cache_dir to a shared disk and launch again: it is prepared where it is missing",
        ) from error
    return corpus


def read_corpus(folder: Path) -> Corpus:
    """The corpus in ``folder``.

    Raises:
        CorruptFile: a file is not what was written, or it was written by another version of this code.
    """
    info = read_json(folder / "corpus.json")
    if info.get("format") != FORMAT:
        raise CorruptFile(f"{folder} is a corpus of format {info.get('format')}, this code reads format {FORMAT}")
    for name, digest in {**info["files"], **info["document_files"]}.items():
        if sha256_of_file(folder / name) != digest:
            raise CorruptFile(f"{folder / name} does not match corpus.json")
    return Corpus(folder, info)
