"""Python source out of wheels, the files that pip downloads: hundreds of packages without installing one of them."""

import hashlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from sweep.corpora.files import LocalFile
from sweep.corpora.hand_written import hand_written, is_skipped
from sweep.data_spec import SourceSpec
from sweep.errors import SweepError


def in_order(files: list[LocalFile]) -> list[LocalFile]:
    """Wheels by the hashes of their packages' names, so that those read first are as good as any.

    Raises:
        SweepError: a file that is no wheel, or two of one package.
    """
    packages: dict[str, LocalFile] = {}
    for file in files:
        if not file.path.name.endswith(".whl"):
            raise SweepError(
                f"{file.path} is among the wheels of data.sources",
                "files that end in .whl, as pip download leaves them",
                "correct paths, such as [.cache/wheels/*.whl]",
            )
        other = packages.setdefault(package_of(file), file)
        if other is not file:
            raise SweepError(
                f"{other.path} and {file.path} are of one package, {package_of(file)}",
                "one wheel of each package: two would be near-duplicates",
                "move one of them away",
            )
    return sorted(files, key=lambda file: _hash(package_of(file)))


def package_of(file: LocalFile) -> str:
    """The name of a wheel's package, as the index of packages writes it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", file.path.name.split("-")[0]).lower()


def documents_of_wheel(file: LocalFile, source: SourceSpec) -> Iterator[tuple[str, str, str]]:
    """Names, packages and texts of hand-written source files, in the order of their names' hashes.

    At most ``max_package_bytes`` of a package, whole files, so that no large one outweighs the others.

    Raises:
        SweepError: the wheel can't be read.
    """
    package = package_of(file)
    num_bytes = 0
    for name, raw in _members(file):
        text = hand_written(raw, source)
        if text is not None:
            num_bytes += len(raw)
            if source.max_package_bytes is not None and num_bytes > source.max_package_bytes:
                return
            yield f"{package}/{name}", package, text


def _members(file: LocalFile) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(file.path) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".py") and not is_skipped(PurePosixPath(name))]
            for name in sorted(names, key=_hash):
                yield name, wheel.read(name)
    except Exception as error:  # of zipfile, zlib or the system: whatever the damage is
        raise SweepError(
            f"{file.path} can't be read as a wheel ({type(error).__name__}: {error})",
            "a whole file, as pip download leaves it",
            "delete it and download it again, or leave it out of paths",
        ) from error


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
