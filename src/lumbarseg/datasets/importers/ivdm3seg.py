"""IVDM3Seg: Dixon exams, a folder each with four contrasts and one tag for all discs.

Names are counted: the lowest disc is taken for the one on the sacrum, as the authors of the data annotated it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.components import connected_components
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Volume

from .. import orientation
from ..label_table import LabelTable
from ..schemes import regular_structures, unannotated_names
from . import source_labels
from .file_pairs import clean_case_name, find_pairs
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .source_labels import load_single_tag

CONTRASTS = {"inn": "in phase", "opp": "opposed phase", "wat": "water", "fat": "fat"}
"""Endings of the files, and their contrast."""

MIN_DISCS = 7
"""Discs in view in every exam."""

KNOWN_FAULTS = {
    **source_labels.KNOWN_FAULTS,
    **orientation.KNOWN_FAULTS,
    "counted": "discs are named by counting from the lowest, taken for the one on the sacrum",
    "patients": "two exams are of each person, but which was not published; each counts as another patient, so they "
    "may be in different splits",
    "speck": "voxels of the tag away from every disc; left out",
}

_DISCS_UPWARD = tuple(reversed(regular_structures(Kind.DISC)))
_SPECK_FRACTION = 0.1  # of the usual disc's voxels


def _disc_table(discs: tuple[str, ...]) -> LabelTable:
    """Return the label table of an exam with these discs; those above them are not annotated."""
    rows: LabelTable = {structure_by_name(name).label: (name,) for name in discs}
    return {0: unannotated_names(rows.values()), **rows}


def make_importer(contrast: str = "inn") -> Importer:
    """Return an importer of one of the contrasts."""
    if contrast not in CONTRASTS:
        raise DatasetError(f"--contrast {contrast}: choose one of {', '.join(CONTRASTS)}")
    return Importer(
        "ivdm3seg",
        _disc_table(_DISCS_UPWARD[:MIN_DISCS]),
        "IVDM3Seg: Zeng et al., 2019; MICCAI challenge of 2018",
        "agreement with the challenge; no redistribution",
        partial(_list_cases, contrast=contrast),
        load_case,
        KNOWN_FAULTS,
    )


def _list_cases(source: Path, contrast: str) -> SourceListing:
    """List NN/NN_inn.nii, or another contrast, with NN/NN_Labels.nii or NN-Labels.nii, compressed or not."""
    not_found = f"holds no NN/NN_{contrast}.nii with NN/NN_Labels.nii; give the folder with the folders of IVDM3Seg"
    images, labels = f"**/{{name}}[_-]{contrast}", "**/{name}[_-][Ll]abel*"
    pairs, refused = find_pairs(source, images, labels, not_found)
    metadata = {"dixon": CONTRASTS[contrast]}
    names = {name: clean_case_name(name) for name in pairs}
    cases = [
        SourceCase(names[name], names[name], files, "Dixon", "Siemens 1.5 T", metadata=metadata)
        for name, files in pairs.items()
    ]
    return SourceListing(tuple(cases), tuple(refused))


def load_case(case: SourceCase) -> LoadedCase:
    """Load one exam with discs named from the lowest upward; DatasetError when the tag holds fewer than expected."""
    loaded = load_single_tag(case, Kind.DISC, _DISCS_UPWARD, _separate_discs)
    return replace(loaded, label_table=_disc_table(_DISCS_UPWARD[: int(np.unique(loaded.labels.array).size) - 1]))


def _separate_discs(tag: Volume, path: Path) -> tuple[Volume, list[str]]:
    """Return the tag's discs numbered from 1, and warnings."""
    components = connected_components(tag.array > 0, "corners")
    sizes = components.sizes[1:]
    is_large = sizes >= _SPECK_FRACTION * float(np.median(np.sort(sizes)[-MIN_DISCS:]))
    count = int(is_large.sum())
    if not MIN_DISCS <= count <= len(_DISCS_UPWARD):
        raise DatasetError(f"{path}: its tag shows {count} discs, {MIN_DISCS} or more are expected; check it")
    numbers = np.array([0, *np.where(is_large, np.cumsum(is_large), 0)], np.uint8)
    warnings = [
        f"counted: {count} discs, the lowest taken for {_DISCS_UPWARD[0]}",
        "patients: two exams are of each person",
    ]
    if specks := int(sizes[~is_large].sum()):
        warnings.append(f"speck: {specks} voxels away from every disc left out")
    return Volume(numbers[components.numbers], tag.affine), warnings


IMPORTER = make_importer()
