"""Read the shapes of real vertebrae from a folder of meshes or of label maps of CT.

Meshes: SOURCE/L3.ply and so on (STL and OBJ, too), each in its own frame. Label maps: TotalSegmentator's layout,
PERSON/segmentations/vertebrae_L3.nii.gz with spinal_cord.nii.gz beside it, or one file PERSON_labels.nii.gz beside a
labels.json {"3": "vertebrae_L3"}. Wasserthal et al., Radiology: AI 5(5):e230024 (2023).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import LEVELS
from lumbarseg.errors import FileError
from lumbarseg.io import read_labels
from lumbarseg.volume import Volume

from .vertebra_shapes import PITCH, ShapeLibrary, VertebraShape, shape_from_mask

Array = np.ndarray

MESH_SUFFIXES = (".ply", ".stl", ".obj")
_MIN_SIZE, _MAX_SIZE = 40.0, 160.0  # mm, of a vertebra from side to side
_PREFIX, _CANAL = "vertebrae_", "spinal_cord"
_SMOOTHING = 1.0  # mm, standard deviation: takes the steps of 1.5 mm voxels away
_HALF_SIZE = np.array([62.0, 62.0, 50.0])  # mm about the centre of the body that a shape holds
_CENTRE_SHIFT = np.array([0.0, -22.0, 0.0])  # mm: the posterior elements lie behind
_LEVELS = LEVELS[LEVELS.index("T10") :]
"""Vertebrae that are read: those that a lumbar exam shows."""
_CENTRAL = 9.0  # mm about the axis of the body, where its endplates are measured


@lru_cache(maxsize=1)  # half a minute for twenty vertebrae: once per process
def read_shapes(folder: Path) -> ShapeLibrary:
    """Read every mesh and every label map below a folder; files of other names are left alone.

    Raises
    ------
    FileError
        Where the folder holds no vertebra, a mesh is open, in another unit or in another frame, or a label map has no
        vertebra or no canal.
    """
    loaded = read_label_map_shapes(folder)
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in MESH_SUFFIXES and p.stem in LEVELS):
        loaded.setdefault(path.parent.name, {})[path.stem] = read_mesh_shape(path)
    if not loaded:
        raise FileError(
            f"{folder}: no vertebra in it; expected meshes SOURCE/L3.ply (.stl, .obj) in mm with the origin in the "
            "body's centre, or label maps PERSON/segmentations/vertebrae_L3.nii.gz"
        )
    return ShapeLibrary(loaded)


def read_mesh_shape(path: Path) -> VertebraShape:
    """Read a mesh as a shape; FileError if it is open, not in mm or not in the frame of `VertebraShape`."""
    try:
        import trimesh
    except ModuleNotFoundError:
        raise FileError("meshes need trimesh: pip install trimesh") from None
    try:
        mesh: Any = trimesh.load(path, force="mesh")
    except Exception as error:
        raise FileError(f"{path}: cannot be read as a mesh ({error})") from error
    size = float(np.ptp(mesh.bounds[:, 0])) if mesh.bounds is not None and len(mesh.faces) else 0.0
    if size and size < 1:
        raise FileError(f"{path}: {size:.3f} wide, so it is in metres; scale it by 1000, for shapes are in mm")
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise FileError(
            f"{path}: {size:.0f} mm wide; a vertebra is {_MIN_SIZE:.0f} to {_MAX_SIZE:.0f} mm; give it in mm"
        )
    if not mesh.is_watertight:
        raise FileError(f"{path}: an open surface; close its holes first (for example in 3D Slicer or MeshLab)")
    grid = mesh.voxelized(PITCH).fill()
    inside = np.pad(np.asarray(grid.matrix, bool), 6)
    origin = np.asarray(grid.transform)[:3, 3] - 6 * PITCH
    return shape_from_mask(inside, origin, path.stem, path.parent.name, str(path))


def read_label_map_shapes(folder: Path) -> dict[str, dict[str, VertebraShape]]:
    """Return the shapes of every person below `folder`: by person, then by level; {} where there is no label map.

    Raises
    ------
    FileError
        Where a label map holds no vertebra, or no spinal canal beside its vertebrae.
    """
    loaded = {}
    for segmentations in sorted(folder.rglob("segmentations")):
        masks = {path.name.removesuffix(".nii.gz"): path for path in sorted(segmentations.glob("*.nii.gz"))}
        selected = {name: path for name, path in masks.items() if name == _CANAL or name.startswith(_PREFIX)}
        person = segmentations.parent
        volumes = {name: read_labels(path) for name, path in selected.items()}
        loaded[person.name] = person_shapes({n: (v, v.array > 0) for n, v in volumes.items()}, person.name, person)
    for path in sorted(folder.rglob("*_labels.nii.gz")):
        table = path.parent / "labels.json"
        if table.exists():
            names = _read_label_names(table)
            volume = read_labels(path)
            selected_names = [name for name in names if name == _CANAL or name.startswith(_PREFIX)]
            person_name = path.name.removesuffix("_labels.nii.gz")
            loaded[person_name] = person_shapes(
                {name: (volume, volume.array == names[name]) for name in selected_names}, person_name, path
            )
    return loaded


def _read_label_names(path: Path) -> dict[str, int]:
    """Return the label of each structure that a labels.json names; FileError where it has another form."""
    try:
        return {str(name): int(value) for value, name in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise FileError(
            f'{path}: not a table of labels ({error}); expected JSON {{"30": "vertebrae_L3", ...}}'
        ) from None


def person_shapes(masks: Mapping[str, tuple[Volume, Array]], source: str, path: Path) -> dict[str, VertebraShape]:
    """Return the shapes of one person's whole vertebrae, by level.

    masks: by TotalSegmentator's name, each with the volume on whose grid it lies.
    """
    levels = {name.removeprefix(_PREFIX): mask for name, mask in masks.items() if name.startswith(_PREFIX)}
    levels = {level: mask for level, mask in levels.items() if level in _LEVELS and mask[1].any()}
    if not levels:
        raise FileError(
            f"{path}: no vertebra in it; expected {_PREFIX}L1 to {_PREFIX}L5 as TotalSegmentator names them"
        )
    if _CANAL not in masks or not masks[_CANAL][1].any():
        raise FileError(f"{path}: no {_CANAL} in it, which says where the back of a vertebra is; export it, too")
    canal_volume, canal = masks[_CANAL]
    canal_points = canal_volume.grid.to_world(np.argwhere(canal))
    shapes = {}
    for level, (volume, mask) in levels.items():
        if not _touches_border(mask):
            shapes[level] = _shape(volume, mask, canal_points, level, source, f"{path} ({level})")
    return shapes


def _touches_border(mask: Array) -> bool:
    return any(bool(np.take(mask, side, axis).any()) for axis in range(3) for side in (0, -1))


def _shape(volume: Volume, mask: Array, canal: Array, level: str, source: str, name: str) -> VertebraShape:
    points = volume.grid.to_world(np.argwhere(mask))
    centre, frame = _body_frame(points, canal)
    axes = [
        np.arange(-half, half + PITCH, PITCH) + shift for half, shift in zip(_HALF_SIZE, _CENTRE_SHIFT, strict=True)
    ]
    own = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    indices = volume.grid.to_index(centre + own.reshape(-1, 3) @ frame.T)
    smooth = ndimage.gaussian_filter(mask.astype(np.float32), _SMOOTHING / np.array(volume.grid.spacing))
    inside = ndimage.map_coordinates(smooth, indices.T, order=1).reshape(own.shape[:3]) > 0.5
    return shape_from_mask(inside, np.array([a[0] for a in axes]), level, source, name)


def _body_frame(points: Array, canal: Array) -> tuple[Array, Array]:
    """Return the centre of the body and its axes as columns (right, anterior, up), from points in RAS mm.

    The back is where the canal is; up is the mean normal of both endplates near the body's axis.
    """
    near = canal[np.abs(canal[:, 2] - points[:, 2].mean()) < 25]
    middle = near.mean(axis=0)
    up = np.linalg.svd(near - middle, full_matrices=False)[2][0]
    centre = points.mean(axis=0)
    for _ in range(3):
        up = up * np.sign(up[2])
        anterior = centre - middle - ((centre - middle) @ up) * up
        anterior /= np.linalg.norm(anterior)
        frame = np.stack([np.cross(anterior, up), anterior, up], axis=1)
        front = np.percentile((near - middle) @ anterior, 97)
        body = points[(points - middle) @ anterior > front + 1.0]
        local = (body - body.mean(axis=0)) @ frame
        centre = body.mean(axis=0) + frame @ ((local.min(axis=0) + local.max(axis=0)) / 2 * [0, 1, 0])
        local = (body - centre) @ frame
        central = local[np.hypot(local[:, 0], local[:, 1]) < _CENTRAL]
        slopes = [_plane_slopes(central, side) for side in (-1, 1)]
        tilt = np.mean(slopes, axis=0)
        centre = centre + up * (central[:, 2].max() + central[:, 2].min()) / 2
        up = frame @ np.array([-tilt[0], -tilt[1], 1.0])
        up /= np.linalg.norm(up)
    return centre, frame


def _plane_slopes(points: Array, side: int) -> Array:
    """Return the slopes (along x, along y) of the upper (side 1) or lower endplate of a body near its axis."""
    cells, cell_index = np.unique(np.rint(points[:, :2] / 1.5), axis=0, return_inverse=True)
    ends = np.full(len(cells), -np.inf)
    np.maximum.at(ends, cell_index.ravel(), side * points[:, 2])
    design = np.column_stack([cells * 1.5, np.ones(len(cells))])
    return np.linalg.lstsq(design, side * ends, rcond=None)[0][:2]
