"""Training examples: an endless stream of small functions, no text twice, nothing that is evaluated."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from sweep.micro.grammar import Grammar


def training_documents(seed: int) -> Iterator[str]:
    """Whole functions of trained-on combinations, the same for the same seed, none of them twice."""
    grammar = Grammar(f"documents {seed}")
    seen: set[bytes] = set()
    while True:
        function = grammar.function()
        digest = hashlib.sha256(function.text.encode()).digest()[:16]
        if function.is_trainable and digest not in seen:
            seen.add(digest)
            yield function.text


def lexicon_sha256() -> str:
    """Hash of the source that decides the documents."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
