"""Labels on exactly the grid of their image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient, resample
from lumbarseg.volume import Volume

from ..label_table import count_voxels, require_explained

_GRID_TOLERANCE = 0.01  # mm by which the corners of one grid may differ in two files
_MIN_KEPT_FRACTION = 0.9  # of the volume of every structure that must be left on the image's grid

KNOWN_FAULTS = {
    "label-header": "the label map's header disagrees with that of its image, which has as many voxels; the image's "
    "header was used",
    "label-grid": "the labels were on another grid and were resampled to the image's with nearest neighbour",
}


def read_labels_on_grid(
    path: Path, image: Volume, table: Iterable[int], suggestion: str
) -> tuple[Volume, tuple[str, ...]]:
    """Read a label map onto an image's grid, and return warnings; DatasetError when a value is not in the table."""
    labels = io.read_labels(path)
    require_explained(count_voxels(labels.array), table, path, suggestion)
    return labels_on_image_grid(labels, image, path)


def labels_on_image_grid(labels: Volume, image: Volume, path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Return labels on an image's grid, and warnings; values are never mixed.

    The same voxels in another order of axes are reordered exactly. A map with as many voxels whose header gives another
    position is taken to be on the image's voxels; on any other grid each voxel takes the nearest label. DatasetError,
    which names `path`, when a tenth of a structure would be lost.
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
