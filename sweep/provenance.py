"""Which code and which libraries made a result."""

import ast
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# What turns records and counts into forecasts. A test holds the list to be complete.
FITTING_CODE = (
    *("laws", "slices", "surface", "ladder", "forecast", "cut_offs", "phase"),
    *("buckets", "pass_counts", "pass_rates", "count_model", "pass_forecast", "pass_law", "capability"),
)
_FITTING_LIBRARIES = ("numpy", "scipy")
_LIBRARIES = ("torch", "lightning", "numpy", "scipy", "tokenizers")


def utc_now() -> str:
    """Now, as ISO 8601 in UTC with microseconds; such times compare as strings."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@functools.cache
def code_sha256() -> str:
    """One hash over the source of ``models/`` and ``sweep/``."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("models/**/*.py"), *ROOT.glob("sweep/**/*.py")]):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def fitting_code() -> dict[str, str]:
    """What decides the numbers of a fit beside its data: a hash of its code, the versions of its libraries."""
    paths = _fitting_paths(FITTING_CODE)
    versions = {name: importlib.metadata.version(name) for name in _FITTING_LIBRARIES}
    return {"code_sha256": _hash_of_fitting(paths, [(ROOT / path).read_bytes() for path in paths]), **versions}


@functools.cache
def fitting_code_sha256_at(commit: str) -> str | None:
    """The hash of the fitting code as a commit holds it, by the commit's own list; None where it can't be looked at."""

    def shown(path: str) -> bytes:
        command = ["git", "-C", str(ROOT), "show", f"{commit}:{path}"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    try:
        paths = _fitting_paths(_listed(shown("sweep/provenance.py")))
        return _hash_of_fitting(paths, [shown(path) for path in paths])
    except (OSError, subprocess.CalledProcessError):
        return None


def _listed(source: bytes) -> list[str]:
    """The names in the assignment of FITTING_CODE, in their order."""
    (value,) = (
        statement.value
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "FITTING_CODE"
    )
    return [part.value for part in ast.walk(value) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _fitting_paths(names: Iterable[str]) -> list[str]:
    return [f"sweep/{name}.py" for name in names]


def _hash_of_fitting(paths: list[str], sources: list[bytes]) -> str:
    digest = hashlib.sha256()
    for path, source in zip(paths, sources, strict=True):
        digest.update(path.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()


def code_version() -> dict[str, Any]:
    """Hash of the source, the commit and whether files differ from it; a null commit has its reason."""
    try:
        commit, changed = _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", "models", "sweep"))
        return {"sha256": code_sha256(), "commit": commit, "changed_since_commit": changed}
    except (OSError, subprocess.CalledProcessError) as error:
        return {"sha256": code_sha256(), "commit": None, "reason": f"no git commit to be had ({error})"}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def library_versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **versions}
