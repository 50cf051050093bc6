"""What part of a step does reading take? Order and windows, against a step of the default ladder's smallest run.

    python -m benchmarks.loader_overhead

CPU seconds, one thread, in turn: all batches of the run read as ``train`` reads them, the making of its order
included, and steps of its model on one of these batches. The corpus is that of experiment=quick, micro documents too.
"""

import json
import statistics
import time

from benchmarks.study import corpus_of, write_result
from sweep.corpus import Corpus, windows
from sweep.plan import make_plan
from sweep.run_spec import PlannedRun
from tests.tiny import spec_of

ROUNDS, STEPS = 7, 40


def reading_seconds(corpus: Corpus, run: PlannedRun) -> tuple[float, float]:
    """CPU seconds of the order, and of the windows of all steps."""
    spec, length = run.spec, run.spec.model.context_length
    start = time.process_time()
    stream = corpus.stream("train")
    order = corpus.mixture(length).order(spec.seed, spec.num_steps * spec.batch_rows)
    ordered = time.process_time()
    for step in range(spec.num_steps):
        windows(stream, order[step * spec.batch_rows : (step + 1) * spec.batch_rows], length)
    return ordered - start, time.process_time() - ordered


def step_seconds(corpus: Corpus, run: PlannedRun) -> float:
    """CPU seconds of a training step."""
    import torch

    from models.transformer import Decoder, NextTokenLoss
    from sweep.optim import make_optimizers

    torch.set_num_threads(1)
    spec, length = run.spec, run.spec.model.context_length
    model = Decoder(spec.model, spec.parametrization)
    optimizers, loss_of = make_optimizers(model, run), NextTokenLoss(model)
    order = corpus.mixture(length).order(spec.seed, spec.batch_rows)
    batch = torch.from_numpy(windows(corpus.stream("train"), order, length))
    seconds = []
    for _ in range(STEPS):
        start = time.process_time()
        loss_of(batch[:, :-1], batch[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def main() -> None:
    spec = spec_of()
    corpus = corpus_of(spec)
    run = min(make_plan(spec, corpus.info).runs, key=lambda run: run.flops)
    rounds = []
    for _ in range(ROUNDS):
        (ordering, reading), step = reading_seconds(corpus, run), step_seconds(corpus, run)
        rounds.append((ordering / run.spec.num_steps, reading / run.spec.num_steps, step))
        print(
            f"order {rounds[-1][0] * 1e6:.0f}, windows {rounds[-1][1] * 1e6:.0f}, step {step * 1e6:.0f} us", flush=True
        )
    order_us, windows_us, step_us = (1e6 * statistics.median(part) for part in zip(*rounds, strict=True))
    found = {
        "run": run.run_id,
        "num_steps": run.spec.num_steps,
        "batch_rows": run.spec.batch_rows,
        "order_microseconds_per_step": order_us,
        "windows_microseconds_per_step": windows_us,
        "step_microseconds": step_us,
        "overhead": (order_us + windows_us) / step_us,
    }
    write_result("loader_overhead", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
