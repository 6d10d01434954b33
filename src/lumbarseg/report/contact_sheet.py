"""A contact sheet: one small picture per exam, with its names and what was found in it, as a PNG and as a page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lumbarseg.anatomy import RGB, Structure
from lumbarseg.volume import Volume

from .picture import BACKGROUND, MUTED_TEXT, TEXT, PictureLayout, draw_names, render_slice, wrap_text

TILE_LAYOUT = PictureLayout(max_height=430, max_width=340, panel_width=72, font_size=14)
"""Of one exam on the sheet."""

_COLUMNS, _GAP = 4, 22
_TILES_PER_PAGE = 40  # exams on one PNG; more pages are made for more of them
_TILE_BACKGROUND: RGB = (24, 27, 33)
_SEVERITY_COLOURS: Mapping[str, RGB] = {"error": (255, 104, 104), "warning": (255, 190, 92), "note": MUTED_TEXT}
_MARGINS_MM = {1: 50.0, 2: 30.0}  # mm about the column, by axis
_MAX_FINDING_LINES = 6  # lines of findings under one picture of the PNG

_SHEET_CSS = """
:root { color-scheme: dark; --ink: #eceef2; --quiet: #969ca8; --paper: #0e1014; --card: #181b21; --line: #2c313b; }
* { box-sizing: border-box; }
body { margin: 0; padding: 32px 28px 48px; background: var(--paper); color: var(--ink);
  font: 14px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 24px; margin: 0; letter-spacing: -0.01em; }
.quiet { color: var(--quiet); }
.figures { display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }
.figures div { background: var(--card); border-radius: 8px; padding: 10px 16px; min-width: 110px; }
.figures b { display: block; font-size: 18px; font-variant-numeric: tabular-nums; }
ul { list-style: none; margin: 6px 0 0; padding: 0; }
li { padding-left: 12px; border-left: 3px solid; margin: 4px 0; }
.error { color: #ff6868; } .warning { color: #ffbe5c; } .note { color: var(--quiet); }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; margin-top: 18px; }
figure { margin: 0; background: var(--card); border-radius: 10px; overflow: hidden; border: 1px solid var(--line); }
figure:has(.error) { border-color: #ff6868; } figure:has(.warning):not(:has(.error)) { border-color: #ffbe5c; }
figure img, .unread { width: 100%; aspect-ratio: 412 / 430; object-fit: contain; display: block; background: #0e1014; }
.unread { display: grid; place-items: center; color: var(--quiet); }
figcaption { padding: 10px 14px 14px; overflow-wrap: anywhere; }
figcaption b { font-size: 15px; }
.tag { display: inline-block; background: #262b34; border-radius: 5px; padding: 0 7px; margin: 4px 4px 0 0;
  font-size: 12px; font-variant-numeric: tabular-nums; }
label { cursor: pointer; user-select: none; }
#faults:checked ~ .sheet figure:not(:has(.error, .warning)) { display: none; }
"""


@dataclass(frozen=True)
class SheetTile:
    """One exam. tags: short words under its name; findings: (severity, text); picture: of `picture`, or empty."""

    name: str
    tags: tuple[str, ...]
    findings: tuple[tuple[str, str], ...] = ()
    picture_jpeg: bytes = b""


@dataclass(frozen=True)
class ContactSheet:
    """A title, figures (name to value), what holds of all exams, and the exams."""

    title: str
    key_numbers: Mapping[str, str]
    findings: tuple[tuple[str, str], ...]
    tiles: tuple[SheetTile, ...]


def render_tile_picture(image: Volume, labels: Volume, structures: Sequence[Structure]) -> bytes:
    """A small JPEG of an exam with outlines, and the names beside its vertebrae; both in RAS order on one grid.

    rows: what the values of `labels` are, named as they shall be written; without a name, outlined only. The view is
    the column with what lies about it, the whole exam where nothing is drawn.
    """
    box = _display_region(labels, [row.label for row in structures])
    base, marks = render_slice(
        Volume(image.array[box], image.affine), Volume(labels.array[box], labels.affine), structures, TILE_LAYOUT
    )
    height, width = base.shape[:2]
    tile = Image.new("RGB", (width + TILE_LAYOUT.panel_width, height), BACKGROUND)
    tile.paste(Image.fromarray(base.astype(np.uint8)), (0, 0))
    pen = ImageDraw.Draw(tile, "RGBA")
    draw_names(pen, [mark for mark in marks if mark[0].name], (height, width), TILE_LAYOUT)
    out = BytesIO()
    tile.save(out, "JPEG", quality=88, subsampling=0)
    return out.getvalue()


def _display_region(labels: Volume, values: Sequence[int]) -> tuple[slice, slice, slice]:
    """The part of an exam to show: all slices, what is drawn in them, and a margin."""
    box = [slice(0, n) for n in labels.array.shape]
    drawn = np.isin(labels.array, values)
    for axis, others in ((1, (0, 2)), (2, (0, 1))):
        found = np.flatnonzero(drawn.any(axis=others))
        margin = round(_MARGINS_MM[axis] / labels.grid.spacing[axis])
        if found.size:
            box[axis] = slice(max(0, int(found[0]) - margin), int(found[-1]) + 1 + margin)
    return box[0], box[1], box[2]


def render_png_pages(sheet: ContactSheet) -> Iterator[bytes]:
    """The sheet as PNGs, of forty exams each."""
    pages = [sheet.tiles[start : start + _TILES_PER_PAGE] for start in range(0, len(sheet.tiles), _TILES_PER_PAGE)]
    for number, tiles in enumerate(pages, start=1):
        title = sheet.title if len(pages) == 1 else f"{sheet.title}, page {number} of {len(pages)}"
        yield _render_png_page(title, sheet, tiles)


def _render_png_page(title: str, sheet: ContactSheet, tiles: Sequence[SheetTile]) -> bytes:
    cell = TILE_LAYOUT.max_width + TILE_LAYOUT.panel_width
    columns = min(_COLUMNS, len(tiles))
    cards = [_render_tile(tile, cell) for tile in tiles]
    rows = [cards[start : start + columns] for start in range(0, len(cards), columns)]
    heights = [max(card.height for card in row) for row in rows]
    width = columns * cell + (columns + 1) * _GAP
    small = ImageFont.load_default(size=16)
    figures = [
        ("note", " \u00b7 ".join(f"{name}: {value}" for name, value in sheet.key_numbers.items())),
        *sheet.findings,
    ]
    told = [(kind, line) for kind, text in figures for line in wrap_text(text, small, width - 2 * _GAP)]
    top = 66 + 22 * len(told)
    page = Image.new("RGB", (width, top + sum(heights) + (len(rows) + 1) * _GAP), BACKGROUND)
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, 38), title, fill=TEXT, font=ImageFont.load_default(size=26), anchor="lm")
    for i, (kind, line) in enumerate(told):
        pen.text((_GAP, 64 + 22 * i), line, fill=_SEVERITY_COLOURS[kind], font=small, anchor="la")
    y = top + _GAP
    for row, height in zip(rows, heights, strict=True):
        for i, card in enumerate(row):
            page.paste(card, (_GAP + i * (cell + _GAP), y))
        y += height + _GAP
    out = BytesIO()
    page.save(out, "PNG", compress_level=6)
    return out.getvalue()


def _render_tile(tile: SheetTile, width: int) -> Image.Image:
    """A picture with its words below."""
    large, small = ImageFont.load_default(size=18), ImageFont.load_default(size=14)
    inner = width - 24
    lines: list[tuple[RGB, str]] = [(MUTED_TEXT, line) for line in wrap_text(" \u00b7 ".join(tile.tags), small, inner)]
    told = [(_SEVERITY_COLOURS[kind], line) for kind, text in tile.findings for line in wrap_text(text, small, inner)]
    if len(told) > _MAX_FINDING_LINES:
        told = [
            *told[: _MAX_FINDING_LINES - 1],
            (MUTED_TEXT, f"and {len(told) - _MAX_FINDING_LINES + 1} lines more: see the page or check.json"),
        ]
    lines += told
    card = Image.new("RGB", (width, TILE_LAYOUT.max_height + 46 + 19 * len(lines)), _TILE_BACKGROUND)
    pen = ImageDraw.Draw(card)
    pen.rectangle([0, 0, width, TILE_LAYOUT.max_height], fill=BACKGROUND)
    if tile.picture_jpeg:
        shown = Image.open(BytesIO(tile.picture_jpeg))
        card.paste(shown, ((width - shown.width) // 2, (TILE_LAYOUT.max_height - shown.height) // 2))
    else:
        pen.text((width / 2, TILE_LAYOUT.max_height / 2), "no picture", fill=MUTED_TEXT, font=large, anchor="mm")
    pen.text((12, TILE_LAYOUT.max_height + 20), tile.name, fill=TEXT, font=large, anchor="lm")
    for i, (colour, line) in enumerate(lines):
        pen.text((12, TILE_LAYOUT.max_height + 36 + 19 * i), line, fill=colour, font=small, anchor="la")
    worst = next((kind for kind in ("error", "warning") if kind in dict(tile.findings)), None)
    if worst:
        pen.rectangle([0, 0, width - 1, card.height - 1], outline=_SEVERITY_COLOURS[worst], width=2)
    return card


def render_html_page(sheet: ContactSheet) -> str:
    """The sheet as one page that needs nothing but itself: no script, no font, no file beside it."""
    figures = "".join(
        f'<div><b>{escape(value)}</b><span class="quiet">{escape(name)}</span></div>'
        for name, value in sheet.key_numbers.items()
    )
    title = escape(sheet.title)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_SHEET_CSS}</style>\n'
        f"</head>\n<body>\n<h1>{title}</h1>\n"
        f'<div class="figures">{figures}</div>\n{_findings_html(sheet.findings)}'
        '<input type="checkbox" id="faults"> <label for="faults">only exams with errors or warnings</label>\n'
        f'<div class="sheet">\n{"".join(_tile_html(tile) for tile in sheet.tiles)}</div>\n</body>\n</html>\n'
    )


def _tile_html(tile: SheetTile) -> str:
    name = escape(tile.name)
    shown = '<div class="unread">no picture</div>'
    if tile.picture_jpeg:
        data = b64encode(tile.picture_jpeg).decode()
        shown = f'<img loading="lazy" alt="{name} with outlines and names" src="data:image/jpeg;base64,{data}">'
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tile.tags)
    return f"<figure>{shown}<figcaption><b>{name}</b><br>{tags}{_findings_html(tile.findings)}</figcaption></figure>\n"


def _findings_html(findings: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<li class="{escape(kind)}">{escape(text)}</li>' for kind, text in findings)
    return f"<ul>{items}</ul>\n" if items else ""
