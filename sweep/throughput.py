"""What a training gets out of its devices: FLOPs per second against their peak, and memory.

MFU (model FLOPs utilisation, Chowdhery et al. 2022) is the run's counted FLOPs per second over the peak of its devices.
A peak is stated in ``machine.peak_flops_per_second`` or known to lightning; where neither is so there is no MFU.
"""

import re
import resource
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.spec import MachineSpec

if TYPE_CHECKING:
    import torch

# Of lightning's table only devices whose figures are those of dense matmuls. Others are off by up to twice: it gives
# figures with sparsity for the H200 and H100 NVL, and takes an L40S for an L4.
_KNOWN_DENSE = re.compile(r"A100|H100.*HBM3|H100 PCIe|V100-(SXM|PCIE)|Tesla T4$|NVIDIA L4$")


@dataclass(frozen=True)
class Peak:
    """What the devices of a run could do at best."""

    flops_per_second: float | None  # of all of them together; None: not known
    source: str  # of the figure, or why there is none

    def utilisation(self, flops_per_second: float) -> float | None:
        """The MFU of a run at this speed."""
        return flops_per_second / self.flops_per_second if self.flops_per_second else None


def peak_of(machine: MachineSpec, device: "torch.device", num_ranks: int) -> Peak:
    """The peak of ``num_ranks`` such devices at the machine's precision; of a CPU, of as many cores as torch uses."""
    import torch

    if machine.peak_flops_per_second is not None:
        cores = torch.get_num_threads() if device.type == "cpu" else 1
        return Peak(machine.peak_flops_per_second * cores * num_ranks, "machine.peak_flops_per_second")
    ask = "state it in machine.peak_flops_per_second"
    if device.type != "cuda":
        return Peak(None, f"the peak of this {device.type} is not on record: {ask}")
    name = torch.cuda.get_device_name(device)
    dtypes = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
    dtype = dtypes.get(machine.precision.partition("-")[0])
    if dtype is None or not _KNOWN_DENSE.search(name):
        return Peak(None, f"no peak of {name} at {machine.precision} that can be trusted is on record: {ask}")
    from lightning.fabric.utilities.throughput import get_available_flops

    flops_per_second = get_available_flops(device, dtype)
    if flops_per_second is None:
        return Peak(None, f"lightning has no peak of {name} at {machine.precision}: {ask}")
    return Peak(float(flops_per_second * num_ranks), f"lightning, for {name} at {machine.precision}")


def peak_memory_bytes(device: "torch.device") -> int:
    """The most memory so far: of tensors on a GPU; elsewhere of this process, with what it shares since its fork."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident if sys.platform == "darwin" else resident * 1024  # Linux counts in KiB
