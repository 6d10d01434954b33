"""Which way the axes of a labelled exam really point, judged from its anatomy alone.

Each cue gives evidence, positive when the header is right and negative when it is reversed. What a label tells (the
canal lies behind the bodies) outweighs what shapes tell (a body is round in front and flat behind), which outweighs
what grey values tell. Scales were read off phantoms. Left and right look the same and cannot be judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import Kind, kinds_from_names, structure_by_name
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .dataset import LabelTable

MIN_EVIDENCE = 1.5
"""Evidence below which nothing is claimed."""

_LABEL_EVIDENCE = 6.0  # evidence of a label that leaves no doubt
_MIN_VOLUME = 300.0  # mm3 of a structure in view; less says nothing
_WHOLE_VERTEBRA = frozenset({Kind.BODY, Kind.ARCH})
_FULL_ROW_FRACTION = 0.6  # of the usual row's size: less is the end of a body or a gap between two
_MIDLINE_MARGIN = 7.0  # mm to either side of the column's middle
_PROFILE_DISTANCES = np.arange(2.0, 47.0)  # mm from the edge of the bodies, where grey values are compared
_CANAL_DEPTH = 22  # mm of these in which the canal lies


@dataclass(frozen=True)
class OrientationEstimate:
    """+1: the header is right, -1: reversed, 0: not certain. reasons: each cue with its evidence, for a person."""

    anterior_posterior: int
    superior_inferior: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Component:
    """One vertebra or disc. points: (n, 3) mm; order: from head to foot where the table names it; whole: in view."""

    points: Array
    kinds: frozenset[Kind]
    order: int | None
    is_complete: bool


@dataclass(frozen=True, eq=False)
class _Column:
    """Bodies and discs, or one of both, about a smooth curve through them.

    points: (n, 3) mm (right, anterior, up); ahead, aside: (n,) mm off the curve; rows: (n,) voxel row of each point;
    bend: mm by which the middle of the curve stands ahead of its ends.
    """

    points: Array
    anterior_offset: Array
    lateral_offset: Array
    rows: Array
    curvature: float
    anterior_at: Callable[[Array], Array]
    lateral_at: Callable[[Array], Array]


def estimate_orientation(image: Volume, labels: Volume, label_table: LabelTable) -> OrientationEstimate:
    """Whether front and back, head and feet lie as the header says. labels: on the image's grid, explained by `table`.

    The first needs bodies or discs; the second also names, a sacrum, or enough levels to see them grow downward.
    """
    image, labels = reorient(image, "RAS"), reorient(labels, "RAS")
    pieces = _label_components(labels, label_table)
    core = [p for p in pieces if p.kinds <= {Kind.BODY, Kind.DISC}]
    whole = [p for p in pieces if p.kinds >= _WHOLE_VERTEBRA]
    column = _fit_column(core or whole, labels.grid.spacing)
    if column is None:
        return OrientationEstimate(0, 0, ("no vertebrae or discs are labelled",))
    sides = _anterior_label_evidence(column, pieces) | (
        {"vertebrae reach back": _process_evidence(column)} if not core else {}
    )
    sides |= {"the column's curve": 1.5 * np.tanh(column.curvature / 8)}
    if core:
        sides |= _anterior_shape_evidence(column) | _anterior_intensity_evidence(image, column)
    ends = _superior_label_evidence(column, pieces) | _superior_size_evidence(pieces)
    reasons = [f"front-back, {name}: {value:+.1f}" for name, value in sides.items()]
    reasons += [f"head-foot, {name}: {value:+.1f}" for name, value in ends.items()]
    return OrientationEstimate(_decide(sides), _decide(ends), tuple(reasons))


def _decide(cues: dict[str, float]) -> int:
    total = sum(cues.values())
    return 0 if abs(total) < MIN_EVIDENCE else 1 if total > 0 else -1


def _label_components(labels: Volume, table: LabelTable) -> list[_Component]:
    """What is labelled, one by one; a value that names only a kind is taken apart where it does not touch itself."""
    found = []
    boxes = ndimage.find_objects(labels.array)
    for value, names in table.items():
        box = boxes[value - 1] if 0 < value <= len(boxes) else None
        kinds = kinds_from_names(names)
        if box is None or not (len(kinds) == 1 or kinds == _WHOLE_VERTEBRA) or Kind.BACKGROUND in kinds:
            continue
        mask = labels.array[box] == value
        orders = [structure_by_name(name).order for name in names if name not in tuple(Kind)]
        single = bool(orders) or not kinds & {Kind.BODY, Kind.DISC}
        parts, count = (mask.astype(np.int32), 1) if single else ndimage.label(mask)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        for part in np.flatnonzero(sizes >= 0.1 * sizes[1:].max()):
            if part:
                voxels = np.argwhere(parts == part) + [s.start for s in box]
                inside = bool(voxels[:, 2].min() > 0 and voxels[:, 2].max() < labels.array.shape[2] - 1)
                points = voxels * np.array(labels.grid.spacing)
                found.append(_Component(points, kinds, min(orders, default=None), inside))
    return found


def _fit_column(pieces: list[_Component], spacing: tuple[float, float, float]) -> _Column | None:
    if not pieces:
        return None
    points = np.concatenate([piece.points for piece in pieces])
    rows = np.rint(points[:, 2] / spacing[2]).astype(int)
    counts = np.bincount(rows)
    full = np.flatnonzero(counts > 0.15 * np.median(counts[counts > 0]))
    if len(full) < 8:
        return None
    low, high = full[0] * spacing[2], full[-1] * spacing[2]

    def along(z: Array) -> Array:
        return (2 * z - low - high) / (high - low)

    places, weight = along(full * spacing[2]), np.sqrt(counts[full])
    ahead = np.bincount(rows, points[:, 1])[full] / counts[full]
    aside = np.bincount(rows, points[:, 0])[full] / counts[full]
    path, side = np.polyfit(places, ahead, 3, w=weight), np.polyfit(places, aside, 2, w=weight)
    t = along(points[:, 2])
    return _Column(
        points,
        points[:, 1] - np.polyval(path, t),
        points[:, 0] - np.polyval(side, t),
        rows,
        -float(np.polyfit(places, ahead, 2, w=weight)[0]),
        lambda z: np.polyval(path, along(z)),
        lambda z: np.polyval(side, along(z)),
    )


def _anterior_label_evidence(column: _Column, pieces: list[_Component]) -> dict[str, float]:
    """What other labels tell: canal, posterior elements and whole vertebrae lie behind the bodies and discs."""
    cues = {}
    low, high = column.points[:, 2].min(), column.points[:, 2].max()
    known = (
        (frozenset({Kind.CANAL}), "canal"),
        (frozenset({Kind.ARCH}), "posterior elements"),
        (_WHOLE_VERTEBRA, "vertebrae"),
    )
    for kinds, name in known:
        points = [p.points for p in pieces if p.kinds == kinds]
        if not points:
            continue
        place = np.concatenate(points)
        place = place[(place[:, 2] >= low) & (place[:, 2] <= high)]
        ahead = place[:, 1] - column.anterior_at(place[:, 2])
        far = ahead[np.abs(ahead) > (25 if kinds == _WHOLE_VERTEBRA else 5)]
        if len(far) > 30:
            cues[f"{name} behind"] = _LABEL_EVIDENCE * float((far < 0).mean() - (far > 0).mean())
    return cues


def _process_evidence(column: _Column) -> float:
    """Whole vertebrae without discs: heavy bodies in front, thin processes far behind."""
    off = column.anterior_offset
    return 3 * float(np.tanh(-np.mean(off**3) / np.mean(off**2) ** 1.5 / 0.3))


def _anterior_shape_evidence(column: _Column) -> dict[str, float]:
    """Bodies and discs are round in front and flat behind: their sides lie further back than their middle."""
    aside = np.abs(column.lateral_offset)
    half = float(np.percentile(aside, 90))
    outer, middle = column.anterior_offset[aside > 0.75 * half], column.anterior_offset[aside < 0.4 * half]
    if half < 10 or not len(outer) or not len(middle):  # a slab of slices shows no sides
        return {}
    return {"round in front": 2 * float(np.tanh((middle.mean() - outer.mean()) / 0.6))}


def _anterior_intensity_evidence(image: Volume, column: _Column) -> dict[str, float]:
    """Behind the bodies a tube of one grey value runs along them, and more signal comes from there."""
    back, front, rows = _body_edges(column)
    if len(rows) < 20:
        return {}
    behind = _intensity_profiles(image, column, rows, back, -1)
    ahead = _intensity_profiles(image, column, rows, front, 1)
    inside = np.isfinite(behind).all(axis=0) & np.isfinite(ahead).all(axis=0)
    if inside.sum() < _CANAL_DEPTH:
        return {}
    brightness = np.log((behind[:, inside].mean() + 1e-3) / (ahead[:, inside].mean() + 1e-3))
    tube = _tube_contrast(behind[:, :_CANAL_DEPTH]) - _tube_contrast(ahead[:, :_CANAL_DEPTH])
    return {"signal of the back": 1.5 * float(np.tanh(brightness / 0.5)), "canal's tube": float(np.tanh(tube / 1.5))}


def _body_edges(column: _Column) -> tuple[Array, Array, Array]:
    """Smooth back and front edge of the bodies in the middle slices, mm, for each of the rows."""
    near = np.abs(column.lateral_offset) < _MIDLINE_MARGIN
    rows, place = column.rows[near], column.points[near, 1]
    order = np.argsort(rows, kind="stable")
    numbers, starts = np.unique(rows[order], return_index=True)
    edges = np.array([np.percentile(part, (5, 95)) for part in np.split(place[order], starts[1:])]).reshape(-1, 2)
    depth = edges[:, 1] - edges[:, 0]
    full = depth > _FULL_ROW_FRACTION * np.median(depth) if len(depth) else np.zeros(0, bool)
    if full.sum() < 20:
        return np.zeros(0), np.zeros(0), np.zeros(0, int)
    every = np.arange(numbers[0], numbers[-1] + 1)
    middle, half = every.mean(), max(np.ptp(every) / 2, 1)
    back, front = (np.polyfit((numbers[full] - middle) / half, edges[full, side], 4) for side in (0, 1))
    t = (every - middle) / half
    return np.polyval(back, t), np.polyval(front, t), every


def _intensity_profiles(image: Volume, column: _Column, rows: Array, edge: Array, sign: int) -> Array:
    """(rows, distances) grey values outward from an edge, the mean of middle slices; nan outside of the image."""
    spacing, shape = np.array(image.grid.spacing), image.array.shape
    aside = column.lateral_at(rows * spacing[2])
    offsets = (-4.0, 0.0, 4.0) if shape[0] > 1 else (0.0,)
    j = np.rint((edge[:, None] + sign * _PROFILE_DISTANCES) / spacing[1]).astype(int)
    out = np.zeros(j.shape)
    for offset in offsets:
        i = np.clip(np.rint((aside + offset) / spacing[0]).astype(int), 0, shape[0] - 1)
        out += image.array[i[:, None], np.clip(j, 0, shape[1] - 1), rows[:, None]]
    return np.where((j >= 0) & (j < shape[1]), out / len(offsets), np.nan)


def _tube_contrast(profiles: Array) -> float:
    """How much more grey values differ across than along."""
    across, along = np.var(profiles.mean(axis=0)), np.mean(np.var(profiles, axis=0))
    return float(np.log((across + 1e-6) / (along + 1e-6)))


def _superior_label_evidence(column: _Column, pieces: list[_Component]) -> dict[str, float]:
    """Names run from head to foot; the sacrum ends the column below."""
    cues = {}
    named = [(p.order, p.points[:, 2].mean()) for p in pieces if p.order is not None and p.kinds != {Kind.CANAL}]
    named = [pair for pair in named if pair[0] != structure_by_name("sacrum").order]
    if len({order for order, _ in named}) > 1:
        orders, heights = np.array(named, float).T
        first, second = np.triu_indices(len(named), 1)
        turn = np.sign((orders[second] - orders[first]) * (heights[first] - heights[second]))
        cues["names in order"] = _LABEL_EVIDENCE * float(turn[turn != 0].mean())
    sacral = [p.points[:, 2] for p in pieces if p.kinds == {Kind.SACRUM}]
    if sacral:
        below = np.concatenate(sacral) < np.median(column.points[:, 2])
        cues["sacrum below"] = _LABEL_EVIDENCE * float(2 * below.mean() - 1)
    return cues


def _superior_size_evidence(pieces: list[_Component]) -> dict[str, float]:
    """Vertebrae grow, and stand further apart, from head to foot."""
    groups = [[p for p in pieces if p.kinds == kinds] for kinds in ({Kind.BODY}, {Kind.DISC}, _WHOLE_VERTEBRA)]
    groups = [[p for p in g if len(p.points) > _FULL_ROW_FRACTION / 2 * max(len(q.points) for q in g)] for g in groups]
    levels = next((g for g in groups if len(g) > 3), [])
    middles = np.array(sorted((p.points.mean(axis=0) for p in levels), key=lambda m: m[2])).reshape(-1, 3)
    steps = np.linalg.norm(np.diff(middles[:, 1:], axis=0), axis=1)
    cues = {}
    if len(steps) > 2 and steps.max() < 1.8 * np.median(steps):
        growth = -_relative_growth((middles[1:, 2] + middles[:-1, 2]) / 2, steps)
        cues["levels further apart below"] = 2 * float(np.tanh(growth / 0.1))
    bodies = [p for p in groups[0] if p.is_complete]
    if len(bodies) > 2:
        height = np.array([p.points[:, 2].mean() for p in bodies])
        growth = -_relative_growth(height, np.array([len(p.points) for p in bodies]))
        cues["bodies larger below"] = 1.5 * float(np.tanh(growth / 0.15))
        breadth = np.array([np.ptp(np.percentile(p.points[:, 0], (5, 95))) for p in bodies])
        if breadth.min() > 0:
            cues["bodies broader below"] = float(np.tanh(-_relative_growth(height, breadth) / 0.12))
    return cues


def _relative_growth(at: Array, sizes: Array) -> float:
    """The median relative growth of sizes per 100 mm (Theil and Sen)."""
    first, second = np.triu_indices(len(at), 1)
    apart = at[second] - at[first]
    usable = np.abs(apart) > 1
    slopes = (np.log(sizes[second]) - np.log(sizes[first]))[usable] / apart[usable]
    return float(np.median(slopes)) * 100 if len(slopes) else 0.0
