"""The plan: what one budget becomes, and that every row keeps its promises."""

from dataclasses import replace

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sweep.launch  # noqa: F401  (registers the schema)
from models.config import train_flops_per_token
from sweep.errors import SweepError
from sweep.folder import SweepFolder
from sweep.plan import freeze_plan, make_plan, plan_run, shape_for_budget
from sweep.run_spec import read_plan
from sweep.spec import SweepSpec, check
from tests.tiny import ROOT

CORPUS = {
    "sha256": "0" * 64,
    "files": {},
    "near_duplicates": 0,
    "train": {"documents": 1, "bytes": 10**8, "tokens": 10**8},
    "held_out": {"documents": 1, "bytes": 10**7, "tokens": 10**7},
}


def spec_of(*overrides: str) -> SweepSpec:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        spec = OmegaConf.to_object(compose("sweep", overrides=["name=test", *overrides]))
    assert isinstance(spec, SweepSpec)
    check(spec)
    return spec


def test_the_row_of_one_budget_is_pinned() -> None:
    """1e11 FLOPs under the default recipe; a change here is another experiment and gives other ids."""
    run = plan_run(shape_for_budget(1e11, spec_of().model, 1024, 1.0), 1e11, 0, "fit", spec_of(), "0" * 64)
    model = run.spec.model
    assert (model.width, model.depth, model.num_heads) == (20, 3, 1)
    assert (run.spec.batch_rows, run.spec.num_steps, run.num_tokens) == (3, 1005, 385920)
    assert run.spec.warmup_tokens == 77184
    assert run.learning_rates == {"embedding": 0.04, "hidden": 0.01 * 64 / 20, "vector": 0.01}
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


def test_width_grows_with_the_fourth_root_of_compute_in_whole_heads() -> None:
    spec = spec_of().model
    for budget in (1e9, 1e10, 1e11, 1e12, 1e13, 1e15, 1e18):
        shape = shape_for_budget(budget, spec, 1024, 1.0)
        assert shape.width == pytest.approx(20 * (budget / 1e11) ** 0.25, abs=2 * shape.num_heads)
        assert shape.width % (4 * shape.num_heads) == 0
        assert shape.num_heads == 1 or 24 <= shape.head_width <= 48


def test_a_plan_is_the_same_after_writing_and_reading(tmp_path: object) -> None:
    from pathlib import Path

    folder = SweepFolder(Path(str(tmp_path)) / "sweep")
    plan = make_plan(spec_of(), CORPUS)
    freeze_plan(plan, folder)
    assert read_plan(folder) == plan
    freeze_plan(plan, folder)  # the same plan again is no other plan
    with pytest.raises(SweepError, match=r"grid\.target_seed: 0 there, 5 now"):
        freeze_plan(make_plan(spec_of("grid.target_seed=5"), CORPUS), folder)


def test_a_corpus_too_small_is_refused_with_the_run_and_both_numbers() -> None:
    small = {**CORPUS, "train": {"documents": 1, "bytes": 10**6, "tokens": 1000}}
    with pytest.raises(SweepError, match=r"c7\.4e12-.* trains on [\d,]+ tokens, the corpus holds 999"):
        make_plan(spec_of(), small)


def test_warm_up_of_a_whole_run_is_refused() -> None:
    spec = spec_of()
    with pytest.raises(SweepError, match="longer than the run"):
        check(replace(spec, recipe=replace(spec.recipe, warmup_fraction=1.0)))
