"""Launch: the whole sweep on this machine, from the configuration to the verdict, by one command.

    python -m sweep.launch [experiment=quick|smoke] [name=NAME] [group.key=value ...]

The only module that knows Hydra: it composes ``configs/`` and the command line into a ``SweepSpec`` and hands
that to ``sweep/pipeline.py``. Launching again trains only what is not done.
"""

import difflib
import logging
import os
import re
from dataclasses import fields, is_dataclass
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep import spec as spec_module
from sweep.data_spec import SourceSpec
from sweep.errors import SweepError, run_main
from sweep.spec import SlurmSpec, SweepSpec

_INSIDE_NULL = "Unexpected type for root"  # what OmegaConf asserts where a key is set inside of null
_EXPECTED = "keys and values of configs/ (python -m sweep.launch --cfg job prints them all)"

ConfigStore.instance().store(name="schema", node=SweepSpec)


def compose() -> SweepSpec | None:
    """The configuration of this command line; None if Hydra only answered ``--help`` or ``--cfg``.

    Raises:
        SweepError: a misspelt key, also one that was added with a plus, or a value of the wrong kind.
    """
    composed: list[SweepSpec] = []

    @hydra.main(version_base="1.3", config_path="../configs", config_name="sweep")
    def keep(config: DictConfig) -> None:
        refuse_unknown_keys(config)
        spec = OmegaConf.to_object(config)
        assert isinstance(spec, SweepSpec)
        composed.append(spec)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come here, not to stderr as tracebacks
    try:
        keep()
    except (HydraException, OmegaConfBaseException) as error:
        raise _explain(error) from error
    except AssertionError as error:
        if _INSIDE_NULL not in str(error):
            raise
        raise SweepError(
            "a key inside a group that is null was set, such as machine.slurm.partition on a local machine",
            _EXPECTED,
            "choose the group first (machine=slurm, capability=micro), or leave the key out",
        ) from error
    return composed[0] if composed else None


def refuse_unknown_keys(config: Any, path: str = "") -> None:
    """Refuse what ``+key=value`` added and nobody reads: Hydra adds anything, the schema checks the rest.

    Raises:
        SweepError: a key that no setting has; the nearest that do are named.
    """
    if not isinstance(config, DictConfig | ListConfig):
        return
    schema = OmegaConf.get_type(config)
    if is_dataclass(schema):
        for name in sorted({str(key) for key in config} - {field.name for field in fields(schema)}):
            raise SweepError(f"{path}{name} is no setting", _EXPECTED, _hint(f"{path}{name}"))
    keys: Any = range(len(config)) if isinstance(config, ListConfig) else config.keys()
    for key in keys:
        if not OmegaConf.is_missing(config, key):
            refuse_unknown_keys(config[key], f"{path}{key}.")


def known_keys() -> list[str]:
    """Every key that can be set on the command line; of the sources, those of the first."""
    keys = [field.name for field in fields(SweepSpec)]
    for field in fields(SweepSpec):
        group = getattr(spec_module, getattr(field.type, "__name__", ""), None)
        if is_dataclass(group):
            keys += [f"{field.name}.{inner.name}" for inner in fields(group)]
    keys += [f"data.sources.0.{field.name}" for field in fields(SourceSpec)]
    return keys + [f"machine.slurm.{field.name}" for field in fields(SlurmSpec)]


def _explain(error: Exception) -> SweepError:
    """Hydra's own message with its cause and, for a key that does not exist, the nearest that do."""
    text = f"{error} {error.__cause__ or ''}".strip()
    wrong = re.search(r"full_key: (\S+)|override '?([\w.]+)|Key '(\w+)'", text)
    name = next((group for group in wrong.groups() if group), "") if wrong else ""
    return SweepError(" ".join(text.split()), _EXPECTED, _hint(name.replace("[", ".").replace("]", "")))


def _hint(name: str) -> str:
    known = known_keys()
    near = [] if name in known else difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else "correct the name or the value"


def main() -> int:
    spec = compose()
    if spec is None:
        return 0
    from rich.console import Console
    from rich.logging import RichHandler

    console = Console(stderr=True)
    terminal = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    handler = terminal if console.is_terminal else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("sweep")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    from sweep.pipeline import run_pipeline  # here, so that --help and --cfg need not wait for it

    return run_pipeline(spec)


if __name__ == "__main__":
    run_main(main)
