"""Label maps that have one value for all structures of a kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array, Volume

from ..label_table import count_voxels
from .importer import SourceCase
from .label_grid import labels_on_image_grid


def read_image_and_tag(case: SourceCase) -> tuple[Volume, Volume, tuple[str, ...]]:
    """Read an image, its tag on the image's grid, and warnings; DatasetError unless the tag has one value above 0."""
    image_path, path = case.files
    image = io.read_image(image_path)
    tag, warnings = labels_on_image_grid(io.read_labels(path), image, path)
    values = list(count_voxels(tag.array))
    if len(values) != 2 or values[0] != 0:
        listed = ", ".join(map(str, values[:6]))
        raise DatasetError(f"{path}: holds the values {listed}; one value on a background of 0 is expected")
    return image, tag, warnings


def instance_centers(instances: Volume) -> Array:
    """Return the centers, (count, 3) RAS mm, of instances numbered from 1."""
    indices = np.nonzero(instances.array)
    numbers, points = instances.array[indices], instances.grid.to_world(np.stack(indices, axis=1))
    return np.stack([np.bincount(numbers, axis)[1:] / np.bincount(numbers)[1:] for axis in points.T], axis=1)


def name_upward(instances: Volume, names: Sequence[str]) -> tuple[Volume, list[str]]:
    """Return instances, numbered from 1, as label values, named from the lowest upward; and the name of each number."""
    rank = np.argsort(np.argsort(instance_centers(instances)[:, 2]))
    ordered = [names[index] for index in rank]
    lookup = np.array([0, *(structure_by_name(name).label for name in ordered)], np.uint8)
    return Volume(lookup[instances.array], instances.affine), ordered
