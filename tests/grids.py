"""Grids with all orientations and positions, for property tests."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lumbarseg.volume import Array, Grid, Volume

AXIS_ORDERS = ["".join(letters) for order in permutations(("LR", "PA", "IS")) for letters in product(*order)]
"""The 48 ways in which three axes can point: "RAS", "PIR", ..."""
_DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def affine_of(
    axes: str,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Array:
    """Return an affine whose axes point as `axes` says, all turned by a rotation vector in degrees."""
    directions = np.array([_DIRECTIONS[letter] for letter in axes], np.float64).T
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix() @ directions * spacing
    affine[:3, 3] = origin
    return affine


def affines(turn: float = 180.0) -> st.SearchStrategy[Array]:
    """Affines of any axis order, anisotropic, turned about each axis by up to `turn` degrees."""
    step, offset, angle = st.floats(0.3, 6.0), st.floats(-300.0, 300.0), st.floats(-turn, turn)
    return st.builds(
        affine_of,
        st.sampled_from(AXIS_ORDERS),
        st.tuples(step, step, step),
        st.tuples(offset, offset, offset),
        st.tuples(angle, angle, angle),
    )


def grids(turn: float = 180.0, largest: int = 9) -> st.SearchStrategy[Grid]:
    """Grids on such affines, of any small shape."""
    size = st.integers(1, largest)
    return st.builds(Grid, st.tuples(size, size, size), affines(turn))


def filled(grid: Grid, seed: int = 0, dtype: type = np.int16) -> Volume:
    """Random whole numbers on a grid."""
    high = 256 if dtype is np.uint8 else 4000
    return Volume(np.random.default_rng(seed).integers(0, high, grid.shape).astype(dtype), grid.affine)
