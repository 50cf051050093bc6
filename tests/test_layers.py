"""The layers of the design, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGES = {
    "plan",
    "train",
    "evaluate",
    "solve",
    "collect",
    "optimum",
    "fit",
    "seal",
    "verify",
    "report",
    "status",
    "data",
}
NEEDS_TORCH = {"train", "ranks", "compiled", "evaluate", "optim", "sample", "drawing", "solve", "trained"}
KNOWS_ALL = {"pipeline", "workers", "launch"}


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


SWEEP = sorted((ROOT / "sweep").glob("**/*.py"))


@pytest.mark.parametrize("path", [p for p in SWEEP if p.stem in STAGES], ids=lambda p: p.stem)
def test_no_stage_imports_another(path: Path) -> None:
    assert not imported(path) & {f"sweep.{stage}" for stage in STAGES - {path.stem}}


@pytest.mark.parametrize("path", [p for p in SWEEP if p.stem not in NEEDS_TORCH], ids=lambda p: p.stem)
def test_only_training_evaluation_and_sampling_import_torch(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path, top_level_only=True)}
    assert not roots & {"torch", "lightning", "wandb"}
    if path.stem not in KNOWS_ALL:
        assert not imported(path) & {f"sweep.{name}" for name in NEEDS_TORCH}


def test_models_stand_alone() -> None:
    for path in (ROOT / "models").glob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"sweep", "lightning", "hydra", "wandb"}
        if path.stem in ("config", "parametrization"):
            assert "torch" not in roots


def test_every_module_is_seen() -> None:
    assert {path.stem for path in SWEEP} >= STAGES | NEEDS_TORCH | KNOWS_ALL
