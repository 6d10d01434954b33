"""The labelled regions of a label map and their connected components, with positions and sizes in mm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from lumbarseg.anatomy import STRUCTURES, Kind, Structure, kinds_from_names, structure_by_name
from lumbarseg.components import Box, connected_components, label_boxes
from lumbarseg.volume import Array, Volume

from ..label_table import LabelTable

_STRUCTURE_NAMES = {s.name for s in STRUCTURES}
_MAX_POINTS = 4000  # of a component from which distances are measured
_SEARCH_MARGIN = 60.0  # mm around a component where its neighbours are searched in full


@dataclass(frozen=True, eq=False)
class Component:
    """A connected component of one value.

    Attributes
    ----------
    points : (n, 3) mm from the first voxel, RAS
    volume : mm3
    touches_edge : at the anterior, posterior, upper or lower edge of the image; most slabs end within the patient, so
        the sides do not count
    """

    value: int
    points: Array
    volume: float
    touches_edge: bool

    @cached_property
    def center(self) -> Array:
        """Return the mean position, (3,) mm."""
        return self.points.mean(axis=0)

    def distance(self, others: Iterable[Component]) -> float:
        """Return the distance to the nearest voxel of other components, mm; infinite without any."""
        low, high = self.points.min(axis=0) - _SEARCH_MARGIN, self.points.max(axis=0) + _SEARCH_MARGIN
        near = []
        for other in others:
            is_near = ((other.points > low) & (other.points < high)).all(axis=1)
            near.append(other.points[is_near] if is_near.any() else other.points[:: max(1, len(other.points) // 99)])
        if not near:
            return float("inf")
        own = self.points[:: max(1, len(self.points) // _MAX_POINTS)]
        return float(cKDTree(np.concatenate(near)).query(own)[0].min())


@dataclass(frozen=True, eq=False)
class LabelRegion:
    """All voxels of one value.

    Attributes
    ----------
    names : of its row in the label table
    level : the structure, where the row is about one level
    components : the largest first
    """

    value: int
    names: tuple[str, ...]
    kinds: frozenset[Kind]
    level: Structure | None
    components: tuple[Component, ...]

    @property
    def largest(self) -> Component:
        """Return the largest component."""
        return self.components[0]

    @property
    def display_name(self) -> str:
        """Return "L4", "L4 arch", "body or arch" or "value 7"."""
        if self.level:
            return self.level.name
        return " or ".join(self.names) if self.names else f"value {self.value}"


def find_label_regions(labels: Volume, label_table: LabelTable) -> list[LabelRegion]:
    """Return the components of each value above 0 that is not background in the table; labels: RAS, uint8."""
    regions = []
    for value, box in label_boxes(labels.array).items():
        names = label_table.get(value, ())
        kinds = kinds_from_names(names)
        if names and Kind.BACKGROUND not in kinds:
            components = sorted(_components(labels, value, box), key=lambda component: -component.volume)
            regions.append(LabelRegion(value, names, kinds, structure_of_row(names), tuple(components)))
    return regions


def structure_of_row(names: tuple[str, ...]) -> Structure | None:
    """Return the only structure of a row, or the body of a complete vertebra; None for kinds and mixtures."""
    if not names or not set(names) <= _STRUCTURE_NAMES:
        return None
    if len(names) == 1:
        return structure_by_name(names[0])
    body = min(names, key=len)
    return structure_by_name(body) if set(names) == {body, f"{body} arch"} else None


def _components(labels: Volume, value: int, box: Box) -> list[Component]:
    spacing, shape = np.array(labels.grid.spacing), np.array(labels.array.shape)
    components = []
    for voxels in connected_components(labels.array[box] == value, "corners").voxels():
        index = voxels + [s.start for s in box]
        touches_edge = bool((index[:, 1:] == 0).any() or (index[:, 1:] == shape[1:] - 1).any())
        components.append(Component(value, index * spacing, len(index) * float(spacing.prod()), touches_edge))
    return components
