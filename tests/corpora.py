"""Small corpora for tests: what ``data`` may look like."""

import zipfile
from pathlib import Path
from typing import Any

from sweep.data_spec import DataSpec, SourceSpec


def data_spec(*sources: SourceSpec, **changes: Any) -> DataSpec:
    """The settings of the tests around these sources."""
    settings: dict[str, Any] = {
        "held_out_groups": [],
        "held_out_fraction": 0.1,
        "max_shared_line_fraction": 0.5,
        "line_table_bytes": 1 << 24,
        "vocab_size": 300,
        "tokenizer": "trained",
        "end_of_document": None,
        "tokenizer_bytes": 200_000,
        "shuffle_seed": 0,
        "micro_fraction": 0.0,
    }
    return DataSpec(sources=list(sources), **{**settings, **changes})


def code_spec(**changes: Any) -> DataSpec:
    """A part of the standard library, click held out."""
    source = SourceSpec(
        name="python",
        kind="installed_python",
        train_packages=["stdlib"],
        held_out_packages=["click"],
        train_bytes=600_000,
        held_out_bytes=100_000,
        max_document_bytes=100_000,
        max_line_chars=400,
    )
    return data_spec(source, **{"held_out_fraction": 0.0, **changes})


def files_spec(*paths: Path, **changes: Any) -> DataSpec:
    """Files; a change that is a key of sources changes the source."""
    of_source = {key: changes.pop(key) for key in list(changes) if key in SourceSpec.__dataclass_fields__}
    return data_spec(SourceSpec("files", "files", paths=[str(path) for path in paths], **of_source), **changes)


def wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    """A wheel as pip downloads them, with these files in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in files.items():
            archive.writestr(member, text)
    return path
