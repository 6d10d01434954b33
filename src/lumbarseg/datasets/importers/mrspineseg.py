"""MRSpineSeg 2021: T2 exams; complete vertebrae from T9 down, their discs and the sacrum in one label map."""

from __future__ import annotations

from pathlib import Path

from lumbarseg import io
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Volume

from ..label_table import LabelTable, count_voxels
from ..schemes import SCHEMES, unannotated_names
from . import label_grid
from .file_pairs import find_pairs
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .label_grid import read_labels_on_grid
from .own_labels import to_own_labels

CITATION = "MRSpineSeg 2021: Pang et al., IEEE Trans Med Imaging 40(1):262, 2021"
LICENCE = "signed agreement; research only, no redistribution"
KNOWN_FAULTS = label_grid.KNOWN_FAULTS

_SOURCE_TABLE = SCHEMES["mrspineseg"]
LABEL_TABLE, _TO_OWN_LABEL = to_own_labels(_SOURCE_TABLE)
_RARE_VALUES = {int(_TO_OWN_LABEL[value]) for value in (9, 10, 18, 19)}
"""T10, T9 and the discs below them, in view in few exams: where they are missing, they may not be annotated."""
_IMAGES, _MASKS = "**/MR/Case{name}", "**/Mask/mask_case{name}"


def list_cases(source: Path) -> SourceListing:
    """List the pairs MR/Case{n}.nii.gz and Mask/mask_case{n}.nii.gz in any subfolder."""
    not_found = "holds no MR/Case1.nii.gz with Mask/mask_case1.nii.gz; give the folder train of MRSpineSeg"
    pairs, refused = find_pairs(source, _IMAGES, _MASKS, not_found)
    numbers = sorted(pairs, key=lambda text: (int(text) if text.isdecimal() else 0, text))
    cases = [SourceCase(f"Case{number}", number, pairs[number], "T2") for number in numbers]
    return SourceListing(tuple(cases), tuple((f"Case{number}", reason) for number, reason in refused))


def load_case(case: SourceCase) -> LoadedCase:
    """Load one exam in the package's own labels; DatasetError when its mask holds a value of none of 19 structures."""
    image, path = io.read_image(case.files[0]), case.files[1]
    labels, warnings = read_labels_on_grid(path, image, _SOURCE_TABLE, "was it resized with interpolation?")
    if not labels.array.any():
        raise DatasetError(f"{path}: nothing is labelled; leave this exam out, or copy its mask again")
    own = Volume(_TO_OWN_LABEL[labels.array], labels.affine)
    return LoadedCase(image, own, _case_label_table(set(count_voxels(own.array))), warnings)


def _case_label_table(present: set[int]) -> LabelTable:
    rows = {
        value: names
        for value, names in LABEL_TABLE.items()
        if value and (value in present or value not in _RARE_VALUES)
    }
    return {0: unannotated_names(rows.values()), **rows}


IMPORTER = Importer("mrspineseg", LABEL_TABLE, CITATION, LICENCE, list_cases, load_case, KNOWN_FAULTS)
