"""MyoSegmenTUM spine (OSF 3j54b): water-fat exams with one mask for each body from L1 to L5.

As third-party programs walk it: NN/NN/vertebrae/ with WATER.dcm, FAT.dcm, FATFRACTION.dcm and L1_NN.mha to L5_NN.mha;
NN/NN/muscle/ beside it is not read. Any folder with such masks is taken, and masks in one label map of values 1 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lumbarseg.anatomy import LUMBAR_LEVELS, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.io.dicom import reader
from lumbarseg.io.discovery import IMAGE_SUFFIXES, exam_name
from lumbarseg.volume import Volume

from ..dataset import LabelTable
from ..schemes import SCHEMES
from . import label_grid
from .file_pairs import clean_case_name, image_files, image_path, walk_paths
from .importer import Importer, LoadedCase, SourceCase, SourceListing

CONTRASTS = {"water": ("water", "wat"), "fat": ("fat",), "pdff": ("pdff", "fatfraction", "fraction")}
"""Which image is read, and the words that tell it in a file's name."""

_OVERLAP_VALUE = 200
LABEL_TABLE: LabelTable = {**SCHEMES["lumbar_bodies"], _OVERLAP_VALUE: LUMBAR_LEVELS}

KNOWN_FAULTS = {
    **label_grid.KNOWN_FAULTS,
    "overlap": "voxels that two masks claim; they may be either body",
    "grey-mask": "a mask with several values; whatever is above 0 is the body",
}

_MASK_NAME = re.compile(r"(?:.*[_-])?(L[1-5])(?:[_-].*)?", re.IGNORECASE)
_LABEL_MAP_NAME = re.compile(
    r"(?:.*[_-])?(?:labels?|seg|segmentation|masks?|bodies|vertebrae)(?:[_-].*)?", re.IGNORECASE
)
_MUSCLE_NAME = re.compile(r"muscle|psoas|erector", re.IGNORECASE)


def make_importer(contrast: str = "water") -> Importer:
    """An importer of one of the contrasts."""
    if contrast not in CONTRASTS:
        raise DatasetError(f"--contrast {contrast}: choose one of {', '.join(CONTRASTS)}")
    return Importer(
        "myosegmentum",
        LABEL_TABLE,
        "MyoSegmenTUM spine: Burian et al., BMC Musculoskelet Disord 20:152, 2019; OSF 3j54b",
        "freely accessible on OSF; read its licence before redistribution",
        partial(_list_cases, contrast=contrast),
        load_case,
    )


def _list_cases(source: Path, contrast: str) -> SourceListing:
    """Every folder with masks of bodies, or one label map, and an image of this contrast in it or above it."""
    folders: dict[Path, list[Path]] = {}
    for relative in walk_paths(source):
        path = source / relative
        if not _MUSCLE_NAME.search(relative):
            folders.setdefault(path.parent, []).append(path)
    raws, refused = [], []
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
            about = {"dixon": contrast, "masks": len(masks)}
            raws.append(SourceCase(name, name, (*image_files(image), *masks.values()), "Dixon", "3 T", metadata=about))
    if not raws and not refused:
        raise DatasetError(f"{source}: holds no folder with masks L1 to L5 of MyoSegmenTUM; unpack its zip files first")
    return SourceListing(tuple(raws), tuple(refused))


def _find_masks(paths: list[Path]) -> dict[str, Path]:
    """Structure to mask, or "" to a label map; the first of each in the order of names."""
    volumes = [path for path in paths if path.name.lower().endswith(IMAGE_SUFFIXES)]
    found: dict[str, Path] = {}
    for path in volumes:
        if match := _MASK_NAME.fullmatch(exam_name(path.name)):
            found.setdefault(match[1].upper(), path)
    maps = [path for path in volumes if _LABEL_MAP_NAME.fullmatch(exam_name(path.name))]
    return found or ({"": maps[0]} if len(maps) == 1 else {})


def _incomplete_reason(masks: dict[str, Path]) -> str:
    missing = [level for level in LUMBAR_LEVELS if level not in masks]
    if "" in masks or not missing:
        return ""
    return f"{len(masks)} masks of {len(LUMBAR_LEVELS)} expected: {', '.join(missing)} missing; complete the download"


def _subject_name(folder: Path, source: Path, masks: dict[str, Path]) -> str:
    """The first folder below the source, or, where all lie in one, what the masks' names end with."""
    parts = folder.relative_to(source).parts
    words = exam_name(next(iter(masks.values())).name).split("_")
    return clean_case_name(parts[0] if parts else words[-1] if len(words) > 1 else folder.name)


def _find_image(folder: Path, folders: dict[Path, list[Path]], contrast: str) -> tuple[Path | None, str]:
    """The image of a contrast that lies nearest to a folder of masks, or why there is none."""
    unread = None
    for place in (folder, folder.parent):
        for path in folders.get(place, []):
            name = exam_name(path.name)
            if _MASK_NAME.fullmatch(name) or not _has_contrast(name, contrast):
                continue
            if path.name.lower().endswith(IMAGE_SUFFIXES) or (path.is_dir() and reader.contains_dicom(path)):
                return path, ""
            unread = path if path.name.lower().endswith((".dcm", ".ima")) else unread
    if unread is not None:
        return (
            None,
            f"{unread.name}: all slices in one DICOM file are not read; convert it: dcm2niix -f %b {unread.name}",
        )
    return None, f"no {contrast} image beside its masks; copy it there, or choose another --contrast"


def _has_contrast(name: str, contrast: str) -> bool:
    """Whether a file's name tells this contrast; a fat fraction is no fat image."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    said = [kind for kind, words in CONTRASTS.items() if any(word in plain for word in words)]
    return (said[-1:] if "pdff" in said else said[:1]) == [contrast]


def load_case(raw: SourceCase) -> LoadedCase:
    """One exam with its bodies; DatasetError when a mask is empty or a label map holds other values."""
    from lumbarseg import io

    image = io.read_image(image_path(raw.files[0]))
    if raw.metadata["masks"] == 1:
        labels = io.read_labels(raw.files[-1])
        label_grid.check_label_values(
            labels.array, SCHEMES["lumbar_bodies"], raw.files[-1], "bodies are 1 to 5, L1 to L5"
        )
        labels, told = label_grid.labels_on_image_grid(labels, image, raw.files[-1])
        return LoadedCase(image, labels, warnings=told)
    out, claimed = np.zeros(image.array.shape, np.uint8), 0
    notes: list[str] = []
    for level, mask, warnings in _load_masks(raw, image):
        taken = mask & (out > 0)
        claimed += int(taken.sum())
        out[mask] = structure_by_name(level).label
        out[taken] = _OVERLAP_VALUE
        notes += warnings
    notes += [f"overlap: {claimed} voxels are claimed by two masks"] if claimed else []
    return LoadedCase(image, Volume(out, image.affine), warnings=tuple(dict.fromkeys(notes)))


def _load_masks(raw: SourceCase, image: Volume) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Level, (I, J, K) bool and warnings of each mask."""
    from lumbarseg import io

    for path in raw.files[-raw.metadata["masks"] :]:
        match = _MASK_NAME.fullmatch(exam_name(path.name))
        labels, warnings = label_grid.labels_on_image_grid(io.read_labels(path), image, path)
        values = np.flatnonzero(np.bincount(labels.array.ravel(order="K")))
        if not values.any():
            raise DatasetError(
                f"{path}: an empty mask; every body from {LUMBAR_LEVELS[0]} to {LUMBAR_LEVELS[-1]} is expected"
            )
        grey = [f"grey-mask: {path.name}: {len(values)} values"] if len(values) > 2 else []
        yield (match[1].upper() if match else ""), labels.array > 0, [*warnings, *grey]


IMPORTER = make_importer()
