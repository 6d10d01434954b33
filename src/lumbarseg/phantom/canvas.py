"""The canvas that shapes are painted on: sample positions in mm, with a tissue and a label at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

Array = np.ndarray

TISSUES = (
    *("air", "skin fat", "muscle", "bowel", "vessel", "fat", "marrow", "cortex", "nucleus", "annulus", "csf", "cord"),
    *("roots", "epidural fat", "ligament", "arch marrow", "sacral marrow", "endplate", "vessel wall", "organ", "metal"),
)
TISSUE_INDEX = {name: index for index, name in enumerate(TISSUES)}


@dataclass(frozen=True, eq=False)
class Canvas:
    """Samples of the space around a spine; its arrays are painted in place.

    x, y, z : (X,), (Y,), (Z,) float32, positions of the samples in RAS mm, ascending
    tissue : (X, Y, Z) uint8, index in TISSUES
    labels : (X, Y, Z) uint8
    part_index : (X, Y, Z) uint8, 1 + index of the body or 101 + index of the disc of a sample, 0 elsewhere
    """

    x: Array
    y: Array
    z: Array
    tissue: Array
    labels: Array
    part_index: Array

    @classmethod
    def empty(cls, x: Array, y: Array, z: Array) -> Canvas:
        """Return a canvas of air and background."""
        shape = (len(x), len(y), len(z))
        x, y, z = (np.asarray(a, np.float32) for a in (x, y, z))
        return cls(x, y, z, *(np.zeros(shape, np.uint8) for _ in range(3)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (X, Y, Z)."""
        return len(self.x), len(self.y), len(self.z)

    def box(self, centre: Array | Sequence[float], radius: Array | float) -> tuple[slice, slice, slice] | None:
        """Return the box of samples within `radius` mm (one number, or one per axis) of a point; None without any."""
        low, high = np.asarray(centre) - radius, np.asarray(centre) + radius
        slices = []
        for axis, lo, hi in zip((self.x, self.y, self.z), low, high, strict=True):
            first, last = np.searchsorted(axis, [lo, hi])
            if last <= first:
                return None
            slices.append(slice(int(first), int(last)))
        return slices[0], slices[1], slices[2]

    def world_coordinates(self, region: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """Return the coordinates x, y, z in a box, in mm, shaped for broadcasting."""
        return self.x[region[0]][:, None, None], self.y[region[1]][None, :, None], self.z[region[2]][None, None, :]

    def local_coordinates(
        self, region: tuple[slice, slice, slice], centre: Array | Sequence[float], frame: Array
    ) -> tuple[Array, Array, Array]:
        """Return the coordinates (lateral, anterior, up) of a structure in a box, each (X, Y, Z) float32, in mm."""
        x, y, z = (c - np.float32(o) for c, o in zip(self.world_coordinates(region), centre, strict=True))
        f = np.asarray(frame, np.float32)
        first, second, third = ((x * f[0, k] + y * f[1, k]) + z * f[2, k] for k in range(3))
        return first, second, third


def smooth_noise(canvas: Canvas, correlation_mm: tuple[float, float, float], rng: Generator) -> Array:
    """Return smooth noise of mean 0 and standard deviation 1, (X, Y, Z) float32.

    correlation_mm : correlation length along each axis
    """
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
