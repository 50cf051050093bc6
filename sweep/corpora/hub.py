"""Data sets and tokenizers of the Hugging Face hub, or of its local cache where there is no network.

The hub's own libraries repeat a request for half a minute before they give up. So it is asked once, briefly, whether
somebody answers at all (``HF_ENDPOINT``, proxies and ``HF_HUB_OFFLINE`` are respected); if not, only the cache is read.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sweep.data_spec import SourceSpec
from sweep.errors import SweepError
from sweep.folder import sha256_of

_ANSWER_SECONDS = 1.5
_REQUEST_SECONDS = 20.0


@dataclass(frozen=True)
class Snapshot:
    """A data set at one commit; ``folder`` is its copy in the local cache, None where it is read from the hub."""

    revision: str
    folder: Path | None
    identity: str  # of the content


@functools.cache
def is_reachable() -> bool:
    """Whether the hub answers within a second and a half; never asked if ``HF_HUB_OFFLINE`` is set."""
    from huggingface_hub.constants import ENDPOINT, is_offline_mode

    answers: list[int] = []

    def ask() -> None:
        try:
            with urlopen(Request(ENDPOINT, method="HEAD"), timeout=_ANSWER_SECONDS) as answer:
                answers.append(answer.status)
        except HTTPError as error:  # whatever it says, somebody is there
            answers.append(error.code)
        except (OSError, HTTPException):
            return

    if not is_offline_mode():
        asking = Thread(target=ask, daemon=True)  # looking up a name can take longer than any time limit of a request
        asking.start()
        asking.join(_ANSWER_SECONDS)
    return bool(answers)


def resolve(source: SourceSpec) -> Snapshot:
    """The commit that a source's revision stands for.

    Raises:
        SweepError: there is no such data set or revision; or no network, and it is not in the local cache.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import HFValidationError

    assert source.dataset is not None
    name, wanted = source.dataset, source.revision
    try:
        if is_reachable():
            revision = HfApi().dataset_info(name, revision=wanted, timeout=_REQUEST_SECONDS).sha
            assert revision is not None
            return Snapshot(revision, None, revision)
        folder = Path(snapshot_download(name, revision=wanted, repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise _no_network(f"the data set {source.dataset}") from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise SweepError(
            f"the hub has no data set {source.dataset} at {source.revision or 'its newest revision'} ({_short(error)})",
            "a data set that this account may read, and one of its revisions",
            f"correct dataset and revision of the source {source.name}; for a gated one: hf auth login",
        ) from error
    # The cache may hold a part of the commit's files: what is there is what the corpus is made of.
    files = sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in folder.rglob("*.*"))
    return Snapshot(folder.name, folder, f"{folder.name} {sha256_of(files)}")


def stream(source: SourceSpec, snapshot: Snapshot) -> Any:
    """The rows of a data set as an iterable of ``datasets``, whose state can be saved and loaded."""
    import datasets

    where = source.dataset if snapshot.folder is None else str(snapshot.folder)
    revision = snapshot.revision if snapshot.folder is None else None
    with _told(source):
        return datasets.load_dataset(where, source.config, split=source.split, revision=revision, streaming=True)


def rows(stream: Any, source: SourceSpec) -> Iterator[dict[str, Any]]:
    """The rows of ``stream``.

    Raises:
        SweepError: one can't be read.
    """
    with _told(source):
        yield from stream


@contextmanager
def _told(source: SourceSpec) -> Iterator[None]:
    """Turn whatever ``datasets`` says into an error that names the source."""
    try:
        yield
    except SweepError:
        raise
    except Exception as error:  # of datasets, pyarrow, huggingface_hub or the network
        raise SweepError(
            f"the data set {source.dataset} (config {source.config}, split {source.split}) can't be read"
            f" ({_short(error)})",
            "a data set of parquet, JSON lines or text files, and names of a config and a split that it has",
            f"correct config and split of the source {source.name}; after a failure of the network launch again: what"
            " was read is kept",
        ) from error


def tokenizer_file(name: str) -> Path:
    """The tokenizer.json of ``owner/name`` or ``owner/name@revision``.

    Raises:
        SweepError: there is none; or no network, and it is not in the local cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import HFValidationError

    repository, _, revision = name.partition("@")
    reachable = is_reachable()
    try:
        return Path(
            hf_hub_download(repository, "tokenizer.json", revision=revision or None, local_files_only=not reachable)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError) as error:
        if not reachable:
            raise _no_network(f"the tokenizer {name}") from error
        raise SweepError(
            f"the hub has no tokenizer.json of {name} ({_short(error)})",
            "a model of the hub with a tokenizer.json that this account may read",
            "correct data.tokenizer, or give the path of a tokenizer.json",
        ) from error


def _no_network(what: str) -> SweepError:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE, is_offline_mode

    why = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"{ENDPOINT} does not answer"
    return SweepError(
        f"{what} is not in the local cache ({HF_HUB_CACHE}), and {why}",
        "a network, or a copy in the cache",
        "fetch it where there is a network (hf download NAME --repo-type dataset, or model) into that cache, or use"
        " local files: data=files",
    )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
