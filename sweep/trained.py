"""The model of a trained run, from its checkpoint: what evaluation and sampling begin with."""

from lightning.fabric import Fabric

from models.transformer import Decoder
from sweep.folder import RunFolder
from sweep.run_spec import PlannedRun
from sweep.spec import MachineSpec


def load_model(run: PlannedRun, folder: RunFolder, machine: MachineSpec) -> tuple[Fabric, Decoder]:
    """The run's final weights on its device, ready for inference.

    Raises:
        CorruptFile: the checkpoint is damaged.
    """
    fabric = Fabric(accelerator=machine.accelerator, devices=1, precision=machine.precision)  # type: ignore[arg-type]
    model = fabric.setup_module(Decoder(run.spec.model, run.spec.parametrization))
    fabric.load(folder.checkpoint_state(), {"model": model}, weights_only=True)
    return fabric, model.eval()
