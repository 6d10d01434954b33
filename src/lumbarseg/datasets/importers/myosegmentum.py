"""MyoSegmenTUM spine (OSF 3j54b): water-fat exams with one mask for each body from L1 to L5.

Third-party programs expect NN/NN/vertebrae/ with WATER.dcm, FAT.dcm, FATFRACTION.dcm and L1_NN.mha to L5_NN.mha;
NN/NN/muscle/ beside it is not read. Any folder with such masks is accepted, and one label map with the values 1 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import LUMBAR_LEVELS, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.io.dicom.files import contains_dicom
from lumbarseg.io.discovery import IMAGE_SUFFIXES, exam_name
from lumbarseg.volume import Array, Volume

from ..label_table import LabelTable, count_voxels
from ..schemes import SCHEMES
from . import source_labels
from .file_pairs import clean_case_name, image_files, image_path, walk_paths
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .source_labels import read_labels_on_grid

CONTRASTS = {"water": ("water", "wat"), "fat": ("fat",), "pdff": ("pdff", "fatfraction", "fraction")}
"""Words in file names that stand for each contrast."""

_OVERLAP_VALUE = 200
LABEL_TABLE: LabelTable = {**SCHEMES["lumbar_bodies"], _OVERLAP_VALUE: LUMBAR_LEVELS}

KNOWN_FAULTS = {
    **source_labels.KNOWN_FAULTS,
    "overlap": "voxels in two masks; they may be either body",
    "grey-mask": "a mask with several values; all above 0 is the body",
}

_MASK_NAME = re.compile(r"(?:.*[_-])?(L[1-5])(?:[_-].*)?", re.IGNORECASE)
_LABEL_MAP_NAME = re.compile(
    r"(?:.*[_-])?(?:labels?|seg|segmentation|masks?|bodies|vertebrae)(?:[_-].*)?", re.IGNORECASE
)
_MUSCLE_NAME = re.compile(r"muscle|psoas|erector", re.IGNORECASE)


def make_importer(contrast: str = "water") -> Importer:
    """Return an importer of one of the contrasts."""
    if contrast not in CONTRASTS:
        raise DatasetError(f"--contrast {contrast}: choose one of {', '.join(CONTRASTS)}")
    return Importer(
        "myosegmentum",
        LABEL_TABLE,
        "MyoSegmenTUM spine: Burian et al., BMC Musculoskelet Disord 20:152, 2019; OSF 3j54b",
        "freely accessible on OSF; read its licence before redistribution",
        partial(_list_cases, contrast=contrast),
        load_case,
        KNOWN_FAULTS,
    )


def _list_cases(source: Path, contrast: str) -> SourceListing:
    """List every folder with masks of bodies, or one label map, and an image of this contrast in it or above it."""
    folders: dict[Path, list[Path]] = {}
    for relative in walk_paths(source):
        path = source / relative
        if not _MUSCLE_NAME.search(relative):
            folders.setdefault(path.parent, []).append(path)
    cases, refused = [], []
    for folder, paths in sorted(folders.items()):
        masks = _find_masks(paths)
        if not masks:
            continue
        name = _subject_name(folder, source, masks)
        image, reason = _find_image(folder, folders, contrast)
        reason = _incomplete_reason(masks) or reason
        if reason:
            refused.append((name, f"{folder.relative_to(source)}: {reason}"))
        elif image is not None:
            metadata = {"dixon": contrast, "masks": len(masks)}
            files = (*image_files(image), *masks.values())
            cases.append(SourceCase(name, name, files, "Dixon", "3 T", metadata=metadata))
    if not cases and not refused:
        raise DatasetError(f"{source}: holds no folder with masks L1 to L5 of MyoSegmenTUM; unpack its zip files first")
    return SourceListing(tuple(cases), tuple(refused))


def _find_masks(paths: list[Path]) -> dict[str, Path]:
    """Return the first mask of each level, or "" to a single label map."""
    volumes = [path for path in paths if path.name.lower().endswith(IMAGE_SUFFIXES)]
    masks: dict[str, Path] = {}
    for path in volumes:
        if match := _MASK_NAME.fullmatch(exam_name(path.name)):
            masks.setdefault(match[1].upper(), path)
    maps = [path for path in volumes if _LABEL_MAP_NAME.fullmatch(exam_name(path.name))]
    return masks or ({"": maps[0]} if len(maps) == 1 else {})


def _incomplete_reason(masks: dict[str, Path]) -> str:
    missing = [level for level in LUMBAR_LEVELS if level not in masks]
    if "" in masks or not missing:
        return ""
    return f"{len(masks)} masks of {len(LUMBAR_LEVELS)} expected: {', '.join(missing)} missing; complete the download"


def _subject_name(folder: Path, source: Path, masks: dict[str, Path]) -> str:
    """Return the first folder below the source, or, where all files are in one folder, the end of the masks' names."""
    parts = folder.relative_to(source).parts
    parts_of_name = exam_name(next(iter(masks.values())).name).split("_")
    return clean_case_name(parts[0] if parts else parts_of_name[-1] if len(parts_of_name) > 1 else folder.name)


def _find_image(folder: Path, folders: dict[Path, list[Path]], contrast: str) -> tuple[Path | None, str]:
    """Return the image of a contrast that is nearest to a folder of masks, or why there is none."""
    unreadable = None
    for parent in (folder, folder.parent):
        for path in folders.get(parent, []):
            name = exam_name(path.name)
            if _MASK_NAME.fullmatch(name) or not _has_contrast(name, contrast):
                continue
            if path.name.lower().endswith(IMAGE_SUFFIXES) or (path.is_dir() and contains_dicom(path)):
                return path, ""
            unreadable = path if path.name.lower().endswith((".dcm", ".ima")) else unreadable
    if unreadable is not None:
        name = unreadable.name
        return None, f"{name}: all slices in one DICOM file are not read; convert it: dcm2niix -f %b {name}"
    return None, f"no {contrast} image beside its masks; copy it there, or choose another --contrast"


def _has_contrast(name: str, contrast: str) -> bool:
    """Return whether a file name says this contrast; a fat fraction is no fat image."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    kinds = [kind for kind, synonyms in CONTRASTS.items() if any(word in letters for word in synonyms)]
    return (kinds[-1:] if "pdff" in kinds else kinds[:1]) == [contrast]


def load_case(case: SourceCase) -> LoadedCase:
    """Load one exam with its bodies; DatasetError when a mask is empty or a label map holds other values."""
    image = io.read_image(image_path(case.files[0]))
    if case.metadata["masks"] == 1:
        suggestion = "bodies are 1 to 5, L1 to L5"
        labels, grid_warnings = read_labels_on_grid(case.files[-1], image, SCHEMES["lumbar_bodies"], suggestion)
        return LoadedCase(image, labels, warnings=grid_warnings)
    merged, overlap = np.zeros(image.array.shape, np.uint8), 0
    warnings: list[str] = []
    for level, mask, mask_warnings in _load_masks(case, image):
        shared = mask & (merged > 0)
        overlap += int(shared.sum())
        merged[mask] = structure_by_name(level).label
        merged[shared] = _OVERLAP_VALUE
        warnings += mask_warnings
    warnings += [f"overlap: {overlap} voxels are in two masks"] if overlap else []
    return LoadedCase(image, Volume(merged, image.affine), warnings=tuple(dict.fromkeys(warnings)))


def _load_masks(case: SourceCase, image: Volume) -> Iterator[tuple[str, Array, list[str]]]:
    """Yield level, (I, J, K) bool and warnings of each mask."""
    for path in case.files[-case.metadata["masks"] :]:
        match = _MASK_NAME.fullmatch(exam_name(path.name))
        labels, warnings = read_labels_on_grid(path, image)
        values = list(count_voxels(labels.array))
        if not any(values):
            levels = f"{LUMBAR_LEVELS[0]} to {LUMBAR_LEVELS[-1]}"
            raise DatasetError(f"{path}: an empty mask; every body from {levels} is expected")
        grey = [f"grey-mask: {path.name}: {len(values)} values"] if len(values) > 2 else []
        yield (match[1].upper() if match else ""), labels.array > 0, [*warnings, *grey]


IMPORTER = make_importer()
