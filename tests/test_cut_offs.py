"""Forecasts from several cut-offs of one ladder: each is what its own runs give, and is judged by itself."""

from dataclasses import replace

import pytest

from sweep.cut_offs import cut_off_lines, cut_off_text, forecast_cut_offs, judge_cut_offs
from sweep.errors import SweepError
from sweep.fit import fit_table
from sweep.records import as_table
from sweep.run_spec import Plan
from sweep.spec import check
from tests.planted import BUDGETS, PLANTED, TARGET, ladder, plan, with_copy_scores
from tests.tiny import spec_of

FIVE, FOUR = float(BUDGETS[4] / TARGET), float(BUDGETS[3] / TARGET)


def plan_with(*fractions: float) -> Plan:
    bare = plan()
    return replace(bare, fit=replace(bare.fit, more_cut_offs=list(fractions)))


def test_a_cut_off_is_the_forecast_of_its_own_runs_alone() -> None:
    """The other road: somebody hands the smaller runs to the fit as a table."""
    (row,) = forecast_cut_offs(ladder(), plan_with(FIVE))
    alone = fit_table(as_table([record for record in ladder() if record.flops <= BUDGETS[4]]), TARGET, 0.9)
    for key in ("prediction", "low", "high", "extrapolation_ratio", "forecastable", "num_runs", "num_budgets"):
        assert row[key] == alone[key], key
    assert row["largest_fitted_flops"] == BUDGETS[4]
    assert row["low"] < PLANTED(TARGET) < row["high"]
    assert row["phase"] == "copying"


def test_fewer_than_five_budgets_give_a_reason_and_no_number() -> None:
    four, none = forecast_cut_offs(ladder(), plan_with(FOUR, 1e-9))
    for row, number in ((four, 4), (none, 0)):
        assert not row["forecastable"]
        assert (row["prediction"], row["low"], row["high"]) == (None, None, None)
        assert row["not_forecastable_because"][0].startswith(f"{number} budgets lie under this cut-off")
    assert (none["largest_fitted_flops"], none["extrapolation_ratio"]) == (None, None)


def test_runs_above_a_cut_off_change_nothing_below_it() -> None:
    wild = [replace(r, loss_nats=9.0) if r.flops > BUDGETS[4] else r for r in ladder()]
    assert forecast_cut_offs(wild, plan_with(FIVE)) == forecast_cut_offs(ladder(), plan_with(FIVE))


def test_each_cut_off_has_the_phase_of_its_own_runs() -> None:
    """The largest budget alone copies: below it is a sound ladder of the other phase."""
    (row,) = forecast_cut_offs(with_copy_scores([0.1] * 10 + [2.0] * 2), plan_with(FIVE))
    assert (row["phase"], row["forecastable"]) == ("not copying", True)
    (row,) = forecast_cut_offs(with_copy_scores([0.1] * 4 + [2.0] * 8), plan_with(FIVE))
    assert row["not_forecastable_because"] == ["these runs straddle a phase change"]


def test_a_cut_off_is_held_inside_its_interval_and_in_its_phase_alone() -> None:
    rows = forecast_cut_offs(ladder(), plan_with(FIVE, FOUR))
    inside, above = rows[0]["prediction"], 2 * rows[0]["high"]
    assert [row["held"] for row in judge_cut_offs(rows, inside, "copying")] == [True, None]
    assert [row["held"] for row in judge_cut_offs(rows, inside, "not copying")] == [False, None]
    assert [row["held"] for row in judge_cut_offs(rows, above, "copying")] == [False, None]
    held, unknown = judge_cut_offs(rows, inside / 1.01, "copying")
    assert held["error"] == pytest.approx(0.01)
    assert unknown["error"] is None


def test_the_words_are_those_of_the_judgement() -> None:
    rows = forecast_cut_offs(ladder(), plan_with(FIVE, FOUR))
    sealed = cut_off_lines(rows)
    assert "HELD" not in sealed[0] and f"{rows[0]['prediction']:.4f}" in sealed[0]
    held, missed = (cut_off_lines(judge_cut_offs(rows, loss, "copying")) for loss in (rows[0]["prediction"], 99.0))
    assert ": HELD" in held[0] and ": MISSED" in missed[0]
    assert all("not forecastable: 4 budgets" in lines[1] for lines in (sealed, held, missed))
    assert [cut_off_text(each) for each in (0.03333, 0.01, 0.003333, 0.0001, 0.0334)] == [
        *("1/30", "1/100", "1/300", "1/10,000", "1/29.94")
    ]


@pytest.mark.parametrize("group", ["fit", "capability"])
@pytest.mark.parametrize("more", ["[0.05,0.05]", "[0.0334]", "[0.5]"])
def test_a_cut_off_given_twice_or_no_stricter_than_the_main_one_is_refused(group: str, more: str) -> None:
    with pytest.raises(SweepError, match=rf"{group}\.more_cut_offs is"):
        spec_of(f"{group}.more_cut_offs={more}")


@pytest.mark.parametrize("name", ["registered", "registered_short"])
def test_the_registered_experiments_have_five_budgets_under_all_cut_offs_but_the_last_ones(name: str) -> None:
    spec = spec_of(f"experiment={name}")
    check(spec)
    target = spec.grid.target_flops
    assert target is not None
    cut_offs = [spec.fit.max_flops_fraction, *spec.fit.more_cut_offs]
    under = [sum(budget <= fraction * target for budget in spec.grid.budgets_flops) for fraction in cut_offs]
    enough = [fraction for fraction, number in zip(cut_offs, under, strict=True) if number >= 5]
    assert under[0] == len(spec.grid.budgets_flops) >= 8
    assert enough == cut_offs[: {"registered": 4, "registered_short": 3}[name]]
    # A forecast from a cut-off is one at its ratio: the largest run below it is not far below it.
    for fraction in enough:
        largest = max(budget for budget in spec.grid.budgets_flops if budget <= fraction * target)
        assert largest > 0.8 * fraction * target
    cheap = len(spec.grid.num_seeds) // 2
    assert min(spec.grid.num_seeds[:cheap]) >= 3
