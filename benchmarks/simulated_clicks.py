"""The next click of a careful user on a segmented exam: inside the largest error, on the structure that is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, structure_by_label
from lumbarseg.clicks import Click
from lumbarseg.training.deepedit import VoxelIndex, place_click
from lumbarseg.volume import Array, Volume

_SEARCH_RADIUS = 20  # mm
_ORIGIN = (0.0, 0.0, 0.0)


def simulate_click(
    prediction: Volume, reference: Volume, label_table: Mapping[int, Iterable[str]], rng: np.random.Generator
) -> Click | None:
    """Return the click that a user would set next; None when nothing is wrong.

    Where something is missing or has a wrong name, the click names the right structure; where the prediction has too
    much of a structure, the click says that this structure is not there.

    Parameters
    ----------
    prediction : uint8 volume, labels of this package
    reference : uint8 volume on the same grid
    label_table : the structure names that each value of `reference` may stand for
    """
    names = {value: frozenset(row) for value, row in label_table.items()}
    allowed = np.array([_allowed_labels(names.get(value, frozenset({"background"}))) for value in range(256)])
    wrong = ~allowed[reference.array, prediction.array]
    background = np.array([bool(names.get(value, {"background"}) & {"background"}) for value in range(256)])
    error_labels = reference.array.astype(np.int32) * 256
    error_labels += np.where(background[reference.array], prediction.array, 0)
    index = place_click(wrong, error_labels, prediction.grid.spacing, rng)
    if not index:
        return None
    x, y, z = (float(value) for value in prediction.grid.to_world(np.array(index)))
    value = int(reference.array[index])
    if background[value]:
        return Click((x, y, z), structure_by_label(int(prediction.array[index])).name, positive=False)
    return Click((x, y, z), _nearest_predicted(names[value], prediction, index))


def _allowed_labels(names: frozenset[str]) -> Array:
    """Return which label values a set of names allows, (256,) bool."""
    allowed = np.full(256, "unknown" in names)
    allowed[0] |= bool(names & {"background"})
    for structure in STRUCTURES:
        allowed[structure.label] |= structure.name in names or structure.kind in names
    return allowed


def _nearest_predicted(names: frozenset[str], prediction: Volume, index: VoxelIndex) -> str:
    """Return the structure of several (a whole vertebra: body or posterior elements) predicted nearest to a voxel."""
    order = sorted(names, key=lambda name: CLASSES.index(Click(_ORIGIN, name).kind))
    if len(order) == 1:
        return order[0]
    reach = [max(1, round(_SEARCH_RADIUS / step)) for step in prediction.grid.spacing]
    box = tuple(slice(max(0, a - r), a + r + 1) for a, r in zip(index, reach, strict=True))
    labels = prediction.array[box]
    centre = np.array([a - side.start for a, side in zip(index, box, strict=True)])

    def distance(name: str) -> float:
        voxels = np.argwhere(np.isin(labels, sorted(Click(_ORIGIN, name).labels)))
        return float(np.linalg.norm((voxels - centre) * prediction.grid.spacing, axis=1).min(initial=np.inf))

    return min(order, key=distance)
