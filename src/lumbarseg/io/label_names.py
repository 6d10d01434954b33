"""Read the label names that a label map stores: in a .seg.nrrd of 3D Slicer, or in a NIfTI file of this package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, BinaryIO

from nibabel import load
from nibabel.filebasedimages import ImageFileError

from . import nrrd
from .file_access import open_for_reading
from .nifti import GZIP_MAGIC

_FIELD = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")


def read_label_names(path: Path) -> dict[int, str]:
    """Return label value to name from the header of a file; {} if it names none.

    A .seg.nrrd whose segments overlap, so that one value has several names, gives {}.

    Raises
    ------
    FileError
        If the file cannot be opened. Other faults are reported when the voxels are read.
    """
    with open_for_reading(path) as stream:
        head = stream.read(4)
        if nrrd.is_nrrd(head):
            stream.seek(0)
            return _names_from_seg_nrrd(stream)
    return _names_from_nifti(path) if head.startswith(GZIP_MAGIC) or path.name.lower().endswith(".nii") else {}


def _names_from_seg_nrrd(stream: BinaryIO) -> dict[int, str]:
    try:
        header = nrrd.parse_header(stream)
    except ValueError:
        return {}
    segments: dict[int, dict[str, str]] = {}
    for key, text in header.items():
        if match := _FIELD.fullmatch(str(key)):
            segments.setdefault(int(match[1]), {})[match[2]] = str(text)
    rows = [row for _, row in sorted(segments.items()) if row.get("LabelValue", "").isdecimal() and "Name" in row]
    names = {int(row["LabelValue"]): row["Name"] for row in rows}
    return names if len(names) == len(rows) else {}


def _names_from_nifti(path: Path) -> dict[int, str]:
    try:
        header: Any = load(path).header
    except (ImageFileError, OSError, EOFError, ValueError):
        return {}
    for extension in getattr(header, "extensions", []):
        try:
            rows = json.loads(extension.get_content())["labels"]
            return {int(row["value"]): str(row["name"]) for row in rows}
        except (ValueError, KeyError, TypeError):
            continue  # written by another program
    return {}
