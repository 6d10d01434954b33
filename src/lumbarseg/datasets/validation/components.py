"""The connected pieces of a label map, with their places and sizes in mm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import STRUCTURES, Kind, Structure, kinds_from_names, structure_by_name
from lumbarseg.volume import Array, Volume

from ..dataset import LabelTable

_STRUCTURE_NAMES = {s.name for s in STRUCTURES}
_MAX_POINTS = 4000  # points of a piece that distances are measured from


@dataclass(frozen=True, eq=False)
class Component:
    """Voxels of one value that touch. points: (n, 3) mm from the first voxel, RAS; volume: mm3; cut: at the edge."""

    value: int
    points: Array
    volume: float
    touches_edge: bool

    @cached_property
    def centre(self) -> Array:
        """(3,) mm."""
        return self.points.mean(axis=0)

    def distance(self, others: Iterable[Component]) -> float:
        """To the nearest voxel of other pieces, mm; infinite without any."""
        from scipy.spatial import cKDTree

        low, high = self.points.min(axis=0), self.points.max(axis=0)
        near = []
        for other in others:
            inside = ((other.points > low - 60) & (other.points < high + 60)).all(axis=1)
            near.append(other.points[inside] if inside.any() else other.points[:: max(1, len(other.points) // 99)])
        if not near:
            return float("inf")
        own = self.points[:: max(1, len(self.points) // _MAX_POINTS)]
        return float(cKDTree(np.concatenate(near)).query(own)[0].min())


@dataclass(frozen=True, eq=False)
class LabelRegion:
    """Everything of one value. names: of its row; level: the structure, where the row is one level; pieces: largest
    first."""

    value: int
    names: tuple[str, ...]
    kinds: frozenset[Kind]
    level: Structure | None
    components: tuple[Component, ...]

    @property
    def largest(self) -> Component:
        """The largest piece."""
        return self.components[0]

    @property
    def display_name(self) -> str:
        """For a person: "L4", "L4 arch", "the bodies", "value 7"."""
        if self.level:
            return self.level.name
        return " or ".join(self.names) if self.names else f"value {self.value}"


def label_regions(labels: Volume, label_table: LabelTable) -> list[LabelRegion]:
    """Every value above 0 that occurs and that the table explains as more than background; labels: RAS, uint8."""
    spacing = np.array(labels.grid.spacing)
    found = []
    for value, box in enumerate(ndimage.find_objects(labels.array), start=1):
        names = label_table.get(value, ())
        kinds = kinds_from_names(names)
        if box is None or not names or Kind.BACKGROUND in kinds:
            continue
        pieces = _components(labels.array[box] == value, value, box, labels.array.shape, spacing)
        found.append(
            LabelRegion(value, names, kinds, structure_of_row(names), tuple(sorted(pieces, key=lambda p: -p.volume)))
        )
    return found


def structure_of_row(names: tuple[str, ...]) -> Structure | None:
    """The structure that a row is about: its only one, or the body of a whole vertebra; None for kinds and mixtures."""
    if not names or not set(names) <= _STRUCTURE_NAMES:
        return None
    if len(names) == 1:
        return structure_by_name(names[0])
    body = min(names, key=len)
    return structure_by_name(body) if set(names) == {body, f"{body} arch"} else None


def _components(
    mask: Array, value: int, box: tuple[slice, ...], shape: tuple[int, ...], spacing: Array
) -> list[Component]:
    numbers, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    where = np.argwhere(mask)
    of = numbers[tuple(where.T)]
    order = np.argsort(of, kind="stable")
    groups = np.split(where[order], np.flatnonzero(np.diff(of[order])) + 1)
    out = []
    for group in groups:
        index = group + [s.start for s in box]
        # the first axis is left out: most slabs end within the patient
        cut = bool((index[:, 1:].min(axis=0) == 0).any() or (index[:, 1:].max(axis=0) == np.array(shape[1:]) - 1).any())
        out.append(Component(value, index * spacing, len(index) * float(spacing.prod()), cut))
    return out
