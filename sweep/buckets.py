"""Buckets of problems by difficulty, from the small models alone.

The GPT-4 technical report (section 3.2) splits HumanEval into six buckets by how smaller models do, without the 15
hardest problems. Here the sorting sees one half of the samples and the fit the other: a problem that looks easy because
its samples were lucky would look harder in fresh ones (regression to the mean), and the law would take it for a trend.
"""

from dataclasses import dataclass

import numpy as np

from sweep.errors import SweepError
from sweep.pass_counts import PassCounts
from sweep.pass_rates import log_pass_rate


@dataclass(frozen=True)
class Buckets:
    """Every problem is in one bucket or left out with a reason."""

    tasks: tuple[tuple[str, ...], ...]  # the easiest bucket first, in each the easiest problem first
    left_out: dict[str, str]  # task: why


def make_buckets(counts: PassCounts, half: int = 0, num_buckets: int = 6, hardest_left_out: int = 15) -> Buckets:
    """Sort problems by the mean over runs of -log pass rate and cut them into buckets of equal size.

    ``counts`` are those of the runs under the cut-off; only one ``half`` of the samples is looked at. Sizes differ by
    one at most; problems that do equally well are sorted by name. A problem that a run has no samples of can't be
    compared with the others and is left out.

    Raises:
        SweepError: fewer problems than buckets, or no run.
    """
    if not counts.run_ids:
        raise SweepError(
            "no small run with samples lies under the cut-off of capability.max_flops_fraction",
            "runs whose samples sort the problems",
            "raise capability.max_flops_fraction, or lower the budgets",
        )
    counts = counts.in_order()
    samples_RP = counts.samples_2RP[half]
    sampled_P = (samples_RP > 0).all(axis=0) & (len(samples_RP) > 0)
    left_out = {
        task: f"not sampled by {', '.join(np.array(counts.run_ids)[samples_RP[:, problem] == 0])}"
        for problem, task in enumerate(counts.tasks)
        if not sampled_P[problem]
    }
    comparable = np.flatnonzero(sampled_P)
    if len(comparable) < num_buckets + hardest_left_out:
        raise SweepError(
            f"{len(comparable)} problems that each of the {len(counts.run_ids)} small runs has samples of",
            f"at least {num_buckets + hardest_left_out}: {num_buckets} buckets, and the {hardest_left_out} hardest"
            " left out",
            "sample more problems, or ask for fewer buckets",
        )
    log_rate_RP = log_pass_rate(
        samples_RP[:, comparable],
        counts.correct_2RP[half][:, comparable],
        counts.stopped_at_success[half][:, comparable],
    )
    # A float sum depends on its order in the last bit; equal problems must tie whatever the order of the runs.
    difficulty = np.round(-log_rate_RP.mean(axis=0), 9)
    order = comparable[np.argsort(difficulty, kind="stable")]
    kept = order[: len(order) - hardest_left_out]
    for problem in order[len(kept) :]:
        left_out[counts.tasks[problem]] = f"among the {hardest_left_out} hardest"
    parts = np.array_split(kept, num_buckets)
    return Buckets(tuple(tuple(counts.tasks[problem] for problem in part) for part in parts), left_out)
