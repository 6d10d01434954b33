"""What SPINEPS leaves beside an exam: a mask of tissues (seg-spine) and one of vertebrae (seg-vert), made one.

Where both are there, the second names what the first tells apart, so a body and its posterior elements get values of
their own. Either alone is taken as well. Without its labelling model SPINEPS counts vertebrae from the image's top.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, Kind, arch_of_level, kinds_from_names, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.io.discovery import IMAGE_SUFFIXES, exam_name
from lumbarseg.volume import Array, Volume

from ..dataset import LabelTable
from ..schemes import SCHEMES, UNNAMED_VERTEBRA, unannotated_names, whole_vertebra
from . import label_grid
from .file_pairs import clean_case_name, patients_from_names, walk_paths
from .importer import LoadedCase, SourceCase, SourceListing

KNOWN_FAULTS = {
    "unnamed": "vertebrae are counted from the top of the image, not named; they were kept without names",
    "no-instances": "there is no seg-vert mask, so nothing has a name",
    "no-subregions": "there is no seg-spine mask, so bodies and posterior elements are one and the canal is not drawn",
}

_BODY_OR_DISC = (Kind.BODY.value, Kind.DISC.value)
_ENDPLATE, _BODY, _ARCH, _DISC, _VERTEBRA = range(200, 205)
_WHOLE_VERTEBRA_OFFSET = 100  # above a body's own value: the vertebra with its posterior elements

LABEL_TABLE: LabelTable = {
    **SCHEMES["default"],
    **{_WHOLE_VERTEBRA_OFFSET + structure_by_name(level).label: whole_vertebra(level) for level in LEVELS},
    _ENDPLATE: _BODY_OR_DISC,
    _BODY: (Kind.BODY.value,),
    _ARCH: (Kind.ARCH.value,),
    _DISC: (Kind.DISC.value,),
    _VERTEBRA: UNNAMED_VERTEBRA,
}
"""Values of the prepared dataset: the package's own, whole vertebrae 100 above, and what has no name from 200 on."""

_SUBREGIONS = SCHEMES["spineps_subregions"]
_INSTANCES = SCHEMES["spineps"]
_FIRST_THORACIC = min(value for value, names in _INSTANCES.items() if LEVELS[0] in names)
_FIRST_LUMBAR = min(value for value, names in _INSTANCES.items() if LUMBAR_LEVELS[0] in names)
_SIXTH_LUMBAR = min(value for value, names in _INSTANCES.items() if LEVELS[-1] in names)
_SACRUM = min(value for value, names in _INSTANCES.items() if Kind.SACRUM.value in names)
_DISC_BELOW_L5 = 100 + _SIXTH_LUMBAR - 1
_MASK_KINDS = (("seg-spine", "seg-subreg"), ("seg-vert",))


def list_cases(source: Path, patient: str | None = None) -> SourceListing:
    """Exams with one or both masks; DatasetError when there is no mask at all."""
    images, masks = _find_files(source)
    if not masks:
        raise DatasetError(f"{source}: holds no file like *_seg-spine_msk.nii.gz or *_seg-vert_msk.nii.gz of SPINEPS")
    known, unknown = patients_from_names(["_".join(key) for key in masks], patient)
    raws, refused = [], list(unknown)
    for key, (spine, vert) in sorted(masks.items()):
        name = "_".join(key)
        several = [paths for paths in (images.get(key, []), spine, vert) if len(paths) > 1]
        if key not in images:
            refused.append((clean_case_name(name), f"{(spine + vert)[0].name}: its image {name}.nii.gz is missing"))
        elif several:
            refused.append(
                (clean_case_name(name), f"{several[0][0].name}: {len(several[0])} such files of one exam; keep one")
            )
        elif name in known:
            about = {"spine": spine[0].name if spine else "", "vert": vert[0].name if vert else ""}
            contrast = key[-1].removesuffix("w") if key[-1].endswith("w") else ""
            files = (*images[key], *spine, *vert)
            raws.append(
                SourceCase(
                    clean_case_name(name),
                    clean_case_name(known[name]),
                    files,
                    contrast=contrast,
                    metadata={"masks": about},
                )
            )
    return SourceListing(tuple(raws), tuple(refused))


def load_case(raw: SourceCase) -> LoadedCase:
    """The image, and its masks made one."""
    from lumbarseg import io

    image = io.read_image(raw.files[0])
    paths = {path.name: path for path in raw.files[1:]}
    spine, warnings = _load_mask(paths.get(raw.metadata["masks"]["spine"]), image, _SUBREGIONS)
    vert, more = _load_mask(paths.get(raw.metadata["masks"]["vert"]), image, _INSTANCES)
    warnings += more
    values = set(np.flatnonzero(np.bincount(vert.ravel(), minlength=256)).tolist())
    vertebrae = {value for value in values if 0 < value < _SACRUM}
    named = not vertebrae or min(vertebrae) >= _FIRST_THORACIC or max(vertebrae) >= _FIRST_LUMBAR
    table = LABEL_TABLE
    if not named:
        warnings += (f"unnamed: vertebrae are numbered {min(vertebrae)} to {max(vertebrae)}",)
    if not raw.metadata["masks"]["vert"]:
        warnings += ("no-instances: only tissues are known",)
    if not raw.metadata["masks"]["spine"]:
        warnings += ("no-subregions: only whole vertebrae and discs are known",)
        rows = [_INSTANCES[value] for value in values - {0}] + [UNNAMED_VERTEBRA, (Kind.DISC.value,)]
        table = {**LABEL_TABLE, 0: unannotated_names(rows)}
    labels = _value_lookup(named, _SIXTH_LUMBAR in vertebrae)[spine, vert]
    return LoadedCase(image, Volume(labels, image.affine), table, warnings)


def _find_files(
    source: Path,
) -> tuple[dict[tuple[str, ...], list[Path]], dict[tuple[str, ...], tuple[list[Path], ...]]]:
    """Images, and masks of tissues and vertebrae, by the parts of their names that tell the exam."""
    images: dict[tuple[str, ...], list[Path]] = {}
    masks: dict[tuple[str, ...], tuple[list[Path], ...]] = {}
    for relative in walk_paths(source):
        path = source / relative
        if not path.name.lower().endswith(IMAGE_SUFFIXES) or path.is_dir():
            continue
        parts = exam_name(path.name).split("_")
        which = [i for i, names in enumerate(_MASK_KINDS) if set(names) & set(parts)]
        if parts[-1] != "msk":
            images.setdefault(tuple(parts), []).append(path)
        elif which:
            kept = [part for part in parts[:-1] if not part.startswith(("mod-", "seg-"))]
            kept += [part.removeprefix("mod-") for part in parts if part.startswith("mod-")]
            masks.setdefault(tuple(kept), ([], []))[which[0]].append(path)
    return images, masks


def _load_mask(path: Path | None, image: Volume, table: LabelTable) -> tuple[Array, tuple[str, ...]]:
    """A mask on the image's grid, uint8, zeros where there is none."""
    from lumbarseg import io

    if path is None:
        return np.zeros(image.array.shape, np.uint8), ()
    labels = io.read_labels(path)
    label_grid.check_label_values(labels.array, table, path, "it is no mask of SPINEPS as its documentation has them")
    moved, warnings = label_grid.labels_on_image_grid(labels, image, path)
    return moved.array, warnings


def _value_lookup(named: bool, sixth: bool) -> Array:
    """(256, 256) uint8: what a voxel is by its values in both masks. sixth: whether there is an L6."""
    table = np.zeros((256, 256), np.uint8)
    for vert in (0, *_INSTANCES):
        names = _INSTANCES[vert] if named and vert else ()
        if vert == _DISC_BELOW_L5 and sixth:
            names = tuple(f"{n.partition('-')[0]}-{LEVELS[-1]}" for n in names)
        for spine in (0, *_SUBREGIONS):
            table[spine, vert] = _combined_value(spine, vert, names)
    return table


def _combined_value(spine: int, vert: int, names: tuple[str, ...]) -> int:
    """The value in `TABLE` of a voxel. names: what `vert` means, () where it has no name."""
    kinds = frozenset(
        kinds_from_names(_SUBREGIONS[spine] if spine else _INSTANCES[vert] if vert else (Kind.BACKGROUND.value,))
    )
    level = next((name for name in names if name in LEVELS), "")
    disc = next((n for n in names if n not in tuple(Kind) and kinds_from_names([n]) == {Kind.DISC}), "")
    exact = {
        frozenset({Kind.BODY}): structure_by_name(level).label if level else _BODY,
        frozenset({Kind.ARCH}): arch_of_level(level).label if level else _ARCH,
        frozenset({Kind.DISC}): structure_by_name(disc).label if disc else _DISC,
        frozenset({Kind.BODY, Kind.ARCH}): _WHOLE_VERTEBRA_OFFSET + structure_by_name(level).label
        if level
        else _VERTEBRA,
        frozenset({Kind.BODY, Kind.DISC}): _ENDPLATE,
        frozenset({Kind.SACRUM}): structure_by_name(Kind.SACRUM.value).label,
        frozenset({Kind.CANAL}): structure_by_name(Kind.CANAL.value).label,
        frozenset({Kind.BACKGROUND}): 0,
    }
    return exact[kinds]
