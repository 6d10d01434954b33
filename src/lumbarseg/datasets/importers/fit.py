"""Labels on the grid of their image, exactly, and of values that are explained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg.datasets.folder import voxels
from lumbarseg.errors import DatasetError
from lumbarseg.resample import reorient, resample
from lumbarseg.volume import Array, Volume

_SAME = 0.01  # mm by which the corners of one grid may differ in two files
_KEPT = 0.9  # of the volume of every structure that must be found again on the image's grid

TRAPS = {
    "label-header": "the label map's header disagrees with its image's, which has as many voxels; the image's was used",
    "label-grid": "the labels lay on another grid and were put on the image's, each voxel taking its nearest label",
}


def on_grid(labels: Volume, image: Volume, path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Labels on an image's grid, and warnings; values are never mixed. path: names the labels in an error.

    The same voxels in another order of axes are moved exactly. As many voxels that are said to lie elsewhere are taken
    for those of the image; on any other grid the nearest label counts. DatasetError when a tenth of a structure would
    be lost.
    """
    turned = reorient(labels, image.grid.axes)
    if turned.grid.same_as(image.grid, _SAME):
        return Volume(turned.array, image.affine), ()
    told = (f"label-header: {path.name}: its affine differs by up to {np.abs(labels.affine - image.affine).max():.3g}",)
    if turned.grid.same_as(image.grid, 0.5 * min(image.grid.spacing)):
        return Volume(turned.array, image.affine), told
    moved = resample(turned, image.grid, order=0)
    lost = _lost(turned, moved)
    if labels.array.shape == image.array.shape and (lost or labels.grid.axes == image.grid.axes):
        return Volume(labels.array, image.affine), told
    if lost:
        raise DatasetError(f"{path}: its labels lie beside the image or are cut off by it; give labels on its grid")
    told = (f"label-grid: {path.name}: {_by(labels.array.shape)} voxels put on {_by(image.array.shape)}",)
    return Volume(moved.array, image.affine), told


def check_values(labels: Array, table: Iterable[int], path: Path, way_out: str) -> None:
    """DatasetError when a label map holds a value that the table does not explain."""
    strange = sorted(set(voxels(labels)) - set(table))
    if strange:
        many = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        told = f"holds the value {strange[0]}{many}, which the label table does not explain"
        raise DatasetError(f"{path}: {told}; {way_out}")


def _lost(before: Volume, after: Volume) -> bool:
    """Whether a structure has lost a good part of its volume on the way to another grid."""
    sizes = [
        {value: count * abs(np.linalg.det(volume.affine[:3, :3])) for value, count in voxels(volume.array).items()}
        for volume in (before, after)
    ]
    return any(sizes[1].get(value, 0) < _KEPT * size for value, size in sizes[0].items() if value)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
