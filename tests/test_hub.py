"""Data sets and tokenizers of the hub: the real libraries against a stub server, its local cache, and no network.

Each test is a process of its own: the libraries read ``HF_ENDPOINT`` and ``HF_HOME`` once, when they are imported.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.corpora.tokenizer import train_tokenizer
from tests.forked import HUNG_SECONDS
from tests.hub_stub import COMMIT, HubStub
from tests.tiny import ROOT

ROWS = "".join(
    json.dumps(
        {
            "body": f"document {n} " + f"word{n} " * 30,
            "repo": f"r{n % 20}",
            "licenses": ["mit", "x"] if n % 3 else ["gpl"],
        }
    )
    + "\n"
    for n in range(600)
)
CARD = """---
configs:
- config_name: python
  data_files: [{split: train, path: data/*.jsonl}]
- config_name: other
  data_files: [{split: train, path: other.jsonl}]
---
"""
REPOSITORIES = {
    "datasets/me/code": {
        "README.md": CARD.encode(),
        "data/0.jsonl": ROWS[: ROWS.index('{"body": "document 300')].encode(),
        "data/1.jsonl": ROWS[ROWS.index('{"body": "document 300') :].encode(),
        "other.jsonl": b'{"body": "something else"}\n',
    },
    "models/me/model": {"tokenizer.json": train_tokenizer([ROWS], 290).to_str().encode()},
}
PRELUDE = """
import json, sys
from dataclasses import replace
from pathlib import Path
from sweep.corpora import hub
from sweep.data import prepare_corpus
from sweep.data_spec import SourceSpec
from sweep.errors import SweepError
from sweep.corpora.sources import Reader, fingerprint
from tests.corpora import data_spec
source = SourceSpec("h", "hub", dataset="me/code", config="python", split="train", text_column="body",
                    group_column="repo", filters={"licenses": ["mit", "apache-2.0"]})
"""


def run(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings = {**clean, "HF_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", PRELUDE + code]
    return subprocess.run(command, env=settings, cwd=home, capture_output=True, text=True, timeout=HUNG_SECONDS)


PREPARE = """
spec = data_spec(source, tokenizer="hub:me/model", end_of_document="<|endofdocument|>")
corpus = prepare_corpus(spec, Path("cache"), 2)
rows = corpus.documents("train").to_pylist() + corpus.documents("held_out").to_pylist()
tokenizer = corpus.tokenizer()
print(json.dumps({"rows": rows, "info": {key: corpus.info[key] for key in ("sources", "files", "sha256")},
                  "first": tokenizer.decode(corpus.stream("train")[: rows[0]["num_tokens"]].tolist())}))
"""


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a corpus from the stub's data set and tokenizer looks like."""
    with HubStub(REPOSITORIES) as stub:
        done = run(PREPARE, tmp_path_factory.mktemp("streamed"), HF_ENDPOINT=stub.url)
        assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_data_set_and_a_tokenizer_of_the_hub(streamed: dict[str, object]) -> None:
    """Rows of the named config and licence, each once; held out by repository; the hub's tokenizer, unchanged."""
    rows = streamed["rows"]
    assert isinstance(rows, list)
    assert sorted(row["name"] for row in rows) == sorted(f"me/code#{n}" for n in range(600) if n % 3)
    sides = [{row["group"] for row in rows[: -len(rows) // 2]}, {row["group"] for row in rows}]
    assert sides[1] == {f"r{n}" for n in range(20)}
    number = int(rows[0]["name"].split("#")[1])
    assert streamed["first"] == f"document {number} " + f"word{number} " * 30
    assert streamed["info"]["sources"][0]["left_out"] == {"filtered by licenses": 200}  # type: ignore[index]


@pytest.mark.slow
def test_a_data_set_in_the_local_cache_needs_no_network(streamed: dict[str, object], tmp_path: Path) -> None:
    """Fetched once, then read with the server gone, and with HF_HUB_OFFLINE: the same tokens as streamed."""
    fetch = """
from huggingface_hub import hf_hub_download, snapshot_download
snapshot_download("me/code", repo_type="dataset")
hf_hub_download("me/model", "tokenizer.json")
"""
    with HubStub(REPOSITORIES) as stub:
        done = run(fetch, tmp_path, HF_ENDPOINT=stub.url)
        assert done.returncode == 0, done.stderr
        before = len(stub.requests)
        offline = run(PREPARE, tmp_path, HF_ENDPOINT=stub.url, HF_HUB_OFFLINE="1")
        assert offline.returncode == 0, offline.stderr
        assert len(stub.requests) == before  # nobody was asked
    gone = run(PREPARE.replace('Path("cache")', 'Path("cache2")'), tmp_path, HF_ENDPOINT=stub.url)
    assert gone.returncode == 0, gone.stderr
    for found in (json.loads(offline.stdout), json.loads(gone.stdout)):
        assert found["info"]["files"] == streamed["info"]["files"]  # type: ignore[index]


REFUSED = """
try:
    hub.tokenizer_file("me/model") if "tokenizer" in sys.argv else prepare_corpus(data_spec(source), Path("cache"))
except SweepError as error:
    print(json.dumps(error.args))
"""


def test_without_a_network_one_question_is_asked_and_none_repeated(tmp_path: Path) -> None:
    """A server that takes connections and never answers: the libraries would ask again and again."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen()
        silent.settimeout(0.01)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = run(REFUSED, tmp_path, HF_ENDPOINT=url)
        asked = 0
        while True:
            try:
                silent.accept()[0].close()
            except TimeoutError:
                break
            asked += 1
    found, expected, todo = json.loads(done.stdout)
    assert asked == 1
    assert "me/code is not in the local cache" in found
    assert f"{url} does not answer" in found
    assert expected and "hf download" in todo


def test_offline_mode_is_named(tmp_path: Path) -> None:
    for code in (REFUSED, REFUSED.replace('"tokenizer" in sys.argv', "True")):
        done = run(code, tmp_path, HF_HUB_OFFLINE="1")
        assert "HF_HUB_OFFLINE is set" in json.loads(done.stdout)[0], done.stderr


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ('dataset="me/nothing"', "the hub has no data set me/nothing"),
        ('revision="v9"', "the hub has no data set me/code at v9"),
        ('config="rust"', "config rust"),
        ('split="validation"', "split validation"),
        ('text_column="text"', "no column 'text'; its columns are body, repo, licenses"),
        ('filters={"stars": ["1"]}', "no column 'stars'"),
    ],
)
def test_what_a_data_set_does_not_have_is_named(change: str, found: str, tmp_path: Path) -> None:
    with HubStub(REPOSITORIES) as stub:
        done = run(f"source = replace(source, {change})\n" + REFUSED, tmp_path, HF_ENDPOINT=stub.url)
    assert done.returncode == 0, done.stderr
    parts = json.loads(done.stdout)
    assert found in parts[0]
    assert len(parts) == 3


def test_a_reader_goes_on_where_another_stopped(tmp_path: Path) -> None:
    code = """
from itertools import islice
identity, snapshot = fingerprint(source)
whole = [document.name for document in Reader(source, snapshot)]
for stop in (1, 150, 250):
    first = Reader(source, snapshot)
    begun = [document.name for document in islice(first, stop)]
    rest = Reader(source, snapshot, json.loads(json.dumps(first.state())))
    assert begun + [document.name for document in rest] == whole
    assert rest.position["left_out"] == {"filtered by licenses": 200}
print(snapshot.revision, len(whole))
"""
    with HubStub(REPOSITORIES) as stub:
        done = run(code, tmp_path, HF_ENDPOINT=stub.url)
    assert done.stdout.split() == [COMMIT, "400"], done.stderr
