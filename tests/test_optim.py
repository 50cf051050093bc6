"""The schedule as a table, and the optimizer's groups."""

import pytest

from sweep.optim import lr_multiplier


@pytest.mark.parametrize(
    ("tokens_before", "share"),
    [
        (0, 0.25),  # ten tokens a step, forty of warm-up: a quarter
        (10, 0.5),
        (30, 1.0),  # the warm-up's last step is at the peak
        (40, 1.0),  # and so is the first after it
        (50, 0.9375),  # from there linear: 150 of 160 tokens left
        (120, 0.5),
        (190, 0.0625),  # the last step still moves; after it the rate is zero
    ],
)
def test_warm_up_and_decay(tokens_before: int, share: float) -> None:
    assert lr_multiplier(tokens_before, 10, warmup_tokens=40, decay_tokens=160, num_tokens=200) == pytest.approx(share)


def test_no_warm_up_starts_at_the_peak() -> None:
    assert lr_multiplier(0, 10, warmup_tokens=0, decay_tokens=100, num_tokens=100) == 1.0


def test_warm_up_that_no_step_fits_never_exceeds_the_peak() -> None:
    shares = [lr_multiplier(step * 10, 10, warmup_tokens=15, decay_tokens=85, num_tokens=100) for step in range(10)]
    assert max(shares) <= 1.0
    assert shares[1:] == sorted(shares[1:], reverse=True)
