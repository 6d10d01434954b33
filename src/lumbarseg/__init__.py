"""Names the vertebrae and discs of a lumbar MRI on a plain computer, offline.

>>> from lumbarseg import Model, read_image, shipped
>>> from lumbarseg.segmentation import segment
>>> found = segment(read_image("exam.nii.gz"), Model.load(shipped()))  # doctest: +SKIP

Nothing heavy is imported before a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lumbarseg.errors import LumbarsegError
    from lumbarseg.inference import Model, bundled_model_path
    from lumbarseg.io import read_image, read_labels, write_image, write_labels
    from lumbarseg.volume import Grid, Volume

_HOME = {
    "LumbarsegError": "errors",
    "Grid": "volume",
    "Volume": "volume",
    "Model": "inference",
    "bundled_model_path": "inference",
    "read_image": "io",
    "read_labels": "io",
    "write_image": "io",
    "write_labels": "io",
}

__all__ = [
    "Grid",
    "LumbarsegError",
    "Model",
    "Volume",
    "__version__",
    "bundled_model_path",
    "read_image",
    "read_labels",
    "write_image",
    "write_labels",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'lumbarseg' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
