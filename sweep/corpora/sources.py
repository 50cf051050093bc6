"""Documents from where: one stream per source, that can be taken up again where it was left.

Nothing here depends on the tokenizer. A document's group (a package, a repository) decides on which side it is: never
is a group on both. What is left out, and why, is counted.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sweep.corpora import hub
from sweep.corpora.files import FOLDER, LocalFile, check_unchanged, local_files, rows_of_file, text_file
from sweep.corpora.installed import package_files
from sweep.corpora.near_duplicates import longer_lines
from sweep.corpora.wheels import documents_of_wheel, in_order
from sweep.data_spec import DataSpec, SourceSpec, held_out_groups
from sweep.errors import SweepError

_NAMED = 5  # of the files that are left out


@dataclass(frozen=True)
class Document:
    name: str  # the same on every machine: package/path.py, file#row
    text: str
    group: str = ""  # such as a package or a repository; empty: none


@dataclass
class Reader:
    """The documents of one source, in an order that is the same every time.

    ``position`` counts rows or files that were read, bytes of text that were given, and what was left out.
    """

    source: SourceSpec
    found: Any  # what fingerprint() found: local files, a hub snapshot
    position: dict[str, Any] = field(default_factory=dict)
    _stream: Any = None  # of datasets, from the hub

    def state(self) -> dict[str, Any]:
        """All that another reader needs, as its ``position``, to go on after the document that was given last."""
        stream = {} if self._stream is None else {"stream": self._stream.state_dict()}
        return json.loads(json.dumps({**self.position, **stream}))  # a copy: datasets changes its state in place

    def __iter__(self) -> Iterator[Document]:
        self.position = {"read": 0, "bytes": 0, "left_out": {}, "not_utf8": [], **self.position}
        readers = {
            "installed_python": self._packages,
            "wheels": self._wheels,
            "files": self._files,
            "hub": self._hub,
        }
        rows = readers[self.source.kind]()
        limit = self.source.max_bytes
        for document in rows:
            if limit is not None and self.position["bytes"] >= limit:
                return
            if document is not None and self._is_wanted(document):
                self.position["bytes"] += len(document.text.encode())
                yield document

    def _leave_out(self, reason: str) -> None:
        counts = Counter(self.position["left_out"])
        counts[reason] += 1
        self.position["left_out"] = dict(counts)

    def _is_wanted(self, document: Document) -> bool:
        if not document.text.strip():
            self._leave_out("empty")
        elif len(document.text.encode()) > self.source.max_document_bytes:
            self._leave_out("longer than max_document_bytes")
        else:
            return True
        return False

    def _packages(self) -> Iterator[Document | None]:
        return self._of_packages(package_files(self.source))

    def _wheels(self) -> Iterator[Document | None]:
        def texts() -> Iterator[tuple[str, str, str]]:
            for file in self.found:
                check_unchanged(file)
                yield from documents_of_wheel(file, self.source)

        return self._of_packages(texts())

    def _of_packages(self, texts: Iterator[tuple[str, str, str]]) -> Iterator[Document | None]:
        for name, package, text in islice(texts, self.position["read"], None):
            self.position["read"] += 1
            if longer_lines(text):
                yield Document(name, text, package)
            else:
                self._leave_out("no line of code that says something")

    def _files(self) -> Iterator[Document | None]:
        """``read`` counts whole files, ``rows`` those of the file that is being read."""
        files: list[LocalFile] = self.found
        for file in files[self.position["read"] :]:
            check_unchanged(file)
            if not file.is_utf8:
                self._leave_out("not UTF-8")
                self.position["not_utf8"] = [*self.position["not_utf8"], file.name][:_NAMED]
            elif file.kind == "text":
                document = self._text_document(file)
                self.position["read"] += 1  # before it is given: whoever has it may keep the position
                yield document
                continue
            else:
                start = self.position.get("rows", 0)
                for number, row in enumerate(islice(rows_of_file(file), start, None), start):
                    self.position["rows"] = number + 1
                    yield self._document(f"{file.name}#{number}", row, str(file.path))
                check_unchanged(file)
            self.position = {**self.position, "read": self.position["read"] + 1, "rows": 0}

    def _text_document(self, file: LocalFile) -> Document | None:
        text = text_file(file, self.source.max_document_bytes)
        if text is None:
            self._leave_out("longer than max_document_bytes")
            return None
        return Document(file.name, text, file.folder if self.source.group_column == FOLDER else "")

    def _hub(self) -> Iterator[Document | None]:
        self._stream = hub.stream(self.source, self.found)
        if "stream" in self.position:
            self._stream.load_state_dict(self.position["stream"])
        for row in hub.rows(self._stream, self.source):
            number = self.position["read"]
            self.position["read"] += 1
            yield self._document(f"{self.source.dataset}#{number}", row, f"the data set {self.source.dataset}")

    def _document(self, name: str, row: dict[str, Any], where: str) -> Document | None:
        source = self.source
        text_column = source.text_column or "text"
        for column in (text_column, source.group_column, *source.filters):
            if column is not None and column not in row:
                raise SweepError(
                    f"{where} has no column {column!r}; its columns are {', '.join(map(str, row))}",
                    f"the columns that the source {source.name} of data.sources names",
                    "correct text_column, group_column or filters",
                )
        for column, allowed in source.filters.items():
            values = row[column] if isinstance(row[column], list) else [row[column]]
            if not {str(value) for value in values} & set(allowed):
                self._leave_out(f"filtered by {column}")
                return None
        text, group = row[text_column], row[source.group_column] if source.group_column else None
        if text is None:
            self._leave_out("empty")
            return None
        if not isinstance(text, str):
            raise SweepError(
                f"{name} of {where} has a {type(text).__name__} in its column {text_column!r}",
                "text",
                f"name the column that holds it in text_column of the source {source.name}",
            )
        return Document(name, text, "" if group is None else str(group))


def fingerprint(source: SourceSpec) -> tuple[str, Any]:
    """A hash of all that a source will give, and what was found on the way, for its ``Reader``.

    Files count by their content, the hub by the commit that the revision stands for.

    Raises:
        SweepError: it is not there; or no network, and not in the hub's local cache.
    """
    digest = hashlib.sha256()
    if source.kind == "hub":
        snapshot = hub.resolve(source)
        digest.update(snapshot.identity.encode())
        return digest.hexdigest(), snapshot
    if source.kind in {"files", "wheels"}:
        files = local_files(source) if source.kind == "files" else in_order(local_files(source))
        for file in files:
            digest.update(f"{file.name}\0{file.sha256}\0".encode())
        return digest.hexdigest(), files
    for name, _, text in package_files(source):
        digest.update(name.encode() + b"\0" + text.encode() + b"\0")
    return digest.hexdigest(), None


def held_out_rule(spec: DataSpec) -> Callable[[Document], bool]:
    """Whether a document's group is held out, by name or by hash; without a group the hash of its text decides."""
    by_name = held_out_groups(spec)

    def is_held_out(document: Document) -> bool:
        if document.group in by_name:
            return True
        key = f"group {document.group}" if document.group else f"text {document.text}"
        share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
        return share < spec.held_out_fraction

    return is_held_out
