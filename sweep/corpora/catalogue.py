"""All documents that were read, without their texts: what is kept of them, and in which order."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweep.corpora.spool import Shard
from sweep.data_spec import DataSpec


@dataclass(frozen=True)
class Catalogue:
    """All documents of all shards: one entry each, in the order in which they were read."""

    shard: NDArray[np.int64]
    source: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    num_bytes: NDArray[np.int64]
    start_byte: NDArray[np.int64]  # in the shard's text

    @classmethod
    def of(cls, shards: list[Shard]) -> "Catalogue":
        tables = [shard.table() for shard in shards]
        num_bytes = [table["num_bytes"].to_numpy() for table in tables]
        counts = [len(part) for part in num_bytes]
        return cls(
            shard=np.repeat(np.arange(len(shards)), counts),
            source=np.repeat([shard.source for shard in shards], counts).astype(np.int64),
            held_out=np.concatenate([table["held_out"].to_numpy() for table in tables]),
            num_bytes=np.concatenate(num_bytes),
            start_byte=np.concatenate([np.cumsum(part) - part for part in num_bytes]),
        )

    def orders(self, kept: NDArray[np.bool_], spec: DataSpec) -> dict[str, list[NDArray[np.int64]]]:
        """The kept documents of each split, source by source; those of train shuffled."""
        generator = np.random.default_rng(spec.shuffle_seed)
        orders: dict[str, list[NDArray[np.int64]]] = {"train": [], "held_out": []}
        for index in range(len(spec.sources)):
            mine = kept & (self.source == index)
            train = np.flatnonzero(mine & ~self.held_out)
            orders["train"].append(train[generator.permutation(len(train))])
            orders["held_out"].append(np.flatnonzero(mine & self.held_out))
        return orders
