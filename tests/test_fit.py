"""The fit of a table and of a sweep: what it refuses, what it warns of, and what it leaves out aloud."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sweep import fit
from sweep.errors import SweepError
from sweep.fit import backtests, fit_points, read_table
from sweep.laws import Array
from sweep.records import write_records
from tests.planted import BUDGETS, PLANTED, RUNS, TARGET, diverged, ladder, noisy, quiet, target_record

ROOT = Path(__file__).parent.parent


def write_table(path: Path, flops: Array, loss: Array) -> Path:
    rows = [f"{run_flops!r},{run_loss!r}" for run_flops, run_loss in zip(flops.tolist(), loss.tolist(), strict=True)]
    path.write_text("\n".join(["flops,loss", *rows, ""]))
    return path


# ---- read_table -------------------------------------------------------------------------------


def test_table_is_read_to_the_last_bit(tmp_path: Path) -> None:
    loss = quiet(RUNS)
    flops_read, loss_read, left_out = read_table(write_table(tmp_path / "table.csv", RUNS, loss))
    assert (flops_read.tolist(), loss_read.tolist(), left_out) == (RUNS.tolist(), loss.tolist(), [])


def test_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    """Spreadsheets put one before the first column's name."""
    path = tmp_path / "table.csv"
    path.write_text("flops,loss\n1e9,3.5\n", encoding="utf-8-sig")
    assert read_table(path)[0].tolist() == [1e9]


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        pytest.param("2e9,nan", "loss", id="nan"),
        pytest.param("2e9,inf", "loss", id="infinite"),
        pytest.param("2e9,-3.1", "loss", id="negative"),
        pytest.param("0,3.1", "flops", id="zero"),
        pytest.param("2e9,diverged", "loss", id="text"),
        pytest.param("2e9,", "loss", id="empty cell"),
        pytest.param("2e9", "loss", id="short row"),
        pytest.param("2e9,3,1", "loss", id="decimal comma"),
    ],
)
def test_bad_cell_is_named(tmp_path: Path, cells: str, column: str) -> None:
    """File, line as an editor counts it (a blank line included) and column; what was expected and what to do."""
    path = tmp_path / "mine.csv"
    path.write_text(f"flops,loss\n1e9,3.5\n\n{cells}\n4e9,2.9\n")
    message = refusal_of(path)
    for part in (str(path), "line 4", column):
        assert part in message.splitlines()[0]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(b"flops,perplexity\n1e9,30\n", "flops, perplexity", id="no loss"),
        pytest.param(b"compute,loss\n1e9,3\n", "compute, loss", id="no flops"),
        pytest.param(b"", "(none)", id="empty file"),
        pytest.param(b"flops,loss\n", "no runs", id="no rows"),
        pytest.param(b"flops,loss\n1e9,3\xff\n", "can't be read", id="not text"),
    ],
)
def test_bad_table_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    first_line = refusal_of(path).splitlines()[0]
    assert str(path) in first_line
    assert found in first_line


def test_missing_table_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "absent.csv") in refusal_of(tmp_path / "absent.csv")


def refusal_of(path: Path) -> str:
    """The message with which a table is refused; it always says what was expected and what to do."""
    with pytest.raises(SweepError) as caught:
        read_table(path)
    message = str(caught.value)
    assert "expected:" in message
    assert "to do:" in message
    return message


def test_rows_of_other_role_or_status_are_left_out_aloud(tmp_path: Path) -> None:
    """The target and a diverged run are not fitted, and each is named with its line."""
    path = tmp_path / "records.csv"
    write_records([*ladder(), target_record(), diverged(ladder()[3])], path)
    flops, _, left_out = read_table(path)
    assert len(flops) == len(ladder())
    assert left_out == [
        f"line {len(flops) + 2} left out: role target, status planned",
        f"line {len(flops) + 3} left out: role fit, status diverged",
    ]


# ---- fit_points -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_target_within_the_fitted_range_is_refused(share: float) -> None:
    with pytest.raises(SweepError, match="within the fitted range") as caught:
        fit_points(RUNS, quiet(RUNS), share * float(RUNS.max()), 0.9)
    assert "to do:" in str(caught.value)


@pytest.mark.parametrize(
    ("flops", "loss", "reason"),
    [
        pytest.param(RUNS[:4], quiet(RUNS[:4]), "2 different budgets", id="two budgets"),
        pytest.param(RUNS[:6], quiet(RUNS[:6]), "3 budgets", id="three budgets"),
        pytest.param(RUNS, quiet(RUNS)[::-1], "does not fall", id="rising"),
    ],
)
def test_ladder_without_a_law_is_refused_in_plain_words(flops: Array, loss: Array, reason: str) -> None:
    with pytest.raises(SweepError, match=reason):
        fit_points(flops, loss, TARGET, 0.9)


def test_sound_ladder_is_forecast_without_complaint() -> None:
    """Six quiet budgets with replicates: the planted loss is held, and nothing is warned of but the floor."""
    result = fit_points(RUNS, quiet(RUNS), TARGET, 0.9)
    assert result["forecastable"] and not result["not_forecastable_because"]
    assert result["low"] <= float(PLANTED(TARGET)) <= result["high"]
    assert [warning for warning in result["warnings"] if "floor c anywhere" not in warning] == []
    coefficients = result["coefficients"]
    assert coefficients["reference_flops"] == TARGET
    assert coefficients["a"] + coefficients["c"] == pytest.approx(result["prediction"], rel=1e-12)


@pytest.mark.parametrize(
    ("flops", "target_flops", "warning"),
    [
        pytest.param(RUNS[:8], TARGET, "4 budgets", id="few budgets"),
        pytest.param(RUNS, 1.5 * BUDGETS[-1], "only 1.50 times the largest run", id="near target"),
        pytest.param(BUDGETS, TARGET, "no budget has more than one run", id="no replicates"),
    ],
)
def test_weak_ladder_is_warned_of(flops: Array, target_flops: float, warning: str) -> None:
    """Each weakness brings its own warning, once."""
    warnings = fit_points(flops, quiet(flops), target_flops, 0.9)["warnings"]
    assert sum(warning in line for line in warnings) == 1


def test_ladder_that_hides_its_floor_is_warned_of() -> None:
    """Short noisy ladders can't tell one floor from another; the warning says how far the forecasts differ."""
    (warning,) = [line for line in fit_points(RUNS, noisy(RUNS, 0.005), TARGET, 0.9)["warnings"] if "anywhere" in line]
    assert "floor c anywhere from" in warning and "%" in warning


def test_wide_interval_is_not_forecastable() -> None:
    """A ladder with 5 % of noise says nothing about 21 times its compute, and the result says just that."""
    result = fit_points(RUNS, noisy(RUNS, 0.05), TARGET, 0.9)
    assert (result["high"] - result["low"]) / 2 > 0.25 * result["prediction"]
    assert not result["forecastable"]
    assert "wider" in " ".join(result["not_forecastable_because"])
    assert "NOT FORECASTABLE" in fit.summary(result)


def test_flat_losses_are_never_a_forecast() -> None:
    """Equal losses fall with compute only by rounding: refused, or called not forecastable."""
    try:
        assert not fit_points(BUDGETS, np.full(len(BUDGETS), 3.0), TARGET, 0.9)["forecastable"]
    except SweepError as error:
        assert "does not fall" in str(error)


# ---- backtests --------------------------------------------------------------------------------


def test_backtests_of_a_planted_law_have_no_error() -> None:
    """Every cut that leaves four budgets is forecast for every larger budget, and exactly."""
    results = backtests(RUNS, PLANTED(RUNS), 0.9)
    pairs = [(test["largest_fitted_flops"], test["flops"]) for test in results]
    assert pairs == [(BUDGETS[3], BUDGETS[4]), (BUDGETS[3], BUDGETS[5]), (BUDGETS[4], BUDGETS[5])]
    assert [test["error"] for test in results] == pytest.approx([0, 0, 0], abs=1e-9)


def test_backtests_do_not_look_ahead() -> None:
    """Another loss at the largest budget changes what is measured there, and no prediction."""
    loss = quiet(RUNS)
    spoilt = np.concatenate((loss[:-2], 1.2 * loss[-2:]))
    before, after = backtests(RUNS, loss, 0.9), backtests(RUNS, spoilt, 0.9)
    assert [test["prediction"] for test in before] == [test["prediction"] for test in after]
    assert [test["inside"] for test in after] == [before[0]["inside"], False, False]


# ---- the command ------------------------------------------------------------------------------


def command(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *options, "-m", "sweep.fit", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_command_prints_one_json_object_and_imports_no_torch(tmp_path: Path) -> None:
    """Any table can be forecast from a shell, without the training half of the project."""
    path = write_table(tmp_path / "table.csv", RUNS, quiet(RUNS))
    done = command(str(path), "--target-flops", "8.4e12", "--json", options=("-X", "importtime"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    keys = {"law", "coefficients", "prediction", "low", "high", "level", "forecastable", "warnings"}
    assert keys <= result.keys()
    assert result["level"] == 0.9
    assert result["low"] < result["prediction"] < result["high"]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "numpy" in imported
    assert not imported & {"torch", "lightning", "hydra", "wandb"}


def test_command_prints_a_summary_for_people(tmp_path: Path) -> None:
    """The forecast, its interval at the level asked for, and every warning."""
    path = write_table(tmp_path / "table.csv", BUDGETS, quiet(BUDGETS))
    done = command(str(path), "--target-flops", "8.4e12", "--level", "0.8")
    assert done.returncode == 0, done.stderr
    result = fit_points(BUDGETS, quiet(BUDGETS), TARGET, 0.8)
    for part in (f"{result['prediction']:.4f}", f"{result['low']:.4f} to {result['high']:.4f} (80%)"):
        assert part in done.stdout
    assert done.stdout.count("warning: ") == len(result["warnings"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--target-flops", "1e9"], "within the fitted range", id="target too small"),
        pytest.param([], "--target-flops", id="no target"),
        pytest.param(["--target-flops", "nan"], "--target-flops", id="target no number"),
        pytest.param(["--target-flops", "1e15", "--level", "90"], "--level", id="level in per cent"),
    ],
)
def test_command_refuses_without_traceback(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = command(str(write_table(tmp_path / "table.csv", RUNS, quiet(RUNS))), *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_command_warns_of_rows_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_records([*ladder(), diverged(ladder()[0])], Path("records.csv"))
    assert fit.main(["records.csv", "--target-flops", "8.4e12", "--json"]) == 0
    assert any("status diverged" in warning for warning in json.loads(capsys.readouterr().out)["warnings"])
