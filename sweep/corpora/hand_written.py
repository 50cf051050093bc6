"""Which Python files of a package were written by hand, and are no copies of others' or tables of data."""

from pathlib import PurePath

from sweep.data_spec import SourceSpec

SKIPPED_FOLDERS = {
    *("test", "tests", "testing", "_vendor", "vendor", "vendored", "third_party", "site-packages"),
    *("dist-packages", "__pycache__", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "encodings"),
}
_SKIPPED_ENDINGS = ("_pb2.py", "_pb2_grpc.py")
_MIN_FILE_BYTES = 200


def is_skipped(path: PurePath) -> bool:
    """Whether a file's name, or that of a folder on the way to it, says that it is not of the kind."""
    return path.name.endswith(_SKIPPED_ENDINGS) or not SKIPPED_FOLDERS.isdisjoint(path.parts[:-1])


def hand_written(raw: bytes, source: SourceSpec) -> str | None:
    """A file's text, or None for what is no hand-written code: huge, nearly empty, data tables, not UTF-8."""
    if not _MIN_FILE_BYTES <= len(raw) <= source.max_document_bytes:
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    longest = max(map(len, text.splitlines()))
    return text if source.max_line_chars is None or longest <= source.max_line_chars else None
