"""The documents: links that lead somewhere, commands and files that exist, columns that are the table's."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sweep.records import Record
from tests.tiny import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        assert link.startswith("https://") or (document.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_make_targets_exist(document: Path) -> None:
    text = document.read_text()
    for module in re.findall(r"python -m ((?:sweep|benchmarks)\.\w+)", text):
        assert importlib.util.find_spec(module), module
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", text, re.MULTILINE):
        assert "".join(target) in targets, target


def test_every_column_is_explained_and_no_other() -> None:
    section = (ROOT / "README.md").read_text().split("## Columns of")[1].split("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    explained = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    assert explained == sorted(explained, key=explained.index)
    assert set(explained) == {field.name for field in fields(Record)}


def test_the_layout_names_every_module() -> None:
    section = (ROOT / "README.md").read_text().split("## Layout")[1].split("\n## ")[0]
    for path in (ROOT / "sweep").glob("*.py"):
        assert path.stem == "__init__" or re.search(rf"\b{path.stem}\b", section), path.stem
    for group in (ROOT / "configs").iterdir():
        assert group.name in section


def test_quoted_settings_are_those_of_the_configuration() -> None:
    """The ladder that the README describes is the one that is launched."""
    text = (ROOT / "README.md").read_text()
    grid = (ROOT / "configs" / "grid" / "ladder.yaml").read_text()
    assert "target_flops: 7.4e12" in grid
    assert "num_seeds: [3, 3, 3, 2, 1, 1]" in grid
    for phrase in ("from 2e10 to 2.4e11 FLOPs", "a target of 7.4e12", "three seeds on the cheap half"):
        assert phrase in " ".join(text.split())
