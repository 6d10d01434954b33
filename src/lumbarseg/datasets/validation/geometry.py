"""Grids: one that a lumbar MRI can have, the one that dataset.json states, and its orientation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumbarseg.orientation import OrientationEstimate
from lumbarseg.volume import Array, Grid

from ..dataset import AXES, Case
from . import Finding

_PIXEL_SPACING = (0.15, 2.1)  # mm in plane: 3 T with a large matrix, to coarse volume scans
_SLICE_SPACING = (0.3, 8.0)  # mm between slices
_MIN_HEIGHT = 90.0  # mm from head to foot: less holds no three lumbar vertebrae with their discs
_MIN_DEPTH = 50.0  # mm from front to back: a body and the canal behind it
_ANISOTROPY = 1.8  # times the spacing of the other axes: the slice direction
_MAX_OBLIQUITY = 30.0  # degrees between an axis and the direction it is named after
_PLANES = ("sagittal", "coronal", "axial")  # by the RAS axis of the slice direction


def check_grids(case: Case, image: Grid, labels: Grid) -> list[Finding]:
    """Compare the grids of the two files with each other, with dataset.json, and with what an exam can have."""
    findings = [Finding(case.name, "geometry", "error", text) for text in _grid_mismatches(case, image, labels)]
    return findings + [Finding(case.name, "geometry", "warning", text) for text in _unusual_geometry(image)]


def _grid_mismatches(case: Case, image: Grid, labels: Grid) -> list[str]:
    mismatches = []
    name = case.image.name
    if image.axis_codes != AXES:
        text = f"its axes are {image.axis_codes}, a prepared dataset has {AXES}"
        mismatches.append(f"{name}: {text}; import it into a new folder")
    if image.shape != labels.shape:
        shapes = " and ".join(" x ".join(map(str, grid.shape)) for grid in (image, labels))
        mismatches.append(f"image and labels have different sizes: {shapes} voxels")
    elif not image.same_as(labels, tolerance=1e-2):
        distance = _max_corner_distance(image, labels)
        mismatches.append(f"the labels' header puts them {distance:.1f} mm beside the image")
    if case.geometry and image.axis_codes == AXES:
        shape, spacing = case.geometry.get("shape"), case.geometry.get("spacing")
        if shape is not None and list(shape) != list(image.shape):
            mismatches.append(f"dataset.json says {shape} voxels, {name} holds {list(image.shape)}")
        elif spacing is not None and not np.allclose(spacing, image.spacing, atol=1e-3):
            stored = _format_mm(image.spacing)
            mismatches.append(f"dataset.json says a spacing of {spacing} mm, {name} holds {stored} mm")
    return mismatches


def _max_corner_distance(first: Grid, second: Grid) -> float:
    """Return the largest distance between the corners of two grids of one shape, mm."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(first.shape) - 1)
    return float(np.linalg.norm(first.to_world(corners) - second.to_world(corners), axis=1).max())


def _unusual_geometry(grid: Grid) -> list[str]:
    """Return what no lumbar MRI has; grid: in RAS order."""
    spacing = np.array(grid.spacing)
    extent = spacing * grid.shape
    slice_axis = _slice_axis(grid)
    in_plane = np.delete(spacing, slice_axis)
    cosines = np.abs(np.diag(grid.affine[:3, :3]) / spacing).clip(0, 1)
    tilt = float(np.degrees(np.arccos(cosines)).max())
    low, high = _PIXEL_SPACING
    direction = ("", "front to back", "foot to head")[slice_axis]
    pixels = f"pixels of {_format_mm(in_plane)} mm; a lumbar MRI has {low:g} to {high:g}: is the header right?"
    slices = f"slices are {spacing[slice_axis]:.3g} mm apart; {_SLICE_SPACING[0]:g} to {_SLICE_SPACING[1]:g} are usual"
    checks = (
        (slice_axis != 0, f"slices are stacked {direction}: {_PLANES[slice_axis]}, not sagittal"),
        (in_plane.min() < low or in_plane.max() > high, pixels),
        (not _SLICE_SPACING[0] <= spacing[slice_axis] <= _SLICE_SPACING[1], slices),
        (extent[2] < _MIN_HEIGHT, f"only {extent[2]:.0f} mm from foot to head: hardly two vertebrae"),
        (extent[1] < _MIN_DEPTH, f"only {extent[1]:.0f} mm from back to front: no body with its canal"),
        (tilt > _MAX_OBLIQUITY, f"its axes are tilted by {tilt:.0f} degrees in the patient: is the header right?"),
    )
    return [text for is_unusual, text in checks if is_unusual]


def _slice_axis(grid: Grid) -> int:
    """Return the slice direction: an axis that is clearly coarser than the others, else the first."""
    if 1 in grid.shape:
        return grid.shape.index(1)
    coarsest = int(np.argmax(grid.spacing))
    return coarsest if grid.spacing[coarsest] > _ANISOTROPY * max(np.delete(grid.spacing, coarsest)) else 0


def check_orientation(case: Case, estimate: OrientationEstimate) -> list[Finding]:
    """Return an error for each axis that the anatomy shows to be reversed, a note where it shows nothing."""
    findings = []
    directions = (
        ("front and back", "front-back", estimate.anterior_posterior),
        ("head and feet", "head-foot", estimate.superior_inferior),
    )
    for name, prefix, verdict in directions:
        evidence = "; ".join(r.removeprefix(f"{prefix}, ") for r in estimate.reasons if r.startswith(prefix))
        if verdict < 0:
            text = f"{name} are reversed, as the anatomy shows ({evidence}); correct it, import into a new folder"
            findings.append(Finding(case.name, "orientation", "error", text))
        elif verdict == 0:
            findings.append(Finding(case.name, "orientation", "note", f"the anatomy does not show {name}"))
    return findings


def _format_mm(spacing: Array | Sequence[float]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing)
