"""Publish: copy what a verdict rests on, and no more, into a folder to be committed.

    python -m sweep.publish sweeps/NAME [forecasts]        makes or completes forecasts/<date>-<name>/

Twice: after the seal and before the target starts (``until=seal`` stops the launch there), then with the target's
result and the verdict. The folder is one that ``python -m sweep.verify`` takes; weights, samples and logs stay behind.
published.json names every file by its hash and says when the seal was first copied and whether the target had been
started by then. That is this machine's word: the commit, pushed where others see it, is the witness.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from sweep.claims import has_started
from sweep.errors import CorruptFile, SweepError, run_main
from sweep.folder import SweepFolder, open_sweep, read_json, sha256_of_file, write_json
from sweep.provenance import utc_now
from sweep.run_spec import read_plan


def publish(sweep: SweepFolder, forecasts: Path) -> Path:
    """Copy the sweep's forecast, as far as it has come, into ``forecasts``; returns its folder there.

    Raises:
        SweepError: it is not sealed, its files are damaged, or another seal is published under this name.
    """
    if not sweep.seal.exists():
        raise SweepError(
            f"{sweep.path} is not sealed",
            "a sealed forecast",
            "launch it (until=seal stops before the target starts) or seal it: python -m sweep.seal",
        )
    try:
        seal = read_json(sweep.seal)
        folder = SweepFolder(forecasts / f"{seal['sealed_utc'][:10]}-{sweep.path.resolve().name}")
        first = _first(folder, sweep)
    except CorruptFile as error:
        raise SweepError(str(error), "files as they were written", "restore them from a copy") from error
    files = _files(sweep, seal)
    for name in files:
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sweep.path / name, folder.path / name)
    hashes = {name: sha256_of_file(folder.path / name) for name in files}
    write_json(folder.published, {"sweep": seal["sweep"], "first": first, "files": hashes})
    return folder.path


def _first(folder: SweepFolder, sweep: SweepFolder) -> dict[str, Any]:
    """When the seal was first published, and where the target was then.

    Raises:
        SweepError: another seal is there.
    """
    if folder.seal.exists() and sha256_of_file(folder.seal) != sha256_of_file(sweep.seal):
        raise SweepError(
            f"{folder.path} holds another seal than {sweep.path}",
            "one seal under one name: a published forecast is never exchanged for another",
            "launch the new forecast under a name of its own, or publish it elsewhere",
        )
    if folder.published.exists():
        return dict(read_json(folder.published)["first"])
    started = has_started(sweep.run(read_plan(sweep).target.run_id))
    return {"utc": utc_now(), "target": "started before this copy" if started else "not started"}


def _files(sweep: SweepFolder, seal: dict[str, Any]) -> list[str]:
    """Names within the sweep's folder: what was sealed, the measurements below it, the target's and the verdict."""
    target = sweep.run(seal["target_run_id"])
    paths = [
        *(sweep.path / name for name in seal["files"]),
        sweep.seal,
        *(sweep.run(run_id).eval for run_id in seal["runs"]),
    ]
    if target.train.exists() and sweep.verdict.exists():  # a diverged one was not evaluated
        paths += [target.metrics, target.train, target.eval, target.counts, sweep.verdict]
    return [str(path.relative_to(sweep.path)) for path in dict.fromkeys(paths) if path.exists()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.publish", description="Copy a sealed forecast for a commit.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    parser.add_argument("forecasts", type=Path, nargs="?", default=Path("forecasts"), help="where to (forecasts)")
    options = parser.parse_args()
    folder = publish(open_sweep(options.sweep), options.forecasts)
    print(f"published: {folder}; now commit it (git add {folder}) and push it where others see when")
    return 0


if __name__ == "__main__":
    run_main(main)
