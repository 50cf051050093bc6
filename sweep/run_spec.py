"""One planned run, and the plan: the contract between ``plan`` and every later stage.

A run's id is a readable prefix and a hash of all that decides its result: data, shape, recipe,
seed, evaluation. Machine, role and sweep are no part of it, so sweeps can share runs.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from models.config import DecoderConfig
from models.parametrization import Optimizer, Parametrization, parametrize
from sweep.errors import CorruptFile, SweepError
from sweep.folder import HASH_KEY, SweepFolder, read_json, sha256_of
from sweep.spec import EvaluationSpec, FitSpec

Role = Literal["fit", "target"]


@dataclass(frozen=True)
class RunSpec:
    """All that decides the result of one run; a new field changes every run's id, and should."""

    corpus_sha256: str
    model: DecoderConfig
    seed: int
    num_steps: int
    batch_rows: int
    warmup_tokens: int
    decay_tokens: int  # at the end, linear to zero; between warm-up and decay the rate is constant
    optimizer: Optimizer
    learning_rate: float
    hidden_learning_rate: float
    weight_decay_per_step: float
    base_width: int
    base_depth: int
    adam_beta1: float
    adam_beta2: float
    adam_eps: float
    grad_clip_norm: float
    evaluation: EvaluationSpec

    @property
    def batch_tokens(self) -> int:
        return self.batch_rows * self.model.context_length

    @property
    def num_tokens(self) -> int:
        return self.num_steps * self.batch_tokens

    @property
    def branch_step(self) -> int:
        """Steps before the decay begins: up to here a run is the same as a longer one that decays later."""
        return (self.num_tokens - self.decay_tokens) // self.batch_tokens

    @property
    def trunk_sha256(self) -> str:
        """Hash of all that decides the steps before the decay."""
        trunk = {k: v for k, v in asdict(self).items() if k not in ("num_steps", "decay_tokens", "evaluation")}
        return sha256_of(trunk)

    @property
    def parametrization(self) -> Parametrization:
        return parametrize(
            self.model,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            hidden_learning_rate=self.hidden_learning_rate,
            adam_eps=self.adam_eps,
            weight_decay_per_step=self.weight_decay_per_step,
            base_width=self.base_width,
            base_depth=self.base_depth,
        )

    @property
    def sha256(self) -> str:
        return sha256_of(asdict(self))


@dataclass(frozen=True)
class PlannedRun:
    """A row of plan.json: a run, its part in the sweep, and what follows from both."""

    run_id: str
    role: Role
    budget_flops: float
    flops: float  # exact, of a whole number of steps
    flops_6nd: float
    num_params: int
    num_params_non_embedding: int
    num_tokens: int
    learning_rates: dict[str, float]  # peak, per parameter group
    spec: RunSpec
    # Runs of an isoFLOP grid may share their trunk: how the work is done, not what comes out.
    branches_from: str | None = None  # the run whose kept state this one starts from
    branches_at_step: int = 0
    keeps_step: int | None = None  # the step whose state this run keeps for a longer one


@dataclass(frozen=True)
class Plan:
    name: str
    config: dict[str, Any]  # the composed configuration without the machine's part
    corpus: dict[str, Any]  # what the corpus is made of
    fit: FitSpec
    runs: list[PlannedRun]

    @property
    def has_target(self) -> bool:
        return any(run.role == "target" for run in self.runs)

    @property
    def flops_shared(self) -> float:
        """FLOPs that need not be spent because runs branch off the trunks of others."""
        return sum(run.flops * run.branches_at_step / run.spec.num_steps for run in self.runs)

    @property
    def target(self) -> PlannedRun:
        """The run to forecast.

        Raises:
            SweepError: the grid has none.
        """
        if not self.has_target:
            raise SweepError(
                f"sweep {self.name} has no target: its grid looks for the best size or rate",
                "a sweep with a target, to be fitted, sealed and judged",
                "read its optimum.json, or launch a ladder",
            )
        return next(run for run in self.runs if run.role == "target")

    @property
    def fit_runs(self) -> list[PlannedRun]:
        return [run for run in self.runs if run.role == "fit"]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_from_json(value: dict[str, Any]) -> Plan:
    def run(row: dict[str, Any]) -> PlannedRun:
        inner = row["spec"]
        model, evaluation = DecoderConfig(**inner["model"]), EvaluationSpec(**inner["evaluation"])
        spec = RunSpec(**{**inner, "model": model, "evaluation": evaluation})
        return PlannedRun(**{**row, "spec": spec})

    fields = {key: item for key, item in value.items() if key != HASH_KEY}
    return Plan(**{**fields, "fit": FitSpec(**value["fit"]), "runs": [run(row) for row in value["runs"]]})


def read_plan(folder: SweepFolder) -> Plan:
    """The sweep's plan.

    Raises:
        SweepError: plan.json is damaged; it is not set aside, since every result hangs on it.
    """
    try:
        return plan_from_json(read_json(folder.plan))
    except (CorruptFile, TypeError, KeyError) as error:
        raise SweepError(
            f"{folder.plan} is damaged: {error}",
            "the plan as it was written",
            f"restore it from a copy, or launch under another name: finished runs in {folder.path} are taken over",
        ) from error
