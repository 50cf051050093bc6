"""Solve: draw samples from a trained run until its counts are done, every program judged in the sandbox.

Reads ``checkpoint/``; writes ``samples.jsonl.gz`` and ``counts.json``. Goes on where it was stopped.
"""

from collections.abc import Callable
from typing import Any

import torch

from models.transformer import Decoder
from sweep.capability import problems_of, sampling_of
from sweep.corpus import Corpus
from sweep.folder import RunFolder, read_json
from sweep.humaneval.checker import Verdict
from sweep.humaneval.pool import Pool
from sweep.run_spec import PlannedRun
from sweep.sample import sample_run
from sweep.spec import CapabilitySpec
from sweep.trained import load_model


def solve(
    run: PlannedRun, folder: RunFolder, corpus: Corpus, spec: CapabilitySpec, should_stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """Sample the run and return its counts; None if it was stopped before the end.

    Raises:
        CorruptFile: the checkpoint is damaged.
        SweepError: no sound sandbox can be had.
    """
    problems = problems_of(spec)
    decoder = load_model(run, folder)[1].module
    assert isinstance(decoder, Decoder)
    torch.set_num_threads(1)  # a step of one token is too small to share
    with Pool(problems, num_workers=1) as pool:

        def judge(task_id: str, completions: list[str]) -> list[Verdict]:
            return list(pool.judge((task_id, completion) for completion in completions))

        asked, sampling = list(problems.values()), sampling_of(spec)
        done = sample_run(decoder, corpus.tokenizer(), asked, judge, sampling, folder, should_stop, corpus.end_token)
    return read_json(folder.counts) if done else None
