"""MRSpineSeg 2021: T2 exams; whole vertebrae from T9 down, their discs and the sacrum in one label map."""

from __future__ import annotations

from pathlib import Path

from lumbarseg import io
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Volume

from ..dataset import LabelTable, count_voxels
from ..schemes import SCHEMES, unannotated_names
from . import label_grid
from .file_pairs import find_pairs
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .own_labels import to_own_labels

_SOURCE_TABLE = SCHEMES["mrspineseg"]
LABEL_TABLE, _TO_OWN_LABEL = to_own_labels(_SOURCE_TABLE)
KNOWN_FAULTS = dict(label_grid.KNOWN_FAULTS)
_RARE_VALUES = {int(_TO_OWN_LABEL[value]) for value in (9, 10, 18, 19)}
"""T10, T9 and the discs below them, which few exams have: where they lack, nobody may have drawn them."""
_IMAGES, _MASKS = "**/MR/Case{name}", "**/Mask/mask_case{name}"


def list_cases(source: Path) -> SourceListing:
    """The pairs MR/Case{n}.nii.gz and Mask/mask_case{n}.nii.gz, wherever they lie in the folder."""
    try:
        pairs, refused = find_pairs(source, _IMAGES, _MASKS)
    except DatasetError as error:
        raise DatasetError(
            f"{source}: holds no MR/Case1.nii.gz with Mask/mask_case1.nii.gz; give the folder train of MRSpineSeg"
        ) from error
    raws = [
        SourceCase(f"Case{number}", number, paths, "T2") for number, paths in sorted(pairs.items(), key=_numeric_order)
    ]
    return SourceListing(tuple(raws), tuple((f"Case{number}", reason.replace("**/", "")) for number, reason in refused))


def load_case(raw: SourceCase) -> LoadedCase:
    """One exam in the package's own values; DatasetError when its mask holds a value of none of the 19 structures."""
    path = raw.files[1]
    image = io.read_image(raw.files[0])
    labels, warnings = label_grid.labels_on_image_grid(io.read_labels(path), image, path)
    label_grid.check_label_values(labels.array, _SOURCE_TABLE, path, "was it resized with interpolation?")
    if not labels.array.any():
        raise DatasetError(f"{path}: nothing is drawn in it; leave this exam out, or copy its mask again")
    own = Volume(_TO_OWN_LABEL[labels.array], labels.affine)
    table = _case_label_table(set(count_voxels(own.array)))
    return LoadedCase(image, own, table if table != LABEL_TABLE else None, warnings)


def _case_label_table(present: set[int]) -> LabelTable:
    """The values of one exam."""
    rows = {
        value: names
        for value, names in LABEL_TABLE.items()
        if value and (value in present or value not in _RARE_VALUES)
    }
    return {0: unannotated_names(rows.values()), **rows}


def _numeric_order(item: tuple[str, tuple[Path, Path]]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdecimal() else 0, item[0])


IMPORTER = Importer(
    name="mrspineseg",
    label_table=LABEL_TABLE,
    citation="MRSpineSeg 2021: Pang et al., IEEE Trans Med Imaging 40(1):262, 2021",
    licence="signed agreement; research only, no redistribution",
    list_cases=list_cases,
    load_case=load_case,
)
