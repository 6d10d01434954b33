"""Results of SPINEPS: an exam's mask of tissues (seg-spine) and mask of vertebrae (seg-vert), merged.

With both masks, a body and its posterior elements get values of their own. Either mask alone is accepted too. Without
its labelling model SPINEPS counts vertebrae from the top of the image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, Kind, disc_between, kinds_from_names, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.io.discovery import IMAGE_SUFFIXES, exam_name
from lumbarseg.volume import Array, Volume

from ..label_table import LabelTable, count_voxels
from ..schemes import SCHEMES, UNNAMED_VERTEBRA, unannotated_names, whole_vertebra
from .file_pairs import clean_case_name, patients_from_names, walk_paths
from .importer import LoadedCase, SourceCase, SourceListing
from .source_labels import read_labels_on_grid

KNOWN_FAULTS = {
    "unnamed": "vertebrae are counted from the top of the image, not named; they were kept without names",
    "no-instances": "there is no seg-vert mask, so nothing has a name",
    "no-subregions": "there is no seg-spine mask, so bodies and posterior elements are one and the canal is missing",
}

_WHOLE_VERTEBRA_OFFSET = 100  # added to a body's label: the vertebra with its posterior elements
_UNNAMED_ROWS = (
    *((Kind.BODY.value, Kind.DISC.value), (Kind.BODY.value,), (Kind.ARCH.value,), (Kind.DISC.value,), UNNAMED_VERTEBRA),
)

LABEL_TABLE: LabelTable = {
    **SCHEMES["default"],
    **{_WHOLE_VERTEBRA_OFFSET + structure_by_name(level).label: whole_vertebra(level) for level in LEVELS},
    **dict(enumerate(_UNNAMED_ROWS, start=200)),
}
"""The package's own labels, complete vertebrae 100 above, and structures without a name from 200."""
_VALUES = {names: value for value, names in LABEL_TABLE.items()}

_SUBREGIONS = SCHEMES["spineps_subregions"]
_INSTANCES = SCHEMES["spineps"]


def _instance_value(name: str) -> int:
    return min(value for value, names in _INSTANCES.items() if value and name in names)


_FIRST_THORACIC, _FIRST_LUMBAR, _SIXTH_LUMBAR = map(_instance_value, (LEVELS[0], LUMBAR_LEVELS[0], LEVELS[-1]))
_SACRUM = _instance_value(Kind.SACRUM.value)
_DISC_BELOW_L5 = 100 + _SIXTH_LUMBAR - 1
_MASK_KINDS = (("seg-spine", "seg-subreg"), ("seg-vert",))

_Key = tuple[str, ...]
"""The parts of file names that identify an exam."""


def list_cases(source: Path, patient: str | None = None) -> SourceListing:
    """List the exams with one or both masks; DatasetError when there is no mask at all."""
    images, masks = _find_files(source)
    if not masks:
        raise DatasetError(f"{source}: holds no file like *_seg-spine_msk.nii.gz or *_seg-vert_msk.nii.gz of SPINEPS")
    patients, unknown = patients_from_names(["_".join(key) for key in masks], patient)
    cases, refused = [], list(unknown)
    for key, (spine, vert) in sorted(masks.items()):
        name = "_".join(key)
        repeated = next((paths for paths in (images.get(key, []), spine, vert) if len(paths) > 1), None)
        if key not in images:
            refused.append((clean_case_name(name), f"{(spine + vert)[0].name}: its image {name}.nii.gz is missing"))
        elif repeated:
            reason = f"{repeated[0].name}: {len(repeated)} such files of one exam; keep one"
            refused.append((clean_case_name(name), reason))
        elif name in patients:
            metadata = {"masks": {"spine": spine[0].name if spine else "", "vert": vert[0].name if vert else ""}}
            contrast = key[-1].removesuffix("w") if key[-1].endswith("w") else ""
            files = (*images[key], *spine, *vert)
            patient_name = clean_case_name(patients[name])
            cases.append(SourceCase(clean_case_name(name), patient_name, files, contrast, metadata=metadata))
    return SourceListing(tuple(cases), tuple(refused))


def _find_files(source: Path) -> tuple[dict[_Key, list[Path]], dict[_Key, tuple[list[Path], list[Path]]]]:
    """Return images, and masks of tissues and of vertebrae, by exam."""
    images: dict[_Key, list[Path]] = {}
    masks: dict[_Key, tuple[list[Path], list[Path]]] = {}
    for relative in walk_paths(source):
        path = source / relative
        if not path.name.lower().endswith(IMAGE_SUFFIXES) or path.is_dir():
            continue
        parts = exam_name(path.name).split("_")
        kinds = [i for i, names in enumerate(_MASK_KINDS) if set(names) & set(parts)]
        if parts[-1] != "msk":
            images.setdefault(tuple(parts), []).append(path)
        elif kinds:
            key = [part for part in parts[:-1] if not part.startswith(("mod-", "seg-"))]
            key += [part.removeprefix("mod-") for part in parts if part.startswith("mod-")]
            masks.setdefault(tuple(key), ([], []))[kinds[0]].append(path)
    return images, masks


def load_case(case: SourceCase) -> LoadedCase:
    """Load the image, and its masks merged into one label map."""
    image = io.read_image(case.files[0])
    paths, names = {path.name: path for path in case.files[1:]}, case.metadata["masks"]
    spine, warnings = _load_mask(paths.get(names["spine"]), image, _SUBREGIONS)
    vert, vert_warnings = _load_mask(paths.get(names["vert"]), image, _INSTANCES)
    warnings += vert_warnings
    values = set(count_voxels(vert))
    vertebrae = {value for value in values if 0 < value < _SACRUM}
    is_named = not vertebrae or min(vertebrae) >= _FIRST_THORACIC or max(vertebrae) >= _FIRST_LUMBAR
    table = LABEL_TABLE
    if not is_named:
        warnings += (f"unnamed: vertebrae are numbered {min(vertebrae)} to {max(vertebrae)}",)
    if not names["vert"]:
        warnings += ("no-instances: only tissues are known",)
    if not names["spine"]:
        warnings += ("no-subregions: only complete vertebrae and discs are known",)
        rows = [_INSTANCES[value] for value in values - {0}] + [UNNAMED_VERTEBRA, (Kind.DISC.value,)]
        table = {**LABEL_TABLE, 0: unannotated_names(rows)}
    labels = _value_lookup(is_named, _SIXTH_LUMBAR in vertebrae)[spine, vert]
    return LoadedCase(image, Volume(labels, image.affine), table, warnings)


def _load_mask(path: Path | None, image: Volume, table: LabelTable) -> tuple[Array, tuple[str, ...]]:
    """Return a mask on the image's grid, uint8, zeros where there is none; and warnings."""
    if path is None:
        return np.zeros(image.array.shape, np.uint8), ()
    labels, warnings = read_labels_on_grid(path, image, table, "it is not a mask as SPINEPS documents it")
    return labels.array, warnings


def _value_lookup(is_named: bool, has_l6: bool) -> Array:
    """Return the label of a voxel by its values in both masks, (256, 256) uint8."""
    table = np.zeros((256, 256), np.uint8)
    for vert in (0, *_INSTANCES):
        names = _INSTANCES[vert] if is_named and vert else ()
        if names and vert == _DISC_BELOW_L5 and has_l6:
            names = (disc_between(LUMBAR_LEVELS[-1], LEVELS[-1]).name,)
        for spine in (0, *_SUBREGIONS):
            row = _SUBREGIONS[spine] if spine else _INSTANCES[vert] if vert else (Kind.BACKGROUND.value,)
            table[spine, vert] = _combined_value(row, names)
    return table


def _combined_value(row: tuple[str, ...], names: tuple[str, ...]) -> int:
    """Return the value in `LABEL_TABLE` of a row's kinds; names: of the vertebra or disc, () where it has none."""
    name_of_kind = {structure_by_name(name).kind: name for name in names if name not in tuple(Kind)}
    kinds = [kind for name in row for kind in kinds_from_names([name])]
    named_row = tuple(name_of_kind.get(kind, kind.value) for kind in kinds)
    return _VALUES.get(named_row, _VALUES[tuple(kind.value for kind in kinds)])
