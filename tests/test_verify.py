"""Seal and verdict: every field of a seal altered in turn, every file, late seals, broken cut-offs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import SweepError, run_main
from sweep.fit import fit_folder
from sweep.folder import HASH_KEY, SweepFolder, read_json, sha256_of, sha256_of_file, write_json
from sweep.page.evidence import read_evidence
from sweep.page.headline import headline
from sweep.records import read_records, write_records
from sweep.run_spec import read_plan
from sweep.seal import seal_sweep
from sweep.verify import summary, verify_sweep
from tests import tiny

Alter = Callable[[dict[str, Any]], None]


def rewrite(path: Path, alter: Alter) -> None:
    """Alter a JSON file as somebody would who knows how its own hash is made."""
    value = json.loads(path.read_text())
    del value[HASH_KEY]
    alter(value)
    write_json(path, value)


def reseal(sweep: Path) -> None:
    """Go one step further: make seal and target agree again on files and on the seal's hash."""
    folder = SweepFolder(sweep)
    rewrite(folder.seal, lambda seal: seal["files"].update({p.name: sha256_of_file(p) for p in folder.sealed_files}))
    digest = read_json(folder.seal)[HASH_KEY]
    target = folder.run(read_plan(folder).target.run_id)
    rewrite(target.train, lambda train: train.update(seal_sha256=digest))
    rows = [json.loads(line) for line in target.metrics.read_text().splitlines()]
    rows[0]["seal_sha256"] = digest
    target.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def refusal(sweep: Path) -> str:
    verdict = verify_sweep(SweepFolder(sweep))
    assert verdict["status"] == "refused", verdict
    assert "measured" not in verdict
    return "; ".join(verdict["reasons"])


def other(value: Any) -> Any:
    """A value of the same kind that is another one."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 1.01 + 0.001
        case str():
            return value[:-1] + ("0" if value[-1:] != "0" else "1")
        case None:
            return 1.0
        case list():
            return [*value, "added"]
    return {key: other(item) for key, item in value.items()} if value else {"added": 1}


def test_an_untouched_seal_is_judged_and_the_verdict_follows_from_its_numbers(copy: Path) -> None:
    verdict = verify_sweep(SweepFolder(copy))
    assert verdict["status"] == "judged"
    assert verdict["error"] == verdict["prediction"] / verdict["measured"] - 1
    assert verdict["inside_interval"] == (verdict["low"] <= verdict["measured"] <= verdict["high"])


def test_every_field_of_the_seal_altered_in_turn_is_refused(copy: Path) -> None:
    """Once as a slip of the hand, once with the seal's own hash made to fit again."""
    seal_path = copy / "seal.json"
    sealed = seal_path.read_bytes()
    fields = json.loads(sealed)
    for key in fields:
        seal_path.write_text(json.dumps({**fields, key: other(fields[key])}))
        assert "altered seal" in refusal(copy), key
        if key != HASH_KEY:
            write_json(seal_path, {**{k: v for k, v in fields.items() if k != HASH_KEY}, key: other(fields[key])})
            assert "altered" in refusal(copy) or "late" in refusal(copy), key
        seal_path.write_bytes(sealed)
    assert verify_sweep(SweepFolder(copy))["status"] == "judged"


@pytest.mark.parametrize("name", ["plan.json", "records.csv", "fit.json"])
def test_a_sealed_file_altered_or_missing_is_refused_by_name(copy: Path, name: str) -> None:
    original = (copy / name).read_bytes()
    (copy / name).write_bytes(original + b"\n")
    assert f"{name} is not the file that was sealed" in refusal(copy)
    (copy / name).unlink()
    assert name in refusal(copy)


def test_every_measurement_below_the_seal_is_held(copy: Path) -> None:
    folder = SweepFolder(copy)
    for run in read_plan(folder).fit_runs:
        path = folder.run(run.run_id).eval
        original = path.read_bytes()
        rewrite(path, lambda result: result.update(loss_nats=result["loss_nats"] + 0.01))
        assert f"{run.run_id}/eval.json is not the measurement that was sealed" in refusal(copy)
        path.write_bytes(original)


@pytest.mark.parametrize("key", ["prediction", "low", "high"])
def test_a_prediction_that_the_records_do_not_give_is_refused(copy: Path, key: str) -> None:
    """The forger alters fit and seal alike and makes every hash fit, the target's too: the refit tells."""
    rewrite(copy / "fit.json", lambda fit: fit.update({key: fit[key] * 1.001}))
    rewrite(copy / "seal.json", lambda seal: seal.update({key: seal[key] * 1.001}))
    reseal(copy)
    assert f"does not follow: the records give {key}" in refusal(copy)


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_a_coefficient_that_the_records_do_not_give_is_refused(copy: Path, key: str) -> None:
    for name in ("fit.json", "seal.json"):
        rewrite(copy / name, lambda v: v["coefficients"].update({key: v["coefficients"][key] + 0.001}))
    reseal(copy)
    assert f"coefficient {key}" in refusal(copy)


def test_a_forecast_called_not_forecastable_after_all_is_refused(copy: Path) -> None:
    """The way to have a forecast not count: the records say that it could be made."""
    folder = SweepFolder(copy)
    said = not read_json(folder.fit)["forecastable"]
    for path in (folder.fit, folder.seal):
        rewrite(path, lambda claim: claim.update(forecastable=said))
    reseal(copy)
    assert f"forecastable = {not said}, the claim is {said}" in refusal(copy)


def test_what_was_not_forecastable_neither_holds_nor_misses(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With other code that makes nothing of the runs: its verdict has numbers and no judgement, in all its words."""
    monkeypatch.setattr("sweep.refit.too_wide", lambda found: ["too wide"])
    folder = SweepFolder(copy)
    for path in (folder.fit, folder.seal):
        rewrite(path, lambda claim: claim.update(forecastable=False, not_forecastable_because=["too wide"]))
    reseal(copy)
    verdict = verify_sweep(folder)
    assert (verdict["status"], verdict["held"], verdict["forecastable"]) == ("judged", None, False)
    assert f"{copy}: NOT FORECAST" in summary(folder, verdict)
    shown = headline(read_evidence(folder))
    assert (shown.state, "could not be forecast" in shown.title) == ("open", True)


def test_a_damaged_file_is_an_error_with_three_parts(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no stage has words of its own."""
    folder = unsealed(copy)
    folder.contamination.write_text("{")
    with pytest.raises(SystemExit) as end:
        run_main(lambda: len(seal_sweep(folder)))
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert str(folder.contamination) in said and "expected:" in said and "to do:" in said


def test_records_altered_with_all_hashes_made_to_fit_are_refused(copy: Path) -> None:
    records = read_records(copy / "records.csv")
    assert records[0].loss_nats is not None
    write_records([replace(records[0], loss_nats=records[0].loss_nats + 0.05), *records[1:]], copy / "records.csv")
    reseal(copy)
    assert "does not follow" in refusal(copy)


def test_a_run_above_the_cut_off_is_refused(copy: Path) -> None:
    """A stricter cut-off written into plan and seal afterwards, every hash made to fit."""
    rewrite(copy / "plan.json", lambda plan: plan["fit"].update(max_flops_fraction=0.05))
    rewrite(copy / "seal.json", lambda seal: seal["cut_off"].update(max_flops_fraction=0.05))
    reseal(copy)
    assert "above the cut-off" in refusal(copy)


def test_a_seal_later_than_the_targets_first_step_is_refused(copy: Path) -> None:
    rewrite(copy / "seal.json", lambda seal: seal.update(sealed_utc="2999-01-01T00:00:00.000000+00:00"))
    reseal(copy)
    assert "late: the target was started at" in refusal(copy)


def test_a_seal_that_says_the_target_was_under_way_is_refused(copy: Path) -> None:
    rewrite(copy / "seal.json", lambda seal: seal.update(target_progress="at step 10"))
    reseal(copy)
    assert "late: at the seal the target was at step 10" in refusal(copy)


def test_an_exchanged_seal_is_refused(copy: Path) -> None:
    """Another time in the seal, its own hash fits: the target's first row names the seal it was started under."""
    rewrite(copy / "seal.json", lambda seal: seal.update(sealed_utc="2000-01-01T00:00:00.000000+00:00"))
    assert "the target was started under the seal" in refusal(copy)


def test_a_target_measurement_of_another_run_is_refused(copy: Path) -> None:
    folder = SweepFolder(copy)
    plan = read_plan(folder)
    target, small = folder.run(plan.target.run_id), folder.run(plan.fit_runs[0].run_id)
    target.eval.write_bytes(small.eval.read_bytes())
    assert "does not belong to this seal" in refusal(copy)


def test_a_damaged_target_result_gives_no_number(copy: Path) -> None:
    folder = SweepFolder(copy)
    folder.run(read_plan(folder).target.run_id).eval.write_text('{"loss_nats": 1.0}')
    assert "damaged" in refusal(copy)


def test_an_unfinished_target_waits(copy: Path) -> None:
    folder = SweepFolder(copy)
    target = folder.run(read_plan(folder).target.run_id)
    target.eval.unlink()
    verdict = verify_sweep(folder)
    assert verdict["status"] == "waiting"
    assert "not evaluated yet" in verdict["reasons"][0]


def test_a_second_seal_and_a_seal_after_the_start_are_refused(copy: Path) -> None:
    folder = SweepFolder(copy)
    with pytest.raises(SweepError, match="sealed already"):
        seal_sweep(folder)
    folder.seal.unlink()
    with pytest.raises(SweepError, match="has been started already"):
        seal_sweep(folder)
    assert "no seal" in refusal(copy)


def test_a_seal_on_a_run_above_the_cut_off_is_refused(copy: Path) -> None:
    folder = SweepFolder(copy)
    folder.seal.unlink()
    shutil.rmtree(folder.run(read_plan(folder).target.run_id).path)
    rewrite(folder.plan, lambda plan: plan["fit"].update(max_flops_fraction=0.05))
    with pytest.raises(SweepError, match=r"above the cut-off: run .* more than 0\.05"):
        seal_sweep(folder)
    assert not folder.seal.exists()


def test_the_command_says_what_it_found(copy: Path) -> None:
    good = tiny.run("sweep.verify", str(copy))
    assert good.returncode == 0
    assert "predicted" in good.stdout
    (copy / "records.csv").write_text("")
    bad = tiny.run("sweep.verify", str(copy), "--json")
    assert bad.returncode == 1
    assert json.loads(bad.stdout)[str(copy)]["status"] == "refused"


def test_fit_and_collect_leave_a_sealed_sweep_alone(copy: Path) -> None:
    before = (copy / "fit.json").read_bytes()
    refused = tiny.run("sweep.fit", str(copy))
    assert refused.returncode == 2
    assert "is sealed" in refused.stderr
    assert (copy / "fit.json").read_bytes() == before


def test_hashes_are_of_content_not_of_layout() -> None:
    assert sha256_of({"a": 1, "b": [0.1, None]}) == sha256_of({"b": [0.1, None], "a": 1})
    assert sha256_of({"a": 0.1}) != sha256_of({"a": 0.1000000001})


def unsealed(sweep: Path) -> SweepFolder:
    """The sweep as it was before its seal: fitted, the target not there."""
    folder = SweepFolder(sweep)
    folder.seal.unlink()
    folder.verdict.unlink()
    shutil.rmtree(folder.run(read_plan(folder).target.run_id).path)
    return folder


@pytest.mark.parametrize("left", ["checkpoint", "train.json", "eval.json"])
def test_weights_or_results_without_a_log_are_a_start_too(copy: Path, left: str) -> None:
    """The log of a trained target is removed: neither can it be sealed, nor does an older seal cover it."""
    folder = SweepFolder(copy)
    target = folder.run(read_plan(folder).target.run_id)
    for path in list(target.path.iterdir()):
        if path.name != left:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    assert "no record of the target's start" in refusal(copy)
    folder.seal.unlink()
    with pytest.raises(SweepError, match="has been started already"):
        seal_sweep(folder)


def test_a_log_that_does_not_begin_with_the_start_is_refused(copy: Path) -> None:
    folder = SweepFolder(copy)
    metrics = folder.run(read_plan(folder).target.run_id).metrics
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[1:]))
    assert "no record of the target's start" in refusal(copy)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"loss_nats": 9.0}, "loss_nats = 9.0"),
        ({"flops": 1.0}, "flops = 1.0"),
        ({"status": "failed"}, "status = failed"),
        ({"copy_score_nats": 9.0}, "copy_score_nats = 9.0"),
    ],
)
def test_records_altered_before_the_seal_are_not_sealed(copy: Path, change: dict[str, Any], found: str) -> None:
    """By hand, with the fit made anew from them, so that fit and records agree."""
    folder = unsealed(copy)
    records = read_records(folder.records)
    write_records([replace(records[0], **change), *records[1:]], folder.records)
    fit_folder(folder)
    with pytest.raises(SweepError, match=found):
        seal_sweep(folder)
    assert not folder.seal.exists()


def test_a_run_left_out_of_the_records_is_not_sealed(copy: Path) -> None:
    folder = unsealed(copy)
    records = read_records(folder.records)
    write_records(records[1:], folder.records)
    fit_folder(folder)
    with pytest.raises(SweepError, match=f"no row for the planned run {records[0].run_id}"):
        seal_sweep(folder)


def test_a_fit_that_the_records_do_not_give_is_not_sealed(copy: Path) -> None:
    folder = unsealed(copy)
    rewrite(folder.fit, lambda fit: fit.update(prediction=fit["prediction"] * 1.01))
    with pytest.raises(SweepError, match="does not follow: the records give prediction"):
        seal_sweep(folder)


@pytest.mark.parametrize(("at_commit", "warned"), [("another", True), (None, False)])
def test_a_seal_with_code_that_was_not_committed_says_so(
    copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at_commit: str | None, warned: bool
) -> None:
    monkeypatch.setattr("sweep.seal.fitting_code_sha256_at", lambda commit: at_commit)
    monkeypatch.setattr("sweep.seal.code_version", lambda: {"commit": "c" * 40})
    seal_sweep(unsealed(copy))
    assert ("SEALED WITH FITTING CODE THAT THE COMMIT cccccccccccc DOES NOT HOLD" in caplog.text) is warned


def test_what_was_sealed_again_by_the_rules_is_the_same_forecast(copy: Path) -> None:
    before = read_json(copy / "seal.json")
    again = seal_sweep(unsealed(copy))
    for key in ("prediction", "low", "high", "files", "runs"):
        assert again[key] == before[key]
