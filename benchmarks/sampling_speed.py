"""Speed of sampling against ``generate`` of transformers, on decoders of one shape.

    python -m benchmarks.sampling_speed [--widths 32 128] [--samples 128 512] [--rounds 7] [--block-seconds 2]

Measured: sampled tokens per CPU second (user and system, all threads). One prompt of 40 tokens, 64 new tokens a sample
at temperature 0.8, fp32, one thread each, depth 3, vocabulary 1024, context 128, 32 channels a head; 128 samples at
once, and 512, as many rows as a sweep draws side by side. Every contestant is a process (``benchmarks/peers/``) that
reads the prompt and draws all samples again and again; after the warm-up they take turns, and the medians of the
rounds count. The peer is a Llama of as many parameters in the other tools' environment, .venv-peers, with a dynamic
and with a static cache; the ratio is that to the faster one. Both have random weights, which cost what trained ones
do. Ours is all of sampling as a sweep does it: noise by number, the close calls run again in float64, stops looked for
(and never found).
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.contest import Contestant, take_turns
from benchmarks.peers.environment import python_of
from benchmarks.study import ROOT, configured, write_result
from sweep.plan import plan_run, shape_for_width
from sweep.provenance import library_versions

PROMPT_TOKENS, NEW_TOKENS, TEMPERATURE = 40, 64, 0.8
OURS = "ours"
CACHES = ("dynamic", "static")


def contestants_for(width: int, num_samples: int, folder: Path) -> list[Contestant]:
    spec = configured()
    shape = shape_for_width(width, spec.model, spec.data.vocab_size)
    rules = plan_run(shape, 1e14, 0, "fit", spec, "").spec.parametrization
    job = {
        "shape": asdict(shape),
        "parametrization": asdict(rules),
        "prompt_tokens": [1 + 13 * position % 1000 for position in range(PROMPT_TOKENS)],
        "new_tokens": NEW_TOKENS,
        "num_samples": num_samples,
        "temperature": TEMPERATURE,
    }
    ours = Contestant(OURS, "benchmarks.peers.ours_sampling", json.dumps(job), folder / "ours")
    python = python_of("peers", "requirements.txt")
    return [ours] + [
        Contestant(
            f"generate, {cache} cache",
            "benchmarks.peers.hf_generate",
            json.dumps({**job, "cache": cache}),
            folder / cache,
            python,
        )
        for cache in CACHES
    ]


def measure(
    width: int, num_samples: int, contestants: list[Contestant], num_rounds: int, block_seconds: float
) -> dict[str, Any]:
    seconds = take_turns(contestants, num_rounds, block_seconds, min_steps=1)
    for contestant in contestants:
        if contestant.failure:
            raise SystemExit(f"{contestant.name} did not last: {contestant.failure}")
    speed = {name: [num_samples * NEW_TOKENS / each for each in rounds] for name, rounds in seconds.items()}
    best_peer = max(speed.keys() - {OURS}, key=lambda name: statistics.median(speed[name]))
    ratios = [our / their for our, their in zip(speed[OURS], speed[best_peer], strict=True)]
    return {
        "width": width,
        "num_samples": num_samples,
        "tokens_per_cpu_second": {name: statistics.median(each) for name, each in speed.items()},
        "tokens_per_cpu_second_by_round": speed,
        "best_peer": best_peer,
        "ours_times_as_fast": statistics.median(ratios),
        "ours_times_as_fast_by_round": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--samples", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block-seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    measured = []
    for width, num_samples in itertools.product(arguments.widths, arguments.samples):
        with tempfile.TemporaryDirectory() as folder:
            contestants = contestants_for(width, num_samples, Path(folder))
            measured.append(measure(width, num_samples, contestants, arguments.rounds, arguments.block_seconds))
        print(json.dumps(measured[-1], indent=1), flush=True)
    value = {
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "temperature": TEMPERATURE,
        "rounds": arguments.rounds,
        "num_cpus": os.cpu_count(),
        "libraries": library_versions(),
        "peers": (ROOT / "benchmarks" / "peers" / "requirements.txt").read_text().split(),
        "contests": measured,
    }
    write_result("sampling_speed", value)


if __name__ == "__main__":
    main()
