"""From the runs' counts to sealed forecasts of pass rates and their verdicts."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.capability import (
    _pass_laws,
    capability_of,
    forecast_passes,
    gather_passes,
    judge_buckets,
    measured_bucket,
    pass_counts,
    problems_of,
    sampling_settings,
    sealed_part,
    wrong_passes,
)
from sweep.errors import SweepError
from sweep.folder import SweepFolder, read_json, write_json
from sweep.forecast_text import capability_lines
from sweep.pass_counts import PassCounts
from sweep.pending import refuse_failures
from sweep.run_spec import Plan, read_plan
from sweep.spec import CapabilitySpec
from sweep.verify import verify_sweep
from tests import planted, tiny

SPEC = CapabilitySpec(
    problems="humaneval",
    temperature=1.0,
    max_new_tokens=20,
    seed=0,
    stop_at=20,
    max_samples=400,
    first_round=50,
    num_buckets=3,
    hardest_left_out=2,
    max_flops_fraction=0.05,
    more_cut_offs=[],
)
TASKS = [f"P/{number}" for number in range(38)]
EXPONENT = 0.2


def plan() -> Plan:
    bare = planted.plan()
    template = bare.runs[0]
    runs = [
        replace(template, run_id=f"c{flops:.2g}-s{seed}", role="fit", flops=float(flops), budget_flops=float(flops))
        for flops in planted.BUDGETS
        for seed in range(2)
    ]
    return replace(bare, runs=[bare.target, *runs], config={**bare.config, "capability": vars(SPEC)})


def nats_at_target() -> dict[str, float]:
    return dict(zip(TASKS, np.geomspace(0.15, 1.5, len(TASKS)), strict=True))


def counts_of(flops: float, seed: int) -> dict[str, Any]:
    """Counts of one run as sampling leaves them, under the planted law."""
    random = np.random.default_rng(seed)
    problems = {}
    for task, nats in nats_at_target().items():
        p = np.exp(-nats * (flops / planted.TARGET) ** -EXPONENT)
        halves = []
        for _ in range(2):
            passed = np.cumsum(random.random(SPEC.max_samples) < p)
            n = int(np.searchsorted(passed, SPEC.stop_at)) + 1 if passed[-1] >= SPEC.stop_at else SPEC.max_samples
            halves.append((n, int(passed[n - 1])))
        samples, correct = (list(column) for column in zip(*halves, strict=True))
        problems[task] = {
            "n": samples,
            "c": correct,
            "canonical_nats": float(np.log(p)),
            "canonical_tokens": 5,
            "note": "",
        }
    return problems


def passes() -> dict[str, Any]:
    runs = {
        run.run_id: {"counts_sha256": "", "problems": counts_of(run.flops, seed)}
        for seed, run in enumerate(plan().fit_runs)
    }
    return {"stop_at": SPEC.stop_at, "problems_sha256": "", "runs": runs}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return forecast_passes(plan(), SPEC, passes())


def test_the_planted_law_is_forecast_and_judged(found: dict[str, Any]) -> None:
    assert [len(bucket["tasks"]) for bucket in found["buckets"]] == [12, 12, 12]
    assert len(found["left_out"]) == SPEC.hardest_left_out
    judged = judge_buckets(sealed_part(found)["buckets"], counts_of(planted.TARGET, seed=99), SPEC.stop_at)
    for bucket, row in zip(found["buckets"], judged, strict=True):
        truth = np.mean([nats_at_target()[task] for task in bucket["tasks"]])
        assert bucket["forecastable"], bucket["not_forecastable_because"]
        assert row["prediction"] == pytest.approx(truth, rel=0.12)
        assert row["measured"] == pytest.approx(truth, rel=0.1)
        assert row["inside_interval"] is True
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    lines = capability_lines(found)
    assert len(lines) >= 4 and "bucket 1" in lines[1]


def test_the_forecast_is_a_function_of_the_counts_alone(found: dict[str, Any]) -> None:
    turned = passes()
    turned["runs"] = dict(reversed(turned["runs"].items()))
    for row in turned["runs"].values():
        row["problems"] = dict(reversed(row["problems"].items()))
    again = forecast_passes(plan(), SPEC, turned)
    for one, other in zip(found["buckets"], again["buckets"], strict=True):
        assert one["tasks"] == other["tasks"]
        assert one["prediction"] == pytest.approx(other["prediction"], rel=1e-9)


def test_runs_above_the_cut_off_are_not_seen(found: dict[str, Any]) -> None:
    most = planted.BUDGETS[3] / planted.TARGET
    cut = forecast_passes(plan(), replace(SPEC, max_flops_fraction=float(most)), passes())
    assert set(cut["runs"]) == {run.run_id for run in plan().fit_runs if run.flops <= planted.BUDGETS[3]}
    assert cut["cut_off"]["largest_fitted_flops"] == planted.BUDGETS[3]
    assert cut["buckets"][0]["prediction"] != found["buckets"][0]["prediction"]


def test_nothing_to_sort_is_a_reason_and_no_number() -> None:
    empty = {"stop_at": SPEC.stop_at, "problems_sha256": "", "runs": {}}
    for counts, spec in ((empty, SPEC), (passes(), replace(SPEC, hardest_left_out=36))):
        without = forecast_passes(plan(), spec, counts)
        assert without["buckets"] == [] and without["no_buckets_because"]
        assert without["no_buckets_because"] in capability_lines(without)[0]


def test_counts_become_arrays_by_run_half_and_problem() -> None:
    counts = passes()
    arrays = pass_counts(plan(), counts)
    assert arrays.samples_2RP.shape == (2, 12, len(TASKS))
    for run, run_id in enumerate(arrays.run_ids):
        for problem, task in enumerate(arrays.tasks):
            row = counts["runs"][run_id]["problems"][task]
            assert arrays.samples_2RP[:, run, problem].tolist() == row["n"]
            assert arrays.correct_2RP[:, run, problem].tolist() == row["c"]


def test_a_problem_never_solved_bounds_the_measurement_from_below() -> None:
    solved = {"n": [30, 30], "c": [20, 20]}
    never = {"n": [400, 400], "c": [0, 0]}
    both = measured_bucket(["a", "b"], {"a": solved, "b": never}, stop_at=20)
    assert both["never_solved"] == 1
    assert measured_bucket(["x"], {"a": solved}, stop_at=20)["measured"] is None
    bucket = {"bucket": 1, "tasks": ["a", "b"], "forecastable": True, "level": 0.9}
    numbers = {"pass_rate_prediction": 0.5, "pass_rate_low": 0.4, "pass_rate_high": 0.6}
    target = {"a": solved, "b": never}
    wide = {**bucket, **numbers, "prediction": both["measured"], "low": 1.0, "high": 9.0}
    assert judge_buckets([wide], target, 20)[0]["inside_interval"] is None  # it may be far above what was seen
    below = {**bucket, **numbers, "prediction": 0.5, "low": 0.4, "high": 0.6}
    assert judge_buckets([below], target, 20)[0]["inside_interval"] is False  # the bound itself is above it


def test_noise_of_the_measurement_is_allowed_for() -> None:
    few, many = {"n": [4, 4], "c": [2, 2]}, {"n": [4000, 4000], "c": [2000, 2000]}
    seen = measured_bucket(["a"], {"a": many}, stop_at=10**6)
    assert seen["measured"] == pytest.approx(np.log(2), abs=1e-3)
    assert seen["measured_se"] == pytest.approx(np.sqrt(1 / 8000), rel=1e-2)  # (1 - p)/(n p), both halves
    bucket = {
        "bucket": 1,
        "tasks": ["a"],
        "forecastable": True,
        "level": 0.9,
        "prediction": 0.5,
        "low": 0.45,
        "high": 0.55,
    }
    bucket |= {"pass_rate_prediction": 0.6, "pass_rate_low": 0.5, "pass_rate_high": 0.7}
    assert judge_buckets([bucket], {"a": many}, 10**6)[0]["inside_interval"] is False
    assert judge_buckets([bucket], {"a": few}, 10**6)[0]["inside_interval"] is True


def test_problems_need_their_solutions(tmp_path: Path) -> None:
    assert len(problems_of(SPEC)) == 164
    path = tmp_path / "problems.jsonl"
    path.write_text(
        json.dumps({"task_id": "a", "prompt": "def f():\n", "entry_point": "f", "test": "def check(c): c()"})
    )
    with pytest.raises(SweepError, match="no canonical_solution for a"):
        problems_of(replace(SPEC, problems=str(path)))


def problem_file(folder: Path) -> Path:
    """Problems so short that the tiny models' context holds them."""
    lines = []
    for number in range(9):
        test = f"def check(candidate):\n    assert candidate() == {number}\n"
        problem = {"task_id": f"T/{number}", "prompt": f"def f{number}():\n", "entry_point": f"f{number}", "test": test}
        lines.append(json.dumps({**problem, "canonical_solution": f" return {number}\n"}))
    path = folder / "problems.jsonl"
    path.write_text("\n".join(lines))
    return path


def settings(base: Path) -> list[str]:
    """A small target, and few samples of those problems."""
    values = {"problems": problem_file(base), "max_samples": 8, "first_round": 4, "max_new_tokens": 8}
    values |= {"num_buckets": 2, "hardest_left_out": 1, "max_flops_fraction": 0.5}
    target = ["grid.target_flops=4.2e8", "fit.max_flops_fraction=0.5"]
    return [*target, *(f"capability.{key}={value}" for key, value in values.items())]


@pytest.fixture(scope="module")
def sampled(base: Path) -> SweepFolder:
    """A tiny sweep that was sampled, from its ladder to the verdict."""
    done = tiny.launch(base, "sampled", *settings(base))
    assert done.returncode == 0, done.stderr
    return SweepFolder(base / "sweeps" / "sampled")


@pytest.mark.slow
def test_a_sweep_ends_with_both_forecasts_sealed_and_judged(sampled: SweepFolder) -> None:
    plan_runs = read_json(sampled.plan)["runs"]
    seal, verdict = read_json(sampled.seal), read_json(sampled.verdict)
    assert "passes.json" in seal["files"]
    assert len(seal["pass_rates"]["buckets"]) == 2
    assert [row["bucket"] for row in verdict["pass_rates"]] == [1, 2]
    for run in plan_runs:
        counts = read_json(sampled.run(run["run_id"]).counts)
        assert counts["done"]
        for row in counts["problems"].values():
            assert row["n"] == [8, 8] and row["canonical_nats"] < 0
        assert sampled.run(run["run_id"]).samples.exists()
    assert "Pass rates" in sampled.report.read_text()


@pytest.mark.slow
def test_altered_counts_are_refused(sampled: SweepFolder, tmp_path: Path) -> None:
    folder = SweepFolder(Path(shutil.copytree(sampled.path, tmp_path / "alone" / "sampled")))
    assert verify_sweep(folder)["status"] == "judged"
    content = read_json(folder.passes)
    run_id = next(iter(content["runs"]))
    content["runs"][run_id]["problems"]["T/1"]["c"] = [1, 1]
    write_json(folder.passes, {key: value for key, value in content.items() if key != "content_sha256"})
    verdict = verify_sweep(folder)
    assert verdict["status"] == "refused"
    text = "; ".join(verdict["reasons"])
    assert "passes.json is not the file that was sealed" in text
    assert f"passes.json has other counts for run {run_id}" in text
    folder.passes.unlink()
    assert "passes.json is missing" in "; ".join(verify_sweep(folder)["reasons"])


@pytest.mark.slow
def test_a_finished_sweep_is_not_sampled_twice(sampled: SweepFolder, base: Path) -> None:
    again = tiny.launch(base, "sampled", *settings(base))
    assert again.returncode == 0 and "nothing to train" in again.stderr
    more = tiny.launch(base, "sampled", *settings(base), "capability.max_samples=16")
    assert more.returncode == 2 and "capability.max_samples: 8 there, 16 now" in more.stderr


@pytest.mark.slow
def test_a_run_that_could_not_be_sampled_stops_the_sweep(sampled: SweepFolder, tmp_path: Path) -> None:
    folder = SweepFolder(Path(shutil.copytree(sampled.path, tmp_path / "alone" / "sampled")))
    its_plan = read_plan(folder)
    refuse_failures(its_plan.fit_runs, folder, capability_of(its_plan))
    run_id = its_plan.fit_runs[0].run_id
    folder.run(run_id).counts.unlink()
    refuse_failures(its_plan.fit_runs, folder)  # without a capability nothing is missing
    with pytest.raises(SweepError, match=f"{run_id}: trained, not sampled"):
        refuse_failures(its_plan.fit_runs, folder, capability_of(its_plan))


def test_settings_that_decide_samples_are_told_from_those_that_do_not() -> None:
    settings = sampling_settings(SPEC)
    assert sampling_settings(replace(SPEC, num_buckets=5, hardest_left_out=0, max_flops_fraction=0.9)) == settings
    assert sampling_settings(replace(SPEC, stop_at=21)) != settings
    assert capability_of(plan()) == SPEC
    assert capability_of(planted.plan()) is None


@pytest.mark.slow
def test_passes_of_runs_that_are_not_planned_are_named(sampled: SweepFolder) -> None:
    its_plan = read_plan(sampled)
    spec = capability_of(its_plan)
    assert spec is not None
    there = gather_passes(its_plan, spec, sampled)
    assert wrong_passes(its_plan, there, sampled) == []
    there["runs"]["nobody"] = {"counts_sha256": "", "problems": {}}
    assert wrong_passes(its_plan, there, sampled) == ["passes.json has a run that is not planned: nobody"]


def first_fails(counts: PassCounts, tasks: tuple[str, ...], *_: Any) -> None:
    """In the place of ``pass_law``; says that it has begun by a file."""
    (Path(os.environ["BEGUN"]) / tasks[0].replace("/", "-")).touch()
    if tasks == (TASKS[0],):
        raise SweepError("the first one", "", "")
    time.sleep(0.5)


def test_a_bucket_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What waits is not begun: Ctrl-C and a bug must not take as long as the whole fit."""
    monkeypatch.setenv("BEGUN", str(tmp_path))
    monkeypatch.setattr("sweep.capability.pass_law", first_fails)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    counts = pass_counts(plan(), passes())
    with pytest.raises(SweepError, match="the first one"):
        _pass_laws(plan(), [(counts, (task,)) for task in TASKS])
    assert len(list(tmp_path.iterdir())) <= len(TASKS) // 2  # a handful; all of them if nothing ends them
