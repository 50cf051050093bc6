"""Reads a report as a browser would: elements with their attributes, text and figures, without running its script."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "input", "br", "img", "link"}
_RAW = {"style", "script"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parents: list["Element"]
    text: str = ""


@dataclass
class Page:
    elements: list[Element] = field(default_factory=list)

    def all(self, tag: str, within: str = "") -> list[Element]:
        """Elements of a tag, of the whole page or of the one with an id."""
        return [e for e in self.elements if e.tag == tag and (not within or self.by_id(within) in e.parents)]

    def by_id(self, identity: str) -> Element:
        (found,) = [e for e in self.elements if e.attributes.get("id") == identity]
        return found

    @property
    def text(self) -> str:
        """All that is shown, and the figures' values; neither style nor script."""
        shown = [element for element in self.elements if element.tag not in _RAW]
        return "\n".join([e.text for e in shown] + [e.attributes.get("data-tip", "") for e in shown])

    def values(self, series: str) -> list[str]:
        """The texts at the points of a figure."""
        return [e.attributes["data-tip"] for e in self.all("use", series) if "data-tip" in e.attributes]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page, self.open = Page(), list[Element]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        element = Element(tag, {name: value or "" for name, value in attrs}, list(self.open))
        self.page.elements.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1].tag == tag, f"</{tag}> ends {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.open[-1].text += data


def read_page(path: Path) -> Page:
    """The page; an element that is not closed, or an attribute given twice, is an error."""
    reader = _Reader()
    reader.feed(path.read_text())
    reader.close()
    assert not reader.open
    return reader.page
