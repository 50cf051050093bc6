"""What a corpus is made of: the ``data`` group of the configuration, and what can be seen to be wrong with it.

All of it decides results. The entries of ``data.sources`` are of four kinds, which use different keys; an entry of a
list has no group file of its own, so the keys that a kind does not use have their empty values here.
"""

from dataclasses import MISSING, dataclass, field, fields
from fractions import Fraction
from typing import Any

from sweep.errors import SweepError


@dataclass
class SourceSpec:
    """Documents from one place."""

    name: str
    kind: str  # installed_python, wheels, files or hub
    weight: float | None = None  # share of the training windows; null (for all): in proportion to what each holds
    max_document_bytes: int = 1_000_000  # longer documents are left out, and counted
    # installed_python: the source of installed packages, split by whole packages
    train_packages: list[str] = field(default_factory=list)  # import names; "stdlib" stands for the standard library
    held_out_packages: list[str] = field(default_factory=list)
    train_bytes: int | None = None  # source bytes read for training, picked over all packages alike
    held_out_bytes: int | None = None
    # installed_python and wheels
    max_line_chars: int | None = None  # a file with a longer line is no hand-written code
    # wheels: the source of packages that pip has downloaded
    max_package_bytes: int | None = None  # of any one package; null: all
    # files (parquet, JSON lines and text on a disk) and wheels
    paths: list[str] = field(default_factory=list)  # files, folders, or patterns such as data/*.parquet
    # hub: a data set of the Hugging Face hub
    dataset: str | None = None  # owner/name
    config: str | None = None
    split: str | None = None
    revision: str | None = None  # branch, tag or commit; null: what is newest when the corpus is first prepared
    # files and hub, but max_bytes that wheels have too
    text_column: str | None = None  # null: "text"
    group_column: str | None = None  # such as a repository; "folder": the first one below the path (text files alone)
    filters: dict[str, list[str]] = field(default_factory=dict)  # column: values of which a document must have one
    max_bytes: int | None = None  # of text; null: all


@dataclass
class DataSpec:
    """The training and held-out tokens of a sweep."""

    sources: list[SourceSpec]
    held_out_groups: list[str]  # groups that are held out, beside the sources' own
    held_out_fraction: float  # of all other groups, by the hash of their names; of documents where there is no group
    max_shared_line_fraction: float  # a document with more lines than this already seen is a near-duplicate
    line_table_bytes: int  # memory for the lines that were seen, at most
    vocab_size: int
    tokenizer: str  # trained (on these documents), a tokenizer.json, or hub:owner/name[@revision]
    end_of_document: str | None  # the token of a given tokenizer that ends a document; null: one is added
    tokenizer_bytes: int  # source bytes a tokenizer is trained on
    shuffle_seed: int
    micro_fraction: float  # of the training tokens: examples like the micro problems (sweep/micro), none evaluated


TRAINED, HUB = "trained", "hub:"  # the kinds of data.tokenizer, beside a path
_EVERY_KIND = {"name", "kind", "weight", "max_document_bytes"}
_ROWS = {"text_column", "group_column", "filters", "max_bytes"}
_NEEDED = {
    "installed_python": {"train_packages", "train_bytes", "max_line_chars"},
    "wheels": {"paths", "max_line_chars"},
    "files": {"paths"},
    "hub": {"dataset", "split"},
}
_ALLOWED = {
    "installed_python": _NEEDED["installed_python"] | {"held_out_packages", "held_out_bytes"},
    "wheels": _NEEDED["wheels"] | {"max_package_bytes", "max_bytes"},
    "files": _NEEDED["files"] | _ROWS,
    "hub": _NEEDED["hub"] | _ROWS | {"config", "revision"},
}
_AMOUNTS = (
    "weight",
    "max_document_bytes",
    "train_bytes",
    "held_out_bytes",
    "max_line_chars",
    "max_package_bytes",
    "max_bytes",
)
_WEIGHT_TOLERANCE = Fraction(1, 10**9)  # for shares such as 1/3, written with sixteen digits


def check_data(spec: DataSpec) -> None:
    """Refuse what can be seen to be wrong before anything is read.

    Raises:
        SweepError: a key that the source's kind does not have or needs, two sources of one name, weights that do not
            add up to one, a package that is trained on and held out, nothing held out.
    """
    for index, source in enumerate(spec.sources):
        _check_source(f"data.sources[{index}]", source)
    names = [source.name for source in spec.sources]
    if len(set(names)) < len(names):
        raise SweepError(
            f"data.sources has names that come twice: {names}",
            "a name of its own for every source",
            "rename one of them",
        )
    mixture_weights(spec)
    trained = {package for source in spec.sources for package in source.train_packages}
    shared = trained & ({package for source in spec.sources for package in source.held_out_packages})
    if shared:
        raise SweepError(
            f"{sorted(shared)} are in train_packages and in held_out_packages of data.sources",
            "whole packages held out: none is trained on",
            "take them out of one of the two lists",
        )
    if not held_out_groups(spec) and not spec.held_out_fraction:
        raise SweepError(
            "data.held_out_fraction is 0, and no group or package is held out",
            "held-out documents, to measure the loss on",
            "set data.held_out_fraction=0.01, or name groups in data.held_out_groups",
        )


def _check_source(path: str, source: SourceSpec) -> None:
    if source.kind not in _NEEDED:
        raise SweepError(
            f"{path}.kind is {source.kind!r}",
            f"one of {', '.join(_NEEDED)}",
            f"set {path}.kind to one of these (configs/data has an example of each)",
        )
    if not source.name or source.name == "micro":
        raise SweepError(
            f"{path}.name is {source.name!r}",
            "a name; micro is that of the micro problems' examples",
            f"set {path}.name to another one",
        )
    changed = {key.name for key in fields(SourceSpec) if getattr(source, key.name) != _default(key)}
    for key in sorted(_NEEDED[source.kind] - changed):
        raise SweepError(
            f"{path}.{key} of the source {source.name} is not set",
            f"a value: kind {source.kind} needs {', '.join(sorted(_NEEDED[source.kind]))}",
            f"set {path}.{key}",
        )
    for key in sorted(changed - _ALLOWED[source.kind] - _EVERY_KIND):
        raise SweepError(
            f"{path}.{key} of the source {source.name} is set",
            f"keys of kind {source.kind}: {', '.join(sorted(_ALLOWED[source.kind]))}",
            f"leave {path}.{key} out",
        )
    for key in _AMOUNTS:
        value = getattr(source, key)
        if value is not None and not 0 < value < float("inf"):
            raise SweepError(f"{path}.{key} is {value!r}", "a finite number above 0", f"set {path}.{key} to such")
    if bool(source.held_out_packages) != (source.held_out_bytes is not None):
        raise SweepError(
            f"{path} has one of held_out_packages and held_out_bytes",
            "packages that are held out and how many bytes of them, or neither",
            f"set both keys of {path}, or none",
        )


def _default(key: Any) -> Any:
    return key.default_factory() if key.default_factory is not MISSING else key.default


def held_out_groups(spec: DataSpec) -> set[str]:
    """The groups that are held out by name."""
    return {*spec.held_out_groups, *(package for source in spec.sources for package in source.held_out_packages)}


def mixture_weights(spec: DataSpec) -> list[Fraction] | None:
    """Each source's share of the training windows that are not micro documents; None: in proportion to their size.

    Raises:
        SweepError: some have a weight and some do not, or they do not add up to one.
    """
    weights = [source.weight for source in spec.sources]
    if all(weight is None for weight in weights):
        return None
    shares = [Fraction(str(weight)) for weight in weights if weight is not None]
    total = sum(shares, Fraction(0))
    if len(shares) < len(weights) or abs(total - 1) > _WEIGHT_TOLERANCE:
        stated = ", ".join(f"{source.name} {source.weight}" for source in spec.sources)
        raise SweepError(
            f"the weights of data.sources are {stated}"
            + (f": they add up to {float(total):g}" if len(shares) == len(weights) else ""),
            "weights that add up to 1; or none, and each source counts in proportion to its size",
            "correct weight of each of data.sources",
        )
    return [share / total for share in shares] if len(shares) > 1 else None
