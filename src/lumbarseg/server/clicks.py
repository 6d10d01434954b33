"""Parse the clicks of a request: voxels of the exam as the client loaded it, under the names of structures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lumbarseg.clicks import Click
from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.volume import Grid

from .label_values import find_structure

_MAX_CLICKS = 500


def parse_clicks(request: Mapping[str, Any], names: tuple[str, ...], grid: Grid) -> tuple[Click, ...]:
    """Return the clicks of a request, with points in RAS+ mm.

    3D Slicer sends for each name a list of [i, j, k], or the lists "foreground" and "background" for the structure
    named by "label". Raises ServeError for anything but lists of voxels, and for voxels outside the exam.
    """
    # key of the request, name of the structure, whether it is there
    lists = [(name, name, True) for name in names]
    if "foreground" not in request:
        lists.append(("background", "background", True))
    elif request.get("foreground") or request.get("background"):
        if not isinstance(request.get("label"), str):
            raise ServeError("foreground, background: points need the name of a structure in 'label'", 422)
        structure = find_structure(request["label"]).name
        lists += [("foreground", structure, True), ("background", structure, False)]
    clicks = [
        _make_click(voxel, structure, positive, grid)
        for key, structure, positive in lists
        for voxel in _parse_voxels(request.get(key), key)
    ]
    if len(clicks) > _MAX_CLICKS:
        raise ServeError(f"{len(clicks)} clicks; at most {_MAX_CLICKS} are allowed", 422)
    return tuple(clicks)


def _parse_voxels(value: Any, key: str) -> list[list[float]]:
    if value is None or value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(voxel, list) and len(voxel) == 3 for voxel in value):
        raise ServeError(f"{key}: clicks must be a list of voxels [i, j, k]", 422)
    if not all(type(number) in (int, float) and np.isfinite(number) for voxel in value for number in voxel):
        raise ServeError(f"{key}: a voxel must be three finite numbers", 422)
    return value


def _make_click(voxel: list[float], structure: str, positive: bool, grid: Grid) -> Click:
    index = np.array(voxel, np.float64)
    if (index < -0.5).any() or (index > np.array(grid.shape) - 0.5).any():
        size = " x ".join(map(str, grid.shape))
        raise ServeError(f"{structure}: the click {voxel} is outside the exam of {size} voxels", 422)
    try:
        x, y, z = grid.to_world(index).tolist()
        return Click((x, y, z), structure, positive)
    except LumbarsegError as error:
        raise ServeError(str(error), 422) from error
