"""Evaluate a trained run: held-out loss with its standard error, loss by position, copy score.

Reads ``checkpoint/`` and the held-out tokens; writes ``eval.json``. Every run of a sweep sees the
same tokens in the same windows.

Phase probe: a shuffled sequence of held-out tokens is shown twice in a row. Its first showing
can't be predicted; its second can, by a model that copies from its context. The copy score is the
loss on the first showing less that on the second (Olsson et al. 2022 use the same contrast).

Shape suffixes: B batch, T position, V vocabulary.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sweep.clean import clean_losses, clean_places
from sweep.corpus import Corpus, windows
from sweep.folder import RunFolder, write_json
from sweep.memory import EVALUATION_ROWS
from sweep.mixture import num_windows
from sweep.run_spec import PlannedRun
from sweep.spec import EvaluationSpec, MachineSpec
from sweep.trained import load_model

_PROBE_SEED = 0


def evaluate(
    run: PlannedRun,
    folder: RunFolder,
    corpus: Corpus,
    machine: MachineSpec,
    contamination: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure the run's final weights and write ``eval.json``.

    The loss is given a second time without the held-out documents that ``contamination`` (of contamination.json) names.

    Raises:
        CorruptFile: the checkpoint is damaged.
    """
    spec, evaluation = run.spec, run.spec.evaluation
    fabric, model = load_model(run, folder, machine.accelerator, machine.precision)

    def losses(tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        parts = [
            token_losses(model, fabric.to_device(torch.from_numpy(tokens[start : start + EVALUATION_ROWS])))
            for start in range(0, len(tokens), EVALUATION_ROWS)
        ]
        return torch.cat(parts).double().cpu().numpy()

    length = spec.model.context_length
    rows = held_out_rows(corpus, evaluation, length)
    held_out = windows(corpus.stream("held_out"), rows, length)
    losses_BT = losses(held_out)
    places_BT = rows[:, None] * length + np.arange(1, length + 1)
    is_clean_BT = None if contamination is None else clean_places(corpus, contamination, places_BT)
    result = {
        "run_id": run.run_id,
        **summarise_losses(losses_BT, held_out[:, 1:], corpus.token_bytes(), evaluation.position_bins),
        **clean_losses(losses_BT, is_clean_BT, contamination),
        **split_by_repetition(losses_BT, held_out),
        **copy_scores(losses(copy_probe(corpus, evaluation)), evaluation.copy_length),
    }
    write_json(folder.eval, result)
    return result


@torch.no_grad()
def token_losses(model: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Loss in nats of each token after the first of each row: (B, T + 1) tokens give (B, T) losses."""
    logits_BTV, targets_BT = model(tokens[:, :-1]), tokens[:, 1:]
    # Flat: with the vocabulary in the middle, (B, V, T), the loss of a small model takes thrice its forward pass.
    losses = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none")
    return losses.view(targets_BT.shape)


def held_out_rows(corpus: Corpus, evaluation: EvaluationSpec, length: int) -> NDArray[np.int64]:
    """Numbers of windows spread evenly over the held-out stream, so every held-out package is in it."""
    available, wanted = num_windows(len(corpus.stream("held_out")), length), evaluation.held_out_tokens // length
    return np.linspace(0, available - 1, wanted).astype(np.int64)


def summarise_losses(
    losses_BT: NDArray[np.float64], targets_BT: NDArray[np.int64], token_bytes_V: NDArray[np.int64], bins: int
) -> dict[str, Any]:
    """Mean loss with its standard error, bits per byte, and loss by position.

    Tokens of one window hang together, so the standard error is that of the windows' means.
    """
    window_means = losses_BT.mean(axis=1)
    num_bytes = int(token_bytes_V[targets_BT].sum())
    return {
        "loss_nats": float(losses_BT.mean()),
        "loss_se_nats": float(window_means.std(ddof=1) / math.sqrt(len(window_means))),
        "bits_per_byte": float(losses_BT.sum() / math.log(2) / num_bytes),
        "held_out_tokens": int(losses_BT.size),
        "held_out_bytes": num_bytes,
        "loss_by_position_nats": [float(part.mean()) for part in np.array_split(losses_BT, bins, axis=1)],
    }


def split_by_repetition(losses_BT: NDArray[np.float64], tokens: NDArray[np.int64]) -> dict[str, Any]:
    """Mean loss of tokens that follow as they did earlier in their window, and of all others.

    A token counts as repeated if it and the token before it stand next to each other at an earlier
    place of the same window: a model that copies can tell it, a model without context can't. A mean over
    no token is None.
    """
    pairs_BT = tokens[:, :-1] << 32 | tokens[:, 1:]
    earlier_TT = np.tri(pairs_BT.shape[1], k=-1, dtype=bool)
    repeated_BT = np.stack([((row[:, None] == row) & earlier_TT).any(axis=1) for row in pairs_BT])
    return {
        "loss_repeated_nats": float(losses_BT[repeated_BT].mean()) if repeated_BT.any() else None,
        "loss_new_nats": float(losses_BT[~repeated_BT].mean()) if not repeated_BT.all() else None,
        "repeated_fraction": float(repeated_BT.mean()),
    }


def copy_probe(corpus: Corpus, evaluation: EvaluationSpec) -> NDArray[np.int64]:
    """Shuffled held-out sequences, each shown twice: shape (copy_sequences, 2 * copy_length)."""
    generator = np.random.default_rng(_PROBE_SEED)
    stream = corpus.stream("held_out")
    starts = np.linspace(0, len(stream) - evaluation.copy_length, evaluation.copy_sequences).astype(np.int64)
    sequences = [generator.permutation(stream[start : start + evaluation.copy_length]) for start in starts]
    once = np.stack(sequences).astype(np.int64)
    return np.concatenate((once, once), axis=1)


def copy_scores(losses_BT: NDArray[np.float64], copy_length: int) -> dict[str, float]:
    """Mean loss of both showings and their difference; the second starts with its second token.

    Column ``t`` holds the loss of token ``t + 1``. The first token of the second showing can't be
    told by copying, so it belongs to neither.
    """
    first = float(losses_BT[:, : copy_length - 1].mean())
    second = float(losses_BT[:, copy_length:].mean())
    return {"copy_first_nats": first, "copy_second_nats": second, "copy_score_nats": first - second}
