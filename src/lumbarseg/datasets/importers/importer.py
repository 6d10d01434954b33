"""The interface of importers: cases as they are listed in a source, and as they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lumbarseg.volume import Volume

from ..label_table import LabelTable


@dataclass(frozen=True)
class SourceCase:
    """A case as it is listed, before its files are read.

    Attributes
    ----------
    name : letters, digits, ".", "_" and "-"
    patient : the same text for all exams of a person
    files : all files that `load_case` reads
    split : of the source, None where it has none
    metadata : kept with the case as it is
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
    """A case in memory.

    Attributes
    ----------
    image : (I, J, K), any axes
    labels : (I, J, K) uint8 on the same grid
    label_table : of this case, where it differs from the importer's, for example because a structure is missing
    warnings : "fault: detail", one of each known fault that the case has
    """

    image: Volume
    labels: Volume
    label_table: LabelTable | None = None
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceListing:
    """The cases of a source; refused: (name, reason) of those that cannot be used."""

    cases: tuple[SourceCase, ...]
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Importer:
    """One kind of source.

    Attributes
    ----------
    label_table : of all cases that bring none of their own
    citation : of the source, "" to use the name of its folder
    list_cases : lists the cases of a folder; DatasetError when it is of another kind
    load_case : loads one case, in another process; LumbarsegError, one line that names the file, when it is refused
    known_faults : fault to explanation, for the warnings of `load_case`
    searches_subfolders : links that lead out of the source are then reported
    """

    name: str
    label_table: LabelTable
    citation: str
    licence: str
    list_cases: Callable[[Path], SourceListing]
    load_case: Callable[[SourceCase], LoadedCase]
    known_faults: Mapping[str, str] = field(default_factory=dict)
    searches_subfolders: bool = True
