"""Sample a trained run on problems until enough samples have passed; keep counts, samples and verdicts.

Samples of even and of odd number are two independent halves, one to choose by and one to fit. Each half of a problem
is an inverse sampling (Haldane 1945): it ends with its ``stop_at``-th success or after ``max_samples``, and only
samples up to that one count, in the order of their numbers, however many were drawn at once. So n and c do not depend
on how the work was cut. Easy problems take few samples, hard ones all; rounds grow with what a half still needs.

    samples.jsonl.gz   the truth: every sample that counts, appended batch by batch (sweep/sample_store.py)
    counts.json        n and c per half and problem, and the log-likelihood of the canonical solution; written whole
                       after each round

The verdicts come from a judge: any function from a problem's name and completions to verdicts. It sees each
completion of a problem once.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F

from models.transformer import Decoder
from sweep.completions import canonical_tail, completion, stem, stop_table
from sweep.corpora.tokenizer import token_contents
from sweep.drawing import Drawer, Request
from sweep.folder import RunFolder, write_json
from sweep.humaneval.checker import Verdict
from sweep.humaneval.problems import Problem, problems_sha256
from sweep.sample_store import ProblemSamples, SampleStore
from sweep.spec import SamplingSpec

Judge = Callable[[str, list[str]], list[Verdict]]

HALVES = 0, 1  # samples of even and of odd number
_GROWTH = 4  # of a half from one round to the next, at most
_BATCH_SAMPLES = 8192  # that a kill can cost
_ROWS_PER_PASS = 32


@dataclass(frozen=True)
class HalfCount:
    """Samples and successes of one half."""

    n: int
    c: int


def sample_run(
    model: Decoder,
    tokenizer: Any,
    problems: Sequence[Problem],
    judge: Judge,
    spec: SamplingSpec,
    folder: RunFolder,
    should_stop: Callable[[], bool] = lambda: False,
    end_token: int = 0,
) -> bool:
    """Sample and judge what is not done yet; returns False if it was stopped before the end (``should_stop``).

    Problems that do not fit into the model's context get no samples and a note. What was sampled by other weights,
    problems or settings is set aside.
    """
    settings = {
        **asdict(spec),
        "weights_sha256": _weights_sha256(model),
        "tokenizer_sha256": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
        "problems_sha256": problems_sha256(problems),
    }
    store = SampleStore(folder.samples, settings)
    canonical = canonical_nats(model, tokenizer, problems, end_token)
    prompts = {problem.task_id: _encode(tokenizer, stem(problem)) for problem in problems}
    fitting = [problem for problem in problems if not canonical[problem.task_id].note]
    contents = token_contents(tokenizer)
    contents += [b""] * (model.config.vocab_size - len(contents))  # tokens that no text has end a function
    drawer = Drawer(
        model,
        stop_table(contents),
        temperature=spec.temperature,
        max_new_tokens=spec.max_new_tokens,
        seed=spec.seed,
    )

    def batch(parts: list[tuple[Problem, list[int]]]) -> None:
        requests = [Request(problem.task_id, prompts[problem.task_id], numbers) for problem, numbers in parts]
        drawn = drawer.draw(requests)
        judged = {}
        for (problem, _), samples in zip(parts, drawn, strict=True):
            texts = {
                number: completion(problem, b"".join(contents[token] for token in tokens))
                for number, tokens in samples.items()
            }
            judged[problem.task_id] = _judge(problem.task_id, texts, store.problem(problem.task_id), judge, spec)
        store.add(judged)

    while True:
        wanted = [(problem, wanted_numbers(store.problem(problem.task_id), spec)) for problem in fitting]
        wanted = [(problem, numbers) for problem, numbers in wanted if numbers]
        counts = {
            problem.task_id: _count_row(store.problem(problem.task_id), canonical[problem.task_id], spec)
            for problem in problems
        }
        write_json(folder.counts, {"settings": settings, "done": not wanted, "problems": counts})
        if not wanted:
            return True
        for part in _batches(wanted):
            if should_stop():
                return False
            batch(part)


def _weights_sha256(model: Decoder) -> str:
    digest = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        digest.update(name.encode() + weights.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


# ---- how many -----------------------------------------------------------------------------------


def count_half(samples: ProblemSamples, half: int, spec: SamplingSpec) -> HalfCount:
    """n and c of a half: up to its ``stop_at``-th success if it has come, else all that there are."""
    n = c = 0
    while n < spec.max_samples and c < spec.stop_at and 2 * n + half in samples.of_number:
        c += samples.passed(2 * n + half)
        n += 1
    return HalfCount(n, c)


def wanted_numbers(samples: ProblemSamples, spec: SamplingSpec) -> list[int]:
    """Numbers to draw in the next round: as many as the halves that are not done seem to need, within limits."""
    numbers = []
    for half in HALVES:
        count = count_half(samples, half, spec)
        if count.c >= spec.stop_at:
            continue
        seems = math.ceil(count.n * spec.stop_at / count.c) if count.c else math.inf
        limit = max(spec.first_round, _GROWTH * count.n)
        end = min(spec.max_samples, limit, max(seems, count.n + math.ceil(count.n / _GROWTH)))
        numbers += [2 * index + half for index in range(count.n, int(end))]
    return sorted(numbers)


def _batches(wanted: list[tuple[Problem, list[int]]]) -> list[list[tuple[Problem, list[int]]]]:
    """Problems put together up to a number of samples, those that want most first."""
    batches: list[list[tuple[Problem, list[int]]]] = []
    room = 0
    for problem, numbers in sorted(wanted, key=lambda part: -len(part[1])):
        if len(numbers) > room:
            batches.append([])
            room = max(_BATCH_SAMPLES, len(numbers))
        batches[-1].append((problem, numbers))
        room -= len(numbers)
    return batches


def _judge(
    task_id: str, texts: dict[int, str], known: ProblemSamples, judge: Judge, spec: SamplingSpec
) -> dict[str, tuple[Verdict, list[int]]]:
    """By text the verdict and the numbers of the samples that count: none after its half's last success."""
    new = [text for text in dict.fromkeys(texts.values()) if known.verdict(text) is None]
    said = dict(zip(new, judge(task_id, new), strict=True)) if new else {}
    counted: dict[str, tuple[Verdict, list[int]]] = {}
    successes = [count_half(known, half, spec).c for half in HALVES]
    for number in sorted(texts):
        if successes[number % 2] >= spec.stop_at:
            continue
        text = texts[number]
        verdict = known.verdict(text) or said[text]
        counted.setdefault(text, (verdict, []))[1].append(number)
        successes[number % 2] += verdict.passed
    return counted


# ---- the canonical solution ---------------------------------------------------------------------


@dataclass(frozen=True)
class Canonical:
    """Log-likelihood of a problem's canonical solution; without one, ``note`` says why."""

    nats: float | None
    num_tokens: int
    note: str


@torch.inference_mode()
def canonical_nats(
    model: Decoder, tokenizer: Any, problems: Sequence[Problem], end_token: int = 0
) -> dict[str, Canonical]:
    """log p in nats of each canonical solution after its prompt, the end of the document included, by problem.

    It is the log-probability that a sample at temperature one is exactly this text and ends. A problem whose prompt and
    solution do not fit into the context has none.
    """
    context = model.config.context_length
    found, rows = {}, []
    for problem in problems:
        prompt = _encode(tokenizer, stem(problem))
        solution = [*_encode(tokenizer, canonical_tail(problem)), end_token]
        needs = len(prompt) + len(solution) - 1  # nothing is predicted from the last token
        if not prompt or needs > context:
            note = f"too long: prompt and solution take {needs} tokens, the context is {context}"
            found[problem.task_id] = Canonical(None, len(solution), note if prompt else "the prompt is empty")
        else:
            rows.append((problem.task_id, prompt, solution))
    rows.sort(key=lambda row: len(row[1]) + len(row[2]))
    for start in range(0, len(rows), _ROWS_PER_PASS):
        part = rows[start : start + _ROWS_PER_PASS]
        tokens = [torch.tensor([*prompt, *solution]) for _, prompt, solution in part]
        tokens_BT = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        logits_BVT = model(tokens_BT[:, :-1]).transpose(1, 2).double()
        losses_BT = F.cross_entropy(logits_BVT, tokens_BT[:, 1:], reduction="none")
        for (task_id, prompt, solution), losses_T in zip(part, losses_BT, strict=True):
            first = len(prompt) - 1
            nats = -losses_T[first : first + len(solution)].sum().item()
            found[task_id] = Canonical(nats, len(solution), "")
    return found


def _count_row(samples: ProblemSamples, canonical: Canonical, spec: SamplingSpec) -> dict[str, Any]:
    counts = [count_half(samples, half, spec) for half in HALVES]
    return {
        "n": [count.n for count in counts],
        "c": [count.c for count in counts],
        "canonical_nats": canonical.nats,
        "canonical_tokens": canonical.num_tokens,
        "note": canonical.note,
    }
