"""The seal as a wandb artifact: a second witness, with the server's own clock, that it was there before the target.

``wandb/witness.json`` records what the server said. It is a copy for convenience and proves nothing: whoever doubts
it asks the server for the artifact that it names, whose time nobody here can set. An artifact holds ``seal.json`` as
it is, and the seal holds the hashes of all that it rests on.
"""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sweep.errors import CorruptFile
from sweep.folder import HASH_KEY, SweepFolder, read_json, set_aside, write_json
from sweep.tracking import Mirror

log = logging.getLogger("sweep")


def witness_path(folder: SweepFolder) -> Path:
    return folder.path / "wandb" / "witness.json"


def read_witness(folder: SweepFolder) -> dict[str, Any] | None:
    """What the server said of the sweep's seal; None if it has not been asked or the seal is another one.

    Raises:
        CorruptFile: the seal is damaged.
    """
    path = witness_path(folder)
    if not path.exists() or not folder.seal.exists():
        return None
    try:
        witness = read_json(path)
    except CorruptFile as error:
        log.warning("%s; set aside as %s, the server is asked again", error, set_aside(path).name)
        return None
    return witness if witness["seal_sha256"] == read_json(folder.seal)[HASH_KEY] else None


def is_witnessed(folder: SweepFolder) -> bool:
    try:
        return read_witness(folder) is not None
    except CorruptFile:
        return False  # who needs the seal says what is wrong with it


def witness_seal(folder: SweepFolder, mirror: Mirror) -> dict[str, Any] | None:
    """Upload the seal, unless the server has confirmed it in this project; returns what it said the first time, None if
    it did not answer or is not asked (offline: ``sweep.sync`` does it later).
    """
    witness = read_witness(folder)
    if witness and witness["artifact"].split("/")[1] == mirror.project:
        return witness
    seal = read_json(folder.seal)
    metadata = {"seal_sha256": seal[HASH_KEY], "sealed_utc": seal["sealed_utc"], "target": seal["target_run_id"]}
    held = mirror.upload(folder.seal, f"{seal['sweep']}-seal", "seal", metadata)
    if held is None:
        return None
    if witness:  # in another project, and earlier: that time is worth more
        return witness
    write_json(witness_path(folder), {"seal_sha256": seal[HASH_KEY], **asdict(held)})
    log.info("seal: held by the wandb server as %s since %s, by its clock", held.artifact, held.created_at)
    return read_witness(folder)
