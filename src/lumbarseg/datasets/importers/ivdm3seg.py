"""IVDM3Seg: Dixon exams of four contrasts in one folder each, with one tag for all discs.

Names are counted: the lowest disc is taken for the one on the sacrum, as the data set's authors draw it.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.io.discovery import IMAGE_SUFFIXES
from lumbarseg.volume import Volume

from ..dataset import LabelTable
from ..orientation import estimate_orientation
from ..schemes import regular_structures, unannotated_names
from . import label_grid
from .chu import corrected_affine
from .file_pairs import clean_case_name, walk_paths
from .importer import Importer, LoadedCase, SourceCase, SourceListing

CONTRASTS = {"inn": "in phase", "opp": "opposed phase", "wat": "water", "fat": "fat"}
"""Endings of the files, and what they hold."""

MIN_DISCS = 7
"""Discs that every exam shows at least."""

KNOWN_FAULTS = {
    **label_grid.KNOWN_FAULTS,
    "counted": "discs are named by counting from the lowest, taken for the one on the sacrum",
    "patients": "which two exams are of one person was not published; each counts as another one, so they may be in "
    "different splits",
    "speck": "voxels of the tag apart from every disc; left out",
    "axis": "the header reverses axes, as the anatomy shows; corrected. Left and right cannot be verified",
    "unsure": "the anatomy does not tell which way an axis points; left as the header says",
}

_DISCS_UPWARD = tuple(reversed(regular_structures(Kind.DISC)))
_SPECK_FRACTION = 0.1  # of the usual disc's voxels: less is none
_SUFFIX = "|".join(re.escape(suffix) for suffix in IMAGE_SUFFIXES)
_FILE_NAME = re.compile(
    rf"(?:.*/)?(?P<name>[^/]+?)[_-](?P<part>{'|'.join(CONTRASTS)}|labels?)(?:{_SUFFIX})", re.IGNORECASE
)


def _disc_table(discs: tuple[str, ...]) -> LabelTable:
    """Values of an exam with these discs; those above them were not drawn."""
    rows: LabelTable = {structure_by_name(name).label: (name,) for name in discs}
    return {0: unannotated_names(rows.values()), **rows}


def make_importer(contrast: str = "inn") -> Importer:
    """An importer of one of the contrasts."""
    if contrast not in CONTRASTS:
        raise DatasetError(f"--contrast {contrast}: choose one of {', '.join(CONTRASTS)}")
    return Importer(
        "ivdm3seg",
        _disc_table(_DISCS_UPWARD[:MIN_DISCS]),
        "IVDM3Seg: Zeng et al., 2019; MICCAI challenge of 2018",
        "agreement with the challenge; no redistribution",
        partial(_list_cases, contrast=contrast),
        load_case,
    )


def _list_cases(source: Path, contrast: str) -> SourceListing:
    """NN/NN_inn.nii and its like with NN/NN_Labels.nii or NN-Labels.nii, packed or not."""
    found: dict[str, dict[str, list[Path]]] = {}
    for relative in walk_paths(source):
        if match := _FILE_NAME.fullmatch(relative):
            part = "labels" if match["part"].lower().startswith("label") else match["part"].lower()
            found.setdefault(match["name"], {}).setdefault(part, []).append(source / relative)
    exams = {name: parts for name, parts in found.items() if len(parts) > 1 or "labels" not in parts}
    if not any(set(parts) & set(CONTRASTS) for parts in exams.values()):
        raise DatasetError(f"{source}: holds no NN/NN_inn.nii; give the folder with the exams' folders of IVDM3Seg")
    raws, refused = [], []
    for name, parts in sorted(found.items()):
        several = next((paths for paths in parts.values() if len(paths) > 1), None)
        if several:
            refused.append(
                (clean_case_name(name), f"{several[0].name}: {len(several)} such files of one exam; keep one")
            )
        elif missing := [part for part in (contrast, "labels") if part not in parts]:
            what = "labels are" if missing[0] == "labels" else f"{CONTRASTS[contrast]} image ({contrast}) is"
            refused.append(
                (clean_case_name(name), f"{next(iter(parts.values()))[0].name}: its {what} missing; copy them there")
            )
        else:
            files = (parts[contrast][0], parts["labels"][0])
            about = {"dixon": CONTRASTS[contrast]}
            raws.append(
                SourceCase(
                    clean_case_name(name), clean_case_name(name), files, "Dixon", "Siemens 1.5 T", metadata=about
                )
            )
    return SourceListing(tuple(raws), tuple(refused))


def load_case(raw: SourceCase) -> LoadedCase:
    """One exam with its discs named from the lowest up; DatasetError when the tag holds fewer than expected."""
    from lumbarseg import io

    path = raw.files[1]
    image = io.read_image(raw.files[0])
    tag, warnings = label_grid.labels_on_image_grid(io.read_labels(path), image, path)
    values = np.flatnonzero(np.bincount(tag.array.ravel(order="K")))
    if len(values) != 2 or values[0] != 0:
        raise DatasetError(f"{path}: holds {len(values)} values; one tag for discs on a background of 0 is expected")
    discs, count, specks = _separate_discs(tag, path)
    judged = estimate_orientation(image, discs, {0: ("background",), **dict.fromkeys(range(1, count + 1), ("disc",))})
    affine, told = corrected_affine(image.affine, judged)
    centres = ndimage.center_of_mass(discs.array > 0, discs.array, np.arange(1, count + 1))
    heights = Volume(discs.array, affine).grid.to_world(np.array(centres))[:, 2]
    names = _DISCS_UPWARD[:count]
    lut = np.zeros(count + 1, np.uint8)
    for name, number in zip(names, np.argsort(heights) + 1, strict=True):
        lut[number] = structure_by_name(name).label
    warnings += (f"counted: {count} discs, the lowest taken for {names[0]}", "patients: two exams are of each person")
    warnings += (f"speck: {specks} voxels apart from every disc left out",) if specks else ()
    labels = Volume(lut[discs.array], affine)
    about = {"axes_judged_by": list(judged.reasons)}
    return LoadedCase(Volume(image.array, affine), labels, _disc_table(names), (*warnings, *told), about)


def _separate_discs(tag: Volume, path: Path) -> tuple[Volume, int, int]:
    """The tag's discs numbered from 1, how many, and how many voxels are in none."""
    parts, count = ndimage.label(tag.array > 0, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    usual = float(np.median(np.sort(sizes)[-MIN_DISCS:]))
    large = np.flatnonzero(sizes >= _SPECK_FRACTION * usual)
    if not MIN_DISCS <= len(large) <= len(_DISCS_UPWARD):
        raise DatasetError(f"{path}: its tag shows {len(large)} discs, {MIN_DISCS} or more are expected; look at it")
    numbers = np.zeros(count + 1, np.uint8)
    numbers[large + 1] = np.arange(1, len(large) + 1)
    return Volume(numbers[parts], tag.affine), len(large), int(sizes.sum() - sizes[large].sum())


IMPORTER = make_importer()
