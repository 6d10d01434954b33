"""What a label map's file says itself about its values: names of 3D Slicer's .seg.nrrd, and of our own NIfTI files."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

from . import nrrd
from .file_access import open_for_reading

_FIELD = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")
_GZIP = b"\x1f\x8b"


def read_label_names(path: Path) -> dict[int, str]:
    """Value to name, as the file's header has them; {} where it names nothing. FileError when it cannot be opened.

    Of a .seg.nrrd whose segments overlap, and so lie in several layers, nothing is told: one value has several names.
    """
    with open_for_reading(path) as stream:
        head = stream.read(4)
        if nrrd.is_nrrd(head):
            stream.seek(0)
            return _names_from_seg_nrrd(stream)
    return _names_from_nifti(path) if head.startswith(_GZIP) or path.name.lower().endswith(".nii") else {}


def _names_from_seg_nrrd(stream: Any) -> dict[int, str]:
    import nrrd as library

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = library.read_header(stream)
    except (library.reader.NRRDError, ValueError, IndexError, StopIteration):
        return {}  # reading the voxels tells what is wrong
    fields: dict[int, dict[str, str]] = {}
    for key, text in header.items():
        if match := _FIELD.fullmatch(str(key)):
            fields.setdefault(int(match[1]), {})[match[2]] = str(text)
    rows = [row for _, row in sorted(fields.items()) if row.get("LabelValue", "").isdecimal() and "Name" in row]
    values = [int(row["LabelValue"]) for row in rows]
    if len(set(values)) < len(values):
        return {}
    return {value: row["Name"] for value, row in zip(values, rows, strict=True)}


def _names_from_nifti(path: Path) -> dict[int, str]:
    from nibabel import load
    from nibabel.filebasedimages import ImageFileError

    try:
        header: Any = load(path).header
    except (ImageFileError, OSError, EOFError, ValueError):
        return {}  # reading the voxels tells what is wrong
    for extension in getattr(header, "extensions", []):
        try:
            rows = json.loads(extension.get_content())["labels"]
            return {int(row["value"]): str(row["name"]) for row in rows}
        except (ValueError, KeyError, TypeError):
            continue  # another program's
    return {}
