"""docs/forecasts.md and its figures: numbers are the seal's or the verdict's, a miss stays, for any number of them."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.forecast_claims import bucket_claims, loss_claims, nearest_ratio, read_published, refitted_claims
from benchmarks.forecast_pages import BEGIN, END, PAGE, loss_summary, results
from benchmarks.study import ROOT
from sweep.folder import SweepFolder
from sweep.publish import publish
from tests.test_verify import rewrite

BUCKETS = [
    {"bucket": number, "tasks": ["a"], "forecastable": number == 1, "level": 0.9, "uncorrected": 1.0}
    | dict.fromkeys(("prediction", "low", "high", "pass_rate_prediction", "pass_rate_low", "pass_rate_high"))
    | ({"prediction": 1.0, "low": 0.5, "high": 2.0, "pass_rate_prediction": 0.4} if number == 1 else {})
    for number in (1, 2)
]


def with_pass_rates(folder: Path) -> None:
    """Give a published forecast pass rates of two buckets, at one cut-off and a further one."""
    judged = [
        {"measured": 1.25, "never_solved": 0, "pass_rate_measured": 0.3, "held": True},
        {"measured": 3.5, "never_solved": 4, "pass_rate_measured": 0.01, "held": None},
    ]
    part = {"cut_off": {"max_flops_fraction": 0.01, "largest_fitted_flops": 1e8}, "buckets": BUCKETS}
    sealed = {**part, "cut_offs": [part]}
    rewrite(folder / "seal.json", lambda seal: seal.update(pass_rates=sealed))
    found = {"pass_rates": judged, "pass_rate_cut_offs": [{"max_flops_fraction": 0.01, "buckets": judged}]}
    rewrite(folder / "verdict.json", lambda verdict: verdict.update(found))


def cells(page: str, name: str) -> list[list[str]]:
    rows = [line for line in page.splitlines() if line.startswith(f"| {name}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


@pytest.mark.parametrize("number", [0, 1, 6])
def test_any_number_of_forecasts_makes_a_page(copy: Path, tmp_path: Path, number: int) -> None:
    forecasts = tmp_path / "forecasts"
    forecasts.mkdir()
    for each in range(number):
        one = publish(SweepFolder(copy), tmp_path / "one")
        with_pass_rates(one)
        shutil.copytree(one, forecasts / f"2026-01-0{each + 1}-run")
        shutil.rmtree(tmp_path / "one")
    page = results(forecasts, tmp_path / "figures")
    assert len({row[0] for row in cells(page, "2026-01-0")}) == number
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    every = {"forecasts.png", "forecast_pass_rates.png", "forecast_errors.png"}
    assert drawn == (every if number else {"forecast_errors.png"})
    assert all(f"figures/{name}" in page for name in drawn)


def test_every_number_is_the_seals_or_the_verdicts(copy: Path, tmp_path: Path) -> None:
    folder = publish(SweepFolder(copy), tmp_path / "forecasts")
    with_pass_rates(folder)
    seal, verdict = (json.loads((folder / name).read_text()) for name in ("seal.json", "verdict.json"))
    main, further, few, *buckets = cells(results(tmp_path / "forecasts", tmp_path / "figures"), folder.name)
    assert main[1] == "1/10" and further[1] == "1/11.11"
    assert [few[1], *few[3:]] == ["1/20", "", "", f"{verdict['measured']:.4f}", "", "not forecast", ""]
    for row, claim in ((main, seal), (further, seal["cut_offs"][0])):
        if claim["forecastable"]:
            assert row[3] == f"{claim['prediction']:.4f}"
            assert row[4] == f"{claim['low']:.4f} to {claim['high']:.4f}"
            assert row[5] == f"{verdict['measured']:.4f}"
            assert row[6] == f"{verdict['error']:+.2%}"
            assert row[7] == ("held" if verdict["held"] else "**missed**")
    first, second = buckets[:2]
    assert first[2:] == ["1", "1.000", "0.500 to 2.000", "1.250", "-0.250", "held", "0.400", "0.300"]
    assert second[2:] == ["2", "", "", "3.500 or more", "", "not forecast", "", "0.010"]


def test_a_miss_a_refusal_and_a_target_to_come_stay_in_the_table(copy: Path, tmp_path: Path) -> None:
    folder = publish(SweepFolder(copy), tmp_path / "forecasts")
    rewrite(folder / "seal.json", lambda seal: seal.update(forecastable=True))
    rewrite(folder / "verdict.json", lambda verdict: verdict.update(held=False))
    (published,) = read_published(tmp_path / "forecasts")
    assert loss_claims(published)[0].word == "**missed**"
    assert bucket_claims(published) == []
    refused = {"status": "refused", "reasons": ["the target diverged: nan"], "content_sha256": ""}
    (folder / "verdict.json").write_text(json.dumps(refused))
    rewrite(folder / "verdict.json", lambda verdict: None)
    page = results(tmp_path / "forecasts", tmp_path / "figures")
    assert cells(page, folder.name)[0][7] == "refused" and "the target diverged: nan" in page
    (folder / "verdict.json").unlink()
    assert cells(results(tmp_path / "forecasts", tmp_path / "figures"), folder.name)[0][7] == "waiting"


def test_what_todays_rules_refuse_is_marked_and_counts_apart() -> None:
    """A ladder below the knee of copying, whose forecast missed, and one above it; from files that do not change."""
    published = [each for each in read_published(ROOT / "forecasts") if each.name[11:] in ("vocabulary", "muon")]
    claims = {(each.name[11:], claim.cut_off): claim for each in published for claim in loss_claims(each)}
    low, high = claims["vocabulary", "1/300"], claims["muon", "1/30"]
    assert low.refused_today and low.word == "**missed**" and not high.refused_today
    summary = loss_summary([low, high, claims["vocabulary", "1/30"]])
    assert cells(summary, "300") == [
        ["300", "all that were sealed", "1", "23.55%", "+23.55%", "12.1%", "0 of 1"],
        ["300", "allowed today, adamw", "0", "", "", "", ""],
    ]
    assert [row[1:3] for row in cells(summary, "30 ")] == [
        *(["all that were sealed", "2"], ["allowed today, adamw", "1"], ["allowed today, muon", "1"])
    ]


def test_refitted_claims_have_todays_numbers_and_the_old_measurements() -> None:
    """Of a ladder that today's rules refuse none; of another one near to what was sealed; from files that stay."""
    published = {each.name[11:]: each for each in read_published(ROOT / "forecasts")}
    again = {claim.cut_off: claim for claim in refitted_claims(published["vocabulary"])}["1/300"]
    assert (again.predicted, again.word, again.measured) == (None, "not forecast", pytest.approx(3.0507, abs=1e-4))
    sealed, again = (of(published["muon"])[0] for of in (loss_claims, refitted_claims))
    assert again.measured == sealed.measured and again.ratio == sealed.ratio
    assert again.predicted == pytest.approx(sealed.predicted, rel=0.03)
    assert again.word == "held" and (again.low or 0) < (again.measured or 0) < (again.high or 0)


def test_claims_are_summed_up_under_the_nearest_ratio() -> None:
    assert [nearest_ratio(each) for each in (30.3, 54, 56, 101, 345, 1010, 9_000)] == [
        *(30, 30, 100, 100, 300, 1_000, 10_000)
    ]


def test_the_page_has_its_place_for_them() -> None:
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)


def test_every_published_forecast_stands_on_the_page() -> None:
    """``make figures`` belongs to every publication."""
    for published in read_published(ROOT / "forecasts"):
        verdict = published.verdict.get("measured")
        rows = cells(PAGE.read_text(), published.name)
        assert rows and rows[0][5] == (f"{verdict:.4f}" if verdict else ""), published.name
