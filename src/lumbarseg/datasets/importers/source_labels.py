"""Label maps of a source: on the grid of their image, in the package's own labels, and with names for one tag."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient, resample
from lumbarseg.volume import Array, Volume

from ..label_table import LabelTable, count_voxels, require_explained
from ..orientation import correct_orientation
from ..schemes import unannotated_names
from .importer import LoadedCase, SourceCase

_GRID_TOLERANCE = 0.01  # mm by which the corners of one grid may differ in two files
_MIN_KEPT_FRACTION = 0.9  # of the volume of every structure that must be left on the image's grid

KNOWN_FAULTS = {
    "label-header": "the label map's header disagrees with that of its image, which has as many voxels; the image's "
    "header was used",
    "label-grid": "the labels were on another grid and were resampled to the image's with nearest neighbour",
}

PARTIAL_OFFSET = 100
"""Added to a structure's label where a source has a second value for it: a structure partly in view."""
_FIRST_UNNAMED_VALUE = 200

SeparateInstances = Callable[[Volume, Path], tuple[Volume, list[str]]]
"""Returns the structures of a tag numbered from 1, and warnings in which {n} stands for the name of number n + 1."""


def read_labels_on_grid(
    path: Path, image: Volume, table: Iterable[int] | None = None, suggestion: str = ""
) -> tuple[Volume, tuple[str, ...]]:
    """Read a label map onto an image's grid, and return warnings; DatasetError when a value is not in the table."""
    labels = io.read_labels(path)
    if table is not None:
        require_explained(count_voxels(labels.array), table, path, suggestion)
    return labels_on_image_grid(labels, image, path)


def labels_on_image_grid(labels: Volume, image: Volume, path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Return labels on an image's grid, and warnings; values are never mixed.

    The same voxels in another order of axes are reordered exactly. If the map has the shape of the image but another
    position in its header, its position is ignored; on any other grid each voxel takes the nearest label.
    DatasetError, which names `path`, when a tenth of a structure would be lost.
    """
    reordered = reorient(labels, image.grid.axis_codes)
    if reordered.grid.same_as(image.grid, _GRID_TOLERANCE):
        return Volume(reordered.array, image.affine), ()
    difference = np.abs(labels.affine - image.affine).max()
    header_warning = (f"label-header: {path.name}: its affine differs by up to {difference:.3g}",)
    if reordered.grid.same_as(image.grid, 0.5 * min(image.grid.spacing)):
        return Volume(reordered.array, image.affine), header_warning
    resampled = resample(reordered, image.grid, order=0)
    is_lossy = _loses_structure(reordered, resampled)
    if labels.array.shape == image.array.shape and (is_lossy or labels.grid.axis_codes == image.grid.axis_codes):
        return Volume(labels.array, image.affine), header_warning
    if is_lossy:
        raise DatasetError(f"{path}: its labels lie beside the image or are cut off by it; give labels on its grid")
    shapes = [" x ".join(map(str, volume.array.shape)) for volume in (labels, image)]
    return Volume(resampled.array, image.affine), (f"label-grid: {path.name}: {shapes[0]} voxels put on {shapes[1]}",)


def _loses_structure(before: Volume, after: Volume) -> bool:
    """Return whether a structure lost more than a tenth of its volume by resampling."""
    volumes = [
        {
            value: count * abs(np.linalg.det(volume.affine[:3, :3]))
            for value, count in count_voxels(volume.array).items()
        }
        for volume in (before, after)
    ]
    return any(volumes[1].get(value, 0) < _MIN_KEPT_FRACTION * size for value, size in volumes[0].items() if value)


def to_own_labels(rows: Mapping[int, tuple[str, ...]]) -> tuple[LabelTable, Array]:
    """Return a source's rows under the package's own labels, with a row of 0, and a (256,) uint8 lookup of values.

    A vertebra has the label of its body, whatever else its row allows. Equal rows without a level share a value.
    """
    table: LabelTable = {}
    lookup = np.zeros(256, np.uint8)
    unnamed: dict[tuple[str, ...], int] = {}
    for value, names in sorted(rows.items()):
        if value == 0:
            continue
        if names[0] in tuple(Kind) and names[0] not in (Kind.SACRUM, Kind.CANAL):
            own = unnamed.setdefault(names, _FIRST_UNNAMED_VALUE + len(unnamed))
        else:
            label = structure_by_name(names[0]).label
            own = PARTIAL_OFFSET + label if label in table else label
        table[own] = names
        lookup[value] = own
    return {0: unannotated_names(table.values()), **dict(sorted(table.items()))}, lookup


def load_own_labels(
    case: SourceCase, source_table: LabelTable, lookup: Array, suggestion: str
) -> tuple[LoadedCase, Volume]:
    """Load an exam in the package's own labels, and return also its labels as in the source, on the image's grid.

    Parameters
    ----------
    source_table, lookup : what the values of the source mean, and the own label of each, (256,) uint8
    suggestion : what to do about a value that the table does not explain

    Raises
    ------
    DatasetError
        When a value is not in the table, or nothing is labelled.
    """
    image, path = io.read_image(case.files[0]), case.files[1]
    labels, warnings = read_labels_on_grid(path, image, source_table, suggestion)
    if not labels.array.any():
        raise DatasetError(f"{path}: nothing is labelled; leave this exam out, or copy its mask again")
    return LoadedCase(image, Volume(lookup[labels.array], labels.affine), warnings=warnings), labels


def load_single_tag(case: SourceCase, kind: Kind, names: Sequence[str], separate: SeparateInstances) -> LoadedCase:
    """Load an exam whose tag marks all structures of a kind, with corrected axes.

    Parameters
    ----------
    names : of the structures from the lowest upward, as many as there may be
    separate : called with the tag on the image's grid and its path

    Raises
    ------
    DatasetError
        Unless the tag has one value above 0; and as `separate` does.
    """
    image_path, path = case.files
    image = io.read_image(image_path)
    tag, warnings = read_labels_on_grid(path, image)
    values = list(count_voxels(tag.array))
    if len(values) != 2 or values[0] != 0:
        listed = ", ".join(map(str, values[:6]))
        raise DatasetError(f"{path}: holds the values {listed}; one value on a background of 0 is expected")
    instances, notes = separate(tag, path)
    numbers = range(1, int(instances.array.max()) + 1)
    exam = correct_orientation(image, instances, dict.fromkeys(numbers, (kind.value,)))
    labels, ordered = _name_upward(exam.labels, names[: len(numbers)])
    warnings = (*warnings, *(note.format(*ordered) for note in notes), *exam.warnings)
    return LoadedCase(exam.image, labels, warnings=warnings, metadata={"axes_judged_by": list(exam.reasons)})


def instance_centers(instances: Volume) -> Array:
    """Return the centers, (count, 3) RAS mm, of instances numbered from 1."""
    indices = np.nonzero(instances.array)
    numbers, points = instances.array[indices], instances.grid.to_world(np.stack(indices, axis=1))
    return np.stack([np.bincount(numbers, axis)[1:] / np.bincount(numbers)[1:] for axis in points.T], axis=1)


def _name_upward(instances: Volume, names: Sequence[str]) -> tuple[Volume, list[str]]:
    """Return instances, numbered from 1, as label values, named from the lowest upward; and the name of each number."""
    rank = np.argsort(np.argsort(instance_centers(instances)[:, 2]))
    ordered = [names[index] for index in rank]
    lookup = np.array([0, *(structure_by_name(name).label for name in ordered)], np.uint8)
    return Volume(lookup[instances.array], instances.affine), ordered
