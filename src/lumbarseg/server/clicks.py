"""Clicks of a request: voxels of the exam as the client loaded it, under the names of what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lumbarseg.clicks import Click
from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.volume import Grid

from .label_values import find_structure

_MAX_CLICKS = 500
_BACKGROUND = "background"


def parse_clicks(request: Mapping[str, Any], names: tuple[str, ...], grid: Grid) -> tuple[Click, ...]:
    """What a request says is in an exam, points in RAS+ mm.

    3D Slicer sends for each name a list of [i, j, k], or for one name, "label", the lists "foreground" and
    "background". ServeError for what is no list of voxels, or lies outside the exam.
    """
    found = []
    for name in (*names, _BACKGROUND):
        if name == _BACKGROUND and "foreground" in request:
            continue
        found += [_make_click(voxel, name, True, grid) for voxel in _parse_voxels(request.get(name), name)]
    if "foreground" in request:
        label = request.get("label")
        for key, positive in (("foreground", True), (_BACKGROUND, False)):
            voxels = _parse_voxels(request.get(key), key)
            if voxels and not isinstance(label, str):
                raise ServeError(f"{key}: points need the name of a structure in 'label'", 422)
            found += [_make_click(voxel, find_structure(str(label)).name, positive, grid) for voxel in voxels]
    if len(found) > _MAX_CLICKS:
        raise ServeError(f"{len(found)} clicks; at most {_MAX_CLICKS} are taken", 422)
    return tuple(found)


def _parse_voxels(value: Any, name: str) -> list[list[float]]:
    if value is None or value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(voxel, list) and len(voxel) == 3 for voxel in value):
        raise ServeError(f"{name}: clicks must be a list of voxels [i, j, k]", 422)
    if not all(type(number) in (int, float) and np.isfinite(number) for voxel in value for number in voxel):
        raise ServeError(f"{name}: a voxel is three numbers", 422)
    return value


def _make_click(voxel: list[float], name: str, positive: bool, grid: Grid) -> Click:
    place = np.array(voxel, np.float64)
    if (place < -0.5).any() or (place > np.array(grid.shape) - 0.5).any():
        size = " x ".join(map(str, grid.shape))
        raise ServeError(f"{name}: the click {voxel} lies outside the exam of {size} voxels", 422)
    x, y, z = (float(value) for value in grid.to_world(place))
    try:
        return Click((x, y, z), name, positive)
    except LumbarsegError as error:
        raise ServeError(str(error), 422) from error
