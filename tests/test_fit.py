"""The fit of a table: what it refuses, what it warns of, what stands in its answer, and the command."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep import fit
from sweep.errors import SweepError
from sweep.fit import fit_table
from sweep.forecast_text import summary
from sweep.laws import Array, Law
from sweep.records import write_records
from tests.forked import HUNG_SECONDS
from tests.planted import BUDGETS, PLANTED, RUNS, TARGET, diverged, ladder, noisy, quiet, table, target_record

ROOT = Path(__file__).parent.parent
KEYS = {
    *("law", "form", "unit", "coefficients", "target_flops", "prediction", "low", "high", "level", "forecastable"),
    *("not_forecastable_because", "warnings", "extrapolation_ratio", "num_runs", "num_budgets", "ladder", "noise"),
    *("forms_tried", "interval_widened", "backtests", "what_would_change_it", "floor_profile", "curve", "notes"),
    "set_aside",
}


def fitted(flops: Array, loss: Array, target_flops: float = TARGET, level: float = 0.9) -> dict[str, Any]:
    return fit_table(table(flops, loss), target_flops, level)


def write_table(path: Path, flops: Array, loss: Array) -> Path:
    rows = [f"{run_flops!r},{run_loss!r}" for run_flops, run_loss in zip(flops.tolist(), loss.tolist(), strict=True)]
    path.write_text("\n".join(["flops,loss", *rows, ""]))
    return path


# ---- no forecast ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_target_within_the_fitted_range_is_refused(share: float) -> None:
    with pytest.raises(SweepError, match="within the fitted range") as caught:
        fitted(RUNS, quiet(RUNS), share * float(RUNS.max()))
    assert "to do:" in str(caught.value)


@pytest.mark.parametrize(
    ("flops", "loss", "reason"),
    [
        pytest.param(RUNS[:4], quiet(RUNS[:4]), "2 budgets", id="two budgets"),
        pytest.param(RUNS[:6], quiet(RUNS[:6]), "3 budgets", id="three budgets"),
        pytest.param(RUNS, 3 + 0.02 * np.log(RUNS / 2e10), "does not fall", id="rising"),
    ],
)
def test_ladder_without_a_law_is_refused_in_plain_words(flops: Array, loss: Array, reason: str) -> None:
    with pytest.raises(SweepError, match=reason) as caught:
        fitted(flops, loss)
    assert "planted: there is no forecast" in str(caught.value)


def test_flat_losses_are_never_a_forecast() -> None:
    """Equal losses fall with compute only by rounding: refused, or called not forecastable."""
    try:
        assert not fitted(BUDGETS, np.full(len(BUDGETS), 3.0))["forecastable"]
    except SweepError as error:
        assert "does not fall" in str(error)


# ---- the answer -------------------------------------------------------------------------------


def test_sound_ladder_is_forecast_without_complaint() -> None:
    """Six quiet budgets with replicates: the planted loss is held, and nothing is warned of but the floor."""
    result = fitted(RUNS, quiet(RUNS))
    assert result.keys() == KEYS
    assert result["forecastable"] and not result["not_forecastable_because"]
    assert result["low"] <= float(PLANTED(TARGET)) <= result["high"]
    assert [warning for warning in result["warnings"] if "floor c anywhere" not in warning] == []
    assert (result["num_runs"], result["num_budgets"], result["set_aside"]) == (12, 6, [])
    assert result["extrapolation_ratio"] == pytest.approx(21)
    assert result["ladder"]["flops"] == BUDGETS.tolist()
    pairs = quiet(RUNS).reshape(-1, 2)
    between = np.std(pairs, axis=1, ddof=1) / np.mean(pairs, axis=1)
    assert result["noise"]["replicate_sd"] == pytest.approx(np.mean(between**2) ** 0.5)


def test_coefficients_are_those_of_a_law_at_the_target() -> None:
    """They stand for a law by themselves, relative to the target, and it is near the ladder."""
    result = fitted(RUNS, quiet(RUNS))
    law = Law(**result["coefficients"])
    assert law.reference_flops == TARGET
    assert law(BUDGETS) == pytest.approx(PLANTED(BUDGETS), rel=0.01)
    assert result["low"] < float(law(TARGET)) < result["high"]


def test_forms_tried_are_the_mixture() -> None:
    """Each form has its interval and its weight; the prediction lies among those of the forms."""
    result = fitted(RUNS, quiet(RUNS))
    rows = result["forms_tried"]
    assert sum(row["weight"] for row in rows) == pytest.approx(1)
    assert all(row["low"] < row["prediction"] < row["high"] for row in rows)
    assert all(row["used"] == (row["weight"] >= 0.01) for row in rows)
    used = [row["prediction"] for row in rows if row["used"]]
    assert min(used) < result["prediction"] < max(used)
    assert result["form"] in [row["form"] for row in rows]


def test_floor_profile_is_one_stretch_that_holds_the_planted_floor() -> None:
    profile = fitted(RUNS, noisy(RUNS, 0.003))["floor_profile"]
    as_well = [index for index, row in enumerate(profile) if row["fits_as_well"]]
    assert as_well == list(range(as_well[0], as_well[-1] + 1))
    assert profile[as_well[0]]["c"] <= PLANTED.c <= profile[as_well[-1]]["c"]
    assert sum(profile[index]["share"] for index in as_well) >= 0.9
    assert sum(row["share"] for row in profile) == pytest.approx(1)


def test_what_would_change_it_leaves_one_end_out() -> None:
    """The same weights on the ladder without its smallest and without its largest budget."""
    result = fitted(RUNS, noisy(RUNS, 0.003))
    changes = result["what_would_change_it"]
    assert [row["change"] for row in changes] == ["without the smallest budget", "without the largest budget"]
    for row in changes:
        assert row["by"] == pytest.approx(row["prediction"] / result["prediction"] - 1)
        assert 0 < abs(row["by"]) < 0.1


def test_curve_runs_from_the_ladder_to_the_forecast() -> None:
    result = fitted(RUNS, quiet(RUNS))
    first, last = result["curve"][0], result["curve"][-1]
    assert (first["flops"], last["flops"]) == pytest.approx((BUDGETS[0], TARGET))
    assert first["prediction"] == pytest.approx(float(PLANTED(BUDGETS[0])), rel=0.01)
    assert [last[key] for key in ("prediction", "low", "high")] == pytest.approx(
        [result[key] for key in ("prediction", "low", "high")]
    )


def test_nothing_depends_on_the_order_of_rows() -> None:
    """Every number of the answer, to what rounding leaves."""
    loss, order = noisy(RUNS, 0.003), np.random.default_rng(0).permutation(len(RUNS))
    one, other = flat(fitted(RUNS, loss)), flat(fitted(RUNS[order], loss[order]))
    assert len(one) > 100
    assert other == pytest.approx(one, rel=1e-6, abs=1e-9)


def flat(value: Any) -> list[float]:
    """All numbers of an answer in their order."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return [number for item in items for number in flat(item)]
    return [float(value)] if isinstance(value, int | float) else []


# ---- warnings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flops", "target_flops", "warning"),
    [
        pytest.param(RUNS[:8], TARGET, "4 budgets", id="few budgets"),
        pytest.param(RUNS, 1.5 * BUDGETS[-1], "only 1.50 times the largest run", id="near target"),
        pytest.param(BUDGETS, TARGET, "no budget has more than one run", id="no replicates"),
    ],
)
def test_weak_ladder_is_warned_of(flops: Array, target_flops: float, warning: str) -> None:
    """Each weakness brings its own warning, once; a sound ladder has none of them."""
    warnings = fitted(flops, quiet(flops), target_flops)["warnings"]
    assert sum(warning in line for line in warnings) == 1
    assert not any(warning in line for line in fitted(RUNS, quiet(RUNS))["warnings"])


def test_ladder_that_hides_its_floor_is_warned_of() -> None:
    """Short noisy ladders can't tell one floor from another; the warning says how far the forecasts differ."""
    (warning,) = [line for line in fitted(RUNS, noisy(RUNS, 0.005))["warnings"] if "anywhere" in line]
    assert "floor c anywhere from" in warning and "%" in warning


def test_floor_at_its_bound_is_warned_of() -> None:
    """Losses that would ask for a negative floor: the law has none, and it is said so."""
    loss = Law(5.0, -0.3, -0.5, float(BUDGETS[0]))(BUDGETS)
    result = fitted(BUDGETS, loss)
    assert result["coefficients"]["c"] == 0
    assert result["form"] == "a*C^b" or any("c is at its bound, 0" in line for line in result["warnings"])


def test_missed_backtests_are_warned_of() -> None:
    """A ladder that bends downwards half way is missed by what its lower half foretold."""
    flops = np.geomspace(1e9, 1e13, 13)
    loss = Law(5.0, -0.08, 0.0, 1e9, 0.12, 1e11)(flops)
    result = fitted(flops, loss, 2e14)
    missed = sum(not test["inside"] for test in result["backtests"])
    assert any(f"{missed} of {len(result['backtests'])} backtests" in line for line in result["warnings"])
    assert result["interval_widened"] > 1


def test_wide_interval_is_not_forecastable() -> None:
    """A ladder with 10 % of noise says nothing about 10,000 times its compute, and the result says just that."""
    result = fitted(RUNS, noisy(RUNS, 0.1), 1e4 * BUDGETS[-1])
    assert (result["high"] - result["low"]) / 2 > 0.25 * result["prediction"]
    assert not result["forecastable"]
    assert "next to nothing about the target" in " ".join(result["not_forecastable_because"])
    assert "NOT FORECASTABLE" in summary(result)


@pytest.mark.parametrize(("factor", "noted"), [(1.0, False), (1.3, False), (None, True)])
def test_conventions_of_compute_are_compared_where_they_differ(factor: float | None, noted: bool) -> None:
    """FLOPs beyond 6ND in other proportions at every size: how straight the law is against either is noted."""
    ratio = np.geomspace(1.5, 1.05, len(BUDGETS)) if factor is None else np.full(len(BUDGETS), factor)
    params = np.sqrt(BUDGETS / ratio / 120)
    sized = replace(table(BUDGETS, quiet(BUDGETS)), params=params, tokens=20 * params)
    notes = [note for note in fit_table(sized, TARGET, 0.9)["notes"] if "against 6ND" in note]
    assert bool(notes) == noted


# ---- the command ------------------------------------------------------------------------------


def command(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *options, "-m", "sweep.fit", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=HUNG_SECONDS)


def test_command_prints_one_json_object_and_imports_no_torch(tmp_path: Path) -> None:
    """Any table can be forecast from a shell, without the training half of the project."""
    path = write_table(tmp_path / "table.csv", RUNS, quiet(RUNS))
    done = command(str(path), "--target-flops", "8.4e12", "--json", options=("-X", "importtime"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.keys() == KEYS
    assert result["level"] == 0.9
    assert result["low"] < result["prediction"] < result["high"]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "numpy" in imported
    assert not imported & {"torch", "lightning", "hydra", "wandb"}


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert fit.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_several_targets_give_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each as it would be by itself."""
    path = write_table(tmp_path / "table.csv", RUNS, quiet(RUNS))
    both = as_json(capsys, path, "--target-flops", "8.4e12", "1e14")
    assert [result["target_flops"] for result in both] == [8.4e12, 1e14]
    assert both[1] == as_json(capsys, path, "--target-flops", "1e14")


def test_command_prints_a_summary_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The forecast, its interval at the level asked for, and every warning."""
    path = write_table(tmp_path / "table.csv", BUDGETS, quiet(BUDGETS))
    assert fit.main([str(path), "--target-flops", "8.4e12", "--level", "0.8"]) == 0
    printed = capsys.readouterr().out
    result = fitted(BUDGETS, quiet(BUDGETS), level=0.8)
    for part in (f"{result['prediction']:.4f}", f"{result['low']:.4f} to {result['high']:.4f} (80%)"):
        assert part in printed
    assert printed.count("warning: ") == len(result["warnings"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--target-flops", "1e9"], "within the fitted range", id="target too small"),
        pytest.param([], "--target-flops", id="no target"),
        pytest.param(["--target-flops", "1e13", "nan"], "--target-flops", id="target no number"),
        pytest.param(["--target-flops", "1e15", "--level", "90"], "--level", id="level in per cent"),
    ],
)
def test_command_refuses_without_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = command(str(write_table(tmp_path / "table.csv", RUNS, quiet(RUNS))), *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_rows_set_aside_are_part_of_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A diverged run and the target do not count, and each is named with its line."""
    path = tmp_path / "records.csv"
    write_records([*ladder(), diverged(ladder()[0]), target_record()], path)
    arguments = (path, "--target-flops", TARGET)
    result = as_json(capsys, *arguments)
    assert [line.partition(":")[0] for line in result["set_aside"]] == ["line 14", "line 15"]
    assert "diverged" in result["set_aside"][0] and "target" in result["set_aside"][1]
    assert result["num_runs"] == len(ladder())
    assert fit.main([*map(str, arguments)]) == 0
    assert capsys.readouterr().out.count("set aside: ") == 2


def test_rows_given_twice_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loss = noisy(RUNS, 0.003)
    once = write_table(tmp_path / "once.csv", RUNS, loss)
    twice = write_table(tmp_path / "twice.csv", np.tile(RUNS, 2), np.tile(loss, 2))
    one, other = (as_json(capsys, path, "--target-flops", TARGET) for path in (once, twice))
    assert len(other["set_aside"]) == len(RUNS)
    assert {**other, "set_aside": []} == one
    assert all(math.isfinite(number) for number in flat(one))


# ---- doubts about the runs --------------------------------------------------------------------

LONG = np.geomspace(1e18, 1e21, 10)


def sized(flops: Array, tokens_per_param: Array) -> Any:
    """Quiet runs about the planted law, with sizes that spend their compute so."""
    params = np.sqrt(flops / 6 / tokens_per_param)
    return replace(table(flops, quiet(flops)), params=params, tokens=flops / 6 / params)


@pytest.mark.parametrize(("last", "named"), [(20.0, False), (2.0, True)])
def test_a_drifting_ratio_of_tokens_is_named(last: float, named: bool) -> None:
    warnings = fit_table(sized(LONG, np.geomspace(20.0, last, len(LONG))), 1e22, 0.9)["warnings"]
    assert any("tokens per parameter go from 20 at the smallest run to 2 at" in line for line in warnings) == named


@pytest.mark.parametrize(("off", "named"), [(0.0, False), (0.15, True)])
def test_a_wild_budget_is_named(off: float, named: bool) -> None:
    loss = quiet(LONG)
    loss[4] *= 1 - off
    lines = [line for line in fitted(LONG, loss, 1e22)["warnings"] if "off the law" in line]
    assert bool(lines) == named
    assert all(line.startswith(f"the budget {LONG[4]:.3g} lies -") for line in lines)


@pytest.mark.parametrize(("target_flops", "named"), [(1e23, False), (1e26, True)])
def test_a_target_far_beyond_what_could_be_tested_is_named(target_flops: float, named: bool) -> None:
    warnings = fitted(LONG, quiet(LONG), target_flops)["warnings"]
    assert any("inside these runs no more than 100 times could be tested" in line for line in warnings) == named


def test_runs_at_the_top_that_do_not_count_are_named() -> None:
    """The largest run has diverged: the ladder ends below it, and so does the ratio."""
    flops, loss = np.append(LONG, 1e22), np.append(quiet(LONG), 9.0)
    result = fitted(flops, loss, 1e23)
    assert result["extrapolation_ratio"] == pytest.approx(100)
    assert any("runs of up to 1e+22 FLOPs that do not count" in line for line in result["warnings"])


def test_the_law_of_the_heaviest_form_agrees_with_its_forecast() -> None:
    """People copy the printed line: from quiet runs it gives what the form forecasts, to half a per cent."""
    result = fitted(LONG, quiet(LONG), 1e22)
    heaviest = max(result["forms_tried"], key=lambda form: form["weight"])
    assert float(Law(**result["coefficients"])(1e22)) == pytest.approx(heaviest["prediction"], rel=5e-3)
