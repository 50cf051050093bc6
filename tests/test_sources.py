"""Documents from files: what is read, what is left out and counted, what is refused, on which side a group is."""

import gzip
import json
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from sweep.corpora.sources import Document, Reader, fingerprint, held_out_rule
from sweep.corpus import Corpus
from sweep.data import prepare_corpus
from sweep.data_spec import DataSpec, SourceSpec, check_data
from sweep.errors import SweepError
from sweep.page.tables import override
from tests.corpora import code_spec, data_spec, files_spec
from tests.tiny import ROOT, spec_of


def texts(count: int, of: str = "a") -> list[str]:
    return [f"document {n} of {of}\n" + f"a line that only document {n} of {of} has " * 3 for n in range(count)]


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(spec: DataSpec) -> tuple[list[Document], Reader]:
    _, found = fingerprint(spec.sources[0])
    reader = Reader(spec.sources[0], found)
    return list(reader), reader


def refused(spec: DataSpec, cache: Path) -> str:
    with pytest.raises(SweepError) as error:
        prepare_corpus(spec, cache)
    assert all(error.value.args) and len(error.value.args) == 3
    assert not list(cache.glob("corpus/*/corpus.json"))
    return str(error.value)


def test_rows_of_parquet_and_json_lines_and_whole_files_of_text(tmp_path: Path) -> None:
    data = tmp_path / "tests" / "data"  # a folder of this name once made datasets see a test split alone
    write_rows(data / "a.jsonl", [{"text": text} for text in texts(3, "a")])
    write_rows(data / "b.jsonl.gz", [{"text": text} for text in texts(2, "b")])
    pyarrow.parquet.write_table(pyarrow.table({"text": texts(3, "c")}), data / "c.parquet")
    (data / "repo" / "d.py").parent.mkdir()
    (data / "repo" / "d.py").write_text(texts(1, "d")[0])
    (data / ".hidden").write_text("not this")
    documents, _ = read(files_spec(data, group_column=None))
    assert [document.text for document in documents] == texts(3, "a") + texts(2, "b") + texts(3, "c") + texts(1, "d")
    names = [*(f"a.jsonl#{n}" for n in range(3)), *(f"b.jsonl.gz#{n}" for n in range(2))]
    assert [document.name for document in documents] == [*names, *(f"c.parquet#{n}" for n in range(3)), "repo/d.py"]


def test_a_reader_goes_on_where_another_stopped(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"text": text} for text in texts(5, "a")])
    (tmp_path / "b.txt").write_text(texts(1, "b")[0])
    write_rows(tmp_path / "c.jsonl", [{"text": text} for text in texts(4, "c")])
    spec = files_spec(tmp_path)
    whole, last = read(spec)
    for stop in range(1, 10):
        _, found = fingerprint(spec.sources[0])
        first = Reader(spec.sources[0], found)
        begun = list(islice(first, stop))
        rest = Reader(spec.sources[0], found, json.loads(json.dumps(first.state())))
        assert begun + list(rest) == whole
        assert rest.position == last.position


def test_files_that_are_not_utf8_are_left_out_named_and_counted(tmp_path: Path) -> None:
    for number, text in enumerate(texts(40)):
        (tmp_path / f"{number:02}.txt").write_text(text)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9 in Latin-1, a line long enough".encode("latin-1"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "good"}\n{"text": "caf\xe9"}\n')
    (tmp_path / "cut.txt").write_bytes("ends within a letter: \u00e9".encode()[:-1])
    write_rows(tmp_path / "rows.jsonl", [{"text": "x" * 2000}, {"text": " "}])
    spec = files_spec(tmp_path, max_document_bytes=1000)
    corpus = prepare_corpus(spec, tmp_path.parent / f"{tmp_path.name}-cache")
    (source,) = corpus.info["sources"]
    assert source["left_out"] == {"not UTF-8": 3, "longer than max_document_bytes": 1, "empty": 1}
    assert source["not_utf8"] == ["cut.txt", "latin.jsonl", "latin.txt"]
    assert corpus.info["train"]["documents"] + corpus.info["held_out"]["documents"] == 40


@pytest.mark.parametrize(
    ("content", "name", "found"),
    [
        (b"", "empty.jsonl", "the source files of data.sources has no document (it is empty)"),
        (b'{"text": " "}\n{"text": null}\n', "blank.jsonl", "has no document (2 left out: empty)"),
        (b'{"text": "one document that stands alone"}\n', "one.jsonl", "no document is held out"),
        (b'{"body": "a", "license": "mit"}\n', "other.jsonl", "no column 'text'; its columns are body, license"),
        (b'{"text": 7}\n', "number.jsonl", "has a int in its column 'text'"),
        (b'{"text": "a"}\n{"text": \n', "broken.jsonl", "broken.jsonl can't be read as json"),
        (b'{"text": "half a letter: \\ud800"}\n', "half.jsonl", "half.jsonl can't be read as json"),
        (b"PAR1 it is not", "damaged.parquet", "damaged.parquet can't be read as parquet"),
        (b"no gzip at all", "damaged.jsonl.gz", "damaged.jsonl.gz can't be read as json"),
        (b"\xff\xfe", "utf16.txt", "has no document (1 left out: not UTF-8)"),
    ],
)
def test_bad_files_are_refused(content: bytes, name: str, found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert found in refused(files_spec(tmp_path / name), tmp_path / "cache")


def test_nothing_at_a_path_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"text": "a"}])
    assert "nothing at" in refused(files_spec(tmp_path / "a.jsonl", tmp_path / "nowhere" / "*.txt"), tmp_path / "cache")


def test_filters_and_limits(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": text, "license": ["mit", "gpl", None][n % 3]} for n, text in enumerate(texts(30))
    ]
    path = write_rows(tmp_path / "a.jsonl", rows)
    documents, reader = read(files_spec(path, filters={"license": ["mit"]}))
    assert [document.text for document in documents] == texts(30)[::3]
    assert reader.position["left_out"] == {"filtered by license": 20}
    size = len(texts(30)[0])
    documents, _ = read(files_spec(path, max_bytes=3 * size + 1))
    assert len(documents) == 4


def grouped(tmp_path: Path, **changes: object) -> Corpus:
    rows: list[dict[str, object]] = [{"text": text, "repo": f"r{n % 25}"} for n, text in enumerate(texts(300))]
    path = write_rows(tmp_path / "a.jsonl", rows)
    return prepare_corpus(files_spec(path, group_column="repo", **changes), tmp_path / "cache")


def groups(corpus: Corpus, split: str) -> set[str]:
    return set(corpus.documents(split)["group"].to_pylist())


def test_a_group_is_on_one_side_alone(tmp_path: Path) -> None:
    corpus = grouped(tmp_path, held_out_fraction=0.2, held_out_groups=["r7"])
    held_out, train = groups(corpus, "held_out"), groups(corpus, "train")
    assert not held_out & train
    assert held_out | train == {f"r{n}" for n in range(25)}
    assert "r7" in held_out and 2 <= len(held_out) <= 12


def test_a_group_is_on_the_same_side_whatever_source_it_comes_from(tmp_path: Path) -> None:
    paths = [
        write_rows(tmp_path / f"{of}.jsonl", [{"text": t, "repo": f"r{n % 25}"} for n, t in enumerate(texts(200, of))])
        for of in "ab"
    ]
    sources = [SourceSpec(path.stem, "files", paths=[str(path)], group_column="repo") for path in paths]
    corpus = prepare_corpus(data_spec(*sources, held_out_fraction=0.2), tmp_path / "cache")
    rows = corpus.documents("held_out").to_pylist()
    assert {row["source"] for row in rows} == {"a", "b"}
    assert not groups(corpus, "held_out") & groups(corpus, "train")


def test_documents_without_a_group_are_split_by_their_text() -> None:
    """Half of them with a fraction of a half; the same text is always on the same side."""
    rule = held_out_rule(data_spec(held_out_fraction=0.5))
    sides = [rule(Document(f"x/{n}", text)) for n, text in enumerate(texts(1000))]
    assert 430 < sum(sides) < 570
    assert sides == [rule(Document(f"y/{n}", text)) for n, text in enumerate(texts(1000))]


def test_other_content_is_another_corpus_and_a_touched_file_is_not(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": text} for text in texts(100)])
    first = prepare_corpus(files_spec(path), tmp_path / "cache")
    path.write_bytes(path.read_bytes())
    assert prepare_corpus(files_spec(path), tmp_path / "cache").folder == first.folder
    write_rows(path, [{"text": text} for text in texts(101)])
    assert prepare_corpus(files_spec(path), tmp_path / "cache").folder != first.folder


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": text} for text in texts(5)])
    spec = files_spec(path)
    _, found = fingerprint(spec.sources[0])
    reader = iter(Reader(spec.sources[0], found))
    next(reader)
    with path.open("a") as file:
        file.write('{"text": "more"}\n')
    with pytest.raises(SweepError, match="has changed while it was read"):
        list(reader)


# ---- the configuration ------------------------------------------------------------------------


def two(first: float | None, second: float | None) -> DataSpec:
    sources = [SourceSpec(name, "files", weight=weight, paths=["x"]) for name, weight in (("a", first), ("b", second))]
    return data_spec(*sources)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (two(0.5, 0.4), "a 0.5, b 0.4: they add up to 0.9"),
        (two(0.5, None), "a 0.5, b None"),
        (two(-0.5, 1.5), r"data.sources\[0\].weight is -0.5"),
        (data_spec(SourceSpec("a", "parquet")), "kind is 'parquet'"),
        (data_spec(SourceSpec("a", "files")), r"data.sources\[0\].paths of the source a is not set"),
        (data_spec(SourceSpec("a", "hub", dataset="x/y")), "split of the source a is not set"),
        (data_spec(SourceSpec("a", "files", paths=["x"], dataset="x/y")), "dataset of the source a is set"),
        (data_spec(SourceSpec("micro", "files", paths=["x"])), "name is 'micro'"),
        (data_spec(*[SourceSpec("a", "files", paths=["x"])] * 2), "names that come twice"),
        (files_spec(Path("x"), held_out_fraction=0.0), "data.held_out_fraction is 0"),
        (code_spec(held_out_groups=["x"]), None),
        (two(1 / 3, 2 / 3), None),
    ],
)
def test_what_can_be_seen_to_be_wrong_is_refused_before_anything_is_read(spec: DataSpec, found: str | None) -> None:
    if found is None:
        return check_data(spec)
    with pytest.raises(SweepError, match=found) as error:
        check_data(spec)
    assert len(error.value.args) == 3
    return None


@pytest.mark.parametrize(
    "overrides",
    [
        ("data=files", "data.sources.0.paths=[corpus/*.parquet]", "+data.sources.0.filters.license=[mit,apache-2.0]"),
        ("data=hub", "data.sources.0.dataset=me/code", "data.sources.0.group_column=repo"),
        ("data=mixed", "data.sources.1.paths=[notes]", "data.sources.1.group_column=folder"),
    ],
)
def test_every_example_of_the_configuration_composes(overrides: tuple[str, ...]) -> None:
    data = spec_of(*overrides).data
    assert data.vocab_size == 1024
    if "data=files" in overrides:
        assert data.sources[0].filters == {"license": ["mit", "apache-2.0"]}


def test_a_misspelt_key_of_a_source_is_refused() -> None:
    with pytest.raises(Exception, match="pathz"):
        spec_of("data=files", "data.sources.0.pathz=[x]")


def test_every_key_is_explained() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    for spec in (SourceSpec, DataSpec):
        for field in fields(spec):
            assert f"`{field.name}`" in page, field.name


def test_the_settings_that_the_report_spells_out_make_the_same_configuration() -> None:
    data = spec_of(
        "data=mixed", "data.sources.1.paths=[notes, a b/*.txt]", "+data.sources.1.filters.license=[mit]"
    ).data
    settings = [f"data.{key}={override(value)}" for key, value in asdict(data).items()]
    assert spec_of(*settings).data == data
