"""An image and its label map, read together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lumbarseg import files
from lumbarseg.errors import DatasetError
from lumbarseg.resample import reorient
from lumbarseg.volume import Array, Volume

_SAME = 1e-2  # mm, between two headers that mean the same place

TRAPS = {"header": "the mask's header puts it elsewhere than its image; the image's was used"}


def read_pair(image_path: Path, labels_path: Path) -> tuple[Volume, Volume, list[str]]:
    """Image (float32), labels (uint8) on its grid, and warnings; DatasetError when their sizes differ."""
    image, labels = files.read_image(image_path), files.read_labels(labels_path)
    turned = reorient(labels, image.grid.axes)
    if image.grid.same_as(turned.grid, _SAME):
        return image, Volume(turned.array, image.affine), []
    if image.grid.shape != labels.grid.shape:
        sizes = " and ".join(" x ".join(map(str, volume.grid.shape)) for volume in (labels, image))
        raise DatasetError(
            f"{labels_path}: {sizes} voxels in it and in {image_path.name}; they do not belong together, "
            "put the right mask beside the image"
        )
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.grid.shape) - 1)
    apart = np.linalg.norm(image.grid.to_world(corners) - labels.grid.to_world(corners), axis=1).max()
    warning = f"header: {labels_path}: placed up to {apart:.1f} mm from its image; the image's header was used"
    return image, Volume(labels.array, image.affine), [warning]


def check_values(path: Path, array: Array, known: frozenset[int], source: str) -> None:
    """DatasetError that names the first value of `array` which `source` does not use."""
    strange = sorted(set(np.flatnonzero(np.bincount(array.ravel(order="K"))).tolist()) - known - {0})
    if strange:
        raise DatasetError(
            f"{path}: holds the value {strange[0]}, which {source} does not use; is it a mask of another kind, "
            "or was it resized with interpolation?"
        )


def half_pairs(images: dict[str, Path], masks: dict[str, Path]) -> tuple[tuple[str, str], ...]:
    """(name, reason) for every case of which only the image, or only the mask, is there."""
    alone = [(name, f"{images[name]}: its mask is missing; copy it there") for name in images.keys() - masks.keys()]
    alone += [(name, f"{masks[name]}: its image is missing; copy it there") for name in masks.keys() - images.keys()]
    return tuple(sorted(alone))
