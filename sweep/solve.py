"""Solve: draw samples from a trained run until its counts are done, every program judged in the sandbox.

Reads ``checkpoint/``; writes ``samples.jsonl.gz`` and ``counts.json``. Goes on where it was stopped.
"""

from collections.abc import Callable
from typing import Any

from sweep.capability import problems_of
from sweep.data import Corpus
from sweep.folder import RunFolder, read_json
from sweep.humaneval.checker import Verdict
from sweep.humaneval.pool import Pool
from sweep.run_spec import PlannedRun
from sweep.sample import SamplingSpec, sample_run
from sweep.spec import CapabilitySpec, MachineSpec
from sweep.trained import load_model


def solve(
    run: PlannedRun, folder: RunFolder, corpus: Corpus, spec: CapabilitySpec, should_stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """Sample the run and return its counts; None if it was stopped before the end.

    Raises:
        CorruptFile: the checkpoint is damaged.
        SweepError: no sound sandbox can be had.
    """
    corpus_tokenizer = corpus.tokenizer()
    problems = problems_of(spec)
    _, model = load_model(run, folder, machine)
    with Pool(problems, num_workers=1) as pool:

        def judge(task_id: str, completions: list[str]) -> list[Verdict]:
            return list(pool.judge((task_id, completion) for completion in completions))

        done = sample_run(
            model, tokenizer, list(problems.values()), judge, sampling_spec(spec), folder, should_stop
        )
    return read_json(folder.counts) if done else None
