"""Published datasets as they lie on disk, written from synthetic exams with known truth: one file per source.

A file holds `write`, a `Layout`. It may hold as well `SEQUENCES`, the phantoms' sequences that the source has (else
"T2"); `usable(exam) -> bool`, which exams it can take (else all; others are drawn instead); and `case_of(number) ->
str`, the name under which the importer gives exam `number`, from 0 (else the truth goes by the exam's name).
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lumbarseg.errors import DatasetError

LAYOUTS = {
    name: name
    for name in (
        "khalil",
        "chu",
        "spider",
        "mrspineseg",
        "myosegmentum",
        "ivdm3seg",
        "nnunet",
        "msd",
        "spineps",
        "totalspineseg",
        "folder",
        "monailabel",
    )
}
"""Name of a layout: its file in this folder."""


def layout(name: str) -> ModuleType:
    """The file of a layout; DatasetError when there is none."""
    if name not in LAYOUTS:
        raise DatasetError(f"{name!r} is no layout; choose one of {', '.join(LAYOUTS)}")
    return import_module(f".{LAYOUTS[name]}", __package__)
