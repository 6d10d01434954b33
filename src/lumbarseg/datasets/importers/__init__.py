"""Importers of published datasets and common folder layouts; each makes a prepared dataset."""

from __future__ import annotations

from lumbarseg.errors import DatasetError

from . import chu, ivdm3seg, khalil, mrspineseg, myosegmentum, spider
from .importer import Importer

__all__ = ["IMPORTERS", "get_importer"]

IMPORTERS: dict[str, Importer] = {
    module.IMPORTER.name: module.IMPORTER for module in (khalil, chu, spider, mrspineseg, myosegmentum, ivdm3seg)
}
"""Importers that need no options, by name; see also `paired_files`, `nnunet` and `monailabel`."""


def get_importer(name: str) -> Importer:
    """Return an importer that needs no options; DatasetError when there is none of this name."""
    if name not in IMPORTERS:
        raise DatasetError(f"{name!r} is no source; choose one of {', '.join(IMPORTERS)}")
    return IMPORTERS[name]
