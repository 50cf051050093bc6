"""Byte-level tokenizers: trained here, or given; what each of their tokens stands for in bytes.

Bits per byte are counted from the bytes of tokens, so a tokenizer has to be one from whose tokens every text comes
back byte for byte.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sweep.corpora import hub
from sweep.data_spec import HUB, DataSpec
from sweep.errors import SweepError

END_OF_DOCUMENT = "<|endofdocument|>"
_BATCH_BYTES = 1 << 20  # encoded at once: tokenizers takes a hundred bytes a token until it is done


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Byte-level BPE that splits numbers into digits; token 0 ends a document."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenizer_path(name: str) -> Path:
    """The tokenizer.json that data.tokenizer names.

    Raises:
        SweepError: there is none.
    """
    path = hub.tokenizer_file(name.removeprefix(HUB)) if name.startswith(HUB) else Path(name)
    if not path.is_file():
        raise SweepError(
            f"data.tokenizer is {name!r}, and there is no such file (looked from {Path.cwd()})",
            f"trained, the path of a tokenizer.json, or {HUB}owner/name[@revision]",
            "correct data.tokenizer",
        )
    return path


def load_tokenizer(path: Path, spec: DataSpec) -> tuple[Any, int]:
    """A given tokenizer and its token that ends a document; added to it if it is ours.

    Raises:
        SweepError: it is not byte-level, has no such token, or more tokens than data.vocab_size.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise SweepError(
            f"{path} can't be read as a tokenizer ({error})",
            "a tokenizer.json as the tokenizers library writes it",
            "correct data.tokenizer",
        ) from error
    if spec.end_of_document is None:
        tokenizer.add_special_tokens([END_OF_DOCUMENT])
    marker = spec.end_of_document or END_OF_DOCUMENT
    special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    end_token = tokenizer.token_to_id(marker)
    if end_token not in special:
        names = sorted(added.content for added in tokenizer.get_added_tokens_decoder().values() if added.special)
        raise SweepError(
            f"the tokenizer {path} has no special token {marker!r}; it has {', '.join(names) or 'none'}",
            "the special token that ends a document",
            "set data.end_of_document to one of these, or to null: a token is added",
        )
    _check_size(tokenizer, spec)
    _check_byte_level(tokenizer, path)
    return tokenizer, end_token


def _check_size(tokenizer: Any, spec: DataSpec) -> None:
    size = max(tokenizer.get_vocab().values()) + 1
    if size > spec.vocab_size:
        raise SweepError(
            f"the tokenizer {spec.tokenizer} has {size:,} tokens, with the end of a document;"
            f" data.vocab_size, and so the model, has {spec.vocab_size:,}",
            "a vocabulary of the model in which every token has its place",
            f"set data.vocab_size={size}",
        )


def _check_byte_level(tokenizer: Any, path: Path) -> None:
    described = json.loads(tokenizer.to_str())
    prefix = [part for part in _parts(described["pre_tokenizer"]) if part.get("add_prefix_space")]
    alphabet = set(_byte_of())
    reasons = {
        "it is no BPE model": described["model"]["type"] != "BPE",
        "it normalises texts before it splits them": described["normalizer"] is not None,
        "it puts a space before every text": bool(prefix),
        "it has no ByteLevel pre-tokenizer": "ByteLevel" not in {p["type"] for p in _parts(described["pre_tokenizer"])},
        "it lacks some of the 256 bytes": not alphabet <= set(described["model"]["vocab"]),
        "it has tokens that are no bytes": any(not set(token) <= alphabet for token in _texts_of_bytes(described)),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise SweepError(
            f"the tokenizer {path} is not byte-level: {'; '.join(found)}",
            "byte-level BPE (as GPT-2's, Llama 3's, StarCoder's): bits per byte are counted from its tokens' bytes",
            "use another tokenizer, or data.tokenizer=trained",
        )


def _parts(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    if described is None:
        return []
    inner = described.get("pretokenizers")
    return [described] if inner is None else [part for one in inner for part in _parts(one)]


def _texts_of_bytes(described: dict[str, Any]) -> set[str]:
    """Tokens of a vocabulary that are written in the byte alphabet: all but those that were added."""
    return set(described["model"]["vocab"]) - {added["content"] for added in described["added_tokens"]}


def _byte_of() -> dict[str, int]:
    """The byte of each character of a byte-level vocabulary.

    A byte that prints is written as itself; the others, in order, as the characters from 256 on (Radford et al. 2019).
    """
    prints = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in prints]
    return {chr(byte): byte for byte in prints} | {chr(256 + index): byte for index, byte in enumerate(others)}


def token_contents(tokenizer: Any) -> list[bytes]:
    """The bytes that each token stands for; special tokens, such as the end of a document, and gaps have none."""
    byte_of, vocabulary = _byte_of(), tokenizer.get_vocab()
    added = tokenizer.get_added_tokens_decoder()
    contents = [b""] * (max(vocabulary.values()) + 1)
    for text, token in vocabulary.items():
        if token not in added:
            contents[token] = bytes(byte_of[character] for character in text)
        elif not added[token].special:  # an added token stands for its text, such as a run of spaces
            contents[token] = added[token].content.encode()
    return contents


def stream_dtype(vocab_size: int) -> np.dtype[Any]:
    """What a token of a stream is stored as."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class Encoder:
    """Turns documents into tokens, each document ended by the end token."""

    def __init__(self, tokenizer: Any, end_token: int, dtype: DTypeLike) -> None:
        tokenizer.encode_special_tokens = True  # a marker that stands in a text is text, and ends nothing
        self._tokenizer, self._end_token, self._dtype = tokenizer, end_token, np.dtype(dtype)
        self._token_bytes = np.array([len(content) for content in token_contents(tokenizer)])

    def encode(self, texts: list[str]) -> list[NDArray[Any]]:
        """One array of tokens for each text.

        Raises:
            SweepError: the tokens do not stand for the text's bytes.
        """
        found, start = [], 0
        while start < len(texts):
            end, num_chars = start, 0
            while end < len(texts) and (end == start or num_chars + len(texts[end]) <= _BATCH_BYTES):
                num_chars += len(texts[end])
                end += 1
            batch = texts[start:end]
            for text, encoding in zip(
                batch, self._tokenizer.encode_batch_fast(batch, add_special_tokens=False), strict=True
            ):
                tokens = np.array([*encoding.ids, self._end_token], dtype=self._dtype)
                self._check(tokens, text)
                found.append(tokens)
            start = end
        return found

    def _check(self, tokens: NDArray[Any], text: str) -> None:
        num_bytes = len(text.encode())
        if self._token_bytes[tokens].sum() != num_bytes:
            raise SweepError(
                f"the tokenizer makes tokens of {self._token_bytes[tokens].sum():,} bytes from {num_bytes:,} bytes of"
                f" text that begin {text[:60]!r}",
                "a tokenizer that loses and adds nothing: bits per byte are counted from its tokens' bytes",
                "use another tokenizer, or data.tokenizer=trained",
            )
