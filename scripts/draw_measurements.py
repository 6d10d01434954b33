"""Draw each measurement on a phantom, for docs/measurements.md: python scripts/draw_measurements.py.

Areas are those of the phantom's label map; lines are where `lumbarseg.measurement` took the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.measurement import MeasuredLine, locate_measurements, measure_spine
from lumbarseg.phantom import Recipe, RecipeRanges, render_phantom, sample_recipe
from lumbarseg.phantom.ground_truth import measure_ground_truth
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "measurements"
SLIP = 7.0  # mm, of L4 on L5
MIN_BODY = 20.0  # mm, least middle height of a body
MIN_ANGLES = {"tilt_top": 12.0, "wedge": 5.0}  # degrees, of L5
MIN_DISC = 3.0  # mm, least posterior height of a disc
EXTENSION = 60.0  # mm, by which the field of view reaches further down, for the sacrum
ROW = 0.25  # mm, of the lines that fill an area
MARGIN = 14.0  # mm above and below the structures
SIDE_MARGIN = 38.0  # mm beside them, for texts
LINE_COLOUR, ENDPLATE_COLOUR = "#b3261e", "#1f5fa8"
FILLS = {Kind.BODY: "#f0d49b", Kind.DISC: "#b3dbe6", Kind.SACRUM: "#d9cbc4", Kind.CANAL: "#f5eba6"}
SPINE = ("L1", "L1-L2", "L2", "L2-L3", "L3", "L3-L4", "L4", "L4-L5", "L5", "L5-S1", "sacrum")


@dataclass(frozen=True)
class Drawing:
    """What one drawing shows.

    Attributes
    ----------
    structures : in view
    lines : (structure, measurement) to draw with their values
    endplates : (structure, measurement) of endplates that are drawn as long lines
    value : (structure, measurement) of the value of an angle, beside the first endplate
    horizontal : whether the first endplate is compared with the horizontal
    """

    structures: Sequence[str]
    lines: Sequence[tuple[str, str]] = ()
    endplates: Sequence[tuple[str, str]] = ()
    value: tuple[str, str] | None = None
    horizontal: bool = False


_HEIGHTS = ("anterior", "middle", "posterior")
_TEXT_POSITIONS = {
    "anterior": ("end", (-3.0, 1.0)),
    "middle": ("middle", (0.0, 1.0)),
    "posterior": ("start", (3.0, 6.0)),
    "depth": ("middle", (0.0, -1.0)),
    "canal": ("start", (12.0, -1.0)),
    "slip": ("start", (6.0, 1.0)),
}
"""Of each text: its anchor, and (x, y) mm from the middle of its line."""
DRAWINGS = {
    "heights": Drawing(["L3"], [("L3", name) for name in _HEIGHTS]),
    "depth": Drawing(["L3", "L3-L4"], [("L3", "depth"), ("L3-L4", "depth")]),
    "disc-height": Drawing(["L3", "L3-L4", "L4"], [("L3-L4", name) for name in _HEIGHTS]),
    "wedge": Drawing(["L5"], endplates=[("L5", "tilt_top"), ("L5", "tilt_bottom")], value=("L5", "wedge")),
    "tilt": Drawing(["L5"], endplates=[("L5", "tilt_top")], value=("L5", "tilt_top"), horizontal=True),
    "segmental-lordosis": Drawing(
        ["L4", "L4-L5", "L5"], endplates=[("L4", "tilt_top"), ("L5", "tilt_top")], value=("L4", "segmental_lordosis")
    ),
    "lordosis": Drawing(SPINE, endplates=[("sacrum", "lordosis"), ("L1", "lordosis")], value=("sacrum", "lordosis")),
    "slip": Drawing(
        ["L4", "L4-L5", "L5"], [("L4", "slip")], endplates=[("L4", "tilt_bottom"), ("L5", "tilt_top")], value=None
    ),
    "canal": Drawing(["L3", "L3-L4", "canal"], [("L3", "canal"), ("L3-L4", "canal")]),
}


@dataclass(frozen=True, eq=False)
class SagittalSlice:
    """Labels of one slice with anterior left and superior up, and what was measured; units are mm."""

    labels: Array
    spacing: Array
    lines: dict[tuple[str, str], MeasuredLine]
    values: dict[tuple[str, str], object]

    def to_page(self, point: tuple[float, float]) -> Array:
        """Return (x, y) in mm, anterior left and superior up, of a voxel (anterior, superior)."""
        position: Array = -np.array(point) * self.spacing
        return position

    def area(self, name: str) -> list[tuple[float, float, float]]:
        """Return the rows of a structure: y, and from which to which x."""
        mask = (self.labels == structure_by_name(name).label).astype(float)
        field = ndimage.zoom(
            ndimage.gaussian_filter(mask, 0.6), self.spacing / ROW, order=1, grid_mode=True, mode="grid-constant"
        )
        rows = []
        for k, column in enumerate(field.T):
            edges = np.flatnonzero(np.diff(np.r_[0, column >= 0.5, 0]))
            for start, stop in edges.reshape(-1, 2):
                y = self.spacing[1] / 2 - (k + 0.5) * ROW
                rows.append((y, self.spacing[0] / 2 - stop * ROW, self.spacing[0] / 2 - start * ROW))
        return rows


def measured_slice() -> SagittalSlice:
    """Return the slice through the middle of L4 of the first phantom on which all drawn values are measured."""
    needed = {key for drawing in DRAWINGS.values() for key in (*drawing.lines, *drawing.endplates)}
    ranges = RecipeRanges(lumbar_counts=(5,), isotropic_fraction=0.0)
    for seed in count():
        recipe = sample_recipe(np.random.default_rng(seed), ranges)
        truth = measure_ground_truth(recipe)
        thinnest = min(truth["discs"][name]["posterior"] for name in SPINE if "-" in name)
        lowest_body = min(truth["bodies"][name]["middle"] for name in SPINE if name in truth["bodies"])
        if thinnest < MIN_DISC or lowest_body < MIN_BODY:
            continue
        if any(truth["bodies"]["L5"][name] < angle for name, angle in MIN_ANGLES.items()) or truth["lordosis"] < 40:
            continue
        view = _measure_middle(render_phantom(_with_slip(recipe)).labels)
        if needed <= view.lines.keys():
            break
    return view


def _with_slip(recipe: Recipe) -> Recipe:
    """Return a recipe in which L4 and all above it stand forward, and whose field of view reaches the sacrum."""
    spine, scanner = recipe.spine, recipe.scanner
    forward = SLIP * np.array(spine.bodies[1].frame)[:, 1]
    discs = zip(spine.discs, (0.0, 0.5, *[1.0] * len(spine.discs)), strict=False)
    bodies = zip(spine.bodies, (0.0, *[1.0] * len(spine.bodies)), strict=False)
    spine = replace(
        spine,
        bodies=tuple(replace(body, centre=tuple(body.centre + share * forward)) for body, share in bodies),
        discs=tuple(replace(disc, centre=tuple(disc.centre + share * forward)) for disc, share in discs),
    )
    x, y, z = scanner.corner
    columns = scanner.columns + round(EXTENSION / scanner.pixel)
    straight = replace(scanner, corner=(x, y, z - EXTENSION), columns=columns, turn=(0.0, 0.0, 0.0))
    return replace(recipe, spine=spine, scanner=straight)


def _measure_middle(volume: Volume) -> SagittalSlice:
    labels = reorient(volume, "RAS")
    middle = round(float(np.argwhere(labels.array == structure_by_name("L4").label)[:, 0].mean()))
    slice_labels = Volume(labels.array[middle : middle + 1], labels.affine)
    measured = measure_spine(slice_labels)
    lines = {(line.structure, line.name): line for line in locate_measurements(measured)}
    values = {(row.name, name): value for row in measured.rows for name, value in row.to_dict().items()}
    return SagittalSlice(slice_labels.array[0], np.array(labels.grid.spacing[1:]), lines, values)


def render_svg(drawing: Drawing, view: SagittalSlice) -> str:
    """Return a drawing as SVG."""
    areas = {name: view.area(name) for name in drawing.structures}
    framing = [row for name, rows in areas.items() for row in rows if name != "canal" or len(areas) == 1]
    ys, starts, stops = (np.array(column) for column in zip(*framing, strict=True))
    left, right = starts.min() - SIDE_MARGIN, stops.max() + SIDE_MARGIN + 24 * ("canal" in areas)
    top, bottom = ys.min() - MARGIN, ys.max() + MARGIN
    body = [
        f'<path stroke="{FILLS[structure_by_name(name).kind]}" stroke-width="{ROW * 1.4}" d="'
        + "".join(f"M{a:.1f} {y:.2f}H{b:.1f}" for y, a, b in rows if top < y < bottom)
        + '"/>'
        for name, rows in areas.items()
    ]
    body += [
        f'<text x="{right - 1:.1f}" y="{y:.1f}" text-anchor="end" fill="#555">{name}</text>'
        for name, y in _name_heights(areas)
    ]
    for key in drawing.lines:
        body += _line(view.lines[key], view)
    body += _angle(view, drawing)
    size = f"{left:.1f} {top:.1f} {right - left:.1f} {bottom - top:.1f}"
    scale = 4.2 if len(drawing.structures) < 6 else 2.6
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" width="{scale * (right - left):.0f}" '
        f'height="{scale * (bottom - top):.0f}" font-family="sans-serif" font-size="{13 / scale:.2f}">\n'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" fill="#ffffff"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _name_heights(areas: dict[str, list[tuple[float, float, float]]]) -> list[tuple[str, float]]:
    """Return where the names of structures stand; the canal needs none."""
    return [(name, float(np.mean([row[0] for row in rows])) + 1) for name, rows in areas.items() if name != "canal"]


def _line(line: MeasuredLine, view: SagittalSlice) -> list[str]:
    """Return a measured line with its name and value."""
    start, end = view.to_page(line.start), view.to_page(line.end)
    anchor, aside = _TEXT_POSITIONS[line.name]
    x, y = (start + end) / 2 + np.array(aside)
    unit = "" if line.name in _HEIGHTS else " mm"
    return [_stroke(start, end, LINE_COLOUR), _text((x, y), anchor, f"{line.name} {line.value:.1f}{unit}")]


def _angle(view: SagittalSlice, drawing: Drawing) -> list[str]:
    """Return endplates as long lines, and the angle between them or to the horizontal."""
    parts = []
    for structure, name in drawing.endplates:
        line = view.lines[structure, name]
        posterior, anterior = view.to_page(line.start), view.to_page(line.end)
        reach = 0.45 * (anterior - posterior)
        parts.append(_stroke(posterior - reach, anterior + reach, ENDPLATE_COLOUR))
        if drawing.horizontal:
            level = np.array([2 * anterior[0] - posterior[0], posterior[1]])
            parts.append(_stroke(posterior, level, ENDPLATE_COLOUR, ' stroke-dasharray="1.5 1.5"'))
    if drawing.value:
        structure, name = drawing.value
        value = view.lines[structure, name].value if name == "lordosis" else view.values[structure, name]
        line = view.lines[drawing.endplates[0]]
        x, y = view.to_page(line.end) + 0.5 * (view.to_page(line.end) - view.to_page(line.start))
        parts.append(_text((x, y), "end", f"{value:.0f}\N{DEGREE SIGN}"))
    return parts


def _text(position: tuple[float, float], anchor: str, text: str) -> str:
    x, y = position
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{LINE_COLOUR}">{text}</text>'


def _stroke(start: Array, end: Array, colour: str, style: str = "") -> str:
    points = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {points} stroke="{colour}" stroke-width="0.6"{style}/>'


def main() -> None:
    """Write all drawings."""
    FOLDER.mkdir(exist_ok=True)
    view = measured_slice()
    for name, drawing in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(render_svg(drawing, view))


if __name__ == "__main__":
    main()
