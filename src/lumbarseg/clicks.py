"""Points that a person sets in an exam ("here is L3", "this is not L3"), and the channels a network reads them in.

Two kinds of file are read. Ours states its space: {"space": "RAS+ mm", "clicks": [{"point": [x, y, z], "structure":
"L3", "positive": true}, ...]}. The other is the markups file of 3D Slicer (.mrk.json): a point's label is the name of
a structure, a minus before it or the description "negative" makes it negative.
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
from lumbarseg.volume import Array, Grid

Point = tuple[float, float, float]
SPACE_FACTORS = {"RAS": (1.0, 1.0, 1.0), "LPS": (-1.0, -1.0, 1.0)}
"""Factors to RAS+ of the spaces that a file may state."""
MIN_VISIBLE = 0.05
"""Of a blob's top: below it a click is not seen."""
_NUMBER_SUFFIX = re.compile(r"-\d+$")  # 3D Slicer calls the points of a list named L3 "L3-1", "L3-2", ...


@dataclass(frozen=True)
class Click:
    """One point. point: RAS+ mm; structure: a name of the table ("L3", "L4-L5"), or a kind ("disc") when no level is
    meant; positive: whether the structure is there, or is not. LumbarsegError for a name or a point that is none.
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
        """The tissue that the structure is of."""
        return Kind(self.structure) if self.structure in CLASSES else structure_by_name(self.structure).kind

    @property
    def channel(self) -> int:
        """Which channel of the network says so: that of the tissue, or the background's for what is not there."""
        return CLASSES.index(self.kind if self.positive else Kind.BACKGROUND)

    @property
    def labels(self) -> frozenset[int]:
        """Values of a label map that mean the structure; 0 for the background."""
        if self.kind is Kind.BACKGROUND:
            return frozenset({0})
        return frozenset(s.label for s in STRUCTURES if self.structure in (s.name, s.kind))

    def describe(self) -> str:
        """The click in words, for a message."""
        place = ", ".join(f"{value:g}" for value in self.point)
        return f"{'' if self.positive else 'not '}{self.structure} at {place}"


@dataclass(frozen=True)
class ClickGaussian:
    """How a click looks to the network: a Gaussian. sigma: mm in plane; through: mm across slices.

    At slices of 4 mm a click is clear on its own, weaker on the next and faint on the one after.
    """

    sigma: float = 4.0
    through: float = 5.0

    def __post_init__(self) -> None:
        numbers = (self.sigma, self.through)
        if not all(isinstance(n, float) and np.isfinite(n) and 0 < n < 100 for n in numbers):
            raise ValueError(f"a click's size {numbers} is out of range")

    @property
    def sigmas(self) -> tuple[float, float, float]:
        """Sigmas across slices, along A and along S, mm."""
        return self.through, self.sigma, self.sigma


def visible_box(click: Click, grid: Grid, gaussian: ClickGaussian) -> tuple[slice, slice, slice]:
    """Where on a network's grid a click is seen, a box of slices, A and S; empty where it lies outside."""
    far = np.array(gaussian.sigmas) * np.sqrt(-2 * np.log(MIN_VISIBLE)) / grid.spacing
    place = grid.to_index(np.array(click.point))
    low = np.clip(np.ceil(place - far), 0, grid.shape).astype(int)
    high = np.clip(np.floor(place + far) + 1, low, grid.shape).astype(int)
    i, a, s = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return i, a, s


def encode_clicks(clicks: Sequence[Click], grid: Grid, gaussian: ClickGaussian) -> Array:
    """Clicks as the network reads them: (classes, slices, A, S) float32 in 0..1 on its grid, the background first.

    Where clicks of one channel meet, the stronger counts. A slice shows the clicks that are seen in it and no others.
    """
    out = np.zeros((len(CLASSES), *grid.shape), np.float32)
    for click in clicks:
        place = grid.to_index(np.array(click.point))
        i, a, s = (
            np.exp(-0.5 * ((np.arange(size) - at) * step / width) ** 2).astype(np.float32)
            for size, at, step, width in zip(grid.shape, place, grid.spacing, gaussian.sigmas, strict=True)
        )
        some = visible_box(click, grid, gaussian)[0]
        here = out[click.channel, some]
        np.maximum(here, i[some, None, None] * a[None, :, None] * s[None, None], out=here)
    return out


def parse_clicks(text: str, source: str) -> tuple[Click, ...]:
    """The clicks of a file's text; `where` is what errors call it. FileError says which entry is wrong, and how."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{source}: no JSON, so no file of clicks: {error}") from error
    if not isinstance(values, dict) or not {"clicks", "markups"} & set(values):
        raise FileError(f"{source}: has neither 'clicks' nor, as a markups file of 3D Slicer, 'markups'")
    if "clicks" in values:
        rows = [(values.get("space"), row) for row in _list_of_objects(values, "clicks", source)]
        return tuple(_parse_click(space, row, f"{source}: clicks[{n}]") for n, (space, row) in enumerate(rows))
    return tuple(
        _parse_markup(markup.get("coordinateSystem"), point, f"{source}: markups[{m}]: controlPoints[{n}]")
        for m, markup in enumerate(_list_of_objects(values, "markups", source))
        for n, point in enumerate(_list_of_objects(markup, "controlPoints", f"{source}: markups[{m}]"))
        if point.get("positionStatus", "defined") == "defined"
    )


def text_of(clicks: Sequence[Click]) -> str:
    """Clicks as a file of ours; the inverse of `parse`."""
    rows = [{"point": list(c.point), "structure": c.structure, "positive": c.positive} for c in clicks]
    return json.dumps({"space": "RAS+ mm", "clicks": rows}, indent=1) + "\n"


def _list_of_objects(values: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    rows = values.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FileError(f"{where}: {key}: must be a list of objects")
    return rows


def _parse_click(space: Any, row: dict[str, Any], where: str) -> Click:
    """An entry of our own file."""
    strange = sorted(set(row) - {"point", "structure", "positive"})
    if strange:
        raise FileError(f"{where}: {strange[0]!r} is no word of a click; these are point, structure, positive")
    positive = row.get("positive", True)
    if not isinstance(positive, bool):
        raise FileError(f"{where}: positive: must be true or false")
    return _make_click(space, row.get("point"), row.get("structure"), positive, where)


def _parse_markup(space: Any, row: dict[str, Any], where: str) -> Click:
    """A control point of a markups file."""
    label, about = str(row.get("label", "")).strip(), str(row.get("description", "")).strip().lower()
    positive = not label.startswith("-") and about != "negative"
    name = label.removeprefix("-").strip()
    known = {s.name for s in STRUCTURES} | set(CLASSES)
    return _make_click(
        space, row.get("position"), name if name in known else _NUMBER_SUFFIX.sub("", name), positive, where
    )


def _make_click(space: Any, point: Any, structure: Any, positive: bool, where: str) -> Click:
    factors = SPACE_FACTORS.get(str(space).removesuffix(" mm").removesuffix("+"))
    if factors is None:
        raise FileError(f"{where}: the file must state its space, 'RAS+ mm' or 'LPS+ mm', not {space!r}")
    if not isinstance(point, list) or len(point) != 3 or not all(type(v) in (int, float) for v in point):
        raise FileError(f"{where}: a point is three numbers in mm, not {point!r}")
    if not isinstance(structure, str):
        raise FileError(f"{where}: structure: must be a name, for example L3")
    x, y, z = (float(value) * factor for value, factor in zip(point, factors, strict=True))
    try:
        return Click((x, y, z), structure, positive)
    except LumbarsegError as error:
        raise FileError(f"{where}: {error}") from error
