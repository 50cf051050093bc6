"""A planted ladder: its law, its losses, and the records and plan of a sweep that measured them."""

from dataclasses import replace

import numpy as np

from models.config import DecoderConfig
from sweep.ladder import Ladder, make_ladder
from sweep.laws import Array, Law, Points
from sweep.records import Record
from sweep.run_spec import Plan, PlannedRun, RunSpec
from sweep.spec import EvaluationSpec, FitSpec
from sweep.table import Table

BUDGETS = np.array([2e10, 3.6e10, 6.6e10, 1.2e11, 2.2e11, 4e11])
RUNS = np.repeat(BUDGETS, 2)
TARGET = 8.4e12
PLANTED = Law(2.0, -0.2, 2.0, float(BUDGETS[0]))


def noisy(flops: Array, relative_sd: float, seed: int = 0) -> Array:
    return PLANTED(flops) * (1 + relative_sd * np.random.default_rng(seed).standard_normal(len(flops)))


def quiet(flops: Array) -> Array:
    """Losses with a thousandth of noise."""
    return noisy(flops, 0.001)


def points(flops: Array, loss: Array, variance: float = 0.0, run_variance: float = 0.0) -> Points:
    return Points(flops, loss, np.full(len(flops), variance), run_variance)


def noisy_about(law: Law, relative_sd: float, seed: int, flops: Array = BUDGETS) -> Array:
    """Losses about a law, with independent noise in proportion to the loss."""
    return law(flops) * (1 + relative_sd * np.random.default_rng(seed).standard_normal(len(flops)))


def table(flops: Array, loss: Array) -> Table:
    return Table("planted", [f"row {number}" for number in range(len(flops))], flops, loss)


def ladder_of(flops: Array, loss: Array) -> Ladder:
    return make_ladder(table(flops, loss))


def record(budget: float, loss: float | None, seed: int, copy_score: float | None = 2.0) -> Record:
    """A finished small run that copies from its context, of 20 tokens per parameter."""
    size = round((budget / 120) ** 0.5)
    return Record(
        run_id=f"c{budget:.2g}-s{seed}",
        role="fit",
        status="done",
        reason="",
        marks="",
        budget_flops=budget,
        flops=budget,
        flops_6nd=budget,
        num_params=2 * size,
        num_params_non_embedding=size,
        num_tokens=round(budget / (6 * size)),
        batch_tokens=100,
        num_steps=100,
        width=16,
        depth=3,
        seed=seed,
        learning_rate=0.01,
        loss_nats=loss,
        loss_se_nats=0.01,
        bits_per_byte=None,
        train_loss_nats=loss,
        loss_repeated_nats=None,
        loss_new_nats=None,
        copy_first_nats=None,
        copy_second_nats=None,
        copy_score_nats=copy_score,
        loss_first_positions_nats=None,
        loss_last_positions_nats=None,
        train_seconds=1.0,
        eval_sha256=None,
        code_sha256="one version",
    )


def ladder() -> list[Record]:
    """Two seeds of each budget, all copying."""
    losses = quiet(RUNS).tolist()
    return [
        record(flops, loss, number % 2) for number, (flops, loss) in enumerate(zip(RUNS.tolist(), losses, strict=True))
    ]


def with_copy_scores(scores: list[float]) -> list[Record]:
    """The ladder with these copy scores, smallest run first."""
    return [replace(run, copy_score_nats=score) for run, score in zip(ladder(), scores, strict=True)]


def target_record() -> Record:
    return replace(record(TARGET, None, 0, copy_score=None), role="target", status="planned", reason="not started")


def diverged(run: Record) -> Record:
    reason = "loss is nan at step 12"
    return replace(
        run, run_id=run.run_id + "-bad", status="diverged", reason=reason, loss_nats=None, copy_score_nats=None
    )


def plan() -> Plan:
    """A plan of which the fit needs the target's compute and the settings of the fit."""
    spec = RunSpec(
        corpus_sha256="",
        model=DecoderConfig(
            width=16, depth=1, num_heads=1, mlp_ratio=4, conv_taps=2, vocab_size=300, context_length=32
        ),
        seed=0,
        num_steps=100,
        batch_rows=4,
        warmup_tokens=100,
        decay_tokens=300,
        optimizer="adamw",
        learning_rate=0.01,
        hidden_learning_rate=0.01,
        weight_decay_per_step=0.0,
        base_width=16,
        base_depth=1,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_eps=1e-8,
        grad_clip_norm=1.0,
        evaluation=EvaluationSpec(held_out_tokens=100, position_bins=2, copy_sequences=2, copy_length=8),
    )
    target = PlannedRun("target", "target", TARGET, TARGET, TARGET, 1000, 500, 10000, {}, spec)
    return Plan(
        "planted", {}, {}, FitSpec(max_flops_fraction=0.05, more_cut_offs=[], level=0.9, copying_nats=1.0), [target]
    )
