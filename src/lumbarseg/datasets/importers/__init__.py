"""One importer per source; each ends in a prepared dataset."""

from __future__ import annotations

from importlib import import_module

from lumbarseg.errors import DatasetError

from .importer import Importer

__all__ = ["IMPORTERS", "get_importer", "known_faults"]

IMPORTERS = {
    name: name
    for name in (
        "khalil",
        "chu",
        "spider",
        "mrspineseg",
        "myosegmentum",
        "ivdm3seg",
        "nnunet",
        "monailabel",
    )
} | {"folder": "paired_files"}
"""Name of a source: its file in this folder, with `IMPORTER` or, where it needs options, a function `make_importer`."""


def get_importer(name: str) -> Importer:
    """The importer of a source that needs no options; DatasetError when there is none."""
    if name not in IMPORTERS:
        raise DatasetError(f"{name!r} is no source; choose one of {', '.join(IMPORTERS)}")
    found: Importer = import_module(f".{IMPORTERS[name]}", __package__).IMPORTER
    return found


def known_faults(name: str) -> dict[str, str]:
    """What the words mean with which an importer's warnings begin."""
    return dict(getattr(import_module(f".{IMPORTERS[name]}", __package__), "KNOWN_FAULTS", {}))
