"""Tokenizers: trained here, or given; refused where bits per byte could not be counted; what tokens stand for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from sweep.corpora.tokenizer import (
    END_OF_DOCUMENT,
    Encoder,
    load_tokenizer,
    stream_dtype,
    token_contents,
    tokenizer_path,
    train_tokenizer,
)
from sweep.data import prepare_corpus
from sweep.data_spec import DataSpec
from sweep.errors import SweepError
from tests.corpora import files_spec

TEXTS = [
    f"def f_{n}(x):\n    return x + {n}  # caf\u00e9 \U0001f600 <|endoftext|> of line {n * 7}\n" * 3 for n in range(80)
]


def gpt2_like(end: str = "<|endoftext|>") -> Any:
    """A byte-level tokenizer as others publish them: its end token last, a token added for a run of spaces."""
    trained = json.loads(train_tokenizer(TEXTS, 290).to_str())
    vocabulary = {text: token - 1 for text, token in trained["model"]["vocab"].items() if text != END_OF_DOCUMENT}
    trained["model"]["vocab"], trained["added_tokens"] = vocabulary, []
    tokenizer = Tokenizer.from_str(json.dumps(trained))
    tokenizer.add_tokens([AddedToken("    ", normalized=False)])
    tokenizer.add_special_tokens([end])
    return tokenizer


@pytest.fixture
def spec(tmp_path: Path) -> DataSpec:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    gpt2_like().save(str(tmp_path / "tokenizer.json"))
    return files_spec(path, tokenizer=str(tmp_path / "tokenizer.json"), max_shared_line_fraction=0.9)


@pytest.mark.parametrize("end", [None, "<|endoftext|>"])
def test_a_given_tokenizer_gives_its_own_tokens(spec: DataSpec, tmp_path: Path, end: str | None) -> None:
    corpus = prepare_corpus(replace(spec, end_of_document=end), tmp_path / "cache")
    given = gpt2_like()
    given.encode_special_tokens = True
    assert corpus.end_token == (given.token_to_id("<|endoftext|>") if end else given.get_vocab_size())
    for split in ("train", "held_out"):
        stream = corpus.stream(split)
        for row in corpus.documents(split).to_pylist():
            tokens = stream[row["start_token"] : row["start_token"] + row["num_tokens"]].tolist()
            text = TEXTS[int(row["name"].split("#")[1])]
            assert tokens == [*given.encode(text, add_special_tokens=False).ids, corpus.end_token]
        assert corpus.token_bytes()[stream].sum() == corpus.info[split]["bytes"]
        assert (stream == corpus.end_token).sum() == corpus.info[split]["documents"]


def test_what_tokens_stand_for_is_the_text(spec: DataSpec) -> None:
    tokenizer, end = load_tokenizer(tokenizer_path(spec.tokenizer), spec)
    contents = token_contents(tokenizer)
    assert contents[end] == b"" and b"    " in contents
    for text, tokens in zip(TEXTS, Encoder(tokenizer, end, np.uint16).encode(TEXTS), strict=True):
        assert b"".join(contents[token] for token in tokens) == text.encode()


def test_a_marker_that_stands_in_a_text_ends_nothing() -> None:
    tokenizer = train_tokenizer(TEXTS, 290)
    (tokens,) = Encoder(tokenizer, 0, np.uint16).encode([f"a {END_OF_DOCUMENT} b"])
    assert (tokens == 0).sum() == 1


def test_large_vocabularies_are_stored_in_four_bytes(spec: DataSpec, tmp_path: Path) -> None:
    assert [stream_dtype(size).name for size in (257, 65_536, 65_537)] == ["uint16", "uint16", "uint32"]
    small = prepare_corpus(spec, tmp_path / "cache")
    large = prepare_corpus(replace(spec, vocab_size=100_000), tmp_path / "cache")
    assert (large.folder / "train.bin").stat().st_size == 4 * large.train_tokens
    assert np.array_equal(large.stream("train"), small.stream("train"))
    assert large.sha256 != small.sha256


def broken(**changes: Any) -> Any:
    tokenizer = gpt2_like()
    for key, value in changes.items():
        setattr(tokenizer, key, value)
    return tokenizer


def without_bytes() -> Any:
    described = json.loads(gpt2_like().to_str())
    described["model"]["vocab"].pop("\u0100")
    return Tokenizer.from_str(json.dumps(described))


@pytest.mark.parametrize(
    ("tokenizer", "found"),
    [
        (broken(normalizer=normalizers.NFC()), "it normalises texts"),
        (broken(pre_tokenizer=pre_tokenizers.Whitespace()), "it has no ByteLevel pre-tokenizer"),
        (broken(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)), "it puts a space before every text"),
        (Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")), "it is no BPE model"),
        (without_bytes(), "it lacks some of the 256 bytes"),
    ],
)
def test_a_tokenizer_that_is_not_byte_level_is_refused(
    tokenizer: Any, found: str, spec: DataSpec, tmp_path: Path
) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(SweepError, match=f"is not byte-level: .*{found}") as error:
        load_tokenizer(tmp_path / "tokenizer.json", spec)
    assert len(error.value.args) == 3


def test_a_tokenizer_that_loses_text_is_refused(spec: DataSpec, tmp_path: Path) -> None:
    """What no look at its description tells: a pre-tokenizer that throws away spaces before the bytes are made."""
    parts = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    broken(pre_tokenizer=pre_tokenizers.Sequence(parts)).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(SweepError, match="loses and adds nothing"):
        prepare_corpus(spec, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/corpus/*/corpus.json"))


@pytest.mark.parametrize(
    ("changes", "found", "todo"),
    [
        ({"vocab_size": 280}, "has 292 tokens, with the end of a document", "set data.vocab_size=292"),
        ({"end_of_document": "</s>"}, "no special token '</s>'; it has <|endoftext|>", "data.end_of_document"),
        ({"end_of_document": "def"}, "no special token 'def'", "data.end_of_document"),
        ({"tokenizer": "nowhere.json"}, "there is no such file", "correct data.tokenizer"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(
    changes: dict[str, Any], found: str, todo: str, spec: DataSpec, tmp_path: Path
) -> None:
    with pytest.raises(SweepError) as error:
        prepare_corpus(replace(spec, **changes), tmp_path / "cache")
    assert not list(tmp_path.glob("cache/corpus/*.partial/documents/*"))  # before anything is read
    assert found in error.value.args[0]
    assert todo in error.value.args[2]


def test_a_file_that_is_no_tokenizer_is_refused(spec: DataSpec, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SweepError, match="can't be read as a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json", spec)
