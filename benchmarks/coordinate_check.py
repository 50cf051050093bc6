"""Do activations and their updates keep their size over width and depth?

    python -m benchmarks.coordinate_check

Ten steps at the recipe's peak rate on one batch of the corpus, two seeds. Measured as root mean square at the last
block's output: its size before and after the steps, and its change; and the change of the logits. Under the rules they
should be flat; with the rules switched off (every shape its own base) they grow.
"""

import sys
from dataclasses import replace
from typing import Any

from benchmarks.learning_rate_transfer import SETTINGS
from benchmarks.study import configured, corpus_of, write_result
from sweep.corpus import Corpus, windows
from sweep.plan import plan_run, planned_run, shape_for_width
from sweep.spec import SweepSpec

WIDTHS, DEPTHS, SEEDS = (32, 64, 128, 256, 512), (2, 4, 8, 16), (0, 1)
STEPS, ROWS = 10, 8


def measure(spec: SweepSpec, corpus: Corpus, width: int, depth: int, seed: int, rules: bool) -> dict[str, float]:
    import torch

    from models.transformer import Decoder, NextTokenLoss
    from sweep.optim import make_optimizers, set_learning_rate

    torch.manual_seed(seed)
    model_shape = replace(shape_for_width(width, spec.model, spec.data.vocab_size), depth=depth)
    run_spec = plan_run(model_shape, 1e14, seed, "fit", spec, corpus.info["sha256"]).spec
    if not rules:
        run_spec = replace(run_spec, base_width=width, base_depth=depth)
    run = planned_run(run_spec, 1.0, "fit")
    model = Decoder(model_shape, run_spec.parametrization)
    optimizers = make_optimizers(model, run)
    set_learning_rate(optimizers, 1.0)
    length = model_shape.context_length
    stream = corpus.stream("train")
    batch = torch.from_numpy(windows(stream, corpus.mixture(length).order(seed, ROWS), length))
    stream_BTD: list[Any] = []
    model.blocks[-1].register_forward_hook(lambda module, inputs, output: stream_BTD.append(output.detach()))
    loss_of = NextTokenLoss(model)

    def look() -> Any:
        with torch.no_grad():
            return model(batch[:, :-1])

    logits_before = look()
    for _ in range(STEPS):
        loss_of(batch[:, :-1], batch[:, 1:]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    logits_after = look()

    def size(x: Any) -> float:
        return float(x.square().mean().sqrt())

    return {
        "stream_before": size(stream_BTD[0]),
        "stream_after": size(stream_BTD[-1]),
        "stream_change": size(stream_BTD[-1] - stream_BTD[0]),
        "logit_change": size(logits_after - logits_before),
    }


def main() -> None:
    settings = {name: configured(*overrides) for name, overrides in SETTINGS.items()}
    corpus = corpus_of(next(iter(settings.values())))
    rows = []
    for name, spec in settings.items():
        for width, depth in [(width, 3) for width in WIDTHS] + [(64, depth) for depth in DEPTHS]:
            each = [measure(spec, corpus, width, depth, seed, rules=not name.endswith("off")) for seed in SEEDS]
            mean = {key: sum(one[key] for one in each) / len(each) for key in each[0]}
            rows.append({"setting": name, "width": width, "depth": depth, **mean})
            print(f"{name:18} width {width:4} depth {depth:3} " + str(mean), file=sys.stderr)
    write_result("coordinate_check", {"steps": STEPS, "rows": rows})


if __name__ == "__main__":
    main()
