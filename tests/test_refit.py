"""Refits: exact with the code that sealed, a note with other code, a refusal for code that is nowhere."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep import provenance, verify
from sweep.capability import forecast_passes, sealed_part
from sweep.folder import SweepFolder
from sweep.provenance import FITTING_CODE, ROOT, fitting_code, fitting_code_sha256_at
from sweep.refit import Refit, refit_passes
from sweep.verify import summary, verify_sweep
from tests.planted import BUDGETS, TARGET
from tests.test_capability import SPEC, passes, plan
from tests.test_layers import imported
from tests.test_verify import refusal, reseal, rewrite

TWO_CUT_OFFS = replace(SPEC, num_buckets=2, hardest_left_out=24, more_cut_offs=[float(BUDGETS[4] / TARGET) * 1.0001])

# What the fitting code leans on that turns no number into another.
PLUMBING = {"errors", "folder", "records", "run_spec", "spec", "table", "humaneval", "micro"}


def test_the_list_of_fitting_code_is_complete() -> None:
    for name in FITTING_CODE:
        used = {
            module.split(".")[1] for module in imported(ROOT / "sweep" / f"{name}.py") if module.startswith("sweep.")
        }
        assert used <= {*FITTING_CODE, *PLUMBING}, name


def test_the_hash_at_a_commit_is_that_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a repository of its own: a commit has the hash of what was there then, whatever is there now."""
    import subprocess

    (tmp_path / "sweep").mkdir()
    for name in (*FITTING_CODE, "provenance"):
        (tmp_path / "sweep" / f"{name}.py").write_bytes((ROOT / "sweep" / f"{name}.py").read_bytes())
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = head.stdout.strip()
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert fitting_code_sha256_at(commit) == fitting_code()["code_sha256"]
    before = fitting_code()["code_sha256"]
    (tmp_path / "sweep" / "laws.py").write_text("# another\n")
    assert fitting_code()["code_sha256"] != before
    assert fitting_code_sha256_at(commit) == before
    assert fitting_code_sha256_at("0" * 40) is None
    monkeypatch.setattr(provenance, "FITTING_CODE", ("laws",))
    fitting_code_sha256_at.cache_clear()
    assert fitting_code_sha256_at(commit) == before != fitting_code()["code_sha256"]  # a commit has its own list


def claim(**found: Any) -> Refit:
    said = {"prediction": 2.0, "low": 1.8, "high": 2.2, "tasks": ["a"]}
    return Refit("it: ", "counts", said, said | found, half_width=0.1)


def test_reproduced_is_within_half_of_half_the_interval() -> None:
    assert claim().differences == [] and claim().reproduced
    near, far = claim(prediction=2.0 * 1.05), claim(prediction=2.0 * 1.06)
    assert near.reproduced and len(near.differences) == 1
    assert not far.reproduced
    assert not claim(high=2.2 * 1.06).reproduced
    assert not claim(prediction=None).reproduced
    assert not claim(tasks=["b"]).reproduced
    assert claim(prediction=2.0 * (1 + 1e-9)).differences == []


@pytest.fixture(scope="module")
def sealed_passes() -> dict[str, Any]:
    """What a planted ladder's counts give, at its main cut-off and at a stricter one."""
    return sealed_part(forecast_passes(plan(), TWO_CUT_OFFS, passes()))


def altered(claim: dict[str, Any], **changes: float) -> dict[str, Any]:
    """The claim with factors on numbers of the first bucket, at the main cut-off and at the stricter one."""
    changed = deepcopy(claim)
    for part in (changed, changed["cut_offs"][0]):
        for key, factor in changes.items():
            part["buckets"][0][key] *= factor
    return changed


def lines(claim: dict[str, Any], thorough: bool) -> list[str]:
    refits = refit_passes(claim, plan(), TWO_CUT_OFFS, passes(), thorough)
    return [line for refit in refits for line in refit.differences]


def test_pass_rates_come_out_again_in_a_hurry_and_in_full(sealed_passes: dict[str, Any]) -> None:
    (stricter,) = sealed_passes["cut_offs"]
    assert stricter["cut_off"]["largest_fitted_flops"] == BUDGETS[4]
    assert all(bucket["forecastable"] for bucket in (*sealed_passes["buckets"], *stricter["buckets"]))
    for thorough in (False, True):
        refits = refit_passes(sealed_passes, plan(), TWO_CUT_OFFS, passes(), thorough)
        assert len(refits) == 2 * (1 + 2)
        assert all(refit.reproduced and not refit.differences for refit in refits)


def test_an_estimate_altered_is_found_in_a_hurry_and_the_bootstraps_part_in_full(sealed_passes: dict[str, Any]) -> None:
    (estimate,) = lines(altered(sealed_passes, uncorrected=1.001), thorough=False)
    assert estimate.startswith("the counts give bucket 1: uncorrected = ")
    bent = altered(sealed_passes, prediction=1.001, high=1.001)
    assert lines(bent, thorough=False) == []
    assert len(lines(bent, thorough=True)) == 4


def test_problems_sorted_otherwise_are_found_in_a_hurry(sealed_passes: dict[str, Any]) -> None:
    claim = deepcopy(sealed_passes)
    first, second = (bucket["tasks"] for bucket in claim["cut_offs"][0]["buckets"][:2])
    first[0], second[0] = second[0], first[0]
    found = lines(claim, thorough=False)
    assert len(found) == 2 and all("tasks" in line for line in found)


def forge(copy: Path, factor: float, *, hash_of_code: str, commit: str | None) -> SweepFolder:
    """Another prediction in fit and seal, hashes made to fit, with other code named as what made it."""
    folder = SweepFolder(copy)
    rewrite(folder.fit, lambda fit: fit.update(prediction=fit["prediction"] * factor))
    rewrite(folder.seal, lambda seal: seal.update(prediction=seal["prediction"] * factor))
    rewrite(folder.seal, lambda seal: seal["fitting"].update(code_sha256=hash_of_code))
    rewrite(folder.seal, lambda seal: seal["code"].update(commit=commit))
    reseal(copy)
    return folder


def test_other_code_of_a_commit_that_is_there_is_a_note_with_both_numbers(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a seal looks after the fit was improved: its own commit holds the code that it names."""
    monkeypatch.setattr(verify, "fitting_code_sha256_at", lambda commit: {"c" * 40: "old code"}.get(commit))
    folder = forge(copy, 1.0001, hash_of_code="old code", commit="c" * 40)
    verdict = verify_sweep(folder)
    assert verdict["status"] == "judged" and verdict["reproduced"]
    text = summary(folder, verdict)
    seal = json.loads(folder.seal.read_text())
    assert f"the claim is {seal['prediction']}" in text and "the records give prediction = " in text
    assert f"git worktree add ../sealed {'c' * 40}" in text
    assert "NOT REPRODUCED" not in text


def test_a_refit_far_off_is_loud(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "fitting_code_sha256_at", lambda commit: "old code")
    folder = forge(copy, 1.5, hash_of_code="old code", commit="c" * 40)
    verdict = verify_sweep(folder)
    assert verdict["status"] == "judged" and not verdict["reproduced"]
    assert "NOT REPRODUCED BY THIS CODE: the loss" in summary(folder, verdict)


def test_code_that_its_own_commit_does_not_hold_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheap way to a made-up number: claim that some other code gave it."""
    monkeypatch.setattr(verify, "fitting_code_sha256_at", lambda commit: "the code of that commit")
    forge(copy, 1.0001, hash_of_code="code of nobody", commit="c" * 40)
    assert "the fitting code that the seal names is neither" in refusal(copy)


def test_a_commit_that_is_nowhere_is_said(copy: Path) -> None:
    folder = forge(copy, 1.0001, hash_of_code="code of nobody", commit="0" * 40)
    verdict = verify_sweep(folder)
    assert verdict["status"] == "judged"
    assert f"the sealed commit {'0' * 40} is not in this clone" in summary(folder, verdict)


def test_with_the_code_that_sealed_the_same_numbers_are_refused(copy: Path) -> None:
    folder = SweepFolder(copy)
    for path in (folder.fit, folder.seal):
        rewrite(path, lambda value: value["cut_offs"][0].update(low=value["cut_offs"][0]["low"] * 1.0001))
    reseal(copy)
    assert "does not follow: the records give 1/11.11: low" in refusal(copy)
