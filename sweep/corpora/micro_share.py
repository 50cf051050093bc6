"""The micro problems' training examples in a corpus: as many documents as make up their share of its tokens."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from sweep.corpora.tokenizer import Encoder
from sweep.data_spec import DataSpec
from sweep.errors import SweepError
from sweep.micro.documents import training_documents
from sweep.micro.scan import scan

MICRO = "micro"  # the name of the source and of its group
_BATCH = 1000


@dataclass(frozen=True)
class MicroDocument:
    text: str
    tokens: NDArray[Any]


def micro_documents(encoder: Encoder, spec: DataSpec, num_other_tokens: int) -> list[MicroDocument]:
    """Micro documents that make up their share of all training tokens.

    Raises:
        SweepError: one of them shows what is evaluated.
    """
    wanted = round(num_other_tokens * spec.micro_fraction / (1 - spec.micro_fraction))
    if not wanted:
        return []
    source = iter(training_documents(spec.shuffle_seed))
    documents: list[MicroDocument] = []
    num_tokens = 0
    while num_tokens < wanted:
        texts = list(islice(source, _BATCH))
        for text, tokens in zip(texts, encoder.encode(texts), strict=True):
            if num_tokens < wanted:
                documents.append(MicroDocument(text, tokens))
                num_tokens += len(tokens)
    hits = scan(document.text for document in documents)
    if hits:
        raise SweepError(
            f"{len(hits)} micro documents show what is evaluated, such as {hits[0].task_id}: {hits[0].document!r}",
            "training examples of other combinations than the evaluated ones",
            "this is a fault of the grammar (sweep/micro/grammar.py): report it",
        )
    return documents
