"""Publishing: what is copied is enough for a verdict elsewhere, and what is published is held as it is.

The last test is over this repository's own forecasts.
"""

import json
import shutil
from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.folder import SweepFolder, read_json
from sweep.publish import publish
from sweep.run_spec import read_plan
from sweep.verify import verify_sweep
from tests import tiny
from tests.test_verify import refusal, reseal, rewrite, unsealed

PUBLISHED = sorted(path.parent for path in (tiny.ROOT / "forecasts").glob("*/seal.json"))


@pytest.fixture
def published(copy: Path, tmp_path: Path) -> Path:
    """A published forecast with its verdict, away from the sweep that it comes from."""
    return publish(SweepFolder(copy), tmp_path / "forecasts")


def test_what_is_published_is_enough_for_the_same_verdict(copy: Path, published: Path) -> None:
    before = {path: path.read_bytes() for path in published.rglob("*") if path.is_file()}
    here, there = verify_sweep(SweepFolder(copy)), verify_sweep(SweepFolder(published))
    assert here == there
    assert here["status"] == "judged"
    assert [row["held"] for row in here["cut_offs"]] == [here["held"], None]
    assert {path: path.read_bytes() for path in published.rglob("*") if path.is_file()} == before
    seal = read_json(published / "seal.json")
    assert published.name == f"{seal['sealed_utc'][:10]}-finished"


def test_weights_samples_and_logs_stay_behind(published: Path) -> None:
    names = {path.name for path in published.rglob("*") if path.is_file()}
    assert names == {
        *("plan.json", "records.csv", "fit.json", "seal.json", "verdict.json", "published.json", "contamination.json"),
        *("eval.json", "train.json", "metrics.jsonl"),
    }
    assert sum(path.stat().st_size for path in published.rglob("*") if path.is_file()) < 200_000


def test_a_seal_is_published_first_and_completed_later(copy: Path, tmp_path: Path) -> None:
    """The folder as it is between the two: waiting, without a word about the target; then the rest joins it."""
    folder = SweepFolder(copy)
    target = folder.run(read_plan(folder).target.run_id).path
    away = tmp_path / "away"
    shutil.move(target, away)
    verdict = folder.verdict.rename(tmp_path / "verdict.json")
    half = publish(folder, tmp_path / "forecasts")
    first = read_json(half / "published.json")["first"]
    assert first["target"] == "not started"
    assert verify_sweep(SweepFolder(half))["status"] == "waiting"
    assert not (half / "verdict.json").exists()
    shutil.move(away, target)
    shutil.move(verdict, folder.verdict)
    whole = publish(folder, tmp_path / "forecasts")
    assert whole == half
    assert read_json(whole / "published.json")["first"] == first
    assert verify_sweep(SweepFolder(whole))["status"] == "judged"


def test_a_target_that_diverged_is_published_as_one(copy: Path, tmp_path: Path) -> None:
    """A bad end stays in the table: it is not left out, and not said to wait."""
    folder = SweepFolder(copy)
    target = folder.run(read_plan(folder).target.run_id)
    target.eval.unlink()
    rewrite(target.train, lambda train: train.update(status="diverged", reason="the loss was not finite at step 3"))
    here = verify_sweep(folder)
    there = verify_sweep(SweepFolder(publish(folder, tmp_path / "forecasts")))
    assert here == there
    assert here["reasons"] == ["the target diverged: the loss was not finite at step 3"]


def test_a_seal_published_late_says_so(published: Path) -> None:
    assert read_json(published / "published.json")["first"]["target"] == "started before this copy"


def test_another_seal_is_not_put_in_its_place(copy: Path, published: Path) -> None:
    folder = SweepFolder(copy)
    rewrite(folder.seal, lambda seal: seal.update(prediction=1.0))
    sealed = (published / "seal.json").read_bytes()
    with pytest.raises(SweepError, match="holds another seal"):
        publish(folder, published.parent)
    assert (published / "seal.json").read_bytes() == sealed


def test_without_a_seal_there_is_nothing_to_publish(copy: Path, tmp_path: Path) -> None:
    folder = unsealed(copy)
    with pytest.raises(SweepError, match="is not sealed"):
        publish(folder, tmp_path / "forecasts")
    assert not (tmp_path / "forecasts").exists()


@pytest.mark.parametrize("name", ["fit.json", "records.csv", "verdict.json"])
def test_a_published_file_that_was_changed_is_refused(published: Path, name: str) -> None:
    (published / name).write_bytes((published / name).read_bytes() + b"\n")
    assert name in refusal(published)


def test_a_nicer_verdict_is_refused(published: Path) -> None:
    """Its own hash and the index made to fit: the files give another."""
    from sweep.folder import sha256_of_file

    path = published / "verdict.json"
    rewrite(path, lambda verdict: verdict.update(held=not verdict["held"]))
    rewrite(published / "published.json", lambda index: index["files"].update({path.name: sha256_of_file(path)}))
    assert f"{path} has held = " in refusal(published)


def test_a_target_measurement_that_was_changed_is_refused(published: Path) -> None:
    folder = SweepFolder(published)
    evaluation = folder.run(read_plan(folder).target.run_id).eval
    rewrite(evaluation, lambda measured: measured.update(loss_nats=measured["loss_nats"] * 0.99))
    assert f"{evaluation} is not the file that was published" in refusal(published)


def test_a_small_runs_measurement_that_the_records_do_not_give_is_refused(published: Path) -> None:
    folder = SweepFolder(published)
    evaluation = folder.run(read_plan(folder).fit_runs[0].run_id).eval
    rewrite(evaluation, lambda measured: measured.update(loss_nats=measured["loss_nats"] * 0.99))
    assert "is not the measurement that was sealed" in refusal(published)


def test_a_target_in_another_phase_is_a_miss_wherever_its_loss_lies(copy: Path) -> None:
    """The tiny ladder does not copy; a target that does, with the very loss that was forecast."""
    folder = SweepFolder(copy)
    seal = read_json(folder.seal)
    evaluation = folder.run(seal["target_run_id"]).eval
    rewrite(evaluation, lambda measured: measured.update(loss_nats=seal["prediction"], copy_score_nats=0.0))
    reseal(copy)
    verdict = verify_sweep(folder)
    assert verdict["held"] and verdict["cut_offs"][0]["held"]
    rewrite(evaluation, lambda measured: measured.update(copy_score_nats=5.0))
    reseal(copy)
    verdict = verify_sweep(folder)
    assert verdict["inside_interval"] and not verdict["held"]
    assert [row["held"] for row in verdict["cut_offs"]] == [False, None]


def test_the_seal_says_its_phase_and_what_would_falsify_it(finished: Path) -> None:
    seal = read_json(finished / "seal.json")
    plan = read_plan(SweepFolder(finished))
    scores = {rung["budget_flops"]: rung["nats"] for rung in seal["copy_scores"]}
    assert sorted(scores) == sorted({run.budget_flops for run in plan.fit_runs})
    assert [len(scores[budget]) for budget in sorted(scores)] == [2, 1, 1, 1, 1]
    text = "\n".join(seal["falsified_by"])
    assert "in another phase than its ladder (not copying)" in text
    for row in [seal, *(row for row in seal["cut_offs"] if row["forecastable"])]:
        if row["forecastable"]:
            assert f"below {row['low']:.4g} or above {row['high']:.4g} nats per token" in text


def test_the_command_verifies_several_and_its_exit_code_is_theirs(published: Path) -> None:
    done = tiny.run("sweep.verify", str(published), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[str(published)]["status"] == "judged"


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_this_repositorys_forecasts_stand(folder: Path) -> None:
    verdict = verify_sweep(SweepFolder(folder), thorough=False)
    assert verdict["status"] in ("judged", "waiting"), verdict["reasons"]
    assert (folder / "published.json").exists()
