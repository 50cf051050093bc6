"""Grids without a target as users launch them: every run, the best value of each budget, and nothing to seal."""

from dataclasses import replace
from pathlib import Path

import pytest

from sweep.folder import SweepFolder, read_json
from sweep.records import read_records
from sweep.run_spec import read_plan
from sweep.slices import slice_optimum
from sweep.workers import _next
from tests import tiny


@pytest.fixture(scope="module")
def isoflop(base: Path) -> SweepFolder:
    done = tiny.launch(base, "isoflop", *tiny.ISOFLOP)
    assert done.returncode == 0, done.stderr
    assert "shared trunks save" in done.stderr
    assert "can't branch" not in done.stderr
    assert "optimum at 1.6e+08 FLOPs" in done.stderr
    return SweepFolder(base / "sweeps" / "isoflop")


def check_optimum(folder: SweepFolder, varied: str, num_values: int) -> None:
    """records.csv has every planned run, and optimum.json is what its rows give."""
    plan, records, optimum = read_plan(folder), read_records(folder.records), read_json(folder.optimum)
    assert [record.run_id for record in records] == [run.run_id for run in plan.runs]
    assert {record.status for record in records} == {"done"}
    assert optimum["varied"] == varied
    assert [one["budget_flops"] for one in optimum["slices"]] == plan.config["grid"]["budgets_flops"]
    for one in optimum["slices"]:
        row: dict[float, float] = {
            getattr(record, varied): record.loss_nats  # type: ignore[misc]
            for record in records
            if record.budget_flops == one["budget_flops"]
        }
        assert len(row) == num_values
        assert one["x"] == sorted(row)
        assert one["loss_nats"] == [row[value] for value in sorted(row)]
        by_hand = slice_optimum(one["x"], one["loss_nats"])
        assert {key: one[key] for key in by_hand} == by_hand
        assert bool(one["edge"]) == (one["best"] is None)


def test_an_isoflop_grid_ends_with_the_best_size_of_each_budget(isoflop: SweepFolder) -> None:
    check_optimum(isoflop, "num_params_non_embedding", num_values=3)
    assert not (isoflop.fit.exists() or isoflop.seal.exists() or isoflop.verdict.exists())


def test_every_run_of_the_grid_started_where_the_plan_says(isoflop: SweepFolder) -> None:
    """Workers in parallel, and still each trunk was there when its branch began."""
    runs = read_plan(isoflop).runs
    for run in runs:
        assert [row["step"] for row in isoflop.run(run.run_id).rows() if "event" in row] == [run.branches_at_step]
    assert sum(run.branches_at_step > 0 for run in runs) == 3  # the larger of two budgets at each of three sizes


def test_a_second_launch_trains_nothing_and_finds_the_same(base: Path, isoflop: SweepFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in isoflop.path.glob("runs/*/*")}
    optimum = isoflop.optimum.read_bytes()
    again = tiny.launch(base, "isoflop", *tiny.ISOFLOP)
    assert again.returncode == 0, again.stderr
    assert "runs to go" not in again.stderr
    assert "optimum at 1.6e+08 FLOPs" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in isoflop.path.glob("runs/*/*")} == before
    assert isoflop.optimum.read_bytes() == optimum


@pytest.mark.slow
def test_a_tuning_grid_ends_with_the_best_rate(base: Path) -> None:
    """A tenth of the rate, the rate and ten times as much."""
    done = tiny.launch(base, "tuning", *tiny.TUNING)
    assert done.returncode == 0, done.stderr
    folder = SweepFolder(base / "sweeps" / "tuning")
    check_optimum(folder, "learning_rate", num_values=3)
    (one,) = read_json(folder.optimum)["slices"]
    assert one["x"] == pytest.approx([0.001, 0.01, 0.1])
    assert len(set(one["loss_nats"])) == 3


@pytest.mark.parametrize("command", ["sweep.fit", "sweep.seal"])
def test_there_is_nothing_to_fit_or_to_seal(isoflop: SweepFolder, command: str) -> None:
    refused = tiny.run(command, str(isoflop.path))
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    for part in ("error: sweep isoflop has no target", "expected: a sweep with a target", "to do:", "optimum.json"):
        assert part in refused.stderr, refused.stderr
    assert not (isoflop.fit.exists() or isoflop.seal.exists())


def test_a_branch_waits_for_its_trunk_alone(isoflop: SweepFolder) -> None:
    """The longest run goes first unless its trunk is waiting or at work; without any trunk it does not wait."""
    width = read_plan(isoflop).runs[0].spec.model.width
    short, middle = [run for run in read_plan(isoflop).runs if run.spec.model.width == width]
    long = replace(middle, run_id="long", branches_from=middle.run_id)
    machine = tiny.spec_of().machine
    assert _next([long, middle, short], [], machine) == short
    assert _next([long, middle], [short], machine) is None
    assert _next([long, middle], [], machine) == middle
    assert _next([long], [], machine) == long
    alone = replace(long, branches_from=None)
    assert _next([alone, middle], [short], machine) == alone
