"""dcmqi as an independent reader of DICOM Segmentations: voxels on a given grid, and the attributes of each segment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.io.itk import ras_affine, ras_array

from lumbarseg.volume import Array, Grid

SimpleITK = pytest.importorskip("SimpleITK")


def find_program() -> str | None:
    """Return the path of dcmqi's reader, beside this Python or on the search path."""
    return shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or shutil.which("segimage2itkimage")


def read(path: Path, folder: Path, grid: Grid) -> tuple[Array, list[dict[str, Any]]]:
    """Return the voxels of a segmentation on `grid`, numbered as its segments, and the attributes that dcmqi reports.

    folder: for dcmqi's files. AssertionError if dcmqi fails, or its voxels do not coincide with those of the grid.
    """
    folder.mkdir(parents=True)
    command = [find_program() or "", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "seg"]
    process = subprocess.run([*map(str, command), "--mergeSegments"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    groups = json.loads((folder / "seg-meta.json").read_text())["segmentAttributes"]
    labels = np.zeros(grid.shape, np.int32)
    for number, attributes in enumerate(groups, 1):
        image = SimpleITK.ReadImage(str(folder / f"seg-{number}.nrrd"))
        part = ras_array(image)
        corners = np.array([(0, 0, 0), np.array(part.shape) - 1])
        positions = Grid((2, 2, 2), ras_affine(image)).to_world(corners)
        index = grid.to_index(positions)
        assert np.abs(index - np.rint(index)).max() < 0.01, index
        first, last = np.rint(index).astype(int)
        steps = np.where(last >= first, 1, -1)
        box = tuple(slice(min(a, b), max(a, b) + 1) for a, b in zip(first, last, strict=True))
        part = part[tuple(slice(None, None, int(step)) for step in steps)]
        own = np.isin(part, [item["labelID"] for item in attributes])
        labels[box][own] = part[own]
    return labels, [item for group in groups for item in group]
