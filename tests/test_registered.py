"""Experiments to be published or run elsewhere: what they would cost, the stop at the seal, HumanEval in small."""

import re
from pathlib import Path

import pytest

from sweep.cost import cost_table
from sweep.errors import SweepError
from sweep.folder import SweepFolder, read_json
from sweep.plan import make_plan
from sweep.publish import publish
from sweep.run_spec import read_plan
from sweep.verify import verify_sweep
from tests import tiny
from tests.test_plan import CORPUS


def test_the_cost_is_that_of_the_plan_and_nothing_is_touched(tmp_path: Path) -> None:
    places = [f"sweeps_dir={tmp_path}/sweeps", f"machine.cache_dir={tmp_path}/cache"]
    said = tiny.run("sweep.launch", "experiment=registered", "until=plan", *places)
    assert said.returncode == 0, said.stderr
    assert list(tmp_path.iterdir()) == []
    plan = make_plan(tiny.spec_of("experiment=registered"), CORPUS)
    small, target = sum(run.flops for run in plan.fit_runs), plan.target.flops
    assert f"small runs: {len(plan.fit_runs)}, {small:.4g} FLOPs, {small / target:.1%} of the target's" in said.stdout
    assert f"target: {target:.4g} FLOPs, {target / 2e10 // 60:.0f} min" in said.stdout
    rows = re.findall(r"^ +(fit|target) +(\d+) ", said.stdout, re.MULTILINE)
    assert sum(int(number) for role, number in rows if role == "fit") == len(plan.fit_runs)
    assert [role for role, _ in rows].count("target") == 1


def test_the_humaneval_ladder_is_planned_and_costed_for_one_gpu() -> None:
    spec = tiny.spec_of("experiment=humaneval", "machine=gpu")
    text = cost_table(spec)
    assert spec.capability.problems == "humaneval"
    assert (min(spec.grid.budgets_flops), max(spec.grid.budgets_flops)) == (1e15, 1e18)
    assert len(spec.grid.budgets_flops) >= 8
    hours = (spec.grid.target_flops or 0) / spec.machine.flops_per_second / 3600
    assert f"target: 3e+19 FLOPs, {hours:.1f} h" in text
    assert "no data was read for this" in text


def test_a_chain_of_jobs_can_not_stop_at_the_seal() -> None:
    with pytest.raises(SweepError, match="until=seal with machine=slurm"):
        tiny.spec_of("machine=slurm", "until=seal")
    with pytest.raises(SweepError, match="until is 'train'"):
        tiny.spec_of("until=train")


@pytest.mark.slow
def test_a_launch_stops_at_the_seal_is_published_and_goes_on(base: Path, finished: Path, tmp_path: Path) -> None:
    """Small runs come from the finished sweep; the target is one that nobody has trained."""
    other = "grid.target_seed=3"
    stopped = tiny.launch(base, "halted", other, "until=seal")
    assert stopped.returncode == 0, stopped.stderr
    folder = SweepFolder(base / "sweeps" / "halted")
    sealed = folder.seal.read_bytes()
    assert not folder.run(read_plan(folder).target.run_id).path.exists()
    half = publish(folder, tmp_path)
    assert verify_sweep(SweepFolder(half))["status"] == "waiting"
    again = tiny.launch(base, "halted", other, "until=seal")
    assert again.returncode == 0 and "stopped before the target" in again.stderr
    went_on = tiny.launch(base, "halted", other)
    assert went_on.returncode == 0, went_on.stderr
    assert folder.seal.read_bytes() == sealed
    verdict = verify_sweep(SweepFolder(publish(folder, tmp_path)))
    assert verdict["status"] == "judged"
    index = read_json(half / "published.json")
    assert index["first"]["target"] == "not started"
    assert index["first"]["utc"] < verdict["target_started_utc"]


@pytest.mark.slow
def test_the_humaneval_experiment_goes_through_with_its_rungs_shrunk(base: Path) -> None:
    """All its stages on installed source, with real problems and real scoring; models so small solve nothing."""
    shrunk = [
        *(each for each in tiny.overrides(base, "he") if not each.startswith(("experiment=", "model.context_length="))),
        *(
            "experiment=humaneval",
            "data=installed_python_small",
            "model.context_length=192",
            "model.width_at_reference=24",
            "model.head_width=32",
        ),
        *("grid.budgets_flops=[1.5e8,2e8,2.7e8,3.6e8,4.8e8]", "grid.target_flops=5e9"),
        *("fit.max_flops_fraction=0.1", "capability.max_flops_fraction=0.1", "capability.more_cut_offs=[0.05]"),
        *("capability.max_new_tokens=12", "capability.max_samples=2", "capability.first_round=2"),
        *("capability.num_buckets=2", "capability.hardest_left_out=1", "machine.target_threads=1"),
    ]
    done = tiny.run("sweep.launch", *shrunk)
    assert done.returncode == 0, done.stderr
    folder = SweepFolder(base / "sweeps" / "he")
    plan, verdict, seal = read_plan(folder), read_json(folder.verdict), read_json(folder.seal)
    assert verdict["status"] == "judged"
    counts = read_json(folder.run(plan.target.run_id).counts)["problems"]
    assert len(counts) == 164 and all(task.startswith("HumanEval/") for task in counts)
    sampled = [row for row in counts.values() if sum(row["n"])]
    assert sampled and all(row["n"] == [2, 2] for row in sampled)
    assert not any(bucket["forecastable"] for bucket in seal["pass_rates"]["buckets"])
    assert len(verdict["pass_rate_cut_offs"]) == 1
