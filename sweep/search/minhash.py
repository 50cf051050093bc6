"""Documents that are nearly the same as one of a given few: MinHash proposes pairs, the shingles decide.

A document is the set of its runs of 5 words (``sweep/search/overlap.py`` says what a word is); two documents are as
similar as the Jaccard index of their sets (Broder 1997, "On the resemblance and containment of documents"). Pairs that
agree in one of 32 bands of 4 of the 128 values of a sketch are compared in full, so nothing is reported that is not as
similar as it is said to be, up to collisions of 64-bit hashes. A pair of similarity s is proposed with probability
1 - (1 - s^4)^32: 0.9998 at 0.7, 0.87 at 0.5 (Leskovec et al. 2014, "Mining of massive datasets", section 3.4).

Shape suffixes: S shingles, D documents, M sketch values, K bands.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.search.overlap import Hashes, Words

SHINGLE_WORDS = 5  # and 0.7: as for the code of StarCoder (Li et al. 2023, "StarCoder: may the source be with you!")
NUM_VALUES, NUM_BANDS = 128, 32
_SEED = 0
_BAND_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Shingles:
    """The runs of words of documents, one document after the other; ``bounds`` has shape (documents + 1,)."""

    hash_S: Hashes
    bounds: NDArray[np.int64]

    def of(self, document: int) -> Hashes:
        """The set of one document, sorted."""
        return np.unique(self.hash_S[self.bounds[document] : self.bounds[document + 1]])

    def bands(self) -> Hashes:
        """A hash for each band of each document's sketch, shape (D, K)."""
        from rensa import RMinHash

        matrix: Any = RMinHash.digest_matrix_from_flat_token_hashes(
            self.hash_S, self.bounds.astype(np.uint64), num_perm=NUM_VALUES, seed=_SEED
        )
        sketch_DM = np.array(matrix.to_rows(), dtype=np.uint64)
        band_DKR = sketch_DM.reshape(len(sketch_DM), NUM_BANDS, -1)
        hash_DK = np.broadcast_to(np.arange(NUM_BANDS, dtype=np.uint64), band_DKR.shape[:2])
        for row in np.moveaxis(band_DKR, -1, 0):
            hash_DK = (hash_DK ^ row) * _BAND_BASE
            hash_DK = hash_DK ^ (hash_DK >> np.uint64(29))
        return hash_DK


def shingles_of(words: Words, num_documents: int) -> Shingles:
    """The shingles of every document; one with fewer words than a shingle has none."""
    hash_S, word_S = words.gram_hashes(SHINGLE_WORDS)
    counts = np.bincount(words.document_W[word_S], minlength=num_documents)
    return Shingles(hash_S, np.concatenate(([0], np.cumsum(counts))))


@dataclass(frozen=True)
class NearDuplicate:
    document: int
    similarity: float


class NearDuplicateSearch:
    """A few documents, and for each the most similar of all that were seen, if it is similar enough."""

    def __init__(self, shingles: Shingles, threshold: float) -> None:
        num_documents = len(shingles.bounds) - 1
        self.nearest: list[NearDuplicate | None] = [None] * num_documents
        self._threshold = threshold
        sets = [shingles.of(document) for document in range(num_documents)]
        self._sizes_D = np.array([len(one) for one in sets])
        owner = np.repeat(np.arange(num_documents), self._sizes_D)
        order = np.argsort(hashes := np.concatenate([*sets, np.empty(0, np.uint64)]), kind="stable")
        self._hash_S, self._owner_S = hashes[order], owner[order]
        self._band_hashes = np.unique(shingles.bands()[self._sizes_D > 0])

    def look(self, shingles: Shingles, first_document: int) -> None:
        """Compare documents, of which the first has the number ``first_document``."""
        proposed_D = np.isin(shingles.bands(), self._band_hashes).any(axis=1) & (np.diff(shingles.bounds) > 0)
        for document in np.flatnonzero(proposed_D).tolist():
            self._compare(shingles.of(document), first_document + document)

    def _compare(self, hash_S: Hashes, document: int) -> None:
        low = np.searchsorted(self._hash_S, hash_S, "left")
        counts = np.searchsorted(self._hash_S, hash_S, "right") - low
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        shared_D = np.bincount(self._owner_S[np.repeat(low, counts) + within], minlength=len(self.nearest))
        similarity_D = shared_D / np.maximum(self._sizes_D + len(hash_S) - shared_D, 1)
        for mine in np.flatnonzero(similarity_D >= self._threshold).tolist():
            found = NearDuplicate(document, float(similarity_D[mine]))
            self.nearest[mine] = nearer(self.nearest[mine], found)


def nearer(one: NearDuplicate | None, other: NearDuplicate | None) -> NearDuplicate | None:
    """The more similar of two, of equals the earlier document."""
    both = [found for found in (one, other) if found is not None]
    return min(both, key=lambda found: (-found.similarity, found.document), default=None)
