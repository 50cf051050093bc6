"""Status: what is done, running, missing and why, from the files of a sweep.

python -m sweep.status sweeps/NAME [--json]
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from sweep.errors import run_main
from sweep.folder import CorruptFile, SweepFolder, open_sweep, read_json
from sweep.run_spec import read_plan


def status_of(folder: SweepFolder) -> dict[str, Any]:
    """Every planned run with its status, and which stages have left their files."""
    plan = read_plan(folder)
    runs = []
    for run in plan.runs:
        files = folder.run(run.run_id)
        loss = None
        try:
            state = files.state()
            status, reason, step = state.status, state.reason, state.step
            if status == "done":
                loss = read_json(files.eval)["loss_nats"]
        except CorruptFile as error:
            status, reason, step = "failed", f"damaged: {error}; the next launch makes it again", 0
        runs.append(
            {
                "run_id": run.run_id,
                "role": run.role,
                "status": status,
                "reason": reason,
                "flops": run.flops,
                "step": step,
                "num_steps": run.spec.num_steps,
                "loss_nats": loss,
            }
        )
    stages = {path.name: path.exists() for path in (*folder.sealed_files, folder.seal, folder.verdict, folder.report)}
    return {"sweep": plan.name, "runs": runs, "files": stages}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sweep.status", description="What is done, running and missing.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder, sweeps/NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    status = status_of(open_sweep(options.sweep))
    if options.json:
        print(json.dumps(status, indent=1, allow_nan=False))
        return 0
    counts = Counter(run["status"] for run in status["runs"])
    print(f"{status['sweep']}: " + ", ".join(f"{number} {name}" for name, number in sorted(counts.items())))
    for run in status["runs"]:
        loss = f"loss {run['loss_nats']:.4f}" if run["loss_nats"] is not None else run["reason"]
        steps = f"step {run['step']}/{run['num_steps']}"
        print(f"  {run['run_id']:<40} {run['role']:<7} {run['status']:<9} {run['flops']:.3g} FLOPs  {steps:<16} {loss}")
    print("  files: " + ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in status["files"].items()))
    return 0


if __name__ == "__main__":
    run_main(main)
