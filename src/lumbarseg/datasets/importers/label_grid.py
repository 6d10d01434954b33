"""Labels on the grid of their image, exactly, and of values that are explained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient, resample
from lumbarseg.volume import Array, Volume

from ..dataset import count_voxels

_GRID_TOLERANCE = 0.01  # mm by which the corners of one grid may differ in two files
_MIN_KEPT_FRACTION = 0.9  # of the volume of every structure that must be found again on the image's grid

KNOWN_FAULTS = {
    "label-header": "the label map's header disagrees with its image's, which has as many voxels; the image's was used",
    "label-grid": "the labels lay on another grid and were put on the image's, each voxel taking its nearest label",
}


def labels_on_image_grid(labels: Volume, image: Volume, path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Labels on an image's grid, and warnings; values are never mixed. path: names the labels in an error.

    The same voxels in another order of axes are moved exactly. As many voxels that are said to lie elsewhere are taken
    for those of the image; on any other grid the nearest label counts. DatasetError when a tenth of a structure would
    be lost.
    """
    turned = reorient(labels, image.grid.axis_codes)
    if turned.grid.same_as(image.grid, _GRID_TOLERANCE):
        return Volume(turned.array, image.affine), ()
    told = (f"label-header: {path.name}: its affine differs by up to {np.abs(labels.affine - image.affine).max():.3g}",)
    if turned.grid.same_as(image.grid, 0.5 * min(image.grid.spacing)):
        return Volume(turned.array, image.affine), told
    moved = resample(turned, image.grid, order=0)
    lost = _loses_structure(turned, moved)
    if labels.array.shape == image.array.shape and (lost or labels.grid.axis_codes == image.grid.axis_codes):
        return Volume(labels.array, image.affine), told
    if lost:
        raise DatasetError(f"{path}: its labels lie beside the image or are cut off by it; give labels on its grid")
    told = (
        f"label-grid: {path.name}: {_format_shape(labels.array.shape)} voxels put on {_format_shape(image.array.shape)}",
    )
    return Volume(moved.array, image.affine), told


def check_label_values(labels: Array, label_table: Iterable[int], path: Path, suggestion: str) -> None:
    """DatasetError when a label map holds a value that the table does not explain."""
    strange = sorted(set(count_voxels(labels)) - set(label_table))
    if strange:
        many = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        told = f"holds the value {strange[0]}{many}, which the label table does not explain"
        raise DatasetError(f"{path}: {told}; {suggestion}")


def _loses_structure(before: Volume, after: Volume) -> bool:
    """Whether a structure has lost a good part of its volume on the way to another grid."""
    sizes = [
        {
            value: count * abs(np.linalg.det(volume.affine[:3, :3]))
            for value, count in count_voxels(volume.array).items()
        }
        for volume in (before, after)
    ]
    return any(sizes[1].get(value, 0) < _MIN_KEPT_FRACTION * size for value, size in sizes[0].items() if value)


def _format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
