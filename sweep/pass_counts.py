"""Counts of samples and of correct ones: R runs, P problems, two halves of the samples counted apart.

Samples are numbered; those with even numbers are the first half, those with odd numbers the second. A half of one
problem and run is drawn in order and ends at its ``stop_at``-th correct sample or at its budget of samples, whichever
comes first (inverse binomial sampling, Haldane 1945). Without ``stop_at`` the number of samples is fixed beforehand.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.errors import SweepError

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class PassCounts:
    """The record of the pass rates of a ladder.

    Raises:
        SweepError: shapes that do not agree, an id given twice, counts that no sampling gives, a run without compute.
    """

    run_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    flops_R: NDArray[np.float64]
    samples_2RP: Counts  # 0: not sampled
    correct_2RP: Counts
    stop_at: int | None = None  # correct samples at which a half ends; None: it has a fixed number of samples

    def __post_init__(self) -> None:
        shape = (2, len(self.run_ids), len(self.tasks))
        shapes = (self.samples_2RP.shape, self.correct_2RP.shape)
        if shapes != (shape, shape) or self.flops_R.shape != shape[1:2]:
            raise _bad(f"counts of shapes {shapes}, compute of shape {self.flops_R.shape}", f"{shape} and {shape[1:2]}")
        for what, ids in (("run", self.run_ids), ("task", self.tasks)):
            twice = sorted({one for one in ids if ids.count(one) > 1}) if len(set(ids)) < len(ids) else []
            if twice:
                raise _bad(f"{what} {', '.join(twice)} given twice", f"every {what} once")
        for run_id, flops in zip(self.run_ids, self.flops_R, strict=True):
            if not 0 < flops < np.inf:
                raise _bad(f"run {run_id} with {flops} FLOPs", "a positive number of FLOPs")
        most = self.samples_2RP if self.stop_at is None else np.minimum(self.samples_2RP, self.stop_at)
        wrong = np.argwhere((self.correct_2RP < 0) | (self.correct_2RP > most))
        if len(wrong):
            half, run, problem = wrong[0]
            stop = "" if self.stop_at is None else f", none of them after the {self.stop_at}th correct one"
            raise _bad(
                f"{self.correct_2RP[half, run, problem]} of {self.samples_2RP[half, run, problem]} samples correct for"
                f" {self.tasks[problem]} in run {self.run_ids[run]}",
                f"between 0 and all samples correct{stop}",
            )
        if self.stop_at is not None and self.stop_at < 2:
            raise _bad(f"sampling that stops at {self.stop_at} correct", "at least 2: from one alone no rate is known")

    @property
    def stopped_at_success(self) -> NDArray[np.bool_]:
        """Whether the last sample of the half was the correct one that ended it."""
        return np.zeros(self.correct_2RP.shape, bool) if self.stop_at is None else self.correct_2RP == self.stop_at

    def up_to(self, flops: float) -> "PassCounts":
        """The runs of at most so much compute."""
        return self._take(np.flatnonzero(self.flops_R <= flops), np.arange(len(self.tasks)))

    def of(self, tasks: tuple[str, ...]) -> "PassCounts":
        """These problems, in this order."""
        place = {task: number for number, task in enumerate(self.tasks)}
        unknown = [task for task in tasks if task not in place]
        if unknown:
            raise _bad(f"no counts of {', '.join(unknown)}", "tasks that were sampled")
        return self._take(np.arange(len(self.run_ids)), np.array([place[task] for task in tasks], dtype=int))

    def in_order(self) -> "PassCounts":
        """The same counts: runs by compute, problems by name, so that nothing depends on how they were read."""
        runs = sorted(range(len(self.run_ids)), key=lambda run: (self.flops_R[run], self.run_ids[run]))
        return self._take(np.array(runs, dtype=int), np.array(np.argsort(np.array(self.tasks, dtype=str)), dtype=int))

    def _take(self, runs: NDArray[np.int64], problems: NDArray[np.int64]) -> "PassCounts":
        return PassCounts(
            tuple(self.run_ids[run] for run in runs),
            tuple(self.tasks[problem] for problem in problems),
            self.flops_R[runs],
            self.samples_2RP[:, runs][:, :, problems],
            self.correct_2RP[:, runs][:, :, problems],
            self.stop_at,
        )


def _bad(found: str, expected: str) -> SweepError:
    return SweepError(found, expected, "look at where the counts were read from")
