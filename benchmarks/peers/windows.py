"""The training tokens of this project, as the other tools' data loaders take them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class Windows(Dataset[Tensor]):
    """Windows of ``length + 1`` tokens of a file of uint16."""

    def __init__(self, tokens: Path, length: int) -> None:
        self._stream = np.memmap(tokens, dtype=np.uint16, mode="r")
        self._length = length

    def __len__(self) -> int:
        return (len(self._stream) - 1) // self._length

    def __getitem__(self, index: int) -> Tensor:
        start = index * self._length
        return torch.from_numpy(self._stream[start : start + self._length + 1].astype(np.int64))
