"""The model of a trained run, from its checkpoint: what evaluation and sampling begin with."""

from lightning.fabric import Fabric
from torch import nn

from models.transformer import Decoder
from sweep.folder import RunFolder
from sweep.ranks import connected
from sweep.run_spec import PlannedRun


def load_model(
    run: PlannedRun, folder: RunFolder, accelerator: str = "cpu", precision: str = "32-true"
) -> tuple[Fabric, nn.Module]:
    """The run's final weights on a device, ready for inference; ``module`` of what is returned is the decoder itself.

    Raises:
        CorruptFile: the checkpoint is damaged.
    """
    fabric = connected(accelerator, precision)
    model = fabric.setup_module(Decoder(run.spec.model, run.spec.parametrization))
    fabric.load(folder.checkpoint_state(), {"model": model}, weights_only=True)
    return fabric, model.eval()
