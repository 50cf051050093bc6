"""What launch does with contamination: searched once, kept, sealed, and the worse of two numbers quoted."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sweep.capability import judge_buckets, measured_bucket
from sweep.clean import NOT_SEARCHED, clean_losses, clean_places
from sweep.contamination import (
    clean_loss_of,
    contamination_counts,
    contamination_summary,
    held_out_sha256,
    read_contamination,
)
from sweep.corpus import Corpus, open_corpus
from sweep.errors import SweepError
from sweep.evaluate import evaluate, token_losses
from sweep.folder import HASH_KEY, SweepFolder, read_json, sha256_of_file, write_json
from sweep.humaneval.problems import read_problems
from sweep.plan import make_plan
from sweep.quoted import mean_pass_rate, quoted_pass_rate
from sweep.records import read_records, write_records
from sweep.run_spec import Plan, read_plan
from sweep.search.hits import prepare_contamination
from sweep.trained import load_model
from sweep.verify import summary, verify_sweep
from tests import tiny
from tests.test_verify import refusal, reseal, rewrite


@pytest.fixture
def corpus(base: Path, finished: Path) -> Corpus:
    """The tiny sweep's corpus."""
    sha256 = read_plan(SweepFolder(finished)).corpus["sha256"]
    folders = [path.parent for path in (base / "cache" / "corpus").glob("*/corpus.json")]
    return next(open_corpus(path, sha256) for path in folders if read_json(path / "corpus.json")["sha256"] == sha256)


@pytest.fixture
def unsealed(copy: Path) -> SweepFolder:
    (copy / "seal.json").unlink()
    return SweepFolder(copy)


def test_launch_searches_once_and_all_that_follows_rests_on_it(base: Path, finished: Path) -> None:
    contamination = read_json(finished / "contamination.json")
    seal, verdict = read_json(finished / "seal.json"), read_json(finished / "verdict.json")
    assert seal["files"]["contamination.json"] == sha256_of_file(finished / "contamination.json")
    assert seal["contamination"] == contamination_counts(contamination)
    records = read_records(finished / "records.csv")
    assert [r.clean_loss_nats for r in records] == [r.loss_nats for r in records]  # click has nothing of the stdlib
    assert verdict["contamination"]["quoted_loss_nats"] == verdict["measured"]
    evaluated = [read_json(path) for path in finished.glob("runs/*/eval.json")]
    assert {each["searched_sha256"] for each in evaluated} == {held_out_sha256(contamination)}
    assert all(each["clean_tokens"] == each["held_out_tokens"] for each in evaluated)
    before = (finished / "contamination.json").stat().st_mtime_ns
    again = tiny.launch(base, "finished")
    assert "contamination" not in again.stderr.replace(contamination_summary(contamination)[0], "")
    assert (finished / "contamination.json").stat().st_mtime_ns == before


def test_the_command_prints_what_was_found(finished: Path) -> None:
    shown = tiny.run("sweep.contamination", str(finished))
    assert shown.stdout.startswith("none of 7 held-out documents stand in the training data")
    as_json = json.loads(tiny.run("sweep.contamination", str(finished), "--json").stdout)
    assert as_json == read_json(finished / "contamination.json")


# ---- the file -----------------------------------------------------------------------------------


def searched(folder: SweepFolder, corpus: Corpus, plan: Plan | None = None) -> bytes:
    prepare_contamination(plan or read_plan(folder), folder, corpus, 1)
    return folder.contamination.read_bytes()


def test_it_is_made_again_only_where_it_has_to_be(unsealed: SweepFolder, corpus: Corpus) -> None:
    made = unsealed.contamination.read_bytes()
    stamp = unsealed.contamination.stat().st_mtime_ns
    assert searched(unsealed, corpus) == made
    assert unsealed.contamination.stat().st_mtime_ns == stamp  # there for the same data, problems and methods
    rewrite(unsealed.contamination, lambda value: value["methods"].update(ngram_words=8))
    assert searched(unsealed, corpus) == made  # other methods
    rewrite(unsealed.contamination, lambda value: value.update(corpus_sha256="another"))
    assert searched(unsealed, corpus) == made


def test_a_damaged_file_is_set_aside_before_the_seal_and_refused_after_it(
    unsealed: SweepFolder, corpus: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    made = unsealed.contamination.read_bytes()
    damaged = made.replace(b'"hit_tokens": 0', b'"hit_tokens": 1')
    unsealed.contamination.write_bytes(damaged)
    with caplog.at_level(logging.WARNING, logger="sweep"):
        assert searched(unsealed, corpus) == made
    assert "set aside" in caplog.text
    assert unsealed.contamination.with_name("contamination.json.corrupt-1").read_bytes() == damaged
    unsealed.contamination.write_bytes(damaged)
    unsealed.seal.write_text("{}")
    with pytest.raises(SweepError, match="not what was written"):
        searched(unsealed, corpus)


def test_a_sealed_sweep_gets_no_new_file(copy: Path, corpus: Corpus) -> None:
    folder = SweepFolder(copy)
    folder.contamination.unlink()
    prepare_contamination(read_plan(folder), folder, corpus, 1)
    assert not folder.contamination.exists()


def test_problems_of_a_file_are_searched_in_the_installed_source(base: Path, tmp_path: Path, corpus: Corpus) -> None:
    """One problem is made of a function of the training data, as it stands there; others are HumanEval's."""
    from sweep.search.training_search import documents_of

    document = next(text for text in documents_of(corpus, "train") if text.count(b'"""') == 2 and len(text) > 3000)
    problems = [vars(problem) for problem in list(read_problems().values())[:20]]
    problems[7] |= {"prompt": document[1000:1400].decode(errors="ignore")}
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    line = tiny.overrides(base, "file", "capability=humaneval", f"capability.problems={tmp_path}/problems.jsonl")
    folder = SweepFolder(tmp_path / "sweep")
    searched(
        folder, corpus, make_plan(tiny.spec_of(*[one for one in line if not one.startswith("name=")]), corpus.info)
    )
    found = read_json(folder.contamination)
    assert [row["task_id"] for row in found["problem_rows"] if row["hit"]] == [problems[7]["task_id"]]
    assert contamination_summary(found)[0].startswith("1 of 20 problems")


# ---- numbers without the hits -------------------------------------------------------------------


def test_a_place_is_clean_unless_its_document_is_hit(corpus: Corpus) -> None:
    """Against a walk along the stream; the end token belongs to the document that it ends."""
    stream, hit, document, expected = corpus.stream("held_out"), {1, 4}, 0, []
    for token in stream.tolist():
        expected.append(document not in hit)
        document += token == 0
    contamination = {"held_out": {"hit_documents": [{"document": number} for number in hit]}}
    places = np.arange(len(stream)).reshape(2, -1)
    assert clean_places(corpus, contamination, places).ravel().tolist() == expected


def test_a_loss_over_nothing_is_no_number() -> None:
    contamination = {"corpus_sha256": "", "held_out": {}}
    some = clean_losses(np.array([[1.0, 2.0, 6.0]]), np.array([[True, False, True]]), contamination)
    assert (some["clean_loss_nats"], some["clean_tokens"], some["clean_reason"]) == (3.5, 2, "")
    nothing = clean_losses(np.ones((1, 3)), np.zeros((1, 3), bool), contamination)
    assert (nothing["clean_loss_nats"], nothing["clean_tokens"]) == (None, 0)
    assert "every document" in nothing["clean_reason"]
    unknown = clean_losses(np.ones((1, 3)), None, None)
    assert (unknown["clean_loss_nats"], unknown["clean_reason"]) == (None, NOT_SEARCHED)


def test_a_loss_measured_with_another_search_is_not_taken() -> None:
    ours, other = ({"corpus_sha256": "c", "held_out": {"hit_documents": rows}} for rows in ([], [{"document": 1}]))
    evaluated = {"clean_loss_nats": 3.0, "searched_sha256": held_out_sha256(ours)}
    assert clean_loss_of(evaluated, ours) == 3.0
    assert clean_loss_of(evaluated, other) is None
    assert clean_loss_of({"loss_nats": 3.0}, ours) is None  # of an older version
    assert clean_loss_of(evaluated, None) is None


def test_the_lower_pass_rate_is_quoted_and_the_forecast_judged_on_all_problems() -> None:
    easy, hard = {"n": [40, 40], "c": [30, 30]}, {"n": [40, 40], "c": [10, 10]}
    target = {"a": easy, "b": hard, "c": easy}
    everything = measured_bucket(["a", "b", "c"], target, 10**6)
    bucket = {"bucket": 1, "tasks": ["a", "b", "c"], "forecastable": False, "level": 0.9}
    bucket |= dict.fromkeys(("prediction", "low", "high", "pass_rate_prediction", "pass_rate_low", "pass_rate_high"))
    for hits, clean, quoted in (
        ({"a", "other"}, 0.5, 0.5),
        ({"b"}, 0.75, everything["pass_rate_measured"]),
        ({"a", "b", "c"}, None, everything["pass_rate_measured"]),
        (set(), everything["pass_rate_measured"], everything["pass_rate_measured"]),
    ):
        row = judge_buckets([bucket], target, 10**6, frozenset(hits))[0]
        assert (row["measured"], row["pass_rate_measured"]) == (
            everything["measured"],
            everything["pass_rate_measured"],
        )
        assert (row["clean_pass_rate_measured"], row["quoted_pass_rate"]) == (clean, quoted)
        assert row["hit_problems"] == len(hits & {"a", "b", "c"})


# ---- seal and verdict ---------------------------------------------------------------------------


def with_hits(copy: Path, corpus: Corpus, documents: list[int]) -> SweepFolder:
    """The finished sweep as it would be, had these held-out documents been found in the training data."""
    folder, plan = SweepFolder(copy), read_plan(SweepFolder(copy))
    rows = [{"document": d, "name": f"document {d}", "tokens": 10, "ngram_fraction": 1.0} for d in documents]
    near = {"substring_hit": True, "near_duplicate_of": 0, "near_duplicate_name": "document 0", "similarity": 1.0}
    hits = {"hit_documents": [row | near for row in rows], "hit_tokens": 10 * len(rows)}
    rewrite(folder.contamination, lambda value: value["held_out"].update(hits))
    contamination = read_contamination(folder)
    machine = tiny.spec_of(*tiny.OVERRIDES).machine
    for run in plan.runs:
        evaluate(run, folder.run(run.run_id), corpus, machine, contamination)
    evaluated = {run.run_id: read_json(folder.run(run.run_id).eval) for run in plan.runs}
    records = [
        replace(
            row, eval_sha256=evaluated[row.run_id][HASH_KEY], clean_loss_nats=evaluated[row.run_id]["clean_loss_nats"]
        )
        if row.role == "fit"
        else row
        for row in read_records(folder.records)
    ]
    write_records(records, folder.records)
    digests = {run.run_id: evaluated[run.run_id][HASH_KEY] for run in plan.fit_runs}
    rewrite(folder.seal, lambda seal: seal.update(runs=digests, contamination=contamination_counts(contamination)))
    reseal(copy)
    return folder


@pytest.mark.usefixtures("one_thread")
def test_the_higher_loss_is_quoted_and_the_forecast_judged_on_all_text(copy: Path, corpus: Corpus) -> None:
    before = read_json(copy / "verdict.json")
    folder = with_hits(copy, corpus, [0, 3])
    verdict = verify_sweep(folder)
    assert verdict["status"] == "judged", verdict
    for key in ("measured", "error", "held", "prediction"):
        assert verdict[key] == before[key]
    found = verdict["contamination"]
    assert found["quoted_loss_nats"] == max(verdict["measured"], found["clean_loss_nats"]) > 0
    assert "to quote" in summary(folder, verdict)
    # A second road to the clean loss: windows one by one, documents counted by their end tokens.
    target = read_plan(folder).target
    _, model = load_model(target, folder.run(target.run_id), "cpu", "32-true")
    stream, length = corpus.stream("held_out").astype(np.int64), target.spec.model.context_length
    document = np.concatenate(([0], np.cumsum(stream == 0)[:-1]))
    losses: list[float] = []
    wanted = target.spec.evaluation.held_out_tokens // length
    for row in np.linspace(0, (len(stream) - 1) // length - 1, wanted).astype(int):
        places = np.arange(row * length, (row + 1) * length + 1)
        of_window = token_losses(model, torch.from_numpy(stream[places][None]))[0].double().tolist()
        losses += [loss for loss, place in zip(of_window, places[1:], strict=True) if document[place] not in (0, 3)]
    assert len(losses) == found["clean_tokens"]
    assert found["clean_loss_nats"] == pytest.approx(float(np.mean(losses)), rel=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_hits_taken_out_after_the_seal_are_refused(copy: Path, corpus: Corpus) -> None:
    folder = with_hits(copy, corpus, [2])
    sealed = folder.contamination.read_bytes()
    folder.contamination.write_bytes(sealed + b"\n")
    assert "contamination.json is not the file that was sealed" in refusal(copy)
    folder.contamination.unlink()
    assert "contamination.json is missing" in refusal(copy)
    folder.contamination.write_bytes(sealed)
    rewrite(folder.contamination, lambda value: value["held_out"].update(hit_documents=[], hit_tokens=0))
    reseal(copy)  # the file's hash fits again, in the seal too
    reasons = refusal(copy)
    assert "the seal's counts of contamination are not those of contamination.json" in reasons
    assert "clean_loss_nats" in reasons  # measured without a document that is now said to be clean


def test_a_search_of_other_data_is_not_sealed(copy: Path) -> None:
    rewrite(copy / "contamination.json", lambda value: value.update(corpus_sha256="another"))
    reseal(copy)
    assert "contamination.json is of corpus_sha256 another" in refusal(copy)


def test_a_sweep_from_before_the_search_is_still_judged(copy: Path) -> None:
    folder = SweepFolder(copy)
    folder.contamination.unlink()
    added = ("clean_loss_nats", "clean_tokens", "clean_reason", "searched_sha256")
    digests = {}
    for path in copy.glob("runs/*/eval.json"):
        evaluated = read_json(path)
        write_json(path, {key: value for key, value in evaluated.items() if key not in (HASH_KEY, *added)})
        digests[path.parent.name] = read_json(path)[HASH_KEY]
    lines = [line.split(",") for line in folder.records.read_text().splitlines()]
    column = lines[0].index("clean_loss_nats")
    assert column == len(lines[0]) - 1
    text = "".join(",".join(cells[:column]) + "\n" for cells in lines)
    for run_id, digest in digests.items():
        old = read_records(folder.records)
        text = text.replace(
            next((r.eval_sha256 for r in old if r.run_id == run_id and r.eval_sha256), "-" * 64), digest
        )
    folder.records.write_text(text)
    seal = read_json(folder.seal)
    fitted = {run_id: digests[run_id] for run_id in seal["runs"]}
    files = {name: digest for name, digest in seal["files"].items() if name != "contamination.json"}
    old_seal = {key: value for key, value in seal.items() if key not in (HASH_KEY, "contamination")}
    write_json(folder.seal, {**old_seal, "runs": fitted, "files": files})
    reseal(copy)
    verdict = verify_sweep(folder)
    assert verdict["status"] == "judged", verdict
    assert verdict["contamination"]["clean_loss_nats"] is None
    assert verdict["contamination"]["clean_reason"]
    assert verdict["contamination"]["quoted_loss_nats"] == verdict["measured"]
    assert "not searched" in summary(folder, verdict)


def test_the_overall_pass_rate_is_quoted_without_the_hits_if_it_is_lower() -> None:
    easy, hard = {"n": [40, 40], "c": [30, 30]}, {"n": [40, 40], "c": [10, 10]}
    found = quoted_pass_rate({"a": easy, "b": hard}, 10**6, frozenset({"a"}))
    rates = {"pass_rate": 0.5, "clean_pass_rate": 0.25, "quoted_pass_rate": 0.25}
    assert found == {**rates, "sampled_problems": 2, "num_problems": 2}
    assert quoted_pass_rate({"a": easy, "b": hard}, 10**6, frozenset({"b"}))["quoted_pass_rate"] == 0.5


def test_a_mean_pass_rate_says_of_how_many_problems_it_is() -> None:
    """One that is too long for the model's context has no samples; the mean is not one of all problems then."""
    sampled, too_long = {"n": [40, 40], "c": [30, 30]}, {"n": [0, 0], "c": [0, 0]}
    found = quoted_pass_rate({"a": sampled, "b": too_long}, 10**6, frozenset())
    assert (found["pass_rate"], mean_pass_rate(found)) == (0.75, "mean pass rate of the 1 of 2 problems sampled")
    assert mean_pass_rate(quoted_pass_rate({"a": sampled}, 10**6, frozenset())) == "mean pass rate"
