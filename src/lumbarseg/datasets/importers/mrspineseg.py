"""MRSpineSeg 2021: T2 exams; complete vertebrae from T9 down, their discs and the sacrum in one label map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..label_table import LabelTable, count_voxels
from ..schemes import SCHEMES, unannotated_names
from . import source_labels
from .file_pairs import find_pairs
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .source_labels import load_own_labels, to_own_labels

CITATION = "MRSpineSeg 2021: Pang et al., IEEE Trans Med Imaging 40(1):262, 2021"
LICENCE = "signed agreement; research only, no redistribution"
KNOWN_FAULTS = source_labels.KNOWN_FAULTS

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
    loaded, _ = load_own_labels(case, _SOURCE_TABLE, _TO_OWN_LABEL, "was it resized with interpolation?")
    return replace(loaded, label_table=_case_label_table(set(count_voxels(loaded.labels.array))))


def _case_label_table(present: set[int]) -> LabelTable:
    rows = {
        value: names
        for value, names in LABEL_TABLE.items()
        if value and (value in present or value not in _RARE_VALUES)
    }
    return {0: unannotated_names(rows.values()), **rows}


IMPORTER = Importer("mrspineseg", LABEL_TABLE, CITATION, LICENCE, list_cases, load_case, KNOWN_FAULTS)
