"""Python source of the packages installed on this machine: real data without a download, split by whole packages."""

import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from sweep.corpora.hand_written import SKIPPED_FOLDERS, hand_written, is_skipped
from sweep.data_spec import SourceSpec
from sweep.errors import SweepError


def package_files(source: SourceSpec) -> Iterator[tuple[str, str, str]]:
    """Names, packages and texts: what is held out, then what is trained on, each up to its number of bytes.

    Files come in the order of their names' hashes: all packages alike, the same everywhere.

    Raises:
        SweepError: a package is not installed, or there is less source than was asked for.
    """
    for packages, max_bytes, key in (
        (source.held_out_packages, source.held_out_bytes, "held_out_bytes"),
        (source.train_packages, source.train_bytes, "train_bytes"),
    ):
        if max_bytes is not None:
            yield from _pick_files(source, packages, max_bytes, key)


def _pick_files(source: SourceSpec, packages: list[str], max_bytes: int, key: str) -> Iterator[tuple[str, str, str]]:
    files = [item for package in packages for item in _files_of(package)]
    files.sort(key=lambda item: hashlib.sha256(item[0].encode()).digest())
    num_bytes = 0
    for name, package, path in files:
        text = _read_source(path, source)
        if text is not None:
            yield name, package, text
            num_bytes += len(text.encode())
            if num_bytes >= max_bytes:
                return
    raise SweepError(
        f"the source of {', '.join(packages)} is {num_bytes:,} bytes after filtering",
        f"{key}={max_bytes:,} bytes or more, as the source {source.name} of data.sources has it",
        f"add packages to the list, or lower {key}, such as data.sources.0.{key}={num_bytes // 2}",
    )


def _files_of(package: str) -> Iterator[tuple[str, str, Path]]:
    root = _package_root(package)
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        for name in names:
            path = Path(folder) / name
            if name.endswith(".py") and not is_skipped(Path(name)):
                yield f"{package}/{path.relative_to(root).as_posix()}", package, path


def _package_root(package: str) -> Path:
    if package == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise SweepError(
            f"the package {package} of the corpus is not installed in {sys.prefix}",
            "every package of train_packages and held_out_packages of data.sources",
            f"pip install {package}, or take it out of the list (another corpus, so other runs)",
        )
    return Path(next(iter(found.submodule_search_locations)))


def _read_source(path: Path, source: SourceSpec) -> str | None:
    try:
        return hand_written(path.read_bytes(), source)
    except OSError:
        return None
