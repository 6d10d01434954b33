"""Connected components of masks and bounding boxes of label maps: the one place where a label map is taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from lumbarseg.volume import Array

Box = tuple[slice, slice, slice]
Connectivity = Literal["faces", "corners", "sagittal"]

_NEIGHBOURS: dict[Connectivity, Array] = {
    "faces": ndimage.generate_binary_structure(3, 1),  # 6 neighbours
    "corners": ndimage.generate_binary_structure(3, 3),  # 26 neighbours
    "sagittal": ndimage.generate_binary_structure(3, 1) & np.array([[[False]], [[True]], [[False]]]),  # within axis 0
}


@dataclass(frozen=True, eq=False)
class Components:
    """Connected components of a mask.

    Attributes
    ----------
    numbers : (I, J, K) int32, the component of each voxel from 1, 0 outside the mask
    sizes : (count + 1,) int, voxels of each component; sizes[0] is 0
    count : number of components
    """

    numbers: Array
    sizes: Array
    count: int

    def voxels(self) -> list[Array]:
        """Return the voxel indices of each component, (n, 3) int, in the order of their numbers."""
        indices = np.argwhere(self.numbers)
        component = self.numbers[tuple(indices.T)]
        order = np.argsort(component, kind="stable")
        return np.split(indices[order], np.cumsum(self.sizes[1:-1])) if self.count else []


def connected_components(mask: Array, connectivity: Connectivity = "faces") -> Components:
    """Separate a mask into connected components.

    Parameters
    ----------
    mask : (I, J, K) bool
    connectivity : voxels are neighbours when they share a face, a face or corner, or a face within one sagittal slice
        (axis 0)
    """
    numbers, count = ndimage.label(mask, _NEIGHBOURS[connectivity])
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    return Components(numbers, sizes, count)


def label_boxes(labels: Array) -> dict[int, Box]:
    """Return the bounding box of each label above 0 that occurs in a label map, (I, J, K) integers."""
    return {label: box for label, box in enumerate(ndimage.find_objects(labels), start=1) if box is not None}


def bounding_box(mask: Array) -> Box | None:
    """Return the bounding box of a mask, (I, J, K) bool; None when the mask is empty."""
    return label_boxes(mask.view(np.uint8)).get(1)
