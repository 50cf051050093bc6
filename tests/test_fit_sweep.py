"""The fit of a sweep: one phase or two, runs that did not end, and records that are frozen by a seal."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.cut_offs import forecast_cut_offs
from sweep.errors import SweepError
from sweep.figures import draw_forecast
from sweep.fit import fit_folder, fit_sweep, fit_table
from sweep.folder import SweepFolder, read_json, write_json
from sweep.phase import above_knee, copying_ratio, copying_share, phase_of
from sweep.records import Record, as_table, write_records
from sweep.refit import refit_loss
from sweep.table import read_table
from tests.planted import (
    BUDGETS,
    PLANTED,
    TARGET,
    diverged,
    ladder,
    plan,
    target_record,
    with_copy_scores,
)


def test_sweep_of_one_phase_is_forecast() -> None:
    """All runs done and copying: all are used, none set aside, and no warning is about runs or phase."""
    records = ladder()
    result = fit_sweep(plan(), [*records, target_record()])
    assert result["forecastable"]
    assert result["runs_used"] == [run.run_id for run in records]
    assert result["runs_set_aside"] == []
    assert (result["phase"]["phase"], result["phase"]["straddles"]) == ("copying", False)
    assert [warning for warning in result["warnings"] if "floor c anywhere" not in warning] == []


def test_sweep_never_looks_at_the_target() -> None:
    """A target that is there already, with any loss, changes nothing."""
    seen = replace(target_record(), status="done", reason="", loss_nats=0.1, copy_score_nats=9.0)
    assert fit_sweep(plan(), [*ladder(), seen]) == fit_sweep(plan(), ladder())


def test_straddling_ladder_is_loud_and_not_forecastable() -> None:
    """Four runs that do not copy yet: named, warned of in capitals, and no forecast to rely on.

    The losses are those of the sound ladder, so it is the phase alone that speaks against it.
    """
    records = with_copy_scores([0.1] * 4 + [2.0] * 8)
    result = fit_sweep(plan(), records)
    assert not result["forecastable"]
    assert any("phase" in reason for reason in result["not_forecastable_because"])
    (loud,) = [warning for warning in result["warnings"] if "PHASE CHANGE INSIDE THE LADDER" in warning]
    named = [run.run_id for run in records if run.run_id in loud]
    assert named == [run.run_id for run in records[:4]]
    assert result["phase"]["phase"] == "copying"


def test_ladder_that_does_not_copy_is_warned_of() -> None:
    """One phase, so there is a forecast; but a target of the other phase would be far below it."""
    result = fit_sweep(plan(), with_copy_scores([0.1] * 12))
    assert result["forecastable"]
    assert result["phase"]["phase"] == "not copying"
    assert sum("NO RUN OF THE LADDER COPIES" in warning for warning in result["warnings"]) == 1


def test_a_marked_run_is_fitted_and_shown() -> None:
    """The loss at a run's end counts, whatever happened before; that it did happen stands with the forecast."""
    records = ladder()
    marked = [replace(records[0], marks="loss spike of 1.20 nats at step 40"), *records[1:]]
    result, unmarked = fit_sweep(plan(), marked), fit_sweep(plan(), records)
    (warning,) = [text for text in result["warnings"] if "loss spike of 1.20 nats at step 40" in text]
    assert records[0].run_id in warning
    assert result["prediction"] == unmarked["prediction"]
    assert len(result["warnings"]) == len(unmarked["warnings"]) + 1


def test_a_ladder_that_begins_below_the_straight_part_is_warned_of() -> None:
    records = ladder()
    budgets = sorted({record.budget_flops for record in records})
    for start, named in ((budgets[0], []), (budgets[2], budgets[:2])):
        straight_from = replace(plan(), config={"model": {"straight_from_flops": start}})
        loud = [text for text in fit_sweep(straight_from, records)["warnings"] if "THE LADDER BEGINS BELOW" in text]
        assert bool(loud) == bool(named)
        assert all(f"{budget:.3g}" in loud[0] for budget in named)


def test_phase_is_that_of_the_largest_run_whatever_the_order() -> None:
    records = with_copy_scores([2.0] * 10 + [0.2] * 2)
    assert phase_of(records, 1.0)["phase"] == phase_of(records[::-1], 1.0)["phase"] == "not copying"


def with_parts(
    repeated_per_fold: float, new_per_fold: float, kink: float = 0.0, repeated_nats: float = 2.0
) -> list[Record]:
    """The ladder, a fifth of its tokens repeated: falls in nats per e-fold; repeated ones begin ``kink`` higher."""
    records = []
    for run in ladder():
        folds = float(np.log(run.flops / BUDGETS[3]))
        repeated, new = repeated_nats - repeated_per_fold * folds + kink * (folds < 0), 5 - new_per_fold * folds
        loss = 0.2 * repeated + 0.8 * new
        records.append(replace(run, loss_nats=loss, loss_repeated_nats=repeated, loss_new_nats=new))
    return records


def test_the_copying_share_is_that_of_the_repeated_tokens_fall_over_the_upper_half() -> None:
    """By hand: 0.2 * 1.0 of 0.2 * 1.0 + 0.8 * 0.2 nats per e-fold, whatever the lower half does."""
    for kink in (0.0, 0.4):
        assert copying_share(with_parts(1.0, 0.2, kink)) == pytest.approx(0.2 / 0.36)
    assert copying_share(with_parts(0.0, 0.3)) == pytest.approx(0.0, abs=1e-9)


def test_where_the_parts_of_the_loss_are_not_known_there_is_no_share() -> None:
    rising, equal = (
        with_parts(-1.0, -0.2),
        [replace(run, loss_repeated_nats=run.loss_new_nats) for run in with_parts(1, 1)],
    )
    for records in (ladder(), rising, equal):
        assert copying_share(records) is None


def test_a_ladder_on_which_copying_still_forms_is_not_forecastable() -> None:
    """Every run copies; it is what their loss falls by that speaks against them. A little less of it does not."""
    forming, formed = fit_sweep(plan(), with_parts(1.0, 0.2)), fit_sweep(plan(), with_parts(0.7, 0.2))
    assert not forming["phase"]["straddles"] and not forming["forecastable"]
    assert any("copying still forms" in reason and "56%" in reason for reason in forming["not_forecastable_because"])
    assert formed["forecastable"] and formed["phase"]["copying_share"] < 0.5


def test_a_ladder_below_the_knee_of_copying_is_not_forecastable() -> None:
    """Repeated tokens fall like new ones, so their share of the fall is a fifth; it is what they cost that speaks."""
    below, above = (fit_sweep(plan(), with_parts(0.2, 0.2, repeated_nats=nats)) for nats in (3.0, 2.0))
    folds = np.log(BUDGETS[-1] / BUDGETS[3])
    assert below["phase"]["copying_ratio"] == pytest.approx((3 - 0.2 * folds) / (5 - 0.2 * folds), rel=0.01)
    assert not below["forecastable"] and below["phase"]["copying_share"] == pytest.approx(0.2)
    assert any("copying has hardly formed" in reason for reason in below["not_forecastable_because"])
    assert above["forecastable"] and above["phase"]["copying_ratio"] < 0.45


def test_the_ratio_is_that_of_the_largest_budgets_runs() -> None:
    """2 of 5 nats at the fourth budget, by hand."""
    records = with_parts(0.2, 0.2)
    assert copying_ratio(ladder()) is None
    up_to_fourth = [record for record in records if record.budget_flops <= BUDGETS[3]]
    assert copying_ratio(up_to_fourth) == copying_ratio(up_to_fourth[::-1]) == pytest.approx(0.4, rel=0.01)


def with_knee(num_below: int, above_nats: float = 2.0) -> list[Record]:
    """The sound ladder, but that the smallest budgets lose 0.3 nats to copying that is not there yet."""
    below = BUDGETS[:num_below]
    return [
        replace(run, loss_nats=(run.loss_nats or 0) + 0.3, loss_repeated_nats=3.0, loss_new_nats=5.0)
        if run.budget_flops in below
        else replace(run, loss_repeated_nats=above_nats, loss_new_nats=5.0)
        for run in ladder()
    ]


def test_budgets_below_the_knee_of_copying_are_set_aside_and_named() -> None:
    """The fit is to the last bit that of the others alone, whatever the lower ones lost, at every cut-off."""
    knee = with_knee(2)
    result = fit_sweep(plan(), knee)
    alone = fit_table(as_table(knee[4:]), TARGET, 0.9)
    for key in ("prediction", "low", "high", "num_runs", "num_budgets", "coefficients"):
        assert result[key] == alone[key], key
    assert result["runs_used"] == [run.run_id for run in knee[4:]]
    assert [line.split(":")[0] for line in result["set_aside"]] == [f"the budget {b:.3g}" for b in BUDGETS[:2]]
    assert all(
        "cost 60% of new ones, at the largest budget 40% (more than 1.25 times" in line for line in result["set_aside"]
    )
    assert result["forecastable"] and result["low"] < PLANTED(TARGET) < result["high"]
    assert sum("2 budgets lie below the knee of copying" in warning for warning in result["warnings"]) == 1
    drawn = draw_forecast(knee, result, None)
    assert [len(drawn.values[f"forecast-{series}"]) for series in ("runs", "set-aside")] == [8, 4]
    drawn.close()
    one_below = [run for run in knee if run.budget_flops != BUDGETS[0]]
    under_largest = replace(plan(), fit=replace(plan().fit, more_cut_offs=[float(BUDGETS[4] / TARGET)]))
    (row,) = forecast_cut_offs(with_knee(1), under_largest)
    assert (row["num_budgets"], row["prediction"]) == (
        4,
        fit_table(as_table(with_knee(1)[2:10]), TARGET, 0.9)["prediction"],
    )
    assert above_knee(one_below)[0] == knee[4:]


def test_a_cut_off_asks_for_itself_which_budgets_lie_below_the_knee() -> None:
    """Under the further one too few lie above, so its four largest count, one set aside at the main one among them.

    The refit of a seal says the same.
    """
    ladder_plan = replace(plan(), fit=replace(plan().fit, more_cut_offs=[float(BUDGETS[4] / TARGET)]))
    result = fit_sweep(ladder_plan, with_knee(2))
    assert (result["num_budgets"], result["cut_offs"][0]["num_budgets"]) == (len(BUDGETS) - 2, 4)
    refits = refit_loss(result, ladder_plan, with_knee(2))
    assert [refit.differences for refit in refits] == [[], []]


def test_the_four_largest_budgets_always_count() -> None:
    """A fit needs four; and with no parts of the loss nobody knows where the knee is."""
    assert above_knee(with_knee(3))[0] == with_knee(3)[4:]
    assert above_knee(with_knee(3)[6:])[0] == with_knee(3)[6:]
    assert above_knee(ladder()) == (ladder(), [])
    assert above_knee([]) == ([], [])
    below = fit_sweep(plan(), with_knee(2, above_nats=2.5))
    assert below["num_budgets"] == len(BUDGETS)
    assert any("copying has hardly formed in these runs" in reason for reason in below["not_forecastable_because"])


@pytest.mark.parametrize(("times", "num_below"), [(1.2, 0), (1.3, 2)])
def test_what_repeated_tokens_cost_is_compared_with_the_largest_budget(times: float, num_below: int) -> None:
    """On a text where they cost more than half of new ones at every size, no budget is set aside for that."""
    lower = [replace(run, loss_repeated_nats=2.8 * times, loss_new_nats=5.0) for run in ladder()[:4]]
    runs = [*lower, *(replace(run, loss_repeated_nats=2.8, loss_new_nats=5.0) for run in ladder()[4:])]
    assert len(above_knee(runs)[1]) == num_below


@pytest.mark.parametrize(("threshold", "straddles"), [(0.5, False), (1.5, False), (1.0, True)])
def test_phase_follows_the_threshold(threshold: float, straddles: bool) -> None:
    """Whether scores of 0.9 and 1.1 are of one phase is for the configuration to say."""
    assert phase_of(with_copy_scores([0.9] * 6 + [1.1] * 6), threshold)["straddles"] is straddles


def test_diverged_run_is_set_aside_aloud() -> None:
    """It is listed with its reason and warned of by name, and the fit is that of the other runs."""
    bad = diverged(ladder()[0])
    result = fit_sweep(plan(), [*ladder(), bad])
    assert result["runs_set_aside"] == [{"run_id": bad.run_id, "status": "diverged", "reason": bad.reason}]
    assert any(bad.run_id in warning and "diverged" in warning for warning in result["warnings"])
    assert bad.run_id not in result["runs_used"]
    assert result["prediction"] == fit_sweep(plan(), ladder())["prediction"]


def test_too_few_finished_budgets_are_refused_by_name() -> None:
    """Two budgets lost to divergence leave four: refused, with every lost run and its reason."""
    lost = [diverged(run) for run in ladder()[:4]]
    with pytest.raises(SweepError, match="4 budgets") as caught:
        fit_sweep(plan(), [*lost, *ladder()[4:]])
    for run in lost:
        assert f"{run.run_id}: diverged, {run.reason}" in str(caught.value)


def test_runs_of_different_code_are_warned_of() -> None:
    records = [replace(run, code_sha256=f"version {run.seed}") for run in ladder()]
    assert sum("different versions" in warning for warning in fit_sweep(plan(), records)["warnings"]) == 1


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """A sweep's folder with a plan and finished runs, one of them diverged."""
    folder = SweepFolder(tmp_path)
    write_json(folder.plan, plan().to_json())
    write_records([*ladder(), diverged(ladder()[2]), target_record()], folder.records)
    return folder


def test_folder_is_fitted_as_its_records_are(folder: SweepFolder) -> None:
    """Through the files and back, the fit is to the last bit that of the same records in memory."""
    in_memory = fit_sweep(plan(), [*ladder(), diverged(ladder()[2]), target_record()])
    assert fit_folder(folder) == in_memory
    assert without_hash(read_json(folder.fit)) == in_memory


def test_records_are_a_table_too(folder: SweepFolder) -> None:
    """The command on records.csv forecasts what the folder's fit does."""
    table = read_table(folder.records)
    forecasts = [fit_table(table, TARGET, 0.9), fit_folder(folder)]
    assert forecasts[0]["prediction"] == pytest.approx(forecasts[1]["prediction"], rel=1e-9)
    with folder.records.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table) + 2


def test_sealed_folder_is_not_fitted_again(folder: SweepFolder) -> None:
    folder.seal.write_text("{}")
    with pytest.raises(SweepError, match="is sealed"):
        fit_folder(folder)
    assert not folder.fit.exists()


def without_hash(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "content_sha256"}
