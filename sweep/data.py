"""Training and held-out tokens from the Python source installed on this machine.

Reads the source of installed packages; leaves a cache named by the hash of all that went into it:

    <cache>/corpus/<hash>/  train.bin  held_out.bin  tokenizer.json  corpus.json

Both ``.bin`` files are streams of uint16 tokens, documents ended by token 0. Training reads
windows of the stream in an order that is a function of the seed alone, so a run can be resumed
at any step without a reader's state.

If a share of micro documents (``sweep/micro``) is asked for, the training stream is the code as it is without
them, then the micro documents; the order of training merges the windows of the two evenly. Tokenizer
and held-out tokens are those of the code alone.
"""

import hashlib
import importlib.util
import logging
import math
import multiprocessing
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import SweepError
from sweep.folder import CorruptFile, read_json, set_aside, sha256_of, sha256_of_file, write_json
from sweep.humaneval.guard import die_with_parent
from sweep.micro.documents import lexicon_sha256, training_documents
from sweep.micro.scan import scan
from sweep.spec import DataSpec

log = logging.getLogger("sweep")

END_OF_DOCUMENT = "<|endofdocument|>"
FORMAT = 2  # of the cache; raise it when the code below would make other tokens from the same files
_SKIPPED_FOLDERS = {
    *("test", "tests", "testing", "_vendor", "vendor", "vendored", "third_party", "site-packages"),
    *("dist-packages", "__pycache__", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "encodings"),
}
_SKIPPED_ENDINGS = ("_pb2.py", "_pb2_grpc.py")
_MIN_FILE_BYTES = 200
_MIN_LINE_CHARS = 25  # shorter lines stand in unrelated files too and say nothing about copying


@dataclass(frozen=True)
class Document:
    name: str  # package/path.py, the same on every machine
    text: str


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus; ``sha256`` covers both token streams and the tokenizer."""

    folder: Path
    info: dict[str, Any]

    @property
    def sha256(self) -> str:
        return self.info["sha256"]

    @property
    def train_tokens(self) -> int:
        return self.info["train"]["tokens"]

    def train_windows(self, length: int) -> tuple[int, int]:
        """Windows of the training stream that begin in code, and those after them that begin in micro documents."""
        total = num_windows(self.train_tokens, length)
        num_code_tokens = self.train_tokens - self.info["micro"]["tokens"]
        num_code = min(total, math.ceil(num_code_tokens / length))
        return num_code, total - num_code

    def stream(self, split: str) -> NDArray[np.uint16]:
        return np.memmap(self.folder / f"{split}.bin", dtype=np.uint16, mode="r")

    def tokenizer(self) -> Any:
        """The tokenizer that made the streams (a ``tokenizers.Tokenizer``)."""
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    def token_bytes(self) -> NDArray[np.int64]:
        """Bytes of source that each token of the vocabulary stands for, shape (V,); the end marker has none."""
        return np.asarray(self.info["token_bytes"], dtype=np.int64)


def windows(stream: NDArray[np.uint16], rows: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Windows of the stream, shape (rows, length + 1): inputs and, one later, what they should predict."""
    starts = rows[:, None] * length
    return stream[starts + np.arange(length + 1)[None]].astype(np.int64)


def num_windows(num_tokens: int, length: int) -> int:
    return (num_tokens - 1) // length


def training_order(num_code_windows: int, seed: int, num_micro_windows: int = 0) -> NDArray[np.int64]:
    """The order in which a run with this seed sees the windows; none comes twice.

    The stream is code first, then micro documents. Each part is shuffled and the two are merged evenly, so every
    part of the order holds the micro windows' share to within one window.
    """
    generator = np.random.default_rng(seed)
    code, micro = generator.permutation(num_code_windows), generator.permutation(num_micro_windows)
    times = [(np.arange(len(part)) + 0.5) / len(part) for part in (code, micro) if len(part)]
    merged: NDArray[np.int64] = np.concatenate((code, num_code_windows + micro))
    return merged[np.argsort(np.concatenate(times), kind="stable")]


def prepare_corpus(spec: DataSpec, cache_dir: Path) -> Corpus:
    """The corpus for ``spec``, from the cache if the same files were prepared before.

    Raises:
        SweepError: a package is not installed, or its source is less than was asked for.
    """
    held_out = _pick_files(spec, spec.held_out_packages, spec.held_out_bytes, "data.held_out_bytes")
    train = _pick_files(spec, spec.train_packages, spec.train_bytes, "data.train_bytes")
    key = _cache_key(spec, held_out, train)
    folder = cache_dir / "corpus" / key[:16]
    corpus = _load(folder)
    if corpus is None:
        log.info("data: preparing %.0f MB of installed Python source (once)", spec.train_bytes / 1e6)
        # In a process of its own: the tokenizer's threads must not be in a process that forks workers.
        # It must not outlive this one: it inherits the sweep's lock.
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), initializer=die_with_parent) as pool:
            pool.submit(_build, spec, held_out, train, folder).result()
        corpus = _load(folder)
        assert corpus is not None
    return corpus


def open_corpus(folder: Path, sha256: str) -> Corpus:
    """A corpus that was prepared before, for a run planned with it.

    Raises:
        SweepError: it is not there, damaged, or another one.
    """
    try:
        corpus = _read(folder)
        if corpus.sha256 != sha256:
            raise CorruptFile(f"{folder} holds the corpus {corpus.sha256}")
    except (CorruptFile, OSError) as error:
        raise SweepError(
            f"no corpus for this plan: {error}",
            f"the corpus {sha256} on a disk that every node sees",
            "set machine.cache_dir to a shared disk and launch again: it is prepared where it is missing",
        ) from error
    return corpus


def _read(folder: Path) -> Corpus:
    info = read_json(folder / "corpus.json")
    for name, digest in info["files"].items():
        if sha256_of_file(folder / name) != digest:
            raise CorruptFile(f"{folder / name} does not match corpus.json")
    return Corpus(folder, info)


def _load(folder: Path) -> Corpus | None:
    if not folder.exists():
        return None
    try:
        return _read(folder)
    except (CorruptFile, OSError) as error:
        log.warning("data: %s; set aside as %s and prepared again", error, set_aside(folder))
        return None


# ---- which files ------------------------------------------------------------------------------


def _package_root(package: str) -> Path:
    if package == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise SweepError(
            f"the package {package} of the corpus is not installed in {sys.prefix}",
            "every package of data.train_packages and data.held_out_packages",
            f"pip install {package}, or take it out of the list (another corpus, so other runs)",
        )
    return Path(next(iter(found.submodule_search_locations)))


def _package_files(package: str) -> Iterator[tuple[str, Path]]:
    root = _package_root(package)
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        for name in names:
            if name.endswith(".py") and not name.endswith(_SKIPPED_ENDINGS):
                path = Path(folder) / name
                yield f"{package}/{path.relative_to(root).as_posix()}", path


def _pick_files(spec: DataSpec, packages: list[str], max_bytes: int, key: str) -> list[Document]:
    """Files up to ``max_bytes``, in the order of their names' hashes: all packages alike, the same everywhere."""
    files = [item for package in packages for item in _package_files(package)]
    files.sort(key=lambda item: hashlib.sha256(item[0].encode()).digest())
    picked, num_bytes = [], 0
    for name, path in files:
        text = _read_source(path, spec)
        if text is not None:
            picked.append(Document(name, text))
            num_bytes += len(text.encode())
            if num_bytes >= max_bytes:
                return picked
    raise SweepError(
        f"the source of {', '.join(packages)} is {num_bytes:,} bytes after filtering",
        f"{key}={max_bytes:,} bytes or more",
        f"add packages to the list, or lower {key}",
    )


def _read_source(path: Path, spec: DataSpec) -> str | None:
    """A file's text, or None for what is no hand-written code: huge, nearly empty, data tables, not UTF-8."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not _MIN_FILE_BYTES <= len(raw) <= spec.max_file_bytes:
        return None
    return text if max(map(len, text.splitlines())) <= spec.max_line_chars else None


def _cache_key(spec: DataSpec, held_out: list[Document], train: list[Document]) -> str:
    import tokenizers

    digest = hashlib.sha256(sha256_of([asdict(spec), tokenizers.__version__, FORMAT]).encode())
    if spec.micro_fraction:
        digest.update(lexicon_sha256().encode())
    for document in [*held_out, *train]:
        digest.update(document.name.encode() + b"\0" + document.text.encode() + b"\0")
    return digest.hexdigest()


# ---- building ---------------------------------------------------------------------------------


def drop_near_duplicates(documents: list[Document], seen: set[int], max_shared: float) -> list[Document]:
    """Documents of whose longer lines at most ``max_shared`` stood in an earlier one; ``seen`` grows."""
    kept = []
    for document in documents:
        stripped = (line.strip() for line in document.text.splitlines())
        lines = {hash(line) for line in stripped if len(line) >= _MIN_LINE_CHARS}
        if lines and len(lines & seen) <= max_shared * len(lines):
            kept.append(document)
            seen |= lines
    return kept


def train_tokenizer(documents: list[Document], spec: DataSpec) -> Any:
    """Byte-level BPE that splits numbers into digits; token 0 ends a document."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts, num_bytes = [], 0
    for document in documents:
        texts.append(document.text)
        num_bytes += len(document.text)
        if num_bytes >= spec.tokenizer_bytes:
            break
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _encode(tokenizer: Any, documents: list[Document]) -> NDArray[np.uint16]:
    parts = []
    for start in range(0, len(documents), 256):
        texts = [document.text for document in documents[start : start + 256]]
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            parts.append(np.asarray([*encoding.ids, 0], dtype=np.uint16))
    return np.concatenate(parts)


def _micro_documents(tokenizer: Any, spec: DataSpec, num_code_tokens: int) -> tuple[list[Document], NDArray[np.uint16]]:
    """Micro documents that make up their share of all training tokens, and their stream.

    Raises:
        SweepError: one of them shows what is evaluated.
    """
    wanted = round(num_code_tokens * spec.micro_fraction / (1 - spec.micro_fraction))
    source = (Document(f"micro/{index}", text) for index, text in enumerate(training_documents(spec.shuffle_seed)))
    documents: list[Document] = []
    parts: list[NDArray[np.uint16]] = [np.empty(0, dtype=np.uint16)]
    num_tokens = 0
    while num_tokens < wanted:
        batch = list(islice(source, 1000))
        ends = np.flatnonzero((stream := _encode(tokenizer, batch)) == 0) + 1
        kept = int(np.searchsorted(num_tokens + ends, wanted)) + 1  # up to the first document that fills the share
        documents += batch[:kept]
        parts.append(stream[: ends[:kept][-1]])
        num_tokens += len(parts[-1])
    hits = scan(document.text for document in documents)
    if hits:
        raise SweepError(
            f"{len(hits)} micro documents show what is evaluated, such as {hits[0].task_id}: {hits[0].document!r}",
            "training examples of other combinations than the evaluated ones",
            "this is a fault of the grammar (sweep/micro/grammar.py): report it",
        )
    return documents, np.concatenate(parts)


def _build(spec: DataSpec, held_out: list[Document], train: list[Document], folder: Path) -> None:
    seen: set[int] = set()
    held_out_kept = drop_near_duplicates(held_out, seen, spec.max_shared_line_fraction)
    train_kept = drop_near_duplicates(train, seen, spec.max_shared_line_fraction)
    order = np.random.default_rng(spec.shuffle_seed).permutation(len(train_kept))
    train_kept = [train_kept[index] for index in order]

    tokenizer = train_tokenizer(train_kept, spec)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    tokenizer.save(str(partial / "tokenizer.json"))
    info: dict[str, Any] = {"source": asdict(spec), "near_duplicates": len(train) - len(train_kept)}
    code = _encode(tokenizer, train_kept)
    micro_kept, micro = _micro_documents(tokenizer, spec, len(code))
    info["micro"] = {"documents": len(micro_kept), "tokens": len(micro)}
    parts = (
        ("train", train_kept + micro_kept, (code, micro)),
        ("held_out", held_out_kept, (_encode(tokenizer, held_out_kept),)),
    )
    for split, documents, streams in parts:
        stream = np.concatenate(streams)
        stream.tofile(partial / f"{split}.bin")
        num_bytes = sum(len(document.text.encode()) for document in documents)
        info[split] = {"documents": len(documents), "bytes": num_bytes, "tokens": len(stream)}

    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    # In a byte-level vocabulary every character stands for one byte.
    info["token_bytes"] = [0 if token == END_OF_DOCUMENT else len(token) for token, _ in vocabulary]
    names = ("train.bin", "held_out.bin", "tokenizer.json")
    info["files"] = {name: sha256_of_file(partial / name) for name in names}
    info["sha256"] = sha256_of(info["files"])
    write_json(partial / "corpus.json", info)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    log.info("data: %s training tokens, corpus %s", f"{info['train']['tokens']:,}", info["sha256"][:12])
