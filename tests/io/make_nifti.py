"""Write NIfTI files with the headers that tests need, including wrong ones."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from tests.grids import affine_of

SAGITTAL = affine_of("PIL", (0.6, 0.6, 4.4), (30, 120, 200))


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None, kind: type = nib.Nifti1Image) -> Path:
    nib.save(kind(array, affine), path)
    return path


def set_header(path: Path, **values: object) -> Path:
    """Set header fields of a file without the checks of a library."""
    content = bytearray(path.read_bytes())
    header = np.frombuffer(bytes(content[:348]), nib.Nifti1Header.template_dtype).copy()
    for name, value in values.items():
        header[name] = value
    content[:348] = header.tobytes()
    path.write_bytes(content)
    return path
