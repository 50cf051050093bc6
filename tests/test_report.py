"""The page report.html: whole, its own, true to the files, and honest about what is missing."""

import html
import re
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sweep.capability import PREDICTED
from sweep.errors import SweepError
from sweep.folder import HASH_KEY, SweepFolder, read_json, write_json
from sweep.page.evidence import read_evidence
from sweep.page.headline import Headline, headline
from sweep.page.inline_svg import inline_svg
from sweep.page.run_table import run_table
from sweep.plot import COLOURS, Plot, new_figure
from sweep.report import write_report
from sweep.verify import verify_sweep
from tests import planted, planted_sweep
from tests.page_reader import Page, read_page

LOSS_AT_TARGET = float(planted.PLANTED(planted.TARGET))
SECTIONS = ("verdict", "forecast", "pass-rates", "runs", "cost", "data", "seal", "again")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """A planted sweep through to its verdict and report."""
    plan = planted_sweep.plan()
    folder = planted_sweep.make_sweep(tmp_path_factory.mktemp("judged") / "planted", plan)
    planted_sweep.train_ladder(folder, plan)
    planted_sweep.forecast(folder, plan)
    assert planted_sweep.judge(folder, plan, LOSS_AT_TARGET)["status"] == "judged"
    write_report(folder)
    return folder


@pytest.fixture
def copy(judged: SweepFolder, tmp_path: Path) -> SweepFolder:
    return SweepFolder(Path(shutil.copytree(judged.path, tmp_path / "alone" / "planted")))


def page_of(folder: SweepFolder) -> Page:
    return read_page(write_report(folder))


def verdict_of(page: Page) -> str:
    return " ".join(element.text for element in page.elements if page.by_id("verdict") in element.parents)


# ---- the page itself --------------------------------------------------------------------------


def test_every_section_is_there_once_and_linked(judged: SweepFolder) -> None:
    page = read_page(judged.report)
    sections = [element.attributes["id"] for element in page.all("section")]
    assert [name for name in sections if name != "warnings"] == list(SECTIONS)
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        values = " ".join(value for name, value in element.attributes.items() if name in ("href", "clip-path"))
        assert set(re.findall(r"#([\w-]+)", values)) <= set(ids)


def test_the_page_loads_nothing(judged: SweepFolder) -> None:
    text = judged.report.read_text()
    page = read_page(judged.report)
    assert not page.all("link") and not page.all("img") and not page.all("iframe")
    assert not [e for e in page.elements if e.attributes.keys() & {"src", "srcset", "action", "xmlns"}]
    assert all(e.attributes["href"].startswith("#") for e in page.elements if "href" in e.attributes)
    assert "://" not in text and "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    (policy,) = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.attributes["content"].startswith("default-src 'none'")
    assert len(text) < 500_000


def test_figures_take_their_colours_from_the_page_in_light_and_dark(judged: SweepFolder) -> None:
    style = (files("sweep.page") / "style.css").read_text()
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    figures = "".join(re.findall(r"<svg.*?</svg>", judged.report.read_text(), re.DOTALL))
    assert figures.count("<svg") == 7
    for name, colour in COLOURS.items():
        assert f"--{name}: {colour}" in light and f"--{name}: " in dark
        assert colour not in figures
    by_name = re.compile(r"(?:fill|stroke): (?!none|var\(--|#(?:3f78c0|d9576a|2f9247))")  # three buckets have their own
    assert not by_name.findall(figures)


def test_a_figure_is_a_file_too(judged: SweepFolder) -> None:
    names = {path.name for path in judged.figures.iterdir()}
    loss = {"forecast.png", "residuals.png", "backtests.png", "floor.png", "copying.png"}
    assert names == loss | {"pass_rates.png", "solved.png"}


def test_each_point_has_its_own_value_or_the_figure_is_refused() -> None:
    figure, ((axes,),) = new_figure(2.0)
    plot = Plot("plot", "A title", "", figure)
    plot.mark(axes, "runs", [1.0, 2.0], [3.0, 4.0], ["first <b>", "second"])
    assert list(map(html.unescape, re.findall(r'data-tip="([^"]*)"', inline_svg(plot)))) == ["first <b>", "second"]
    plot.values["plot-runs"].append("a third without a marker")
    with pytest.raises(ValueError):
        inline_svg(plot)
    plot.close()


# ---- true to the files ------------------------------------------------------------------------


def test_the_verdict_comes_first_and_says_what_verdict_json_says(judged: SweepFolder) -> None:
    page, verdict = read_page(judged.report), read_json(judged.verdict)
    said = verdict_of(page)
    assert page.all("section")[0].attributes == {"id": "verdict", "class": "verdict held"}
    assert "held" in said and "inside the sealed 90% interval" in said
    for key in ("prediction", "low", "high", "measured"):
        assert f"{verdict[key]:.4f}" in said
    assert f"{verdict['error']:+.2%}" in said
    held = [row["held"] for row in verdict["pass_rates"]].count(True)
    assert f"{held} of 3 forecast buckets held" in said


def points_of(page: Page, figure: str) -> list[str]:
    return [e.attributes["data-tip"] for e in page.all("use", f"figure-{figure}") if "data-tip" in e.attributes]


def test_points_of_the_figures_hold_the_numbers_of_the_files(judged: SweepFolder) -> None:
    page, fit, verdict = read_page(judged.report), read_json(judged.fit), read_json(judged.verdict)
    forecast = points_of(page, "forecast")
    measured = {run_id: read_json(judged.run(run_id).eval)["loss_nats"] for run_id in fit["runs_used"]}
    for run_id, loss in measured.items():
        assert sum(tip.startswith(f"{run_id}\n") and f"loss {loss:.4f}" in tip for tip in forecast) == 1
    assert len(forecast) == len(measured) + len(fit["curve"]) - 1 + 2  # the last of the curve is the prediction
    assert f"measured {verdict['measured']:.3f}" in forecast[-1]
    assert len(points_of(page, "residuals")) == len(measured)
    backtests = points_of(page, "backtests")
    assert len(backtests) == len(fit["backtests"]) + 1  # and the claim itself
    for test in fit["backtests"]:
        assert any(f"measured {test['measured']:.4f}, {test['error']:+.2%}" in tip for tip in backtests)
    floors = points_of(page, "floor")
    assert len(floors) == 2 * len(fit["floor_profile"])
    for row, tip in zip(fit["floor_profile"], floors[: len(floors) // 2], strict=True):
        assert f"c = {row['c']:.3f}: {row['share']:.1%}" in tip
    assert any("the target" in tip and "2.50 nats" in tip for tip in points_of(page, "copying"))
    assert sum("measured on the target" in tip for tip in points_of(page, "solved")) == 3
    assert sum("of the target, measured" in tip for tip in points_of(page, "pass_rates")) == 3


def test_counts_of_a_run_are_the_sums_of_its_problems(judged: SweepFolder) -> None:
    page, fit, passes = read_page(judged.report), read_json(judged.fit), read_json(judged.passes)
    bucket = fit["capability"]["buckets"][1]
    run_id = fit["runs_used"][3]
    rows = [passes["runs"][run_id]["problems"][task] for task in bucket["tasks"]]
    counts = f"{sum(row['c'][1] for row in rows):,} of {sum(row['n'][1] for row in rows):,}"
    (seen,) = [row for row in bucket["observed"] if row["run_id"] == run_id]
    target = read_json(judged.run("target").counts)["problems"]
    solved = f"{sum(sum(target[task]['c']) for task in bucket['tasks']):,}"
    rate = read_json(judged.verdict)["pass_rates"][1]["pass_rate_measured"]
    assert any(cell.text.startswith(f"{rate:.2%} ({solved} of") for cell in page.all("td", "pass-rates"))
    assert f"{seen['mean_pass_rate']:.2%} ({counts})" in [cell.text for cell in page.all("td", "pass-rates")]


def test_the_run_table_has_every_run_and_the_filters_its_values(judged: SweepFolder) -> None:
    page = read_page(judged.report)
    runs = planted_sweep.plan().runs
    rows = [row for row in page.all("tr", "run-table") if row.attributes]
    assert [row.attributes["data-role"] for row in rows] == [run.role for run in runs]
    first_cells = [cell.text for cell in page.all("td", "run-table")][:: len(page.all("th", "run-table"))]
    assert first_cells == [run.run_id for run in runs]
    for name in ("role", "status", "budget"):
        (chosen,) = [e for e in page.all("select", "filters") if e.attributes["name"] == name]
        options = [e.text for e in page.elements if e.tag == "option" and chosen in e.parents]
        assert options[0] == "all" and set(options[1:]) == {row.attributes[f"data-{name}"] for row in rows}
    assert "hidden" in page.by_id("filters").attributes  # without its script the page shows no dead controls


def test_cost_adds_up_flops_and_hours_of_all_devices(judged: SweepFolder) -> None:
    cells = [cell.text for cell in read_page(judged.report).all("td", "cost")]
    ladder_flops = sum(run.flops for run in planted_sweep.plan().fit_runs)
    per_device = f"{ladder_flops / (12 * 72):.3g}"
    assert cells[:7] == [
        "small runs",
        "12 of 12",
        f"{ladder_flops:.3g}",
        f"{ladder_flops:.3g}",
        "0.24",
        per_device,
        "cpu",
    ]
    assert cells[7:9] == ["target", "1 of 1"] and cells[14:16] == ["together", "13 of 13"]


def test_the_seal_is_shown_with_the_command_that_checks_it(judged: SweepFolder) -> None:
    page, seal = read_page(judged.report), read_json(judged.seal)
    shown = [element.text for element in page.all("dd", "seal")]
    assert seal["content_sha256"] in shown and seal["sealed_utc"][:10] in shown[1]
    commands = [element.text for element in page.all("pre", "seal")]
    assert commands == [f"python -m sweep.verify {judged.path}"]
    assert {*seal["files"].values(), *seal["runs"].values()} <= {cell.text for cell in page.all("td", "seal")}


def test_warnings_of_the_fit_are_seen(judged: SweepFolder) -> None:
    page, fit = read_page(judged.report), read_json(judged.fit)
    assert [e.text for e in page.all("p", "warnings")][: len(fit["warnings"])] == fit["warnings"]


# ---- what is missing, missed, refused or damaged ----------------------------------------------


def test_a_sweep_that_was_only_planned(tmp_path: Path) -> None:
    plan = planted_sweep.plan()
    page = page_of(planted_sweep.make_sweep(tmp_path / "planned", plan))
    assert "No forecast yet" in verdict_of(page) and "13 planned" in verdict_of(page)
    for name, text in (("forecast", "Nothing is fitted yet"), ("pass-rates", "not fitted yet"), ("seal", "to seal")):
        (missing,) = [p for p in page.all("p", name) if p.attributes.get("class") == "missing"]
        assert text in missing.text
    assert not page.all("svg")


def test_a_forecast_that_is_not_sealed_and_one_that_is_not_judged(copy: SweepFolder) -> None:
    seal, target = copy.seal.read_bytes(), copy.run(planted_sweep.plan().target.run_id)
    shutil.rmtree(target.path)
    copy.seal.unlink()
    copy.verdict.unlink()
    page = page_of(copy)
    assert "Forecast, not sealed" in verdict_of(page) and "12 done, 1 planned" in verdict_of(page)
    assert "not measured yet" in points_of(page, "backtests")[-1]
    (missing,) = [p for p in page.all("p", "seal") if p.attributes.get("class") == "missing"]
    assert "is not sealed" in missing.text
    copy.seal.write_bytes(seal)
    assert headline(read_evidence(copy)).title == "Sealed, not judged yet"
    write_json(copy.verdict, {"status": "waiting", "reasons": ["the target is running: at step 5"]})
    waiting = headline(read_evidence(copy))
    assert (waiting.state, waiting.sentences) == ("open", ["The target is running: at step 5."])


def altered(folder: SweepFolder, **changes: Any) -> Headline:
    """The first words when verdict.json says something else."""
    verdict = {key: value for key, value in read_json(folder.verdict).items() if key != HASH_KEY}
    write_json(folder.verdict, {**verdict, **changes})
    return headline(read_evidence(folder))


def test_a_missed_forecast_says_why(copy: SweepFolder) -> None:
    low, high = (read_json(copy.verdict)[key] for key in ("low", "high"))
    above = altered(copy, held=False, inside_interval=False, measured=1.1 * high)
    assert above.state == "missed" and "above the sealed 90% interval" in above.sentences[0]
    below = altered(copy, measured=0.9 * low)
    assert "below the sealed 90% interval" in below.sentences[0]
    phase = altered(copy, measured=high, inside_interval=True, phase="not copying", phase_as_assumed=False)
    assert phase.state == "missed" and any("another phase" in sentence for sentence in phase.sentences)


def test_pass_rates_without_a_verdict_are_counted_apart(copy: SweepFolder) -> None:
    rows = read_json(copy.verdict)["pass_rates"]
    rows[0]["held"], rows[1]["held"], rows[2]["forecastable"] = False, None, False
    said = altered(copy, pass_rates=rows)
    assert said.title == "The forecast of the loss held; pass rates missed in 1 of 2 buckets"
    assert said.sentences[-1].endswith(
        "0 of 2 forecast buckets held, 1 missed, 1 can't be told, 1 could not be forecast."
    )


def test_a_refused_verdict_gives_every_reason_and_no_number(copy: SweepFolder) -> None:
    write_json(copy.verdict, {"status": "refused", "reasons": ["late: the target was started", "altered: the plan"]})
    refused = headline(read_evidence(copy))
    assert refused == Headline(
        "refused", "No verdict: refused", ["Late: the target was started.", "Altered: the plan."]
    )
    copy.seal.unlink()
    verify_sweep(copy)
    unsealed = headline(read_evidence(copy))
    assert unsealed.title == "No verdict: nothing was sealed" and "As a backtest" in unsealed.sentences[-1]


def test_damaged_files_are_named_and_the_rest_is_shown(copy: SweepFolder) -> None:
    damaged = [copy.fit, copy.seal, copy.verdict, copy.passes, copy.records]
    for path in damaged:
        path.write_text(path.read_text().replace("1", "7", 1).replace(",", ";", 3))
    page = page_of(copy)
    warnings = [p.text for p in page.all("p", "warnings")]
    assert all(any("Damaged" in text and path.name in text for text in warnings) for path in damaged)
    assert page.by_id("verdict").attributes["class"] == "verdict refused"
    assert {element.attributes["id"] for element in page.all("section")} >= set(SECTIONS)


def test_a_report_without_records_backtests_or_anything_solved(copy: SweepFolder) -> None:
    """What the files do not hold is left out of the figures; the rest is drawn."""
    fit = {key: value for key, value in read_json(copy.fit).items() if key != HASH_KEY}
    for bucket in fit["capability"]["buckets"]:
        bucket |= {**dict.fromkeys(PREDICTED), "likelihood": None, "forecastable": False}
        bucket["observed"] = [{**run, "mean_pass_rate": 0.0} for run in bucket["observed"]]
    write_json(copy.fit, {**fit, "backtests": []})
    copy.records.unlink()
    page = page_of(copy)
    assert len(page.all("svg")) == 5 and points_of(page, "residuals") == []
    assert "there are no backtests" in page.text and "not forecastable" in page.text


def test_a_run_whose_result_is_damaged_is_said_to_have_failed(copy: SweepFolder) -> None:
    run = planted_sweep.plan().fit_runs[2]
    copy.run(run.run_id).eval.write_text("{")
    (row,) = [row for row in run_table(read_evidence(copy)).rows if row.data["status"] == "failed"]
    assert row.cells[0] == run.run_id and "damaged" in row.cells[3]


def test_files_of_another_version_are_an_error_in_words(copy: SweepFolder) -> None:
    fit = {key: value for key, value in read_json(copy.fit).items() if key not in ("floor_profile", "content_sha256")}
    write_json(copy.fit, fit)
    with pytest.raises(SweepError, match="have no 'floor_profile'"):
        write_report(copy)


# ---- other sweeps -----------------------------------------------------------------------------


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&${x}{{ 7 * 7 }}"
    plan = planted_sweep.plan(hostile)
    script = '"><script>alert(3)<&script>{{ 7 * 7 }}'
    runs = [replace(run, run_id=f"{number}{script}") for number, run in enumerate(plan.fit_runs)]
    plan = replace(plan, runs=[*runs, plan.target], config={**plan.config, "capability": {"problems": "none"}})
    folder = planted_sweep.make_sweep(tmp_path / "<b>sweep & co", plan)
    planted_sweep.train_ladder(folder, plan)
    planted_sweep.forecast(folder, plan)
    page = page_of(folder)
    assert len(page.all("script")) == len(page.all("style")) == len(page.all("body")) == 1
    assert not page.all("img") and not page.all("b")
    assert not [e for e in page.elements if any(name.startswith("on") for name in e.attributes)]
    (title,) = page.all("title")
    assert title.text == f"{hostile}: scaling sweep"
    tips = points_of(page, "residuals")
    assert all(sum(tip.startswith(f"{run.run_id}\n") for tip in tips) == 1 for run in runs)


def test_a_thousand_runs_are_all_in_the_table(tmp_path: Path) -> None:
    bare = planted_sweep.plan()
    runs = [replace(bare.fit_runs[number % 12], run_id=f"c{'long-' * 20}{number}") for number in range(1000)]
    page = page_of(planted_sweep.make_sweep(tmp_path / "many", replace(bare, runs=[*runs, bare.target])))
    rows = [row for row in page.all("tr", "run-table") if row.attributes]
    assert len(rows) == 1001
    assert {row.attributes["data-budget"] for row in rows} == {f"{run.budget_flops:.3g}" for run in bare.runs}


SLICE = {"budget_flops": 1e11, "num_seeds": 1, "x": [1e4, 2e4, 4e4], "loss_nats": [4.3, 4.2, 4.4], "lowest_x": 2e4}
FOUND = {**SLICE, "best": 1.9e4, "best_loss_nats": 4.19, "curvature_nats": 0.1, "edge": ""}
AT_EDGE = {**SLICE, "budget_flops": 4e11, "best": None, "best_loss_nats": None, "edge": "the largest value is best"}


@pytest.mark.parametrize("varied", ["num_params_non_embedding", "learning_rate"])
def test_a_grid_without_a_target_shows_its_optimum(tmp_path: Path, varied: str) -> None:
    bare = planted_sweep.plan()
    folder = planted_sweep.make_sweep(tmp_path / "grid", replace(bare, runs=bare.fit_runs))
    page = page_of(folder)
    assert "No optimum yet" in verdict_of(page) and not page.all("svg")
    write_json(folder.optimum, {"varied": varied, "slices": [FOUND, AT_EDGE], "size_exponent": None})
    page = page_of(folder)
    assert "Optimum of 1 of 2 budgets found" in verdict_of(page)
    assert "At 4e+11 FLOPs: the largest value is best" in verdict_of(page)
    assert len(points_of(page, "optimum")) == 7  # two slices of three and one best value
    assert [section.attributes["id"] for section in page.all("section")] == [
        *("verdict", "optimum", "runs", "cost", "data", "again")
    ]


def test_data_is_shown_whatever_is_counted_of_it(tmp_path: Path) -> None:
    plan = replace(planted_sweep.plan(), corpus={"mixture": [{"source": "a", "weight": None}], "sha256": "ab"})
    page = page_of(planted_sweep.make_sweep(tmp_path / "data", plan))
    shown = [element.text for element in page.all("dd", "data")]
    assert shown == ["ab", "300"]  # of the plan's corpus and of its settings
    assert [cell.text for cell in page.all("td", "data")] == ["a", ""]
    assert "was not searched" in " ".join(p.text for p in page.all("p", "data"))


def test_what_stands_in_the_training_data_is_shown_with_the_worse_number(copy: SweepFolder) -> None:
    methods: dict[str, Any] = {"literal_problems": False, "ngram_words": 13, "substring_characters": 50}
    methods |= {"held_out_ngram_fraction": 0.5, "held_out_similarity": 0.7}
    row: dict[str, Any] = {"task_id": "T/3", "document_name": "a.py", "hit": True}
    row |= {"ngrams": 9, "ngram_hits": 2, "substrings": 3, "substring_hits": 1}
    held_out: dict[str, Any] = {"num_documents": 7, "num_tokens": 40, "hit_tokens": 0, "hit_documents": []}
    found: dict[str, Any] = {"corpus_sha256": "ab", "problems": "planted", "methods": methods}
    found |= {"problem_rows": [row]}
    write_json(copy.contamination, {**found, "held_out": {**held_out, "largest_fraction_without_hit": 0.25}})
    verdict = read_json(copy.verdict)
    numbers = {"clean_loss_nats": 9.25, "quoted_loss_nats": 9.25}
    numbers |= {"pass_rate": 0.75, "clean_pass_rate": 0.5, "quoted_pass_rate": 0.5}
    altered(copy, contamination={**verdict["contamination"], **numbers})
    page = page_of(copy)
    assert "To quote: 9.2500" in " ".join(p.text for p in page.all("p", "verdict"))
    cells = [cell.text for cell in page.all("td", "data")]
    assert cells[-11:-8] == ["T/3", "2 of 9 n-grams, 1 of 3 substrings", "a.py"]
    assert cells[-8:] == [
        *("loss, nats per token", f"{verdict['measured']:.4f}", "9.2500", "9.2500"),
        *("mean pass rate", "75.0%", "50.0%", "50.0%"),
    ]
    assert "1 of 1 problems (planted) stand in the training data" in " ".join(p.text for p in page.all("p", "data"))
