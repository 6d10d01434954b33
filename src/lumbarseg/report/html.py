"""HTML elements shared by the report pages, which need no script, font or other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterable, Sequence
from html import escape
from importlib import resources

from lumbarseg.anatomy import STRUCTURES

_COLOURS = {s.kind.value: s.colour for s in STRUCTURES} | {s.name: s.colour for s in STRUCTURES}


def stylesheet(name: str) -> str:
    """Return the style sheet NAME.css of this package."""
    return (resources.files(__package__) / f"{name}.css").read_text(encoding="utf-8")


def page(title: str, body: str, styles: Sequence[str] = ("report",), head: str = "") -> str:
    """Return a complete document.

    Parameters
    ----------
    title : plain text
    body, head : HTML
    styles : names of style sheets, NAME.css of this package
    """
    css = "".join(map(stylesheet, styles))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{head}\n<style>{css}</style>\n'
        f"</head>\n<body>\n{body}</body>\n</html>\n"
    )


def key_numbers(numbers: Iterable[tuple[str, str]]) -> str:
    """Return a row of boxes, one for each (name, value)."""
    boxes = (f'<div><b>{escape(value)}</b><span class="quiet">{escape(name)}</span></div>' for name, value in numbers)
    return f'<div class="key-numbers">{"".join(boxes)}</div>\n'


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], text: Collection[str] = (), css_class: str = ""
) -> str:
    """Return a table of HTML cells.

    Parameters
    ----------
    columns : names of the columns, plain text
    rows : cells of each row, HTML
    text : columns after the first that are aligned left
    css_class : class of the table; on a narrow screen "cards" shows each row as a list of its columns
    """
    classes = [' class="text"' if name in text else "" for name in columns]
    header = "".join(f"<th{css}>{escape(name)}</th>" for name, css in zip(columns, classes, strict=True))
    starts = [f'<td{css} data-column="{escape(name)}">' for name, css in zip(columns, classes, strict=True)]
    lines = ("".join(f"{start}{cell}</td>" for start, cell in zip(starts, row, strict=True)) for row in rows)
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<table class="{css_class}">\n<tr>{header}</tr>\n{body}</table>\n'


def image(data: bytes, media_type: str, description: str) -> str:
    """Return an image element with the data inside."""
    return f'<img alt="{escape(description)}" src="data:{media_type};base64,{b64encode(data).decode()}">'


def css_colour(name: str) -> str | None:
    """Return the colour of a structure ("L4", "L4 vertebra") or kind ("disc"); None for an unknown name."""
    colour = _COLOURS.get(name.removesuffix(" vertebra"))
    return f"rgb{colour}" if colour else None


def coloured_name(name: str) -> str:
    """Return an escaped name after a chip in the colour of the structure, if the name is known."""
    colour = css_colour(name)
    chip = f'<span class="chip" style="background:{colour}"></span>' if colour else ""
    return chip + escape(name)
