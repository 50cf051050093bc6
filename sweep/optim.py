"""AdamW over the model's parameter groups, and the schedule that all of them follow."""

import torch

from models.transformer import Decoder, parameter_groups
from sweep.run_spec import PlannedRun


def lr_multiplier(tokens_before: int, batch_tokens: int, warmup_tokens: int, num_tokens: int) -> float:
    """The share of the peak rate for the step that goes from ``tokens_before`` over one batch.

    Linear up to one over ``warmup_tokens``, then linear to zero at ``num_tokens``.
    """
    tokens_after = tokens_before + batch_tokens
    if tokens_after <= warmup_tokens:
        return tokens_after / warmup_tokens
    return min(1.0, (num_tokens - tokens_before) / (num_tokens - warmup_tokens))


def make_optimizer(model: Decoder, run: PlannedRun, adam_eps: dict[str, float]) -> torch.optim.AdamW:
    """AdamW with the plan's peak rate per group kept under ``peak_lr``; no weight decay at these horizons."""
    groups = [
        {"params": parameters, "peak_lr": run.learning_rates[name], "eps": adam_eps[name]}
        for name, parameters in parameter_groups(model).items()
    ]
    betas = (run.spec.adam_beta1, run.spec.adam_beta2)
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, weight_decay=0.0, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * multiplier
