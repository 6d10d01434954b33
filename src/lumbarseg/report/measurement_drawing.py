"""Measurements drawn over the picture of an exam: heights, slips and the lumbar lordosis, with their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw, ImageFont

from lumbarseg.anatomy import RGB, Kind, structure_by_name
from lumbarseg.measurement import MeasuredLine
from lumbarseg.volume import Array

_HEIGHT_COLOUR: RGB = (255, 255, 255)
_SLIP_COLOUR: RGB = (255, 140, 105)
_LORDOSIS_COLOUR: RGB = (120, 220, 255)
_SHADOW: RGB = (0, 0, 0)
_EXTENSION = 0.35  # of an endplate's length, by which the lines of the lordosis reach past both ends
_FONT_SIZE = 13
_NUMBERS = {"anterior": (0.72, "lm", 4), "middle": (0.5, "mm", 0), "posterior": (0.28, "rm", -4)}
"""Of each height of a body, its number: where it stands along the line, its anchor, and pixels beside the line."""


@dataclass(frozen=True, eq=False)
class SagittalView:
    """Where voxels lie in a picture with anterior left and superior up.

    Attributes
    ----------
    shape : (2,) voxels, anterior and superior
    scale : (2,) pixels per voxel
    """

    shape: Array
    scale: Array

    def to_pixel(self, point: tuple[float, float]) -> Array:
        """Return the pixel (x, y) of a voxel (anterior, superior)."""
        pixel: Array = (self.shape - 0.5 - np.array(point)) * self.scale
        return pixel


def draw_measurements(drawing: ImageDraw.ImageDraw, lines: Sequence[MeasuredLine], view: SagittalView) -> None:
    """Draw heights, slips and lordosis onto a sagittal view. lines: from `locate_measurements`."""
    for line in lines:
        start, end = view.to_pixel(line.start), view.to_pixel(line.end)
        if line.name in _NUMBERS:
            _draw_height(drawing, line, start, end)
        elif line.name == "slip":
            drawing.line([*start, *end], fill=_SLIP_COLOUR, width=3)
            _write(drawing, f"slip {line.value:+.1f}", np.maximum(start, end) + np.array([6, -4]), _SLIP_COLOUR, "lm")
        elif line.name == "lordosis":
            reach = _EXTENSION * (end - start)
            drawing.line([*(start - reach), *(end + reach)], fill=_LORDOSIS_COLOUR, width=2)
            if structure_by_name(line.structure).kind is Kind.SACRUM:
                text = f"lordosis {line.value:.0f}\N{DEGREE SIGN}"
                bottom = view.shape[1] * view.scale[1] - 1.5 * _FONT_SIZE
                position = np.minimum(end + reach + np.array([0, 8]), (np.inf, bottom))
                _write(drawing, text, position, _LORDOSIS_COLOUR, "la")


def _draw_height(drawing: ImageDraw.ImageDraw, line: MeasuredLine, start: Array, end: Array) -> None:
    """Draw a height with its number, one above the other in a body; a disc has room for the middle one only."""
    drawing.line([*start, *end], fill=_HEIGHT_COLOUR, width=1)
    if structure_by_name(line.structure).kind is Kind.BODY:
        share, anchor, aside = _NUMBERS[line.name]
        _write(
            drawing, f"{line.value:.1f}", start + share * (end - start) + np.array([aside, 0]), _HEIGHT_COLOUR, anchor
        )
    elif line.name == "middle":
        _write(drawing, f"{line.value:.0f}", (start + end) / 2, _HEIGHT_COLOUR, "mm")


def _write(drawing: ImageDraw.ImageDraw, text: str, position: Array, colour: RGB, anchor: str) -> None:
    font = ImageFont.load_default(size=_FONT_SIZE)
    x, y = (float(value) for value in position)
    drawing.text((max(x, 4), y), text, fill=colour, font=font, anchor=anchor, stroke_width=2, stroke_fill=_SHADOW)
