"""An HTML page as a browser would take it: its elements, its text, its faults."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "rect", "link", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its text and its tables."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.headings: list[int] = []
        self.unclosed: list[str] = []
        self.strays: list[str] = []
        self.pieces: list[str] = []
        self.scripts: list[str] = []
        self.feed(source)
        self.close()
        self.text = "".join(self.pieces)
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if self.unclosed and self.unclosed[-1] == tag:
            self.unclosed.pop()
        else:
            self.strays.append(tag)

    def handle_data(self, data: str) -> None:
        inside = self.unclosed[-1] if self.unclosed else None
        if inside == "script":
            self.scripts.append(data)
        elif inside != "style":
            self.pieces.append(data)
