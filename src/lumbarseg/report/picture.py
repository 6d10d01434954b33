"""The picture of an exam: a mid-sagittal view along the column with coloured outlines and level names."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import scipy
from PIL import Image, ImageDraw, ImageFont

from lumbarseg.anatomy import RGB, STRUCTURES, Kind, Structure, name_and_levels
from lumbarseg.measurement import MeasuredLine
from lumbarseg.resampling import reorient, reverse_world_axes
from lumbarseg.segmentation import Level, Segmentation
from lumbarseg.volume import Array, Volume

from .measurement_drawing import SagittalView, draw_measurements

BACKGROUND: RGB = (14, 16, 20)
TEXT: RGB = (236, 238, 242)
MUTED_TEXT: RGB = (150, 156, 168)
_MARGIN = 16  # pixels
_FILL_OPACITY = {Kind.BODY: 0.16, Kind.DISC: 0.16, Kind.SACRUM: 0.08}
_OUTLINE_HALF_WIDTH = 1.1  # pixels
_NAMED_KINDS = (Kind.BODY, Kind.SACRUM)
_SUBSAMPLING = 3  # in plane, to find the middle of the column
_SMOOTHING = 12.0  # mm along the column
_MIN_SACRUM_PIXELS = 400  # smaller pieces of the sacrum are not named
_STRAIGHT_RANGE = 0.8  # slices; a column that deviates less is shown in one slice

NameAnchor = tuple[Structure, tuple[float, float]]
"""A structure and the pixel (x, y) at which the line from its name ends."""


@dataclass(frozen=True)
class PictureLayout:
    """Sizes in pixels: of the slice at most, the panel for names beside it, and the font; whether discs are named."""

    max_height: int = 900
    max_width: int = 1100
    panel_width: int = 136
    font_size: int = 23
    disc_names: bool = False


FULL_SIZE = PictureLayout(disc_names=True)


def caption(segmentation: Segmentation, exam_name: str = "") -> str:
    """Return the text below the picture: the exam, the anchor of the names and their confidence, and warnings."""
    names = f"names from: {segmentation.anchor}, confidence {segmentation.confidence:.2f}"
    return " \u00b7 ".join(filter(None, (exam_name, names, *segmentation.warnings)))


def render_picture(
    image: Volume,
    labels: Volume,
    levels: Sequence[Level] = (),
    footer: str = "",
    flips: tuple[bool, bool] = (False, False),
    lines: Sequence[MeasuredLine] = (),
) -> bytes:
    """Return a PNG of an exam and its label map, anterior left and superior up.

    The view follows the middle of the column where that leaves one slice.

    Parameters
    ----------
    image, labels : (I, J, K) on one grid with any axes
    levels : of the segmentation; uncertain ones are marked
    footer : text below the picture
    flips : whether the header swaps front and back, and head and feet
    lines : measurements to draw, from `locate_measurements`
    """
    ras_image, ras_labels = (reorient(reverse_world_axes(volume, flips), "RAS") for volume in (image, labels))
    base, anchors = render_slice(ras_image, ras_labels, STRUCTURES)
    height, width = base.shape[:2]
    page_width, small = width + FULL_SIZE.panel_width, ImageFont.load_default(size=16)
    footer_lines = wrap_text(footer, small, page_width - 2 * _MARGIN)
    page = Image.new("RGB", (page_width, height + (20 + 22 * len(footer_lines) if footer_lines else 0)), BACKGROUND)
    page.paste(Image.fromarray(base.astype(np.uint8)), (0, 0))
    drawing = ImageDraw.Draw(page, "RGBA")
    draw_names(drawing, anchors, (height, width), FULL_SIZE, {level.name for level in levels if level.uncertain})
    if lines:
        in_plane = np.array(ras_labels.array.shape[1:])
        draw_measurements(drawing, lines, SagittalView(in_plane, np.array([width, height]) / in_plane))
    for x, letter in ((_MARGIN, "A"), (width - _MARGIN, "P")):
        position = (x, height - 20)
        drawing.text(position, letter, fill=TEXT, font=small, anchor="mm", stroke_width=2, stroke_fill=BACKGROUND)
    for i, line in enumerate(footer_lines):
        drawing.text((_MARGIN, height + 10 + 22 * i), line, fill=MUTED_TEXT, font=small, anchor="la")
    stream = BytesIO()
    page.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def render_slice(
    image: Volume, labels: Volume, structures: Sequence[Structure], layout: PictureLayout = FULL_SIZE
) -> tuple[Array, list[NameAnchor]]:
    """Return the sagittal view with outlines, (H, W, 3) float32 0..255, and the anchors of names from top to bottom.

    Bodies and sacrum are named; discs if the layout says so, or where there are no bodies.

    Parameters
    ----------
    image, labels : in RAS order on one grid
    structures : what the values of `labels` mean
    """
    track = _slice_at_row(labels, structures)
    rows = np.arange(labels.array.shape[2])[::-1]
    low = np.floor(track).astype(int)
    high = np.minimum(low + 1, len(image.array) - 1)
    share = (track - low).astype(np.float32)[:, None]
    plane = (1 - share) * image.array[low, ::-1, rows] + share * image.array[high, ::-1, rows]
    slice_labels = labels.array[np.rint(track).astype(int), ::-1, rows]
    height_mm, width_mm = plane.shape * np.array(labels.grid.spacing)[[2, 1]]
    zoom = min(layout.max_height / height_mm, layout.max_width / width_mm)
    base = _scale_to_grey(plane, (max(8, round(width_mm * zoom)), max(8, round(height_mm * zoom))))
    present = set(np.unique(slice_labels).tolist())
    shown = [structure for structure in structures if structure.label in present]
    name_discs = layout.disc_names or not any(structure.kind is Kind.BODY for structure in shown)
    named_kinds = (*_NAMED_KINDS, Kind.DISC) if name_discs else _NAMED_KINDS
    min_sacrum = _MIN_SACRUM_PIXELS * (layout.max_height / FULL_SIZE.max_height) ** 2
    pixels_per_sample = base[..., 0].size / slice_labels.size
    anchors = []
    for structure in sorted(shown, key=lambda s: s.kind in named_kinds):
        mask = slice_labels == structure.label
        anchor = _draw_outline(base, mask, structure)
        is_fragment = structure.kind is Kind.SACRUM and np.count_nonzero(mask) * pixels_per_sample <= min_sacrum
        if structure.kind in named_kinds and not is_fragment:
            anchors.append(anchor)
    return base, sorted(anchors, key=lambda anchor: anchor[1][1])


def _slice_at_row(labels: Volume, structures: Sequence[Structure]) -> Array:
    """Return the slice coordinate, (K,) from top to bottom, of a view through the middle of the column.

    The view is flat if the column stays within a slice.
    """
    values = [structure.label for structure in structures if structure.kind in (Kind.BODY, Kind.DISC)]
    counts = np.isin(labels.array[:, ::_SUBSAMPLING], values).sum(axis=1)  # (I, K)
    rows = np.flatnonzero(counts.any(axis=0))
    if not rows.size:
        return np.full(counts.shape[1], (len(counts) - 1) / 2)
    moments = np.stack([counts.sum(axis=0), np.arange(len(counts)) @ counts]).astype(float)
    weights, positions = scipy.ndimage.gaussian_filter1d(moments, _SMOOTHING / labels.grid.spacing[2], mode="constant")
    track = np.interp(np.arange(counts.shape[1]), rows, positions[rows] / weights[rows])
    if np.ptp(track) < _STRAIGHT_RANGE:
        track[:] = round(float(np.median(track)))
    return track[::-1]


def _scale_to_grey(plane: Array, size: tuple[int, int]) -> Array:
    """Return a plane at its true proportions as grey levels, (H, W, 3) float32 0..255."""
    low, high = np.percentile(plane, [1, 99.6])
    scaled = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1) ** 0.9 * 255
    large = Image.fromarray(scaled.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.repeat(np.clip(np.asarray(large), 0, 255)[..., None], 3, axis=2)


def _draw_outline(base: Array, mask: Array, structure: Structure) -> NameAnchor:
    """Draw one structure onto `base` in place and return the anchor of its name: its posterior edge at half height."""
    height, width = base.shape[0] / mask.shape[0], base.shape[1] / mask.shape[1]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, bottom = max(0, rows[0] - 3), min(mask.shape[0], rows[-1] + 4)
    left, right = max(0, columns[0] - 3), min(mask.shape[1], columns[-1] + 4)
    y0, y1, x0, x1 = round(top * height), round(bottom * height), round(left * width), round(right * width)
    smooth = scipy.ndimage.gaussian_filter(mask[top:bottom, left:right].astype(np.float32), 0.7, mode="nearest")
    box = (x0 / width - left, y0 / height - top, x1 / width - left, y1 / height - top)
    box = (max(0.0, box[0]), max(0.0, box[1]), min(float(right - left), box[2]), min(float(bottom - top), box[3]))
    field = np.asarray(Image.fromarray(smooth).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=box))
    slope = np.hypot(*np.gradient(field)) if min(field.shape) > 1 else np.ones_like(field)
    edge_distance = np.abs(field - 0.5) / np.maximum(slope, 0.02)  # pixels
    line_opacity = 0.9 if structure.kind in _FILL_OPACITY else 0.6
    opacity = np.clip(_OUTLINE_HALF_WIDTH + 0.5 - edge_distance, 0, 1) * line_opacity
    opacity = np.maximum(opacity, (field > 0.5) * _FILL_OPACITY.get(structure.kind, 0.0))[..., None]
    region = base[y0:y1, x0:x1]
    region += opacity * (np.array(structure.colour, np.float32) - region)
    middle = rows[int(len(rows) * (0.3 if structure.kind is Kind.SACRUM else 0.5))]
    posterior_edge = np.flatnonzero(mask[middle])[-1] + 1
    return structure, (posterior_edge * width, (middle + 0.5) * height)


def draw_names(
    drawing: ImageDraw.ImageDraw,
    anchors: Sequence[NameAnchor],
    size: tuple[int, int],
    layout: PictureLayout,
    uncertain_names: Set[str] = frozenset(),
) -> None:
    """Draw names beside a view of `size` (height, width), with lines to their structures; uncertain ones get a "?"."""
    height, width = size
    font = ImageFont.load_default(size=layout.font_size)
    bar, gap = layout.font_size // 2, layout.font_size * 1.22
    left = width + bar
    positions = spread_positions([y for _, (_, y) in anchors], gap, gap / 2, height - gap / 2)
    for (structure, (x, y)), name_y in zip(anchors, positions, strict=True):
        uncertain = bool(name_and_levels(structure.name) & uncertain_names)
        name = f"{structure.name} ?" if uncertain else structure.name
        opaque = (*structure.colour, 255)
        colour = MUTED_TEXT if uncertain or structure.kind is Kind.DISC else TEXT
        drawing.line([(x + 3, y), (width - 10, y), (left, name_y)], fill=(*structure.colour, 150), width=1)
        drawing.ellipse([x - 3, y - 3, x + 3, y + 3], fill=opaque)
        drawing.rounded_rectangle([left, name_y - bar, left + bar // 3, name_y + bar], 2, fill=opaque)
        drawing.text((left + 1.2 * bar, name_y), name, fill=colour, font=font, anchor="lm")


def wrap_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Return lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def spread_positions(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return increasing positions moved as little as needed to be `gap` apart and between `low` and `high`."""
    out: list[float] = []
    for position in positions:
        out.append(max(position, out[-1] + gap if out else low))
    limit = high
    for i in reversed(range(len(out))):
        out[i] = min(out[i], limit)
        limit = out[i] - gap
    return out
