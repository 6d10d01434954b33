"""Segment the vertebrae and discs of a lumbar MRI by name, on any computer, offline.

>>> import lumbarseg
>>> spine = lumbarseg.segment("exam.nii.gz")  # doctest: +SKIP
>>> spine.save("exam_labels.nii.gz")  # doctest: +SKIP

A module is imported when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from lumbarseg.api import SegmentedSpine, segment
    from lumbarseg.errors import LumbarsegError
    from lumbarseg.inference import Model, bundled_model_path
    from lumbarseg.io import read_image, read_labels, write_image, write_labels
    from lumbarseg.volume import Grid, Volume

_MODULES = {
    "SegmentedSpine": "api",
    "segment": "api",
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
    "SegmentedSpine",
    "Volume",
    "__version__",
    "bundled_model_path",
    "read_image",
    "read_labels",
    "segment",
    "write_image",
    "write_labels",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'lumbarseg' has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)
