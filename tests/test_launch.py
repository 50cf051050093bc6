"""The command as users type it: the whole way, a second time, a larger grid, and what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

HEAVY = {"torch", "lightning", "wandb"}


def run_ids(sweep: Path) -> list[str]:
    return [run["run_id"] for run in json.loads((sweep / "plan.json").read_text())["runs"]]


def test_one_launch_goes_through_to_the_verdict(finished: Path) -> None:
    verdict = json.loads((finished / "verdict.json").read_text())
    assert verdict["status"] == "judged"
    assert verdict["sealed_utc"] < verdict["target_started_utc"]
    page = (finished / "report.html").read_text()
    assert all(run_id in page for run_id in run_ids(finished))
    assert "http" not in page.replace("http-equiv", "")  # self-contained
    names = {path.stem for path in (finished / "figures").iterdir()}
    assert names == {"forecast", "residuals", "backtests", "floor", "copying"}


def imports_of(*command: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run ``python -m command`` and tell which modules it imported."""
    line = [sys.executable, "-X", "importtime", "-m", *command]
    done = subprocess.run(line, cwd=tiny.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "sweep.errors" in imported
    return done, imported


def test_a_second_launch_has_nothing_to_train_and_says_so_without_torch(base: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*")}
    again, imported = imports_of("sweep.launch", *tiny.overrides(base, "finished"))
    assert "nothing to train" in again.stderr
    assert not imported & HEAVY
    assert {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*")} == before


@pytest.mark.slow
def test_a_larger_grid_takes_over_what_it_shares(base: Path, finished: Path) -> None:
    """Another budget and another target: only those two are trained, and the rest keeps its bits."""
    grid = ["grid.budgets_flops=[4e7,6e7,9e7,1.1e8,1.4e8,2.1e8]", "grid.num_seeds=[2,1,1,1,1,1]", "grid.target_seed=7"]
    larger = tiny.launch(base, "larger", *grid)
    assert larger.returncode == 0, larger.stderr
    assert "1 of 7 runs to go" in larger.stderr
    assert larger.stderr.count("taken over from") == 6
    for run_id in set(run_ids(finished)) & set(run_ids(base / "sweeps" / "larger")):
        ours, theirs = (base / "sweeps" / name / "runs" / run_id / "eval.json" for name in ("larger", "finished"))
        assert ours.read_bytes() == theirs.read_bytes()
    assert json.loads((base / "sweeps" / "larger" / "verdict.json").read_text())["status"] == "judged"


@pytest.mark.slow
def test_a_target_that_was_seen_before_is_no_forecast(base: Path, finished: Path) -> None:
    """The same target under another name: nothing is sealed, and the comparison is called a backtest."""
    del finished
    seen = tiny.launch(base, "seen", "grid.num_seeds=[1,1,1,1,1]")
    assert seen.returncode == 0, seen.stderr
    assert "NOT SEALED" in seen.stderr
    assert not (base / "sweeps" / "seen" / "seal.json").exists()
    verdict = json.loads((base / "sweeps" / "seen" / "verdict.json").read_text())
    assert verdict["status"] == "refused"
    assert verdict["unsealed_backtest"]["measured"] > 0


@pytest.mark.parametrize(
    ("override", "found", "hint"),
    [
        ("grid.budgetz_flops=[1e8]", "budgetz_flops", "did you mean grid.budgets_flops"),
        ("+data.held_out_frac=0.1", "data.held_out_frac is no setting", "did you mean data.held_out_fraction"),
        ("+data.sources.0.flters.license=[mit]", "sources.0.flters is no setting", "mean data.sources.0.filters"),
        ("data.sources.0.path=[x]", "'path'", "did you mean data.sources.0.paths"),
        ("machine.cache_dir=/proc/nowhere", "can't be prepared in /proc/nowhere", "set machine.cache_dir"),
        ("machine.slurm.partition=gpu", "inside a group that is null", "machine=slurm"),
        ("grid.target_flops=abc", "abc", "correct the name or the value"),
        ("experiment=nothing", "experiment/nothing", "configs/"),
        ("grid.target_flops=1e8", "grid.target_flops is 1e+08", "raise grid.target_flops"),
        ("fit.max_flops_fraction=0.03", "2 of 5 budgets lie under the cut-off", "at least 5 budgets under the cut-off"),
        ("recipe.warmup_fraction=1.5", "add up to 2.3: longer than the run", "lower one"),
        ("data.sources.0.train_bytes=900000000", "bytes after filtering", "lower train_bytes"),
        ("grid.target_flops=2e11", "no token has to be seen twice", "give that source more"),
        ("evaluation.held_out_tokens=900000000", "tokens are held out", "lower evaluation.held_out_tokens"),
        ("data.sources.0.held_out_packages=[no_such_package]", "no_such_package", "pip install"),
        ("data.sources.0.held_out_packages=[stdlib]", "stdlib", "take them out of one"),
        ("grid.num_seeds=[1]", "grid.num_seeds has 1 entries", "give grid.num_seeds 5 entries"),
        ("grid.budgets_flops=[1e6,6e7,9e7,1.4e8,2.1e8]", "steps", "raise the budget"),
        ("recipe.learning_rate=-1", "recipe.learning_rate is -1", "set recipe.learning_rate"),
        ("machine.tracking=tensorboard", "machine.tracking", "auto, offline, none"),
        ("name=../x", "name is", "letters, digits"),
        ("name=", "name is ''", "letters, digits"),
        ("data.vocab_size=100", "data.vocab_size is 100", "257 to 16777216"),
        ("model.conv_taps=1", "model.conv_taps is 1", "keys shift by one token"),
        ("evaluation.copy_length=17", "evaluation.copy_length is 17", "two showings fit"),
        ("evaluation.held_out_tokens=40", "evaluation.held_out_tokens is 40", "two windows"),
        ("data.sources.0.train_packages=[foo.bar]", "foo.bar", "pip install"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(base: Path, override: str, found: str, hint: str) -> None:
    refused = tiny.launch(base, "refused", override)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    for part in (found, hint, "expected:", "to do:"):
        assert part in refused.stderr, refused.stderr
    assert not (base / "sweeps" / "refused" / "runs").exists()


def test_a_folder_of_another_plan_is_refused_and_left_alone(base: Path, finished: Path) -> None:
    before = (finished / "plan.json").read_bytes()
    refused = tiny.launch(base, "finished", "recipe.learning_rate=0.02")
    assert refused.returncode == 2
    assert "made by another plan" in refused.stderr
    assert "recipe.learning_rate: 0.01 there, 0.02 now" in refused.stderr
    assert "name=finished-2" in refused.stderr
    assert (finished / "plan.json").read_bytes() == before


def test_a_damaged_plan_is_named_and_kept(base: Path, copy: Path) -> None:
    del base
    (copy / "plan.json").write_text("{")
    status = tiny.run("sweep.status", str(copy))
    assert status.returncode == 2
    assert "plan.json is damaged" in status.stderr
    assert (copy / "plan.json").read_text() == "{"


@pytest.mark.parametrize(
    "command",
    [
        ["sweep.launch", "--help"],
        ["sweep.launch", "--cfg", "job"],
        ["sweep.fit", "--help"],
        ["sweep.verify", "--help"],
        ["sweep.status", "{finished}"],
    ],
)
def test_quick_answers_do_not_import_torch(command: list[str], finished: Path) -> None:
    quick, imported = imports_of(*(part.format(finished=finished) for part in command))
    assert quick.stdout
    assert not imported & HEAVY


def test_status_tells_every_run(finished: Path) -> None:
    status = json.loads(tiny.run("sweep.status", str(finished), "--json").stdout)
    assert {run["run_id"] for run in status["runs"]} == set(run_ids(finished))
    assert {run["status"] for run in status["runs"]} == {"done"}
    assert all(status["files"].values())


def test_every_experiment_composes_and_passes_its_checks() -> None:
    for path in sorted((tiny.ROOT / "configs" / "experiment").glob("*.yaml")):
        shown = tiny.run("sweep.launch", f"experiment={path.stem}", "--cfg", "job")
        assert shown.returncode == 0, shown.stderr
        assert "target_flops" in shown.stdout


def test_no_target_is_trained_under_a_damaged_seal(base: Path, copy: Path) -> None:
    """The seal is damaged before the target started: the launch names it and starts nothing."""
    (target,) = copy.glob("runs/c2.4e09-*")
    shutil.rmtree(target)
    (copy / "verdict.json").unlink()
    (copy / "seal.json").write_text((copy / "seal.json").read_text().replace('"low"', '"high"', 1))
    refused = tiny.launch(base, "finished", f"sweeps_dir={copy.parent}")
    assert refused.returncode == 2
    assert "seal.json is not what was written" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not target.exists()
