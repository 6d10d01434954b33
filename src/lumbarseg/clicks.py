"""Clicks: points that a user sets in an exam ("here is L3", "this is not L3"), and their encoding for the network.

Two file formats are read. Ours states its space: {"space": "RAS+ mm", "clicks": [{"point": [x, y, z], "structure":
"L3", "positive": true}, ...]}. The other is the markups file of 3D Slicer (.mrk.json): the label of a point is the name
of a structure; a minus before it or the description "negative" makes it negative.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, structure_by_name
from lumbarseg.errors import FileError, LumbarsegError
from lumbarseg.preprocessing import ClickGaussian
from lumbarseg.volume import Array, Grid

Point = tuple[float, float, float]
SPACE_FACTORS = {"RAS": (1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0)}
"""Factors to RAS+ of the spaces that a file may state."""
MIN_VISIBLE = 0.05
"""Share of a Gaussian's maximum below which a click is not encoded."""
_NUMBER_SUFFIX = re.compile(r"-\d+$")  # 3D Slicer names the points of a list L3 "L3-1", "L3-2", ...


@dataclass(frozen=True)
class Click:
    """One click.

    Attributes
    ----------
    point : RAS+ mm
    structure : a name of the table ("L3", "L4-L5"), or a kind ("disc") when no level is meant
    positive : whether the structure is there, or is not

    Raises
    ------
    LumbarsegError
        When the structure is unknown or the point is not three finite numbers.
    """

    point: Point
    structure: str
    positive: bool = True

    def __post_init__(self) -> None:
        if self.structure not in CLASSES:
            structure_by_name(self.structure)
        if not np.isfinite(self.point).all() or len(self.point) != 3:
            raise LumbarsegError(f"a click on {self.structure} at {self.point}: a point is three finite numbers in mm")
        object.__setattr__(self, "point", tuple(float(value) for value in self.point))

    @property
    def kind(self) -> Kind:
        """Return the kind of the structure."""
        return Kind(self.structure) if self.structure in CLASSES else structure_by_name(self.structure).kind

    @property
    def channel(self) -> int:
        """Return the class channel of the click: that of its kind, or the background's for a negative click."""
        return CLASSES.index(self.kind if self.positive else Kind.BACKGROUND)

    @property
    def labels(self) -> frozenset[int]:
        """Return the labels of the structure in a label map; 0 for the background."""
        if self.kind is Kind.BACKGROUND:
            return frozenset({0})
        return frozenset(s.label for s in STRUCTURES if self.structure in (s.name, s.kind))

    def describe(self) -> str:
        """Describe the click for a message: "not L3 at 1, 2, 3"."""
        point = ", ".join(f"{value:g}" for value in self.point)
        return f"{'' if self.positive else 'not '}{self.structure} at {point}"


def click_positions(clicks: Sequence[Click], grid: Grid) -> Array:
    """Return the voxel coordinates of clicks, (clicks, 3) float64, clipped to the grid."""
    points = grid.to_index(np.array([click.point for click in clicks]).reshape(-1, 3))
    return np.clip(points, 0, np.array(grid.shape) - 1)


def visible_box(click: Click, grid: Grid, gaussian: ClickGaussian) -> tuple[slice, slice, slice]:
    """Return the box of slices, A and S on the network grid where a click is encoded; empty when it lies outside."""
    extent = np.array(gaussian.sigmas) * np.sqrt(-2 * np.log(MIN_VISIBLE)) / grid.spacing
    position = grid.to_index(np.array(click.point))
    low = np.clip(np.ceil(position - extent), 0, grid.shape).astype(int)
    high = np.clip(np.floor(position + extent) + 1, low, grid.shape).astype(int)
    i, a, s = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return i, a, s


def encode_clicks(clicks: Sequence[Click], grid: Grid, gaussian: ClickGaussian) -> Array:
    """Encode clicks as channels for the network, (classes, slices, A, S) float32 in 0..1 on its grid.

    Where clicks of one channel meet, the larger value counts. A slice shows only the clicks whose box it lies in.
    """
    out = np.zeros((len(CLASSES), *grid.shape), np.float32)
    for click in clicks:
        position = grid.to_index(np.array(click.point))
        i, a, s = (
            np.exp(-0.5 * ((np.arange(size) - at) * step / sigma) ** 2).astype(np.float32)
            for size, at, step, sigma in zip(grid.shape, position, grid.spacing, gaussian.sigmas, strict=True)
        )
        slices = visible_box(click, grid, gaussian)[0]
        channel = out[click.channel, slices]
        np.maximum(channel, i[slices, None, None] * a[None, :, None] * s[None, None], out=channel)
    return out


def parse_clicks(text: str, source: str) -> tuple[Click, ...]:
    """Parse the text of a clicks file. source: its name in errors.

    Raises
    ------
    FileError
        That says which entry is wrong, and how.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{source}: no JSON, so no clicks file: {error}") from error
    if not isinstance(values, dict) or not {"clicks", "markups"} & set(values):
        raise FileError(f"{source}: has neither 'clicks' nor, as a markups file of 3D Slicer, 'markups'")
    if "clicks" in values:
        rows = _list_of_objects(values, "clicks", source)
        return tuple(_parse_click(values.get("space"), row, f"{source}: clicks[{n}]") for n, row in enumerate(rows))
    return tuple(
        _parse_markup(markup.get("coordinateSystem"), point, f"{source}: markups[{m}]: controlPoints[{n}]")
        for m, markup in enumerate(_list_of_objects(values, "markups", source))
        for n, point in enumerate(_list_of_objects(markup, "controlPoints", f"{source}: markups[{m}]"))
        if point.get("positionStatus", "defined") == "defined"
    )


def _list_of_objects(values: dict[str, Any], key: str, source: str) -> list[dict[str, Any]]:
    rows = values.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FileError(f"{source}: {key}: must be a list of objects")
    return rows


def _parse_click(space: Any, row: dict[str, Any], source: str) -> Click:
    """Parse an entry of our own format."""
    unknown = sorted(set(row) - {"point", "structure", "positive"})
    if unknown:
        raise FileError(f"{source}: {unknown[0]!r} is no key of a click; the keys are point, structure, positive")
    positive = row.get("positive", True)
    if not isinstance(positive, bool):
        raise FileError(f"{source}: positive: must be true or false")
    return _make_click(space, row.get("point"), row.get("structure"), positive, source)


def _parse_markup(space: Any, row: dict[str, Any], source: str) -> Click:
    """Parse a control point of a markups file of 3D Slicer."""
    label, description = str(row.get("label", "")).strip(), str(row.get("description", "")).strip().lower()
    positive = not label.startswith("-") and description != "negative"
    name = label.removeprefix("-").strip()
    names = {s.name for s in STRUCTURES} | set(CLASSES)
    structure = name if name in names else _NUMBER_SUFFIX.sub("", name)
    return _make_click(space, row.get("position"), structure, positive, source)


def _make_click(space: Any, point: Any, structure: Any, positive: bool, source: str) -> Click:
    factors = SPACE_FACTORS.get(str(space).removesuffix(" mm").removesuffix("+"))
    if factors is None:
        raise FileError(f"{source}: the file must state its space, 'RAS+ mm' or 'LPS+ mm', not {space!r}")
    if not isinstance(point, list) or len(point) != 3 or not all(type(v) in (int, float) for v in point):
        raise FileError(f"{source}: a point is three numbers in mm, not {point!r}")
    if not isinstance(structure, str):
        raise FileError(f"{source}: structure: must be a name, for example L3")
    x, y, z = (float(value) * factor for value, factor in zip(point, factors, strict=True))
    try:
        return Click((x, y, z), structure, positive)
    except LumbarsegError as error:
        raise FileError(f"{source}: {error}") from error
