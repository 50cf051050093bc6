"""Samples that are the same however they are drawn, stops at every token boundary, counts that are exact."""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import DecoderConfig
from models.transformer import Decoder, NextTokenLoss
from sweep import drawing, sample
from sweep.completions import canonical_tail, completion, stem, stop_table
from sweep.corpora.tokenizer import token_contents, train_tokenizer
from sweep.drawing import Drawer, Request, exponentials, race, sample_key
from sweep.folder import HASH_KEY, RunFolder, read_json
from sweep.humaneval.checker import Verdict
from sweep.humaneval.problems import Problem
from sweep.sample import HALVES, canonical_nats, count_half, sample_run, wanted_numbers
from sweep.sample_store import ProblemSamples, read_samples
from sweep.spec import SamplingSpec
from tests import tiny

CONTEXT = 48


def as_problem(task_id: str, prompt: str, solution: str) -> Problem:
    return Problem(task_id, prompt, "f", "def check(candidate):\n    pass\n", solution)


NAMES, DEEDS = ("f", "g", "run"), {"Double": "x * 2", "Square": "x * x", "Negate": "-x", "Halve": "x / 2"}
PROBLEMS = [
    as_problem(f"Tiny/{name}/{deed}", f'def {name}(x):\n    """{deed} x."""\n', f"    return {body}\n")
    for name in NAMES
    for deed, body in DEEDS.items()
]
END = 0  # of a document
SPEC = SamplingSpec(temperature=1.0, max_new_tokens=24, seed=3, stop_at=8, max_samples=40, first_round=6)


@pytest.fixture(scope="module", autouse=True)
def one_thread_for_all() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    text = "".join(problem.prompt + (problem.canonical_solution or "") for problem in PROBLEMS)
    return train_tokenizer([text], tiny.spec_of(*tiny.OVERRIDES).data.vocab_size)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Decoder:
    """A decoder that has seen the problems' programs often enough to solve some now and then."""
    torch.manual_seed(0)
    config = DecoderConfig(24, 2, 1, 4, 3, tokenizer.get_vocab_size(), CONTEXT)
    model = Decoder(config, tiny.rules(config))
    rows = [[*tokenizer.encode(p.prompt + (p.canonical_solution or "")).ids, END] for p in PROBLEMS]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    loss, optimizer = NextTokenLoss(model), torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(21):
        optimizer.zero_grad()
        loss(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
    return model.eval()


def judge(task_id: str, completions: list[str]) -> list[Verdict]:
    """Right is the canonical solution alone."""
    canonical = next(problem for problem in PROBLEMS if problem.task_id == task_id).canonical_solution
    right, wrong = Verdict(True, "passed"), Verdict(False, "failed: another text")
    return [right if text == canonical else wrong for text in completions]


def drawer(model: Decoder, tokenizer: Any, **changes: Any) -> Drawer:
    options = {"temperature": 0.9, "max_new_tokens": 24, "seed": 1, **changes}
    return Drawer(model, stop_table(token_contents(tokenizer)), **options)


def requests(tokenizer: Any, numbers: list[int], problems: list[Problem] = PROBLEMS) -> list[Request]:
    return [Request(p.task_id, tokenizer.encode(stem(p)).ids, numbers) for p in problems]


# ---- what is drawn ----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 7, 64, 512])
def test_samples_do_not_depend_on_batch_order_or_company(
    model: Decoder, tokenizer: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = drawer(model, tokenizer).draw(requests(tokenizer, list(range(12))))
    assert len({tuple(tokens) for samples in whole for tokens in samples.values()}) > 30
    monkeypatch.setattr(drawing, "_ROWS", rows)
    some = [PROBLEMS[index] for index in (7, 2, 4)]
    parts = drawer(model, tokenizer).draw(requests(tokenizer, [9, 1, 5, 4], some))
    assert parts == [{n: whole[index][n] for n in (9, 1, 5, 4)} for index in (7, 2, 4)]


def test_rounding_decides_no_sample(model: Decoder, tokenizer: Any) -> None:
    """The same samples in float64 all through, by the full forward pass, one at a time."""
    mine, stops = drawer(model, tokenizer), stop_table(token_contents(tokenizer))
    drawn = mine.draw(requests(tokenizer, list(range(8))))
    exact = model.to(torch.float64)
    try:
        for request, samples in zip(requests(tokenizer, list(range(8))), drawn, strict=True):
            for number, tokens in samples.items():
                key = np.array([sample_key(1, request.task_id, number)], dtype=np.uint64)
                text, state = list(request.prompt_tokens), 0
                for position, token in enumerate(tokens):
                    with torch.no_grad():
                        logits = exact(torch.tensor([text]))[:, -1]
                    chosen, _ = race(logits, exponentials(key, position, mine._race_numbers).double(), 0.9, 0.0)
                    assert int(chosen) == token
                    assert stops.ends[token, state] == (position == len(tokens) - 1) or len(tokens) == 24
                    state = stops.next_state[token, state]
                    text.append(token)
    finally:
        model.to(torch.float32)


def test_a_close_call_is_decided_in_float64(model: Decoder, tokenizer: Any) -> None:
    """With every race in doubt each goes through float64, and every sample stays."""
    usual, doubting = drawer(model, tokenizer), drawer(model, tokenizer)
    doubting.doubt = 1.0
    asked = requests(tokenizer, [0, 1, 2], PROBLEMS[:3])
    assert doubting.draw(asked) == usual.draw(asked)
    assert doubting.num_doubtful == doubting.num_races > 0
    assert usual.num_doubtful <= 0.02 * usual.num_races


def test_float32_stays_far_within_the_margin_of_doubt(model: Decoder, tokenizer: Any) -> None:
    mine = drawer(model, tokenizer)
    assert 0 < mine.rounding_nats < 1e-4
    assert -math.log1p(-mine.doubt) > 16 * mine.rounding_nats / 0.9


@pytest.mark.parametrize("vocabulary", [96, 300, 1024])
def test_the_race_is_won_in_proportion_to_probability(vocabulary: int) -> None:
    """100,000 races over the same logits; chi-square over tokens expected ten times or more."""
    torch.manual_seed(0)
    num_races, logits = 100_000, torch.randn(vocabulary) * 2
    expected = (logits.double() / 0.7).softmax(-1).numpy() * num_races
    keys = np.array([sample_key(0, "race", number) for number in range(num_races)], dtype=np.uint64)
    count = math.ceil(vocabulary / 32) + 32
    won = np.zeros(vocabulary)
    for part in np.split(keys, 20):
        tokens, _ = race(logits.repeat(len(part), 1), exponentials(part, 5, count), 0.7, 0.0)
        won += np.bincount(tokens.numpy(), minlength=vocabulary)
    often = expected > 10
    chi_square = ((won - expected)[often] ** 2 / expected[often]).sum()
    assert abs(chi_square - often.sum()) < 5 * math.sqrt(2 * often.sum())
    assert won[~often].sum() == pytest.approx(expected[~often].sum(), abs=5 * math.sqrt(expected[~often].sum() + 1))


def test_noise_is_exponential_and_differs_by_sample_and_position() -> None:
    keys = np.array([sample_key(0, "noise", number) for number in range(500)], dtype=np.uint64)
    noise = torch.stack([exponentials(keys, position, 64) for position in range(8)])
    assert noise.min() > 0
    assert noise.mean().item() == pytest.approx(1, abs=0.01)
    assert noise.var().item() == pytest.approx(1, abs=0.03)
    assert (noise < 0.01).float().mean().item() == pytest.approx(-math.expm1(-0.01), rel=0.05)
    assert len(np.unique(noise.numpy())) > 0.99 * noise.numel()
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.02


# ---- stops and completions --------------------------------------------------------------------


def test_stops_are_found_at_every_token_boundary() -> None:
    """A text cut into tokens in every way: the function ends in the first token with which its stop is complete."""
    text = b"\n    a\n\n  \n)\nb"
    complete = re.search(rb"\n[^\s)]", text)
    assert complete is not None
    for cuts in itertools.combinations(range(1, len(text)), 3):
        tokens = [text[a:b] for a, b in itertools.pairwise((0, *cuts, len(text)))]
        table = stop_table([b"", *tokens])
        state, length = 0, 0
        for token in range(1, len(tokens) + 1):
            length += len(tokens[token - 1])
            assert bool(table.ends[token, state]) == (length >= complete.end())
            state = table.next_state[token, state]


def test_a_byte_level_vocabulary_is_read_as_bytes(tokenizer: Any) -> None:
    text = 'def f(x):\n    """Dübel £ 12."""\n\treturn "\x7f"\r\n'
    contents = token_contents(tokenizer)
    assert b"".join(contents[token] for token in tokenizer.encode(text).ids) == text.encode()
    assert contents[END] == b""


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"\n    return 1\n\n\ndef g():", "    return 1\n"),
        (b"\n    return 1\n# so", "    return 1\n"),
        (b"\n    return [\n1\n]", "    return [\n"),
        (b"\n    return [\n    1\n]\nx", "    return [\n    1\n]\n"),
        (b"\n    return '\xff\xc3'", "    return '\ufffd\ufffd'\n"),
        (b"; x = 1\n    return x", "; x = 1\n    return x\n"),
        (b"", "\n"),
        (b"\n\n    return 1", "\n    return 1\n"),
    ],
)
def test_prompt_and_completion_are_what_the_model_wrote(written: bytes, expected: str) -> None:
    problem = as_problem("P", 'def f():\n    """One."""\n', "    return 1\n")
    assert stem(problem) == 'def f():\n    """One."""'
    assert completion(problem, written) == expected


def test_the_canonical_tail_is_what_gives_the_canonical_completion() -> None:
    for problem in [*PROBLEMS, as_problem("P", "def f():\n    ", "return 1\n\n"), as_problem("Q", "x = 1", "\ny = 2")]:
        written = canonical_tail(problem).encode()
        if problem.task_id != "Q":  # module level: no function, so it would stop
            assert completion(problem, written) == (problem.canonical_solution or "").rstrip("\n") + "\n"
        assert (stem(problem) + canonical_tail(problem)).startswith(problem.prompt)


# ---- how often --------------------------------------------------------------------------------


def half_of(verdicts: str) -> ProblemSamples:
    """Even samples with these verdicts, 1 for passed."""
    samples = ProblemSamples()
    for index, verdict in enumerate(verdicts):
        samples.add(verdict, Verdict(verdict == "1", ""), [2 * index])
    return samples


@pytest.mark.parametrize(
    ("verdicts", "n", "c"), [("", 0, 0), ("0010", 4, 1), ("0" * 45, 40, 0), ("01" * 10, 16, 8), ("1" * 8, 8, 8)]
)
def test_a_half_counts_up_to_its_last_needed_success(verdicts: str, n: int, c: int) -> None:
    count = count_half(half_of(verdicts), 0, SPEC)
    assert (count.n, count.c) == (n, c)
    assert count_half(half_of(verdicts), 1, SPEC).n == 0


def test_rounds_grow_with_what_is_missing_and_end_at_the_limits() -> None:
    def even(verdicts: str) -> list[int]:
        return [number // 2 for number in wanted_numbers(half_of(verdicts), SPEC) if number % 2 == 0]

    assert even("") == [*range(6)]
    assert even("000000") == [*range(6, 24)]  # four times as many
    assert even("000001") == [*range(6, 24)]  # 48 are needed, it seems
    assert even("001111") == [*range(6, 12)]  # 12 are
    assert even("1111111") == [7, 8]  # at least a quarter more
    assert even("0" * 24) == [*range(24, 40)]
    assert even("0" * 40) == even("1" * 8) == []


def counts_of(folder: RunFolder) -> dict[str, Any]:
    return read_json(folder.counts)["problems"]


def test_counts_are_those_of_one_sample_after_another(model: Decoder, tokenizer: Any, tmp_path: Path) -> None:
    folder, few = RunFolder(tmp_path), PROBLEMS[::3]
    assert sample_run(model, tokenizer, few, judge, SPEC, folder)
    contents, mine = token_contents(tokenizer), drawer(model, tokenizer, temperature=1.0, seed=SPEC.seed)
    every = mine.draw(requests(tokenizer, list(range(2 * SPEC.max_samples)), few))
    found, stored, ended = counts_of(folder), read_samples(folder.samples), set()
    for problem, drawn in zip(few, every, strict=True):
        for half in HALVES:
            n = c = 0
            while n < SPEC.max_samples and c < SPEC.stop_at:
                number = 2 * n + half
                text = completion(problem, b"".join(contents[token] for token in drawn[number]))
                samples = stored[problem.task_id]
                assert samples.completions[samples.of_number[number]].text == text
                c += text == problem.canonical_solution
                n += 1
            assert (found[problem.task_id]["n"][half], found[problem.task_id]["c"][half]) == (n, c)
            ended.add(c == SPEC.stop_at)
    assert ended == {True, False}  # some by success, some by number
    assert sum(map(sum, (row["n"] for row in found.values()))) == sum(len(one.of_number) for one in stored.values())


@pytest.mark.parametrize("batch_samples", [1, 30, 10_000])
def test_an_interruption_anywhere_leaves_no_trace(
    model: Decoder, tokenizer: Any, tmp_path: Path, batch_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after every second batch, the file of samples cut off each time: the same bytes of counts."""
    quiet, disturbed = RunFolder(tmp_path / "quiet"), RunFolder(tmp_path / "disturbed")
    assert sample_run(model, tokenizer, PROBLEMS[:5], judge, SPEC, quiet)
    monkeypatch.setattr(sample, "_BATCH_SAMPLES", batch_samples)
    stops = 0
    while True:
        turn = itertools.count()
        if sample_run(model, tokenizer, PROBLEMS[:5], judge, SPEC, disturbed, lambda: next(turn) == 2):  # noqa: B023
            break
        stops += 1
        content = disturbed.samples.read_bytes()
        disturbed.samples.write_bytes(content[: -(stops % 7) or None])
        assert read_json(disturbed.counts)["done"] is False
    assert stops > 1 or batch_samples == 10_000
    assert disturbed.counts.read_bytes() == quiet.counts.read_bytes()
    again = disturbed.samples.read_bytes()
    assert sample_run(model, tokenizer, PROBLEMS[:5], no_judge, SPEC, disturbed)  # nothing is left to do
    assert disturbed.samples.read_bytes() == again


def no_judge(task_id: str, completions: list[str]) -> list[Verdict]:
    raise AssertionError(f"{task_id}: {completions} were judged before")


def test_a_completion_is_judged_once(model: Decoder, tokenizer: Any, tmp_path: Path) -> None:
    seen: Counter[tuple[str, str]] = Counter()

    def counting(task_id: str, completions: list[str]) -> list[Verdict]:
        seen.update((task_id, text) for text in completions)
        return judge(task_id, completions)

    assert sample_run(model, tokenizer, PROBLEMS, counting, SPEC, RunFolder(tmp_path))
    assert set(seen.values()) == {1}


def test_other_settings_or_weights_start_anew(model: Decoder, tokenizer: Any, tmp_path: Path) -> None:
    folder, few = RunFolder(tmp_path), PROBLEMS[:2]
    sample_run(model, tokenizer, few, judge, SPEC, folder)
    first = read_json(folder.counts)
    sample_run(model, tokenizer, few, judge, SamplingSpec(**{**vars(SPEC), "seed": 4}), folder)
    second = read_json(folder.counts)
    assert (tmp_path / "samples.jsonl.gz.corrupt-1").exists()
    assert first["problems"] != second["problems"]
    assert first["settings"]["weights_sha256"] == second["settings"]["weights_sha256"]


def test_a_problem_that_does_not_fit_is_named_and_counted_as_no_samples(
    model: Decoder, tokenizer: Any, tmp_path: Path
) -> None:
    long = as_problem("Long", 'def f(x):\n    """' + "Square x. " * 40 + '"""\n', "    return x * x\n")
    longer_solution = as_problem("Solution", "def f(x):\n", "    return x" + " * x" * 60 + "\n")
    problems = [PROBLEMS[0], long, longer_solution, as_problem("Empty", "\n", "x = 1\n")]
    folder = RunFolder(tmp_path)
    assert sample_run(model, tokenizer, problems, judge, SPEC, folder)
    counts = counts_of(folder)
    for task_id, note in (("Long", "too long: "), ("Solution", "too long: "), ("Empty", "the prompt is empty")):
        row = counts[task_id]
        assert (row["n"], row["c"], row["canonical_nats"]) == ([0, 0], [0, 0], None)
        assert note in row["note"]
    assert counts[PROBLEMS[0].task_id]["note"] == ""
    assert json.loads(folder.counts.read_text())[HASH_KEY]


# ---- the canonical solution -------------------------------------------------------------------


def test_canonical_nats_are_the_sum_of_the_tokens_losses(model: Decoder, tokenizer: Any) -> None:
    found = canonical_nats(model, tokenizer, PROBLEMS)
    for problem in PROBLEMS[:4]:
        prompt = tokenizer.encode(stem(problem)).ids
        text = tokenizer.encode(problem.prompt + (problem.canonical_solution or "")).ids
        assert text[: len(prompt)] == prompt  # the stem ends where a token ends
        with torch.no_grad():
            log_p = model(torch.tensor([text]))[0].log_softmax(-1)
        by_hand = sum(log_p[i - 1, token].item() for i, token in enumerate([*text, END]) if i >= len(prompt))
        assert found[problem.task_id].nats == pytest.approx(by_hand, abs=1e-3)
        assert found[problem.task_id].num_tokens == len(text) - len(prompt) + 1


def test_the_canonical_likelihood_is_the_rate_at_which_it_is_sampled(model: Decoder, tokenizer: Any) -> None:
    """Two roads to one number: exact, and 2,000 samples at temperature one."""
    mine, contents = drawer(model, tokenizer, temperature=1.0), token_contents(tokenizer)
    found = canonical_nats(model, tokenizer, PROBLEMS)
    likely = sorted(PROBLEMS, key=lambda problem: -(found[problem.task_id].nats or -math.inf))[:3]
    for problem in likely:
        (samples,) = mine.draw(requests(tokenizer, list(range(2000)), [problem]))
        ended = [tokens for tokens in samples.values() if tokens[-1] == END]
        hits = sum(b"".join(contents[t] for t in tokens) == canonical_tail(problem).encode() for tokens in ended)
        p = math.exp(found[problem.task_id].nats or -math.inf)
        assert p > 0.02
        assert hits / 2000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 2000))
