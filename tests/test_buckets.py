"""Pass counts and their buckets."""

from dataclasses import replace

import numpy as np
import pytest

from sweep.buckets import make_buckets
from sweep.errors import SweepError
from sweep.pass_counts import PassCounts

# Correct of 100 samples in two runs; the second half says the opposite.
CORRECT = {"a": (90, 99), "b": (50, 80), "c": (50, 80), "d": (10, 20), "e": (1, 5), "f": (0, 1), "g": (0, 0)}


def counts(order: str = "abcdefg", flops: tuple[float, float] = (1e9, 1e10)) -> PassCounts:
    half = np.array([CORRECT[task] for task in order]).T
    return PassCounts(
        ("small", "large"), tuple(order), np.array(flops), np.full((2, 2, 7), 100), np.stack([half, 100 - half])
    )


@pytest.mark.parametrize(
    ("num_buckets", "left_out", "expected"),
    [
        (3, 1, (("a", "b"), ("c", "d"), ("e", "f"))),
        (2, 2, (("a", "b", "c"), ("d", "e"))),
        (1, 0, (("a", "b", "c", "d", "e", "f", "g"),)),
    ],
)
def test_buckets_by_hand(num_buckets: int, left_out: int, expected: tuple[tuple[str, ...], ...]) -> None:
    found = make_buckets(counts(), 0, num_buckets, left_out)
    assert found.tasks == expected
    assert sorted(found.left_out) == list("abcdefg")[7 - left_out :]


def test_the_half_decides() -> None:
    assert make_buckets(counts(), 1, 1, 0).tasks == (("g", "f", "e", "d", "b", "c", "a"),)


@pytest.mark.parametrize("order", ["gfedcba", "cabgdfe"])
def test_the_order_of_reading_changes_nothing(order: str) -> None:
    assert make_buckets(counts(order), 0, 3, 1) == make_buckets(counts(), 0, 3, 1)
    turned = counts(order)._take(np.array([1, 0]), np.arange(7))
    assert make_buckets(turned, 0, 3, 1) == make_buckets(counts(), 0, 3, 1)


def test_a_problem_that_a_run_never_tried_is_left_out() -> None:
    whole = counts()
    samples, correct = whole.samples_2RP.copy(), whole.correct_2RP.copy()
    samples[0, 1, 2] = correct[0, 1, 2] = 0
    found = make_buckets(replace(whole, samples_2RP=samples, correct_2RP=correct), 0, 2, 1)
    assert found.left_out == {"c": "not sampled by large", "g": "among the 1 hardest"}
    assert sorted(sum(found.tasks, ())) == ["a", "b", "d", "e", "f"]


def test_164_problems_make_the_report_s_buckets() -> None:
    """Six buckets of 25 or 24, the 15 hardest left out, each problem at one place."""
    random = np.random.default_rng(0)
    correct = random.binomial(100, random.uniform(size=(2, 3, 164)))
    tasks = tuple(f"HumanEval/{number}" for number in range(164))
    found = make_buckets(PassCounts(("x", "y", "z"), tasks, np.ones(3), np.full(correct.shape, 100), correct))
    assert [len(bucket) for bucket in found.tasks] == [25, 25, 25, 25, 25, 24]
    assert sorted([*sum(found.tasks, ()), *found.left_out]) == sorted(tasks)
    assert len(found.left_out) == 15


def test_too_few_problems_are_refused() -> None:
    with pytest.raises(SweepError, match="7 problems"):
        make_buckets(counts())
    with pytest.raises(SweepError, match="no small run with samples lies under the cut-off"):
        make_buckets(counts().up_to(1.0), 0, 1, 0)


# ---- counts -----------------------------------------------------------------------------------


def test_runs_up_to_some_compute() -> None:
    assert counts().up_to(1e9).run_ids == ("small",)
    assert counts().up_to(1e9).correct_2RP.shape == (2, 1, 7)


def test_tasks_by_name() -> None:
    found = counts().of(("e", "a"))
    assert (found.tasks, found.correct_2RP[0].tolist()) == (("e", "a"), [[1, 90], [5, 99]])
    with pytest.raises(SweepError, match="no counts of z"):
        counts().of(("a", "z"))


def test_a_half_stopped_where_it_has_its_last_success() -> None:
    whole = counts()
    few = replace(whole, correct_2RP=np.minimum(whole.correct_2RP, 20), stop_at=20)
    assert few.stopped_at_success[0].tolist() == [[True] * 3 + [False] * 4, [True] * 4 + [False] * 3]
    assert not whole.stopped_at_success.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("a", "b", "c", "d", "e", "f", "a")}, "task a given twice"),
        ({"run_ids": ("small", "small")}, "run small given twice"),
        ({"flops_R": np.array([1e9, np.nan])}, "run large with nan FLOPs"),
        ({"flops_R": np.array([0.0, 1e9])}, "run small with 0.0 FLOPs"),
        ({"flops_R": np.ones(3)}, "counts of shapes"),
        ({"samples_2RP": np.full((2, 2, 7), 98)}, "99 of 98 samples correct for a in run large"),
        ({"samples_2RP": np.full((2, 2, 6), 98)}, "counts of shapes"),
        ({"stop_at": 20}, "90 of 100 samples correct for a in run small"),
        ({"stop_at": 1, "correct_2RP": np.zeros((2, 2, 7), int)}, "stops at 1"),
    ],
)
def test_impossible_counts_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SweepError, match=message):
        replace(counts(), **change)  # type: ignore[arg-type]
