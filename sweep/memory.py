"""Which runs fit on one device side by side: the memory that each takes, by estimate from above.

An estimate, so that nothing has to be tried out: processes that share a device and run out of memory can't tell which
of them is too many. A run that is too large even alone takes its batch in parts (``sweep/train.py``).
"""

from models.config import count_params, training_bytes
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec

EVALUATION_ROWS = 32  # in a pass
_PROCESS_BYTES = 1 << 30  # of the device, for each process on it: its context and libraries; an allowance, not measured


def memory_bytes(run: PlannedRun, machine: MachineSpec) -> int:
    """Bytes that a run's process takes of its device while it trains or is evaluated, whichever is more."""
    model, rows = run.spec.model, run.spec.batch_rows
    training = training_bytes(model, min(rows, machine.rows_per_pass or rows))
    logits = 3 * EVALUATION_ROWS * model.context_length * model.vocab_size
    evaluation = 4 * (count_params(model)["total"] + logits)
    return _PROCESS_BYTES + max(training, evaluation)


def fit_together(runs: list[PlannedRun], machine: MachineSpec) -> bool:
    """Whether the device (``machine.device_memory_bytes``; null: without a limit) has the memory for all of them."""
    limit = machine.device_memory_bytes
    return limit is None or sum(memory_bytes(run, machine) for run in runs) <= limit
