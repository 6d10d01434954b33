"""dcmqi as an independent reader of DICOM Segmentations: voxels on a grid of ours, and what each segment says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from tests.io.itk import ras_affine, ras_array

from lumbarseg.volume import Array, Grid


def program() -> str | None:
    """Where dcmqi's reader is, beside this Python or on the path."""
    return shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or shutil.which("segimage2itkimage")


def read(path: Path, folder: Path, grid: Grid) -> tuple[Array, list[dict[str, Any]]]:
    """The voxels of a segmentation on `grid`, numbered as its segments, and their attributes as dcmqi tells them.

    folder: for dcmqi's files. AssertionError when it refuses, or when its voxels do not lie on those of the grid.
    """
    folder.mkdir(parents=True)
    command = [program() or "", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "seg"]
    done = subprocess.run([*map(str, command), "--mergeSegments"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((folder / "seg-meta.json").read_text())["segmentAttributes"]
    placed = np.zeros(grid.shape, np.int32)
    for number, attributes in enumerate(told, 1):
        image = SimpleITK.ReadImage(str(folder / f"seg-{number}.nrrd"))
        part = ras_array(image)
        corners = np.array([(0, 0, 0), np.array(part.shape) - 1])
        places = Grid((2, 2, 2), ras_affine(image)).to_world(corners)
        index = grid.to_index(places)
        assert np.abs(index - np.rint(index)).max() < 0.01, index
        first, last = np.rint(index).astype(int)
        steps = np.where(last >= first, 1, -1)
        box = tuple(slice(min(a, b), max(a, b) + 1) for a, b in zip(first, last, strict=True))
        part = part[tuple(slice(None, None, int(step)) for step in steps)]
        mine = np.isin(part, [item["labelID"] for item in attributes])
        placed[box][mine] = part[mine]
    return placed, [item for group in told for item in group]
