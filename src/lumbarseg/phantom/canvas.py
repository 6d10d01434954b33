"""The canvas that shapes are painted on: sample positions in mm, a tissue and a label at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

Array = np.ndarray

TISSUES = (
    "air",
    "skin fat",
    "muscle",
    "bowel",
    "vessel",
    "fat",
    "marrow",
    "cortex",
    "nucleus",
    "annulus",
    "csf",
    "cord",
    "roots",
    "epidural fat",
    "ligament",
    "arch marrow",
    "sacral marrow",
    "endplate",
    "vessel wall",
    "organ",
    "metal",
)
TISSUE_INDEX = {name: index for index, name in enumerate(TISSUES)}


@dataclass(frozen=True, eq=False)
class Canvas:
    """x, y, z: positions of the samples in RAS mm, rising; tissue, labels: (X, Y, Z) uint8, painted in place.

    part: (X, Y, Z) uint8, 1 + index of the body, 101 + index of the disc that a sample belongs to, 0 elsewhere.
    """

    x: Array
    y: Array
    z: Array
    tissue: Array
    labels: Array
    part_index: Array

    @classmethod
    def empty(cls, x: Array, y: Array, z: Array) -> Canvas:
        """A canvas of air and background."""
        shape = (len(x), len(y), len(z))
        x, y, z = (np.asarray(a, np.float32) for a in (x, y, z))
        return cls(x, y, z, *(np.zeros(shape, np.uint8) for _ in range(3)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        return len(self.x), len(self.y), len(self.z)

    def box(self, centre: Array | Sequence[float], radius: Array | float) -> tuple[slice, slice, slice] | None:
        """The samples within `radius` mm (a number or one per axis) of a point; None when there are none."""
        low, high = np.asarray(centre) - radius, np.asarray(centre) + radius
        found = []
        for axis, lo, hi in zip((self.x, self.y, self.z), low, high, strict=True):
            first, last = np.searchsorted(axis, [lo, hi])
            if last <= first:
                return None
            found.append(slice(int(first), int(last)))
        return found[0], found[1], found[2]

    def world_coordinates(self, region: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """World coordinates inside a box, ready to broadcast."""
        return self.x[region[0]][:, None, None], self.y[region[1]][None, :, None], self.z[region[2]][None, None, :]

    def local_coordinates(
        self, region: tuple[slice, slice, slice], centre: Array | Sequence[float], frame: Array
    ) -> tuple[Array, Array, Array]:
        """Coordinates (lateral, anterior, up) in a structure's own frame inside a box, each (X, Y, Z) float32."""
        x, y, z = (c - np.float32(o) for c, o in zip(self.world_coordinates(region), centre, strict=True))
        f = np.asarray(frame, np.float32)
        first, second, third = ((x * f[0, k] + y * f[1, k]) + z * f[2, k] for k in range(3))
        return first, second, third


def smooth_noise(canvas: Canvas, correlation_mm: tuple[float, float, float], rng: Generator) -> Array:
    """(X, Y, Z) float32 smooth texture of mean 0 and standard deviation 1; scale: correlation length in mm per axis."""
    knots = []
    for axis, length in zip((canvas.x, canvas.y, canvas.z), correlation_mm, strict=True):
        knots.append(np.arange(axis[0] - length * rng.random(), axis[-1] + 2 * length, length))
    field = rng.standard_normal([len(k) for k in knots], dtype=np.float32)
    first, second, third = (
        np.maximum(0, 1 - np.abs(axis[:, None] - k[None]) / length).astype(np.float32)
        for axis, k, length in zip((canvas.x, canvas.y, canvas.z), knots, correlation_mm, strict=True)
    )
    field = (second @ field) @ third.T
    field = (first @ field.reshape(len(field), -1)).reshape(canvas.shape)
    spread = float(field[:, ::4, ::4].std()) + 1e-6
    return (field - float(field[:, ::4, ::4].mean())) / spread
