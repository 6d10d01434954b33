"""Where voxels are: a grid that a lumbar MRI can have, the one that dataset.json tells, and which way it looks."""

from __future__ import annotations

import numpy as np

from lumbarseg.volume import Grid

from ..dataset import AXES, Case
from ..orientation import OrientationEstimate
from .finding import Finding

_PIXEL_SPACING = (0.15, 2.1)  # mm in plane: 3 T with a large matrix, to coarse volume scans
_SLICE_SPACING = (0.3, 8.0)  # mm between slices
_MIN_HEIGHT = 90.0  # mm from head to foot: less holds no three lumbar vertebrae with their discs
_MIN_DEPTH = 50.0  # mm from front to back: a body and the canal behind it
_ANISOTROPY = 1.8  # times the spacing of the other axes: the direction in which slices are stacked
_MAX_OBLIQUITY = 30.0  # degrees between an axis and the direction it is named after
_PLANES = {0: "sagittal", 1: "coronal", 2: "axial"}  # by the RAS axis along which slices are stacked


def check_grids(case: Case, image: Grid, labels: Grid) -> list[Finding]:
    """The grid of the two files against each other and against dataset.json, and whether an exam can have it."""
    found = [Finding(case.name, "geometry", "error", text) for text in _grid_mismatches(case, image, labels)]
    return found + [Finding(case.name, "geometry", "warning", text) for text in _unusual_geometry(image)]


def _grid_mismatches(case: Case, image: Grid, labels: Grid) -> list[str]:
    told = []
    if image.axis_codes != AXES:
        told.append(
            f"{case.image.name}: its axes are {image.axis_codes}, a prepared dataset has {AXES}; import it again"
        )
    if not image.same_as(labels, tolerance=1e-2):
        if image.shape != labels.shape:
            shapes = " and ".join(" x ".join(map(str, grid.shape)) for grid in (image, labels))
            told.append(f"image and labels have different sizes: {shapes} voxels")
        else:
            told.append(f"the labels' header puts them {_max_corner_distance(image, labels):.1f} mm beside the image")
    geometry = case.geometry
    if geometry and image.axis_codes == AXES:
        shape, spacing = geometry.get("shape"), geometry.get("spacing")
        if shape is not None and list(shape) != list(image.shape):
            told.append(f"dataset.json tells {shape} voxels, {case.image.name} holds {list(image.shape)}")
        elif spacing is not None and not np.allclose(spacing, image.spacing, atol=1e-3):
            told.append(
                f"dataset.json tells a spacing of {spacing} mm, {case.image.name} {_format_mm(image.spacing)} mm"
            )
    return told


def _max_corner_distance(first: Grid, second: Grid) -> float:
    """The most that a corner of one grid lies from that of the other, mm."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(first.shape) - 1)
    return float(np.linalg.norm(first.to_world(corners) - second.to_world(corners), axis=1).max())


def _unusual_geometry(grid: Grid) -> list[str]:
    """What no lumbar MRI looks like; grid: in RAS order."""
    told = []
    spacing, extent = np.array(grid.spacing), np.array(grid.spacing) * grid.shape
    stacked = _slice_axis(grid)
    if stacked != 0:
        told.append(
            f"slices are stacked {('', 'front to back', 'foot to head')[stacked]}: {_PLANES[stacked]}, not sagittal"
        )
    in_plane = np.delete(spacing, stacked)
    if in_plane.min() < _PIXEL_SPACING[0] or in_plane.max() > _PIXEL_SPACING[1]:
        told.append(
            f"pixels of {_format_mm(in_plane)} mm; a lumbar MRI has {_PIXEL_SPACING[0]:g} to {_PIXEL_SPACING[1]:g}: is the header right?"
        )
    if not _SLICE_SPACING[0] <= spacing[stacked] <= _SLICE_SPACING[1]:
        told.append(
            f"slices are {spacing[stacked]:.3g} mm apart; {_SLICE_SPACING[0]:g} to {_SLICE_SPACING[1]:g} are usual"
        )
    if extent[2] < _MIN_HEIGHT:
        told.append(f"only {extent[2]:.0f} mm from foot to head: hardly two vertebrae")
    if extent[1] < _MIN_DEPTH:
        told.append(f"only {extent[1]:.0f} mm from back to front: not a body with its canal")
    cosines = np.abs(np.diag(grid.affine[:3, :3]) / spacing).clip(0, 1)
    tilt = float(np.degrees(np.arccos(cosines)).max())
    if tilt > _MAX_OBLIQUITY:
        told.append(f"its axes are tilted by {tilt:.0f} degrees against the patient: is the header right?")
    return told


def _slice_axis(grid: Grid) -> int:
    """The axis along which slices are stacked: one that is clearly coarser than the others, else the first."""
    if 1 in grid.shape:
        return grid.shape.index(1)
    spacing = grid.spacing
    coarse = int(np.argmax(spacing))
    others = [s for axis, s in enumerate(spacing) if axis != coarse]
    return coarse if spacing[coarse] > _ANISOTROPY * max(others) else 0


def check_orientation(case: Case, estimate: OrientationEstimate) -> list[Finding]:
    """Whether front and back, head and feet are where the header says, judged from the anatomy."""
    found = []
    pairs = (
        ("front and back", "front-back", estimate.anterior_posterior),
        ("head and feet", "head-foot", estimate.superior_inferior),
    )
    for name, word, verdict in pairs:
        why = "; ".join(r.removeprefix(f"{word}, ") for r in estimate.reasons if r.startswith(word))
        if verdict < 0:
            text = f"{name} are the wrong way round, as the anatomy shows ({why}); repair the header, import it again"
            found.append(Finding(case.name, "orientation", "error", text))
        elif verdict == 0:
            found.append(Finding(case.name, "orientation", "note", f"the anatomy does not tell {name} apart"))
    return found


def _format_mm(spacing: np.ndarray | tuple[float, ...]) -> str:
    return " x ".join(f"{s:.3g}" for s in spacing)
