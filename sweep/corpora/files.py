"""Documents of local files: rows of parquet and JSON lines, read by ``datasets``, and whole files of text."""

import codecs
import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sweep.data_spec import SourceSpec
from sweep.errors import SweepError

FOLDER = "folder"  # the group_column of text files
_PARQUET, _JSON = (".parquet",), (".jsonl", ".ndjson")
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class LocalFile:
    name: str  # below the path that was given
    path: Path
    sha256: str
    num_bytes: int
    mtime_ns: int
    is_utf8: bool  # what is not is left out; parquet and packed files are known only when they are read

    @property
    def kind(self) -> str:
        """The builder of ``datasets`` that reads it: parquet, json or, for one document, text."""
        suffixes = [suffix for suffix in self.path.suffixes if suffix not in _PACKED]
        last = suffixes[-1].lower() if suffixes else ""
        return "parquet" if last in _PARQUET else "json" if last in _JSON else "text"

    @property
    def folder(self) -> str:
        """The first folder below the path that was given; empty for a file that lies in it directly."""
        return self.name.split("/")[0] if "/" in self.name else ""


def local_files(source: SourceSpec) -> list[LocalFile]:
    """All files of a source in the order of their names, each read once and hashed; hidden ones are passed over.

    Raises:
        SweepError: a path with nothing below it.
    """
    found: dict[Path, str] = {}
    for pattern in source.paths:
        matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207  (whole paths too)
        before = len(found)
        for match in matches:
            below = [path for path in match.rglob("*") if path.is_file()] if match.is_dir() else [match]
            for path in below:
                name = path.relative_to(match if match.is_dir() else match.parent).as_posix()
                if not any(part.startswith(".") for part in name.split("/")):
                    found.setdefault(path.resolve(), name)
        if len(found) == before:
            raise SweepError(
                f"the source {source.name} of data.sources has nothing at {pattern} (looked from {Path.cwd()})",
                "files, folders with files, or patterns that match some",
                f"correct paths of the source {source.name}"
                + (", or download what configs/data/wheels.txt lists: make wheels" if source.kind == "wheels" else ""),
            )
    return [_hashed(name, path) for path, name in sorted(found.items(), key=lambda item: (item[1], str(item[0])))]


def _hashed(name: str, path: Path) -> LocalFile:
    digest, is_utf8, found = hashlib.sha256(), True, path.stat()
    is_text = not path.name.endswith((*_PACKED, *_PARQUET))
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if is_text and is_utf8:
                is_utf8 = _goes_on_as_utf8(decoder, chunk)
    is_utf8 = is_utf8 and (not is_text or _goes_on_as_utf8(decoder, b"", final=True))
    return LocalFile(name, path, digest.hexdigest(), found.st_size, found.st_mtime_ns, is_utf8)


def check_unchanged(file: LocalFile) -> None:
    """Refuse a file that is not what was hashed.

    Raises:
        SweepError: its size or its time has changed since.
    """
    now = file.path.stat()
    if (now.st_size, now.st_mtime_ns) != (file.num_bytes, file.mtime_ns):
        raise SweepError(
            f"{file.path} has changed while it was read",
            "files that stay as they are until the corpus is prepared",
            "launch again once it is written",
        )


def _goes_on_as_utf8(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def text_file(file: LocalFile, max_bytes: int) -> str | None:
    """The text of a file that is one document; None if it is too long."""
    return file.path.read_bytes().decode() if file.num_bytes <= max_bytes else None


def rows_of_file(file: LocalFile) -> Iterator[dict[str, object]]:
    """The rows of a parquet or JSON lines file, one after the other.

    Raises:
        SweepError: the file can't be read as what its name says.
    """
    import datasets

    # Progress and hints of datasets are for people at a prompt; what went wrong comes as an exception.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield from datasets.load_dataset(file.kind, data_files=[str(file.path)], split="train", streaming=True)
    except StopIteration:  # an empty file
        return
    except Exception as error:  # of pyarrow, json, gzip or datasets: whatever the damage is
        raise SweepError(
            f"{file.path} can't be read as {file.kind} ({type(error).__name__}: {error})",
            "a whole file of what its name says, in UTF-8",
            "repair it, or leave it out of paths",
        ) from error
