"""A matplotlib figure as SVG inside a page: colours that follow the page's, ids of its own, a text at every point."""

import re
from xml.etree import ElementTree

from sweep.plot import COLOURS, Plot

_DROPPED = {"metadata", "style"}  # a style inside a figure would hold for the whole page
_DECIDED_BY_PAGE = {"width", "height", "version"}  # of the root
_TIP = "data-tip"


def inline_svg(plot: Plot) -> str:
    """The figure as an ``<svg>`` element. Each marker of a series in ``plot.values`` carries its text as ``data-tip``.

    Raises:
        ValueError: a series has more texts than markers, or fewer.
    """
    root = ElementTree.fromstring(plot.svg())
    _label_markers(root, plot.values)
    _drop_names_of_xml(root)
    _own_ids(root, plot.name)
    for element in root.iter():
        element.attrib = {name: _as_the_page_has_it(name, value) for name, value in element.attrib.items()}
        element.text = (element.text or "").strip()
        element.tail = ""
    root.attrib = {name: value for name, value in root.attrib.items() if name not in _DECIDED_BY_PAGE}
    root.attrib |= {"role": "img", "aria-label": plot.title}
    return ElementTree.tostring(root, encoding="unicode", method="html")


def _label_markers(root: ElementTree.Element, values: dict[str, list[str]]) -> None:
    for gid, texts in values.items():
        group = next(element for element in root.iter() if element.get("id") == gid)
        markers = [element for element in group.iter() if _local(element.tag) == "use"]
        for marker, text in zip(markers, texts, strict=True):
            marker.set(_TIP, text)


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]


def _drop_names_of_xml(root: ElementTree.Element) -> None:
    """HTML knows no namespaces."""
    for element in root.iter():
        for child in [child for child in element if _local(child.tag) in _DROPPED]:
            element.remove(child)
        element.tag = _local(element.tag)
        element.attrib = {_local(name): value for name, value in element.attrib.items()}


def _own_ids(root: ElementTree.Element, prefix: str) -> None:
    """Ids only where something refers to them, and no two figures share one."""
    values = [value for element in root.iter() for name, value in element.attrib.items() if name != _TIP]
    used = {found for value in values for found in re.findall(r"#([\w-]+)", value)}
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{prefix}-{name}")
        for reference in ("href", "clip-path"):
            if reference in element.attrib:
                element.set(reference, element.attrib[reference].replace("#", f"#{prefix}-"))


def _as_the_page_has_it(name: str, value: str) -> str:
    if name in ("d", "x", "y", "transform"):
        return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))  # a hundredth of a point
    if name == "style":
        for colour, code in COLOURS.items():
            value = value.replace(code, f"var(--{colour})")
        return re.sub(r"font-family: [^;]*;? ?", "", value)
    return value
