"""An HTML parser that fails on unbalanced tags."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID_TAGS = {"meta", "img", "br", "input"}


class ParsedHtml(HTMLParser):
    """The tags and texts of a document; constructing it checks that tags are balanced."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(document)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in _VOID_TAGS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
