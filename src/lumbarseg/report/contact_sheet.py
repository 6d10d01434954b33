"""Contact sheets: a small picture per exam with its names and findings, as PNG files and as an HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lumbarseg.anatomy import RGB, Kind, Structure
from lumbarseg.volume import Array, Volume

from . import html
from .picture import BACKGROUND, MUTED_TEXT, TEXT, PictureLayout, draw_names, render_slice, wrap_text

TILE_LAYOUT = PictureLayout(max_height=430, max_width=434, panel_width=72, font_size=14)
LATERAL_LAYOUT = PictureLayout(max_height=212, max_width=112)
CORONAL_LAYOUT = PictureLayout(max_height=430, max_width=112)
_VIEW_GAP = 6  # pixels
_LATERAL_SHARES = (0.15, 0.85)  # of the labelled slices, from right to left

_COLUMNS, _GAP = 4, 22
_TILES_PER_PAGE = 40
_TILE_BACKGROUND: RGB = (24, 27, 33)
_SEVERITY_COLOURS: Mapping[str, RGB] = {"error": (255, 104, 104), "warning": (255, 190, 92), "note": MUTED_TEXT}
_MARGINS_MM = {1: 50.0, 2: 30.0}  # around the column, by axis
_MAX_FINDING_LINES = 6  # below one picture of a PNG
_LINE_HEIGHT, _TITLE_HEIGHT, _NAME_HEIGHT = 19, 22, 46  # pixels
_SEPARATOR = " \u00b7 "

Finding = tuple[str, str]
"""Severity ("error", "warning", "note") and text."""


@dataclass(frozen=True)
class SheetTile:
    """One exam. tags: short texts below its name; picture_jpeg: from `render_tile_picture`, empty for none."""

    name: str
    tags: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    picture_jpeg: bytes = b""


@dataclass(frozen=True)
class ContactSheet:
    """A title, key numbers (name to value), findings about all exams together, and one tile per exam."""

    title: str
    key_numbers: Mapping[str, str]
    findings: tuple[Finding, ...]
    tiles: tuple[SheetTile, ...]


def render_tile_picture(image: Volume, labels: Volume, structures: Sequence[Structure]) -> bytes:
    """Return a small JPEG of an exam with outlines of its structures and names beside them.

    The middle sagittal slice stands beside two lateral ones, if at least three slices have labels, and a coronal view
    along the column, if there is more than one slice. The pictures are cropped to the labelled structures with a
    margin; an exam without labels is shown completely, in its middle slice.

    Parameters
    ----------
    image, labels : in RAS order on one grid
    structures : what the values of `labels` mean; structures with an empty name are outlined only
    """
    box = _in_plane_crop(labels, [structure.label for structure in structures])
    image, labels = (Volume(volume.array[box], volume.affine) for volume in (image, labels))
    labelled = np.flatnonzero(np.isin(labels.array, [s.label for s in structures]).any(axis=(1, 2)))
    views = _side_views(image, labels, structures, labelled) if len(labels.array) > 1 and labelled.size else []
    has_names = any(structure.name and structure.kind is not Kind.CANAL for structure in structures)
    panel = TILE_LAYOUT.panel_width if has_names else 0
    side_width = max((x + view.width for x, _, view in views), default=0)
    layout = replace(TILE_LAYOUT, max_width=TILE_LAYOUT.max_width + TILE_LAYOUT.panel_width - panel - side_width)
    base, anchors = render_slice(image, labels, structures, layout)
    left = base.shape[1] + panel
    height = max(base.shape[0], *(y + view.height for _, y, view in views), 0)
    picture = Image.new("RGB", (left + side_width, height), BACKGROUND)
    picture.paste(Image.fromarray(base.astype(np.uint8)), (0, 0))
    for x, y, view in views:
        picture.paste(view, (left + x, y))
    named_anchors = [anchor for anchor in anchors if anchor[0].name]
    draw_names(ImageDraw.Draw(picture, "RGBA"), named_anchors, base.shape[:2], layout)
    return _encode(picture, "JPEG", quality=88, subsampling=0)


def _side_views(
    image: Volume, labels: Volume, structures: Sequence[Structure], labelled: Array
) -> list[tuple[int, int, Image.Image]]:
    """Return two lateral slices, one below the other, and the coronal view: x, y and picture of each.

    labelled: indices of the slices with labels.
    """
    views: list[tuple[int, int, Image.Image]] = []
    for share in _LATERAL_SHARES if len(labelled) > 2 else ():
        index = labelled[round(share * (len(labelled) - 1))]
        image_slice, label_slice = (Volume(v.array[index : index + 1], v.affine) for v in (image, labels))
        y = views[0][2].height + _VIEW_GAP if views else 0
        views.append((_VIEW_GAP, y, _render_view(image_slice, label_slice, structures, LATERAL_LAYOUT)))
    x = max((x + view.width for x, _, view in views), default=0) + _VIEW_GAP
    # with the first two axes exchanged, the sagittal view along the column is the coronal one
    turned_image, turned_labels = (Volume(v.array.swapaxes(0, 1), v.affine[:, [1, 0, 2, 3]]) for v in (image, labels))
    return [*views, (x, 0, _render_view(turned_image, turned_labels, structures, CORONAL_LAYOUT))]


def _render_view(image: Volume, labels: Volume, structures: Sequence[Structure], layout: PictureLayout) -> Image.Image:
    base, _ = render_slice(image, labels, structures, layout)
    return Image.fromarray(base.astype(np.uint8))


def _in_plane_crop(labels: Volume, values: Sequence[int]) -> tuple[slice, slice, slice]:
    """Return a box of all slices, bounded in plane by the values and a margin."""
    box = [slice(0, n) for n in labels.array.shape]
    mask = np.isin(labels.array, values)
    for axis, margin in _MARGINS_MM.items():
        indices = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        border = round(margin / labels.grid.spacing[axis])
        if indices.size:
            box[axis] = slice(max(0, int(indices[0]) - border), int(indices[-1]) + 1 + border)
    return box[0], box[1], box[2]


def _encode(image: Image.Image, image_format: str, **options: int) -> bytes:
    stream = BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def render_png_pages(sheet: ContactSheet) -> Iterator[bytes]:
    """Yield the sheet as PNG files of forty exams each."""
    starts = range(0, len(sheet.tiles), _TILES_PER_PAGE)
    for number, start in enumerate(starts, start=1):
        title = sheet.title if len(starts) == 1 else f"{sheet.title}, page {number} of {len(starts)}"
        yield _render_png_page(title, sheet, sheet.tiles[start : start + _TILES_PER_PAGE])


def _render_png_page(title: str, sheet: ContactSheet, tiles: Sequence[SheetTile]) -> bytes:
    columns = min(_COLUMNS, len(tiles))
    tile_width = TILE_LAYOUT.max_width + TILE_LAYOUT.panel_width
    pictures = [_render_tile(tile, tile_width) for tile in tiles]
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = columns * tile_width + (columns + 1) * _GAP
    numbers = _SEPARATOR.join(f"{name}: {value}" for name, value in sheet.key_numbers.items())
    lines = _wrapped_findings([("note", numbers), *sheet.findings], 16, width - 2 * _GAP)
    top = 66 + _TITLE_HEIGHT * len(lines)
    height = top + sum(max(picture.height for picture in row) for row in rows) + (len(rows) + 1) * _GAP
    page = Image.new("RGB", (width, height), BACKGROUND)
    drawing = ImageDraw.Draw(page)
    drawing.text((_GAP, 38), title, fill=TEXT, font=ImageFont.load_default(size=26), anchor="lm")
    _draw_lines(drawing, lines, (_GAP, 64), _TITLE_HEIGHT, 16)
    y = top + _GAP
    for row in rows:
        for i, picture in enumerate(row):
            page.paste(picture, (_GAP + i * (tile_width + _GAP), y))
        y += max(picture.height for picture in row) + _GAP
    return _encode(page, "PNG", compress_level=6)


def _render_tile(tile: SheetTile, width: int) -> Image.Image:
    """Return the picture of an exam with its name, tags and findings below."""
    large, text_width = ImageFont.load_default(size=18), width - 24
    lines = _wrapped_findings(tile.findings, 14, text_width)
    if len(lines) > _MAX_FINDING_LINES:
        rest = len(lines) - _MAX_FINDING_LINES + 1
        lines = [*lines[: _MAX_FINDING_LINES - 1], (MUTED_TEXT, f"and {rest} more lines: see the page or check.json")]
    lines = _wrapped_findings([("note", _SEPARATOR.join(tile.tags))], 14, text_width) + lines
    picture_height = TILE_LAYOUT.max_height
    card = Image.new("RGB", (width, picture_height + _NAME_HEIGHT + _LINE_HEIGHT * len(lines)), _TILE_BACKGROUND)
    drawing = ImageDraw.Draw(card)
    drawing.rectangle([0, 0, width, picture_height], fill=BACKGROUND)
    if tile.picture_jpeg:
        picture = Image.open(BytesIO(tile.picture_jpeg))
        card.paste(picture, ((width - picture.width) // 2, (picture_height - picture.height) // 2))
    else:
        drawing.text((width / 2, picture_height / 2), "no picture", fill=MUTED_TEXT, font=large, anchor="mm")
    drawing.text((12, picture_height + 20), tile.name, fill=TEXT, font=large, anchor="lm")
    _draw_lines(drawing, lines, (12, picture_height + 36), _LINE_HEIGHT, 14)
    worst = next((severity for severity in ("error", "warning") if severity in dict(tile.findings)), None)
    if worst:
        drawing.rectangle([0, 0, width - 1, card.height - 1], outline=_SEVERITY_COLOURS[worst], width=2)
    return card


def _wrapped_findings(findings: Sequence[Finding], font_size: int, width: int) -> list[tuple[RGB, str]]:
    """Return lines of at most `width` pixels with their colours."""
    font = ImageFont.load_default(size=font_size)
    return [(_SEVERITY_COLOURS[severity], line) for severity, text in findings for line in wrap_text(text, font, width)]


def _draw_lines(
    drawing: ImageDraw.ImageDraw, lines: Sequence[tuple[RGB, str]], corner: tuple[int, int], step: int, font_size: int
) -> None:
    font = ImageFont.load_default(size=font_size)
    for i, (colour, line) in enumerate(lines):
        drawing.text((corner[0], corner[1] + step * i), line, fill=colour, font=font, anchor="la")


def render_html_page(sheet: ContactSheet) -> str:
    """Return the sheet as a self-contained HTML page."""
    body = (
        f"<h1>{escape(sheet.title)}</h1>\n{html.key_numbers(sheet.key_numbers.items())}{_findings_html(sheet.findings)}"
        '<input type="checkbox" id="only-findings"> '
        '<label for="only-findings">only exams with errors or warnings</label>\n'
        f'<div class="sheet">\n{"".join(_tile_html(tile) for tile in sheet.tiles)}</div>\n'
    )
    return html.page(sheet.title, body, ("contact_sheet",))


def _tile_html(tile: SheetTile) -> str:
    picture = '<div class="no-picture">no picture</div>'
    if tile.picture_jpeg:
        picture = html.image(tile.picture_jpeg, "image/jpeg", f"{tile.name} with outlines and names")
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tile.tags)
    caption = f"<b>{escape(tile.name)}</b><br>{tags}{_findings_html(tile.findings)}"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>\n"


def _findings_html(findings: Sequence[Finding]) -> str:
    items = "".join(f'<li class="{escape(severity)}">{escape(text)}</li>' for severity, text in findings)
    return f"<ul>{items}</ul>\n" if items else ""
