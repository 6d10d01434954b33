"""SimpleITK as an independent reader and writer: convert its images from and to RAS+ volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lumbarseg.volume import Array, Volume

SimpleITK = pytest.importorskip("SimpleITK")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ras_array(image: SimpleITK.Image) -> Array:
    """Return the voxels as (I, J, K)."""
    return SimpleITK.GetArrayFromImage(image).T


def ras_affine(image: SimpleITK.Image) -> Array:
    """Return the affine from voxel to RAS+ mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return _LPS_TO_RAS @ affine


def itk_image(volume: Volume) -> SimpleITK.Image:
    """Return a volume as SimpleITK's image, in LPS."""
    affine = _LPS_TO_RAS @ volume.affine
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    image.SetSpacing(volume.grid.spacing)
    image.SetDirection((affine[:3, :3] / volume.grid.spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def write_metaimage(volume: Volume, path: Path) -> None:
    """Write a volume as a compressed .mha file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(itk_image(volume), str(path), True)
