"""What keeping freed memory is worth: steps of training with glibc's defaults against ours.

    python -m benchmarks.keep_memory

Each measurement is a process of its own, single-threaded, as sweep workers are; the two kinds take turns.
"""

import multiprocessing
import statistics
import time

from models.config import DecoderConfig
from models.parametrization import parametrize
from sweep.workers import keep_freed_memory

PAIRS, STEPS, ROWS = 7, 40, 5
CONFIG = DecoderConfig(width=28, depth=3, num_heads=1, mlp_ratio=4, conv_taps=3, vocab_size=1024, context_length=128)


def seconds_per_step(keep: bool) -> float:
    import torch
    import torch.nn.functional as F

    from models.transformer import Decoder

    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    rules = parametrize(
        CONFIG,
        optimizer="adamw",
        learning_rate=0.01,
        hidden_learning_rate=0.01,
        adam_eps=1e-10,
        weight_decay_per_step=0.0,
        base_width=64,
        base_depth=3,
    )
    model = Decoder(CONFIG, rules)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batch = torch.randint(0, CONFIG.vocab_size, (ROWS, CONFIG.context_length + 1))
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:])


def main() -> None:
    ratios = []
    for _ in range(PAIRS):
        both = []
        for keep in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                both.append(pool.apply(seconds_per_step, (keep,)))
        ratios.append(both[0] / both[1])
        print(f"glibc's defaults {both[0] * 1e3:5.1f} ms, kept {both[1] * 1e3:5.1f} ms a step: {ratios[-1]:.2f} times")
    print(f"median of {PAIRS}: {statistics.median(ratios):.2f} times as fast")


if __name__ == "__main__":
    main()
