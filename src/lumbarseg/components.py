"""Connected components of masks and bounding boxes of label maps: the one place where a label map is taken apart.

scipy loads `scipy.ndimage` when a function of it is first used: a quarter of a second that most commands need not wait
for, so modules on the way of an exam import `scipy` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from lumbarseg.volume import Array

Box = tuple[slice, slice, slice]
Connectivity = Literal["faces", "corners", "sagittal"]


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
    neighbours = scipy.ndimage.generate_binary_structure(3, 3 if connectivity == "corners" else 1)
    if connectivity == "sagittal":
        neighbours[[0, 2]] = False
    numbers, count = scipy.ndimage.label(mask, neighbours)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0
    return Components(numbers, sizes, count)


def label_boxes(labels: Array) -> dict[int, Box]:
    """Return the bounding box of each label above 0 that occurs in a label map, (I, J, K) integers."""
    return {label: box for label, box in enumerate(scipy.ndimage.find_objects(labels), start=1) if box is not None}


def bounding_box(mask: Array) -> Box | None:
    """Return the bounding box of a mask, (I, J, K) bool; None when the mask is empty."""
    return label_boxes(mask.view(np.uint8)).get(1)
