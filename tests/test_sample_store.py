"""Samples on disk: what was stored comes back, a cut tail costs its batch, the command shows verdict and error."""

import json
from pathlib import Path

import numpy as np
import pytest

from sweep.errors import CorruptFile, SweepError
from sweep.folder import SweepFolder, write_json
from sweep.humaneval.checker import Verdict
from sweep.sample_store import SampleStore, read_samples
from sweep.samples import listed, run_folder, samples_of
from tests import tiny

SETTINGS = {"seed": 1, "temperature": 0.8}
RIGHT, WRONG = Verdict(True, "passed"), Verdict(False, "failed: AssertionError: 3")
BATCHES = [
    {"T/0": {"    return 1\n": (RIGHT, [0, 2]), "    pass\n": (WRONG, [1])}},
    {"T/0": {"    return 1\n": (RIGHT, [3]), "é\x00\ud7ff\n": (WRONG, [4])}, "T/1": {"\n": (WRONG, [0, 1])}},
    {"T/1": {"\n": (WRONG, [2])}},
]


def filled(path: Path, num_batches: int = 3) -> SampleStore:
    store = SampleStore(path, SETTINGS)
    for batch in BATCHES[:num_batches]:
        store.add(batch)
    return store


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    store = filled(tmp_path / "samples.jsonl.gz")
    read = read_samples(tmp_path / "samples.jsonl.gz")
    assert read == store.problems
    assert [one.numbers for one in read["T/0"].completions] == [[0, 2, 3], [1], [4]]
    assert read["T/0"].completions[2].text == "é\x00\ud7ff\n"
    assert [read["T/0"].passed(number) for number in range(5)] == [True, False, True, True, False]


def test_a_file_cut_anywhere_is_read_up_to_the_cut_and_gone_on_with(tmp_path: Path) -> None:
    """Many lengths of the file, none at all among them: whole batches stay; with the others added it is as before."""
    filled(tmp_path / "whole.gz")
    whole = (tmp_path / "whole.gz").read_bytes()
    ends = []
    for num_batches in range(4):
        filled(tmp_path / f"{num_batches}.gz", num_batches)
        ends.append((tmp_path / f"{num_batches}.gz").stat().st_size)
    path = tmp_path / "cut.gz"
    for length in sorted({*ends, *range(0, len(whole), 11)}):
        path.write_bytes(whole[:length])
        store = SampleStore(path, SETTINGS)
        kept = max((number for number, end in enumerate(ends) if end <= length), default=0)
        assert store.problems.keys() == {task for batch in BATCHES[:kept] for task in batch}
        for batch in BATCHES[kept:]:
            store.add(batch)
        assert path.read_bytes() == whole


def test_a_flipped_bit_costs_what_comes_after_it_and_no_more(tmp_path: Path) -> None:
    filled(tmp_path / "first.gz", 1)
    size = (tmp_path / "first.gz").stat().st_size
    path = tmp_path / "samples.gz"
    filled(path)
    damaged = bytearray(path.read_bytes())
    damaged[size + 15] ^= 0x10
    path.write_bytes(damaged)
    store = SampleStore(path, SETTINGS)
    assert store.problems.keys() == {"T/0"}
    assert path.stat().st_size == size


def test_samples_of_other_settings_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "samples.gz"
    filled(path)
    assert SampleStore(path, {**SETTINGS, "seed": 2}).problems == {}
    assert read_samples(tmp_path / "samples.gz.corrupt-1").keys() == {"T/0", "T/1"}


def test_another_file_is_named_and_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "samples.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(CorruptFile, match="no file of samples"):
        read_samples(path)
    assert SampleStore(path, SETTINGS).problems == {}
    assert (tmp_path / "samples.gz.corrupt-1").read_bytes() == b"no gzip"


def test_many_batches_are_read_in_pieces(tmp_path: Path) -> None:
    store, random = SampleStore(tmp_path / "samples.gz", SETTINGS), np.random.default_rng(0)
    for number in range(50):
        store.add({f"T/{number % 7}": {random.bytes(4000).hex(): (WRONG, [number])}})
    assert (tmp_path / "samples.gz").stat().st_size > 1 << 17  # several pieces
    assert read_samples(tmp_path / "samples.gz") == store.problems


# ---- the command ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    folder = SweepFolder(tmp_path)
    write_json(folder.plan, {})
    filled(folder.run("c1.0e10-w12-s0-abc").samples)
    folder.run("c1.0e10-w12-s1-def").path.mkdir()
    return folder


def test_the_command_shows_samples_with_verdict_and_error(folder: SweepFolder) -> None:
    shown = tiny.run("sweep.samples", str(folder.path), "c1.0e10-w12-s0", "T/0")
    assert shown.returncode == 0, shown.stderr
    assert "T/0: 5 samples, 3 passed, 3 different completions" in shown.stdout
    assert "--- 3 times, first as sample 0, passed\n    return 1\n" in shown.stdout
    assert "--- 1 times, first as sample 1, failed: AssertionError: 3\n    pass\n" in shown.stdout
    failed = tiny.run("sweep.samples", str(folder.path), "c1.0e10-w12-s0", "T/0", "--failed", "--json")
    assert [row["numbers"] for row in json.loads(failed.stdout)["completions"]] == [[1], [4]]


def test_the_commonest_come_first(folder: SweepFolder) -> None:
    samples = samples_of(run_folder(folder, "c1.0e10-w12-s0-abc"), "T/0")
    assert [row["count"] for row in listed(samples, None, 2)] == [3, 1]
    assert [row["passed"] for row in listed(samples, True, 5)] == [True]


@pytest.mark.parametrize(
    ("run", "task", "found"),
    [
        ("c1", "T/0", "2 runs"),
        ("x", "T/0", "0 runs"),
        ("c1.0e10-w12-s1", "T/0", "holds no samples"),
        ("c1.0e10-w12-s0", "T/9", "has no problem T/9"),
    ],
)
def test_what_is_not_there_is_named(folder: SweepFolder, run: str, task: str, found: str) -> None:
    with pytest.raises(SweepError, match=found):
        samples_of(run_folder(folder, run), task)
