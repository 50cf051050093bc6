"""Training speed per core against litgpt and the Hugging Face Trainer, on decoders of one shape.

    python -m benchmarks.training_speed [--widths 32 64 128 256] [--rounds 5] [--block-seconds 0.8]

Measured: trained tokens per CPU second (user and system, all threads) and MFU, the exact FLOPs of a token times that
over the fp32 peak of one core (a large matrix product on one thread, in the same round). Every contestant is a process
that runs its tool's own training loop (``benchmarks/peers/``); after the warm-up, compilation included, they train in
turns, and the medians of the rounds count. All have depth 3, context 128, vocabulary 1024, 32 channels a head where
they fit, an MLP of four times the width, fp32 and the same tokens. Ours are single-threaded; "ordinary" is what a
tool does when nobody tunes it, with its own number of threads; "every switch" has what of ours the tool can be told.
FLOPs are those of models/config.py; a peer's shape differs in that it has no short convolution. The other tools'
environment, .venv-peers, is made when it is missing. Minutes on a quiet machine; with other widths or rounds the
result is written too, and says so. On a busy machine "ordinary" is meaningless: its threads burn time waiting.
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.peers.contest import Contestant, ours, take_turns
from benchmarks.peers.environment import python_of
from benchmarks.peers.peak import SIZE
from benchmarks.study import ROOT, configured, corpus_of, write_result
from models.config import DecoderConfig, forward_flops_per_token, train_flops_per_token
from sweep.corpus import Corpus
from sweep.plan import plan_run, planned_run, shape_for_width
from sweep.provenance import library_versions
from sweep.run_spec import PlannedRun
from sweep.spec import SweepSpec

# The batch that the ladder's rule gives to widths 32 and 64; it would go on growing, and with it a block of steps.
BATCH_ROWS = {32: 6, 64: 14, 128: 16, 256: 16}
NUM_STEPS = 4000  # of the schedule; none gets so far
MIN_BLOCK_STEPS = 3
PEAK, PLAIN, COMPILED = "peak", "ours, plain", "ours, compiled"
PEER_MODULES = {"litgpt": "benchmarks.peers.litgpt_pretrain", "HF Trainer": "benchmarks.peers.hf_trainer"}


def run_of(spec: SweepSpec, corpus: Corpus, width: int) -> PlannedRun:
    model = shape_for_width(width, spec.model, spec.data.vocab_size)
    planned = plan_run(model, 1e14, 0, "fit", spec, corpus.sha256).spec
    rows = BATCH_ROWS[width]
    tokens = NUM_STEPS * rows * model.context_length
    warmup = round(spec.recipe.warmup_fraction * tokens)
    schedule = {"num_steps": NUM_STEPS, "warmup_tokens": warmup, "decay_tokens": tokens - warmup}
    return planned_run(replace(planned, batch_rows=rows, **schedule), 1.0, "fit")  # type: ignore[arg-type]


def contestants_for(spec: SweepSpec, corpus: Corpus, run: PlannedRun, folder: Path) -> list[Contestant]:
    # Waiting for the others would count as time since the last checkpoint; the others save nothing either.
    machine = replace(spec.machine, checkpoint_seconds=1e9)
    width = run.spec.model.width
    contestants = [
        Contestant(PEAK, "benchmarks.peers.peak", "", folder / f"{width}-peak"),
        ours(PLAIN, run, corpus, replace(machine, compile_from_flops=None), folder / f"{width}-plain"),
        ours(COMPILED, run, corpus, replace(machine, compile_from_flops=0.0), folder / f"{width}-compiled"),
    ]
    python = python_of("peers", "requirements.txt")
    for tool, module in PEER_MODULES.items():
        for every_switch in (False, True):
            name = f"{tool}, {'every switch' if every_switch else 'ordinary'}"
            own = folder / f"{width}-{name.replace(', ', '-').replace(' ', '-')}"
            job = {
                "shape": asdict(run.spec.model),
                "batch_rows": run.spec.batch_rows,
                "every_switch": every_switch,
                "tokens": str((corpus.folder / "train.bin").resolve()),
                "folder": str(own),
            }
            contestants.append(Contestant(name, module, json.dumps(job), own, python, not every_switch))
    return contestants


def flops_per_token(name: str, model: DecoderConfig) -> float:
    if name in (PLAIN, COMPILED):
        return train_flops_per_token(model)
    return 3 * sum(flops for part, flops in forward_flops_per_token(model).items() if part != "conv")


def measure(run: PlannedRun, contestants: list[Contestant], num_rounds: int, block_seconds: float) -> dict[str, Any]:
    seconds = take_turns(contestants, num_rounds, block_seconds, MIN_BLOCK_STEPS)
    for needed in contestants[:3]:
        if needed.failure:
            raise SystemExit(f"{needed.name} did not last: {needed.failure}")
    peak = [2 * SIZE**3 / each for each in seconds[PEAK]]
    best = min((PLAIN, COMPILED), key=lambda name: statistics.median(seconds[name]))
    rows: list[dict[str, Any]] = []
    for contestant in contestants[1:]:
        name = contestant.name
        if contestant.failure:
            rows.append({"contestant": name, "failed": contestant.failure})
            continue
        flops = flops_per_token(name, run.spec.model)
        speed = [run.spec.batch_tokens / each for each in seconds[name]]
        mfu = [flops * tokens / most for tokens, most in zip(speed, peak, strict=True)]
        ratios = [theirs / our for theirs, our in zip(seconds[name], seconds[best], strict=True)]
        rows.append(
            {
                "contestant": name,
                "num_threads": contestant.num_threads,
                "flops_per_token": flops,
                "tokens_per_cpu_second": statistics.median(speed),
                "mfu": statistics.median(mfu),
                "ours_times_as_fast": statistics.median(ratios),
                "tokens_per_cpu_second_by_round": speed,
                "ours_times_as_fast_by_round": ratios,
            }
        )
    return {
        "width": run.spec.model.width,
        "num_heads": run.spec.model.num_heads,
        "batch_rows": run.spec.batch_rows,
        "peak_flops_per_second": statistics.median(peak),
        "ours": best,
        "contestants": rows,
    }


def table(measured: dict[str, Any]) -> str:
    lines = [
        f"width {measured['width']}, {measured['batch_rows']} rows, peak of one core"
        f" {measured['peak_flops_per_second'] / 1e9:.1f} GFLOP/s; compared: {measured['ours']}",
        f"  {'':26} threads  tokens/CPU s     MFU  ours is so many times as fast",
    ]
    for row in measured["contestants"]:
        if "failed" in row:
            lines.append(f"  {row['contestant']:26} failed: {row['failed'].splitlines()[-1][:80]}")
            continue
        lines.append(
            f"  {row['contestant']:26} {row['num_threads']:7} {row['tokens_per_cpu_second']:13,.0f} {row['mfu']:7.1%}"
            f"  {row['ours_times_as_fast']:.2f} ({min(row['ours_times_as_fast_by_round']):.2f}"
            f" to {max(row['ours_times_as_fast_by_round']):.2f})"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", choices=BATCH_ROWS, default=list(BATCH_ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block-seconds", type=float, default=0.8)
    arguments = parser.parse_args()
    spec = configured()
    corpus = corpus_of(spec)
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for width in arguments.widths:
            run = run_of(spec, corpus, width)
            contestants = contestants_for(spec, corpus, run, Path(folder))
            measured.append(measure(run, contestants, arguments.rounds, arguments.block_seconds))
            print(table(measured[-1]), flush=True)
    value = {
        "rounds": arguments.rounds,
        "block_seconds": arguments.block_seconds,
        "num_cpus": os.cpu_count(),
        "libraries": library_versions(),
        "peers": (ROOT / "benchmarks" / "peers" / "requirements.txt").read_text().split(),
        "widths": measured,
    }
    write_result("training_speed", value)


if __name__ == "__main__":
    main()
