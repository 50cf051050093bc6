"""AdamW or Muon over the model's parameter groups, and the schedule that all of them follow."""

import torch

from models.transformer import Decoder, parameter_groups
from sweep.run_spec import PlannedRun


def lr_multiplier(
    tokens_before: int, batch_tokens: int, *, warmup_tokens: int, decay_tokens: int, num_tokens: int
) -> float:
    """The share of the peak rate for the step that goes from ``tokens_before`` over one batch.

    Linear up to one over ``warmup_tokens``, constant, then linear to zero over the last ``decay_tokens``.
    """
    tokens_after = tokens_before + batch_tokens
    if tokens_after <= warmup_tokens:
        return tokens_after / warmup_tokens
    return min(1.0, (num_tokens - tokens_before) / decay_tokens)


def make_optimizers(model: Decoder, run: PlannedRun) -> list[torch.optim.Optimizer]:
    """The plan's peak rate of each group is kept under ``peak_lr``.

    One AdamW for all groups; or Muon (orthogonal updates of momentum 0.95) for the hidden matrices and AdamW
    for the rest.
    """
    rules = run.spec.parametrization
    groups = {
        name: {
            "params": parameters,
            "peak_lr": run.learning_rates[name],
            "weight_decay": rules.weight_decay[name],
            "eps": rules.adam_eps[name],
        }
        for name, parameters in parameter_groups(model).items()
    }
    optimizers: list[torch.optim.Optimizer] = []
    if run.spec.optimizer == "muon":
        hidden = {key: value for key, value in groups.pop("hidden").items() if key != "eps"}
        optimizers.append(torch.optim.Muon([hidden], lr=0.0))
    betas = (run.spec.adam_beta1, run.spec.adam_beta2)
    return [torch.optim.AdamW(list(groups.values()), lr=0.0, betas=betas, fused=True), *optimizers]


def set_learning_rate(optimizers: list[torch.optim.Optimizer], multiplier: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * multiplier
