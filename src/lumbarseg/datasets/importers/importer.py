"""What every importer gives: cases as they lie in their source, and the same cases once they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lumbarseg.volume import Volume

from ..dataset import LabelTable


@dataclass(frozen=True)
class SourceCase:
    """One case before anything but its place is known. files: all that `read` opens; split: the source's own, if any.

    name: letters, digits, '.', '_' and '-'; patient: the same text for every exam of a person; about: kept as it is.
    """

    name: str
    patient: str
    files: tuple[Path, ...]
    contrast: str = ""
    scanner: str = ""
    split: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """One case in memory. image: (I, J, K) any axes; labels: (I, J, K) uint8 on the same grid, values of the table.

    table: of this case alone, where it differs from the importer's, for example because a structure was not drawn;
    warnings: one per trap that was met, "trap: what exactly", the trap being a word of the importer's own list.
    """

    image: Volume
    labels: Volume
    label_table: LabelTable | None = None
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceListing:
    """What a source holds. refused: (name, reason) of cases that cannot be used, told without opening volumes."""

    cases: tuple[SourceCase, ...]
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Importer:
    """One kind of source. find: lists its cases, DatasetError when the folder is of another kind; read: one case.

    Both are picklable; `read` runs in another process and raises LumbarsegError, one line that names the file, when the
    case must be refused. table: label values of every case whose `Read` brings no table of its own. deep: whether
    `find` looks below the source, so that links out of it should be told.
    """

    name: str
    label_table: LabelTable
    citation: str
    licence: str
    list_cases: Callable[[Path], SourceListing]
    load_case: Callable[[SourceCase], LoadedCase]
    searches_subfolders: bool = True
