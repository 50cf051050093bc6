"""Source out of wheels: which files of which packages, each package on one side, damage and doubles refused."""

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sweep.corpora.sources import Document, Reader, fingerprint
from sweep.data import prepare_corpus
from sweep.data_spec import DataSpec, SourceSpec
from sweep.errors import SweepError
from tests.corpora import data_spec, wheel
from tests.tiny import ROOT


def source_text(name: str, num_lines: int = 12) -> str:
    return "".join(f"{name}_{line} = 'a line that only {name} has, the {line}th'\n" for line in range(num_lines))


def wheels_spec(folder: Path, **changes: object) -> DataSpec:
    settings = {"paths": [f"{folder}/*.whl"], "max_document_bytes": 100_000, "max_line_chars": 400, **changes}
    return data_spec(SourceSpec("wheels", "wheels", **settings), held_out_fraction=0.2)  # type: ignore[arg-type]


def read(spec: DataSpec) -> list[Document]:
    return list(Reader(spec.sources[0], fingerprint(spec.sources[0])[1]))


def test_hand_written_files_alone_are_read(tmp_path: Path) -> None:
    files = {
        "some_lib/a.py": source_text("a"),
        "some_lib/deep/b.py": source_text("b"),
        "some_lib/tests/test_a.py": source_text("test_a"),
        "some_lib/_vendor/six.py": source_text("six"),
        "some_lib/schema_pb2.py": source_text("schema"),
        "some_lib/short.py": "x = 1\n",
        "some_lib/table.py": source_text("table") + f"data = '{'x' * 500}'\n",
        "some_lib/huge.py": source_text("huge", 5_000),
        "some_lib/data.json": source_text("data"),
        "some_lib-1.0.dist-info/METADATA": source_text("metadata"),
    }
    wheel(tmp_path, "Some_Lib", files)
    found = {document.name: document for document in read(wheels_spec(tmp_path))}
    assert sorted(found) == ["some-lib/some_lib/a.py", "some-lib/some_lib/deep/b.py"]
    assert {document.group for document in found.values()} == {"some-lib"}
    assert found["some-lib/some_lib/a.py"].text == source_text("a")


def test_no_package_gives_more_than_its_share(tmp_path: Path) -> None:
    each = len(source_text("m0"))
    wheel(tmp_path, "large", {f"large/m{number}.py": source_text(f"m{number}") for number in range(9)})
    wheel(tmp_path, "small", {"small/m0.py": source_text("s0")})
    documents = read(wheels_spec(tmp_path, max_package_bytes=3 * each))
    assert [document.group for document in documents].count("large") == 3
    assert [document.group for document in documents].count("small") == 1
    assert documents == read(wheels_spec(tmp_path, max_package_bytes=3 * each))


def test_a_reader_goes_on_in_the_middle_of_a_wheel(tmp_path: Path) -> None:
    for name in "abc":
        wheel(tmp_path, name, {f"{name}/m{number}.py": source_text(f"{name}{number}") for number in range(3)})
    spec = wheels_spec(tmp_path)
    _, found = fingerprint(spec.sources[0])
    whole = list(Reader(spec.sources[0], found))
    for stop in range(1, len(whole)):
        first = Reader(spec.sources[0], found)
        begun = list(islice(first, stop))
        rest = Reader(spec.sources[0], found, position=first.state())
        assert begun + list(rest) == whole


def test_packages_are_held_out_whole(tmp_path: Path) -> None:
    for number in range(30):
        texts = {f"p{number}/m{file}.py": source_text(f"p{number}_{file}") for file in range(4)}
        wheel(tmp_path / "wheels", f"p{number}", texts)
    corpus = prepare_corpus(wheels_spec(tmp_path / "wheels"), tmp_path / "cache")
    trained, held_out = (set(corpus.documents(split)["group"].to_pylist()) for split in ("train", "held_out"))
    assert held_out
    assert trained
    assert not trained & held_out
    assert len(trained | held_out) == 30


def test_what_is_no_whole_wheel_is_refused_by_name(tmp_path: Path) -> None:
    whole = wheel(tmp_path, "whole", {"whole/m.py": source_text("m", 200)})
    broken = tmp_path / "broken-1.0-py3-none-any.whl"
    broken.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(SweepError, match=r"broken-1\.0-py3-none-any\.whl can't be read as a wheel"):
        read(wheels_spec(tmp_path))
    damaged = bytearray(whole.read_bytes())
    damaged[60:80] = bytes(20)  # in what is compressed: the checksum tells
    broken.write_bytes(damaged)
    with pytest.raises(SweepError, match=r"broken-1\.0-py3-none-any\.whl can't be read as a wheel"):
        read(wheels_spec(tmp_path))


def test_without_wheels_the_error_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="has nothing at") as error:
        read(wheels_spec(tmp_path))
    assert "make wheels" in str(error.value)


def test_two_wheels_of_one_package_and_other_files_are_refused(tmp_path: Path) -> None:
    first = wheel(tmp_path, "Some.Lib", {"some/m.py": source_text("m")})
    wheel(tmp_path, "some_lib", {"some/m.py": source_text("m")})
    with pytest.raises(SweepError, match="are of one package, some-lib"):
        read(wheels_spec(tmp_path))
    first.rename(tmp_path / "some.tar.gz")
    with pytest.raises(SweepError, match=r"some\.tar\.gz is among the wheels"):
        read(wheels_spec(tmp_path, paths=[str(tmp_path)]))


def test_every_package_of_the_list_is_pinned_with_one_hash() -> None:
    lines = (ROOT / "configs/data/wheels.txt").read_text().splitlines()
    packages = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert len(packages) > 400
    assert packages == sorted(set(packages))
    assert all(line.count(" --hash=sha256:") == 1 for line in lines if not line.startswith("#"))
    (source,) = OmegaConf.load(ROOT / "configs/data/wheels.yaml").sources
    assert source["paths"] == [".cache/wheels/*.whl"], "where make wheels puts them"


@pytest.mark.slow
def test_a_part_of_the_list_downloads_as_make_wheels_does(tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    lines = (ROOT / "configs/data/wheels.txt").read_text().splitlines()
    few.write_text("\n".join([line for line in lines if not line.startswith("#")][:3]))
    (recipe,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "--dest .cache/wheels" in line]
    command = recipe.strip().replace("$(BIN)/python", sys.executable)
    command = command.replace(".cache/wheels", str(tmp_path / "wheels")).replace("configs/data/wheels.txt", str(few))
    subprocess.run(command, shell=True, check=True)
    assert len(read(wheels_spec(tmp_path / "wheels"))) > 3
