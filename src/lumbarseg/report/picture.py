"""The picture: a mid-sagittal view along the column, coloured outlines, the names beside the vertebrae."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lumbarseg.anatomy import RGB, STRUCTURES, Kind, Structure, name_and_levels
from lumbarseg.resampling import reorient, reverse_world_axes
from lumbarseg.volume import Array, Volume

if TYPE_CHECKING:
    from lumbarseg.segmentation import Level, Segmentation

_MARGIN = 16
BACKGROUND: RGB = (14, 16, 20)
TEXT: RGB = (236, 238, 242)
MUTED_TEXT: RGB = (150, 156, 168)
_FILL_OPACITY = {Kind.BODY: 0.16, Kind.DISC: 0.16, Kind.SACRUM: 0.08}
_OUTLINE_HALF_WIDTH = 1.1  # half width of an outline, pixels
_NAMED_KINDS = (Kind.BODY, Kind.SACRUM)
_SUBSAMPLING = 3  # of so many voxels in plane one is enough to find the middle of a body
_BAND_COUNT = 8  # of the height: a structure that is higher than two of them is followed in steps
_MIN_SACRUM_PIXELS = 400  # pixels of the picture below which a piece of the sacrum gets no name

NameAnchor = tuple[Structure, tuple[float, float]]


@dataclass(frozen=True)
class PictureLayout:
    """Sizes in pixels. height, width: that the slice may take; panel: for the names beside it; font: of the names."""

    max_height: int = 900
    max_width: int = 1100
    panel_width: int = 136
    font_size: int = 23


FULL_SIZE = PictureLayout()
"""One exam that fills a screen."""


def caption(segmentation: Segmentation) -> str:
    """The line under the picture: what the names were counted from and how sure they are."""
    doubt = " - names uncertain, please look" if any(level.uncertain for level in segmentation.levels) else ""
    return f"Names from: {segmentation.anchor}. Confidence {segmentation.confidence:.2f}{doubt}"


def render_picture(
    image: Volume,
    labels: Volume,
    levels: Sequence[Level] = (),
    footer: str = "",
    flips: tuple[bool, bool] = (False, False),
) -> bytes:
    """A PNG of an exam and its label map, both (I, J, K) on one grid of any axes.

    Front is left, head is up. The view follows the middle of the column where that leaves one slice. levels: whose
    names are uncertain or cut off by the edge. footer: one line below. flips: whether the header swaps front and back,
    and head and feet.
    """
    pixels, marked = (reorient(reverse_world_axes(volume, flips), "RAS") for volume in (image, labels))
    base, marks = render_slice(pixels, marked, STRUCTURES, FULL_SIZE)
    page = _compose_page(base, marks, {level.name: level for level in levels}, footer)
    out = BytesIO()
    page.save(out, "PNG", compress_level=1)
    return out.getvalue()


def render_slice(
    image: Volume, labels: Volume, structures: Sequence[Structure], layout: PictureLayout
) -> tuple[Array, list[NameAnchor]]:
    """The slice with outlines, (H, W, 3) float32 0..255, and from top to bottom where names belong.

    These are names of `_NAMED`, and of discs where there are no bodies. Both in RAS order; rows: what the values of
    `labels` are.
    """
    view = _SagittalView.through_column(labels, structures, layout)
    base = _scale_to_grey(view.sample_linear(image.array), view.size)
    found = view.sample_nearest(labels.array)
    marks = []
    bodies = any(row.kind is Kind.BODY and (found == row.label).any() for row in structures)
    named = _NAMED_KINDS if bodies else (*_NAMED_KINDS, Kind.DISC)
    pixel = view.size[0] * view.size[1] / found.size
    for row in sorted(structures, key=lambda s: s.kind in named):
        mask = found == row.label
        size = np.count_nonzero(mask) * pixel
        if size:
            mark = _draw_outline(base, mask, row)
            scrap = _MIN_SACRUM_PIXELS * (layout.max_height / FULL_SIZE.max_height) ** 2
            if row.kind in named and (size > scrap or row.kind is not Kind.SACRUM):
                marks.append(mark)
    return base, sorted(marks, key=lambda m: m[1][1])


class _SagittalView:
    """A sheet of (K, J) samples through a RAS volume, head up and front left. track: its slice at each row."""

    def __init__(self, track: Array, size: tuple[int, int]) -> None:
        self.track, self.size = track, size

    @classmethod
    def through_column(cls, names: Volume, rows: Sequence[Structure], frame: PictureLayout) -> _SagittalView:
        """Through the middle of the column; straight when the column stays within a slice."""
        slices, depth, height = names.array.shape
        centres = _body_and_disc_centres(names.array, rows)
        track = np.full(height, (slices - 1) / 2)
        if centres:
            heights, places = (np.array(v) for v in zip(*sorted(centres), strict=True))
            track = np.interp(np.arange(height), heights, places)
            if np.ptp(track) < 0.8:
                track = np.full(height, round(float(np.median(track))))
        across, up = names.grid.spacing[1:]
        zoom = min(frame.max_height / (height * up), frame.max_width / (depth * across))
        size = (max(8, round(depth * across * zoom)), max(8, round(height * up * zoom)))
        return cls(np.clip(track, 0, slices - 1)[::-1], size)

    def sample_linear(self, array: Array) -> Array:
        """(K, J) float32, between two slices linearly."""
        low = np.floor(self.track).astype(int)
        high = np.minimum(low + 1, len(array) - 1)
        share = (self.track - low).astype(np.float32)[:, None]
        return (1 - share) * self._take_rows(array, low) + share * self._take_rows(array, high)

    def sample_nearest(self, array: Array) -> Array:
        """(K, J) labels of the nearest slice."""
        return self._take_rows(array, np.rint(self.track).astype(int))

    @staticmethod
    def _take_rows(array: Array, which: Array) -> Array:
        height = array.shape[2]
        return array[which, ::-1, np.arange(height)[::-1]]


def _body_and_disc_centres(labels: Array, structures: Sequence[Structure]) -> list[tuple[float, float]]:
    """(row, slice) of the middle of each body and disc; of bands of what fills much of the height, as all bodies do
    that have one value."""
    from scipy import ndimage

    labels = labels[:, ::_SUBSAMPLING, ::_SUBSAMPLING]
    boxes = dict(enumerate(ndimage.find_objects(labels), start=1))
    centres = []
    for structure in structures:
        box = boxes.get(structure.label)
        if box is not None and structure.kind in (Kind.BODY, Kind.DISC):
            band = max(1, labels.shape[2] // _BAND_COUNT)
            low, high = box[2].start, box[2].stop
            steps = range(low, high, band) if high - low > 2 * band else [low]
            for start, stop in zip(steps, [*steps[1:], high], strict=True):
                part = labels[*box[:2], start:stop]
                counts = np.count_nonzero(part == structure.label, axis=(1, 2))
                if counts.any():
                    middle = float(np.arange(len(counts)) @ counts / counts.sum())
                    centres.append((_SUBSAMPLING * (start + stop - 1) / 2, box[0].start + middle))
    return centres


def _scale_to_grey(sheet: Array, size: tuple[int, int]) -> Array:
    """The slice at its true proportions, (H, W, 3) float32 0..255."""
    low, high = np.percentile(sheet, [1, 99.6])
    scaled = np.clip((sheet - low) / max(float(high - low), 1e-6), 0, 1) ** 0.9 * 255
    large = Image.fromarray(scaled.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.repeat(np.clip(np.asarray(large), 0, 255)[..., None], 3, axis=2)


def _draw_outline(base: Array, mask: Array, structure: Structure) -> NameAnchor:
    """Paint one structure onto `base`; its name's anchor: the edge behind at half its height, pixels."""
    from scipy import ndimage

    height, width = base.shape[0] / mask.shape[0], base.shape[1] / mask.shape[1]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, bottom = max(0, rows[0] - 3), min(mask.shape[0], rows[-1] + 4)
    left, right = max(0, columns[0] - 3), min(mask.shape[1], columns[-1] + 4)
    y0, y1, x0, x1 = round(top * height), round(bottom * height), round(left * width), round(right * width)
    small = ndimage.gaussian_filter(mask[top:bottom, left:right].astype(np.float32), 0.7, mode="nearest")
    box = (x0 / width - left, y0 / height - top, x1 / width - left, y1 / height - top)
    box = (max(0.0, box[0]), max(0.0, box[1]), min(float(right - left), box[2]), min(float(bottom - top), box[3]))
    field = np.asarray(Image.fromarray(small).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC, box=box))
    slope = np.hypot(*np.gradient(field)) if min(field.shape) > 1 else np.ones_like(field)
    away = np.abs(field - 0.5) / np.maximum(slope, 0.02)
    cover = np.clip(_OUTLINE_HALF_WIDTH + 0.5 - away, 0, 1) * (0.9 if structure.kind in _FILL_OPACITY else 0.6)
    cover = np.maximum(cover, (field > 0.5) * _FILL_OPACITY.get(structure.kind, 0.0))[..., None]
    part = base[y0:y1, x0:x1]
    part += cover * (np.array(structure.colour, np.float32) - part)
    middle = rows[int(len(rows) * (0.12 if structure.kind is Kind.SACRUM else 0.5))]
    behind = np.flatnonzero(mask[middle])
    return structure, ((behind[-1] + 1) * width, (middle + 0.5) * height)


def _compose_page(base: Array, anchors: Sequence[NameAnchor], levels: dict[str, Level], footer: str) -> Image.Image:
    """The slice with the panel of names on its right and the line of text below."""
    height, width = base.shape[:2]
    small = ImageFont.load_default(size=16)
    lines = wrap_text(footer, small, width + FULL_SIZE.panel_width - 2 * _MARGIN)
    page = Image.new(
        "RGB", (width + FULL_SIZE.panel_width, height + (20 + 22 * len(lines) if lines else 0)), BACKGROUND
    )
    page.paste(Image.fromarray(base.astype(np.uint8)), (0, 0))
    pen = ImageDraw.Draw(page, "RGBA")
    draw_names(pen, anchors, (height, width), FULL_SIZE, {name for name, level in levels.items() if level.uncertain})
    for x, letter in ((_MARGIN, "A"), (width - _MARGIN, "P")):
        pen.text((x, height - 20), letter, fill=TEXT, font=small, anchor="mm", stroke_width=2, stroke_fill=BACKGROUND)
    for i, line in enumerate(lines):
        pen.text((_MARGIN, height + 10 + 22 * i), line, fill=MUTED_TEXT, font=small, anchor="la")
    return page


def draw_names(
    pen: ImageDraw.ImageDraw,
    anchors: Sequence[NameAnchor],
    size: tuple[int, int],
    layout: PictureLayout,
    uncertain_names: Set[str] = frozenset(),
) -> None:
    """Names beside a slice of `size` (height, width), each with a line to its structure; doubtful: names with a "?"."""
    height, width = size
    font = ImageFont.load_default(size=layout.font_size)
    bar = layout.font_size // 2
    heights = _spread_positions([at[1] for _, at in anchors], layout.font_size * 1.22, height)
    for (structure, (x, y)), level_y in zip(anchors, heights, strict=True):
        doubt = bool(name_and_levels(structure.name) & uncertain_names)
        name = f"{structure.name} ?" if doubt else structure.name
        pen.line([(x + 3, y), (width - 10, y), (width + bar, level_y)], fill=(*structure.colour, 150), width=1)
        pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(*structure.colour, 255))
        left = width + bar
        pen.rounded_rectangle([left, level_y - bar, left + bar // 3, level_y + bar], 2, fill=(*structure.colour, 255))
        pen.text((left + 1.2 * bar, level_y), name, fill=MUTED_TEXT if doubt else TEXT, font=font, anchor="lm")


def _spread_positions(places: Sequence[float], gap: float, height: float) -> list[float]:
    """Heights from top to bottom, moved as little as needed to lie `gap` apart and inside the picture."""
    out: list[float] = []
    for place in places:
        out.append(max(place, out[-1] + gap if out else gap / 2))
    limit = height - gap / 2
    for i in reversed(range(len(out))):
        out[i] = min(out[i], limit)
        limit = out[i] - gap
    return out


def wrap_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
