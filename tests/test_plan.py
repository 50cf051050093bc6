"""The plan: what one budget becomes, and that every row keeps its promises."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from models.config import train_flops_per_token
from sweep.errors import SweepError
from sweep.folder import SweepFolder
from sweep.optim import lr_multiplier
from sweep.plan import freeze_plan, make_plan, plan_run, shape_for_budget, share_trunks
from sweep.run_spec import PlannedRun, read_plan
from sweep.spec import check
from tests.tiny import spec_of

CORPUS = {
    "sha256": "0" * 64,
    "files": {},
    "near_duplicates": 0,
    "train": {"documents": 1, "bytes": 10**8, "tokens": 10**8},
    "held_out": {"documents": 1, "bytes": 10**7, "tokens": 10**7},
    "mixture": [{"source": "code", "tokens": 10**8, "weight": None}],
}


def test_the_row_of_one_budget_is_pinned() -> None:
    """1e11 FLOPs under the default recipe; a change here is another experiment and gives other ids."""
    run = plan_run(shape_for_budget(1e11, spec_of().model, 1024, 1.0), 1e11, 0, "fit", spec_of(), "0" * 64)
    model = run.spec.model
    assert (model.width, model.depth, model.num_heads) == (24, 3, 1)
    assert (run.spec.batch_rows, run.spec.num_steps, run.num_tokens) == (2, 1178, 301568)
    assert run.spec.warmup_tokens == 60314
    assert run.learning_rates == {"embedding": 0.04, "hidden": 0.01 * 64 / 24, "vector": 0.01}
    assert run.flops == pytest.approx(1e11, rel=0.002)
    assert run.flops == run.num_tokens * train_flops_per_token(model)


def test_a_fitted_run_never_exceeds_its_budget_and_the_target_never_falls_short() -> None:
    plan = make_plan(spec_of(), CORPUS)
    assert all(run.flops <= run.budget_flops for run in plan.fit_runs)
    assert plan.target.flops >= plan.target.budget_flops
    step = plan.target.spec.batch_tokens * train_flops_per_token(plan.target.spec.model)
    assert plan.target.flops - plan.target.budget_flops < step


def test_the_default_keeps_what_the_readme_says() -> None:
    plan = make_plan(spec_of(), CORPUS)
    budgets = sorted({run.budget_flops for run in plan.fit_runs})
    assert len(budgets) >= 6
    assert plan.target.flops / max(run.flops for run in plan.fit_runs) > 20
    for budget in budgets[: len(budgets) // 2]:
        assert sum(run.budget_flops == budget for run in plan.fit_runs) == 3


def test_ids_depend_on_all_that_decides_a_result_and_on_nothing_else() -> None:
    base = make_plan(spec_of(), CORPUS)
    ids = {run.run_id for run in base.runs}
    assert len(ids) == len(base.runs)
    for machine in ("machine.num_workers=3", "machine.precision=bf16-mixed", "machine.tracking=none", "name=other"):
        assert {run.run_id for run in make_plan(spec_of(machine), CORPUS).runs} == ids
    changes = (
        *("recipe.learning_rate=0.011", "recipe.warmup_fraction=0.1", "recipe.adam_beta2=0.99", "model.depth=4"),
        *("data.vocab_size=2048", "evaluation.held_out_tokens=50000", "recipe.grad_clip_norm=2"),
    )
    for change in changes:
        assert not {run.run_id for run in make_plan(spec_of(change), CORPUS).runs} & ids, change
    other_corpus = {**CORPUS, "sha256": "1" * 64}
    assert not {run.run_id for run in make_plan(spec_of(), other_corpus).runs} & ids


def test_width_grows_as_a_power_of_compute_in_whole_heads() -> None:
    spec = spec_of().model
    for budget in (1e9, 1e10, 1e11, 1e12, 1e13, 1e15, 1e18):
        shape = shape_for_budget(budget, spec, 1024, 1.0)
        assert shape.width == pytest.approx(24 * (budget / 1e11) ** 0.26, abs=shape.num_heads)
        assert shape.width % (2 * shape.num_heads) == 0
        assert shape.num_heads == 1 or 24 <= shape.head_width <= 48


def test_a_plan_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep")
    plan = make_plan(spec_of(), CORPUS)
    freeze_plan(plan, folder)
    assert read_plan(folder) == plan
    freeze_plan(plan, folder)  # the same plan again is no other plan
    with pytest.raises(SweepError, match=r"grid\.target_seed: 0 there, 5 now"):
        freeze_plan(make_plan(spec_of("grid.target_seed=5"), CORPUS), folder)


def test_a_corpus_too_small_is_refused_with_the_run_and_both_numbers() -> None:
    small = {**CORPUS, "mixture": [{"source": "code", "tokens": 1000, "weight": None}]}
    with pytest.raises(SweepError, match=r"c7\.4e12-.* trains on [\d,]+ tokens, the corpus holds 896: its source code"):
        make_plan(spec_of(), small)


def test_a_source_too_small_for_its_weight_is_refused_by_its_name() -> None:
    parts = [("code", 9 * 10**7, "9/10"), ("prose", 10**5, "1/10")]
    mixture = [{"source": name, "tokens": tokens, "weight": weight} for name, tokens, weight in parts]
    with pytest.raises(SweepError, match=r"the corpus holds 999,680: its source prose of the share 0\.1 has 100,000"):
        make_plan(spec_of(), {**CORPUS, "mixture": mixture})


def test_warm_up_of_a_whole_run_is_refused() -> None:
    spec = spec_of()
    with pytest.raises(SweepError, match="longer than the run"):
        check(replace(spec, recipe=replace(spec.recipe, warmup_fraction=1.0)))


@pytest.mark.parametrize("fractions", [(0.3, 0.8), (0.5, 0.6), (0.0, 1.01)])
def test_warm_up_and_decay_longer_than_the_run_are_refused(fractions: tuple[float, float]) -> None:
    warmup, decay = fractions
    with pytest.raises(SweepError, match=rf"add up to {warmup + decay:g}: longer than the run"):
        spec_of(f"recipe.warmup_fraction={warmup}", f"recipe.decay_fraction={decay}")


@pytest.mark.parametrize("fractions", [(0.2, 0.8), (0.0, 1.0), (0.1, 0.9), (0.1, 0.2)])
def test_every_run_decays_to_zero_after_its_warm_up(fractions: tuple[float, float]) -> None:
    """The decay has the share it was given, to a token, also where rounding leaves none in between."""
    plan = make_plan(spec_of(f"recipe.warmup_fraction={fractions[0]}", f"recipe.decay_fraction={fractions[1]}"), CORPUS)
    for run in plan.runs:
        assert run.spec.warmup_tokens + run.spec.decay_tokens <= run.num_tokens
        assert run.spec.decay_tokens == pytest.approx(fractions[1] * run.num_tokens, abs=1)


# ---- grids without a target -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (
            ["grid.target_flops=null", "grid.width_factors=[0.5,1,2]", "grid.learning_rate_factors=[0.5,1,2]"],
            "the grid varies width_factors and learning_rate_factors",
        ),
        (["grid.width_factors=[0.5,1,2]"], "the grid varies width_factors, target"),
        (["grid.learning_rate_factors=[0.5,1,2]"], "the grid varies learning_rate_factors, target"),
        (["grid.learning_rate_factors=[2]"], "the grid varies learning_rate_factors, target"),
        (["grid.target_flops=null", "grid.width_factors=[1,2]"], r"grid\.width_factors is \[1\.0, 2\.0\]"),
        (["grid.target_flops=null", "grid.width_factors=[2]"], "three different factors"),
        (["grid.target_flops=null", "grid.width_factors=[1,2,2]"], "three different factors"),
        (["grid.target_flops=null", "grid.learning_rate_factors=[0.5,1]"], "three different factors"),
        (["grid.target_flops=null", "grid.learning_rate_factors=[1,0,2]"], "grid.learning_rate_factors is 0"),
        (["grid.target_flops=null"], "no target and varies nothing"),
        (["grid.share_trunks=true"], "share_trunks is true and the grid does not vary the size"),
        (
            ["grid.target_flops=null", "grid.learning_rate_factors=[0.5,1,2]", "grid.share_trunks=true"],
            "share_trunks is true and the grid does not vary the size",
        ),
        (["recipe.optimizer=sgd"], "recipe.optimizer is 'sgd'"),
    ],
)
def test_a_grid_of_no_kind_is_refused(overrides: list[str], found: str) -> None:
    with pytest.raises(SweepError, match=found):
        spec_of(*overrides)


def test_the_tuning_experiment_plans_one_size_at_every_rate() -> None:
    plan = make_plan(spec_of("experiment=tune"), CORPUS)
    assert not plan.has_target
    assert len({run.run_id for run in plan.runs}) == 7 * 2  # rates times seeds
    assert len({run.spec.model for run in plan.runs}) == 1
    rates = sorted({(run.spec.learning_rate, run.spec.hidden_learning_rate) for run in plan.runs})
    factors = (0.35, 0.5, 0.71, 1, 1.41, 2, 2.83)
    assert rates == [(0.01 * factor, 0.01 * factor) for factor in factors]


def test_the_isoflop_experiment_plans_every_size_at_every_budget() -> None:
    plan = make_plan(spec_of("experiment=isoflop"), CORPUS)
    assert not plan.has_target
    assert len({run.run_id for run in plan.runs}) == 5 * (2 + 1)  # sizes times seeds of both budgets
    for budget in (1e11, 4e11):
        assert len({run.spec.model for run in plan.runs if run.budget_flops == budget}) == 5
    assert all(0.98 * run.budget_flops < run.flops <= run.budget_flops for run in plan.runs)


def test_factors_that_round_to_fewer_than_three_sizes_are_refused_before_anything_is_trained() -> None:
    """Three different factors, but one width for all: there is no slice to find a best size in."""
    with pytest.raises(SweepError):
        make_plan(spec_of("experiment=isoflop", "grid.width_factors=[0.99,1,1.01]"), CORPUS)


def test_a_plan_without_a_target_has_none_to_give() -> None:
    plan = make_plan(spec_of("experiment=isoflop"), CORPUS)
    with pytest.raises(SweepError, match="sweep test has no target"):
        plan.target  # noqa: B018


# ---- shared trunks ----------------------------------------------------------------------------

CHAINS = (
    *("experiment=isoflop", "grid.budgets_flops=[4e11,1e11,1.6e12]", "grid.num_seeds=[2,3,1]"),
    *("recipe.weight_decay_horizons=0.5",),
)


def families(runs: list[PlannedRun]) -> list[list[PlannedRun]]:
    """Runs of one size and seed, shortest first."""
    found: dict[tuple[int, int], list[PlannedRun]] = {}
    for run in sorted(runs, key=lambda run: run.num_tokens):
        found.setdefault((run.spec.model.width, run.spec.seed), []).append(run)
    return list(found.values())


def test_a_run_starts_where_the_next_shorter_one_of_its_size_and_seed_begins_its_decay() -> None:
    plan = make_plan(spec_of(*CHAINS), CORPUS)
    assert sorted(len(family) for family in families(plan.runs)) == [1] * 5 + [2] * 5 + [3] * 5
    for family in families(plan.runs):
        assert (family[0].branches_from, family[0].branches_at_step) == (None, 0)
        assert family[-1].keeps_step is None
        for shorter, longer in pairwise(family):
            assert longer.branches_from == shorter.run_id
            assert longer.branches_at_step == shorter.keeps_step
            assert longer.branches_at_step * shorter.spec.batch_tokens > 0
            decay_start = shorter.num_tokens - shorter.spec.decay_tokens
            assert longer.branches_at_step * shorter.spec.batch_tokens <= decay_start
            assert decay_start < (longer.branches_at_step + 1) * shorter.spec.batch_tokens  # and no step is given away


def test_a_run_and_its_trunk_have_the_same_rate_batch_and_data_up_to_the_branch() -> None:
    """All that decides a step is alike: what is shared is what both would have trained alone."""
    for family in families(make_plan(spec_of(*CHAINS), CORPUS).runs):
        for shorter, longer in pairwise(family):
            assert replace(longer.spec, num_steps=1, decay_tokens=1) == replace(
                shorter.spec, num_steps=1, decay_tokens=1
            )
            for step in range(longer.branches_at_step):
                assert rate_at(step, longer) == rate_at(step, shorter)
            assert rate_at(shorter.spec.num_steps - 1, shorter) < 0.1 < rate_at(shorter.spec.num_steps - 1, longer)


def rate_at(step: int, run: PlannedRun) -> float:
    tokens = {key: getattr(run.spec, key) for key in ("warmup_tokens", "decay_tokens", "num_tokens")}
    return lr_multiplier(step * run.spec.batch_tokens, run.spec.batch_tokens, **tokens)


def test_the_flops_that_trunks_save_are_those_of_the_steps_not_taken() -> None:
    """A hundred, two hundred and four hundred steps of one FLOP, two fifths of each in decay: 60 and 120 are shared."""
    base = make_plan(spec_of(*CHAINS), CORPUS).runs[0]
    batch = base.spec.batch_tokens
    runs = [
        replace(
            base,
            run_id=f"{steps} steps",
            flops=float(steps),
            spec=replace(base.spec, num_steps=steps, decay_tokens=steps * batch * 2 // 5),
        )
        for steps in (400, 100, 200)
    ]
    shared = {run.run_id: run for run in share_trunks(runs)}
    assert [shared[f"{steps} steps"].branches_at_step for steps in (100, 200, 400)] == [0, 60, 120]
    assert [shared[f"{steps} steps"].keeps_step for steps in (100, 200, 400)] == [60, 120, None]
    plan = replace(make_plan(spec_of(), CORPUS), runs=list(shared.values()))
    assert plan.flops_shared == pytest.approx(180)
    other_seed = replace(runs[0], spec=replace(runs[0].spec, seed=7))
    assert replace(plan, runs=share_trunks([*runs[1:], other_seed])).flops_shared == pytest.approx(60)
    assert make_plan(spec_of(), CORPUS).flops_shared == 0


def test_the_id_is_that_of_the_run_alone_whatever_it_shares() -> None:
    spec = spec_of(*CHAINS, "recipe.weight_decay_horizons=0")
    runs = make_plan(spec, CORPUS).runs
    middle = (1e11 * 4e11 * 1.6e12) ** (1 / 3)
    for run in runs:
        assert run.run_id.endswith(run.spec.sha256[:10])
        alone = plan_run(
            run.spec.model, run.budget_flops, run.spec.seed, "fit", spec, run.spec.corpus_sha256, horizon_flops=middle
        )
        assert replace(run, branches_from=None, branches_at_step=0, keeps_step=None) == alone
    assert {run.run_id: run for run in share_trunks(runs[::-1])} == {run.run_id: run for run in runs}


def test_a_plan_with_trunks_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    plan = make_plan(spec_of(*CHAINS), CORPUS)
    freeze_plan(plan, SweepFolder(tmp_path / "sweep"))
    assert read_plan(SweepFolder(tmp_path / "sweep")) == plan


def test_no_run_of_a_chain_ends_in_its_warm_up() -> None:
    """Budgets a hundred apart: the middle one's warm-up is as long as the whole shortest run, which never decays."""
    with pytest.raises(SweepError):
        plan = make_plan(spec_of("experiment=isoflop", "grid.budgets_flops=[1e10,1e12]"), CORPUS)
        assert all(0 < run.spec.decay_tokens < run.num_tokens for run in plan.runs)


# ---- weight decay -----------------------------------------------------------------------------


def test_weight_decay_takes_the_given_share_over_the_run() -> None:
    """Half a weight over the 1178 steps of the pinned row: the same share per step of all matrices, none of vectors."""
    spec = spec_of("recipe.weight_decay_horizons=0.5")
    run = plan_run(shape_for_budget(1e11, spec.model, 1024, 1.0), 1e11, 0, "fit", spec, "0" * 64)
    assert run.spec.weight_decay_per_step == pytest.approx(0.5 / 1178)
    decay = run.spec.parametrization.weight_decay
    assert decay["embedding"] == pytest.approx(0.5 / 1178 / 0.04)
    assert decay["hidden"] == pytest.approx(0.5 / 1178 / (0.01 * 64 / 24))
    assert decay["vector"] == 0


def test_weight_decay_of_a_chain_is_that_of_its_middle_budget() -> None:
    for family in families(make_plan(spec_of(*CHAINS), CORPUS).runs):
        (per_step,) = {run.spec.weight_decay_per_step for run in family}
        tokens = (1e11 * 4e11 * 1.6e12) ** (1 / 3) / train_flops_per_token(family[0].spec.model)
        assert per_step == pytest.approx(0.5 / (tokens / family[0].spec.batch_tokens))
