"""What SPINEPS leaves beside an exam: a mask of tissues (seg-spine) and one of vertebrae (seg-vert), made one.

Where both are there, the second names what the first tells apart, so a body and its posterior elements get values of
their own. Either alone is taken as well. Without its labelling model SPINEPS counts vertebrae from the image's top.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lumbarseg.anatomy import LEVELS, LUMBAR, Kind, arch_of, by_name, classes_of
from lumbarseg.datasets.folder import Table
from lumbarseg.datasets.schemes import SCHEMES, WHOLE, undrawn, whole
from lumbarseg.errors import DatasetError
from lumbarseg.files.discover import SUFFIXES, stem
from lumbarseg.volume import Array, Volume

from . import fit
from .pairs import clean, patients, walk
from .raw import Found, Raw, Read

TRAPS = {
    "unnamed": "vertebrae are counted from the top of the image, not named; they were kept without names",
    "no-instances": "there is no seg-vert mask, so nothing has a name",
    "no-subregions": "there is no seg-spine mask, so bodies and posterior elements are one and the canal is not drawn",
}

_BOTH = (Kind.BODY.value, Kind.DISC.value)
_PLATE, _BODY, _ARCH, _DISC, _VERTEBRA = range(200, 205)
_WHOLE = 100  # above a body's own value: the vertebra with its posterior elements

TABLE: Table = {
    **SCHEMES["default"],
    **{_WHOLE + by_name(level).label: whole(level) for level in LEVELS},
    _PLATE: _BOTH,
    _BODY: (Kind.BODY.value,),
    _ARCH: (Kind.ARCH.value,),
    _DISC: (Kind.DISC.value,),
    _VERTEBRA: WHOLE,
}
"""Values of the prepared dataset: the package's own, whole vertebrae 100 above, and what has no name from 200 on."""

_PARTS = SCHEMES["spineps_subregions"]
_INSTANCES = SCHEMES["spineps"]
_FIRST = min(value for value, names in _INSTANCES.items() if LEVELS[0] in names)
_FIRST_LUMBAR = min(value for value, names in _INSTANCES.items() if LUMBAR[0] in names)
_SIXTH = min(value for value, names in _INSTANCES.items() if LEVELS[-1] in names)
_SACRUM = min(value for value, names in _INSTANCES.items() if Kind.SACRUM.value in names)
_UNDER_FIFTH = 100 + _SIXTH - 1
_KINDS = (("seg-spine", "seg-subreg"), ("seg-vert",))


def find(source: Path, patient: str | None = None) -> Found:
    """Exams with one or both masks; DatasetError when there is no mask at all."""
    images, masks = _files(source)
    if not masks:
        raise DatasetError(f"{source}: holds no file like *_seg-spine_msk.nii.gz or *_seg-vert_msk.nii.gz of SPINEPS")
    known, unknown = patients(["_".join(key) for key in masks], patient)
    raws, refused = [], list(unknown)
    for key, (spine, vert) in sorted(masks.items()):
        name = "_".join(key)
        several = [paths for paths in (images.get(key, []), spine, vert) if len(paths) > 1]
        if key not in images:
            refused.append((clean(name), f"{(spine + vert)[0].name}: its image {name}.nii.gz is missing"))
        elif several:
            refused.append((clean(name), f"{several[0][0].name}: {len(several[0])} such files of one exam; keep one"))
        elif name in known:
            about = {"spine": spine[0].name if spine else "", "vert": vert[0].name if vert else ""}
            contrast = key[-1].removesuffix("w") if key[-1].endswith("w") else ""
            files = (*images[key], *spine, *vert)
            raws.append(Raw(clean(name), clean(known[name]), files, contrast=contrast, about={"masks": about}))
    return Found(tuple(raws), tuple(refused))


def read(raw: Raw) -> Read:
    """The image, and its masks made one."""
    from lumbarseg import files

    image = files.read_image(raw.files[0])
    paths = {path.name: path for path in raw.files[1:]}
    spine, warnings = _mask(paths.get(raw.about["masks"]["spine"]), image, _PARTS)
    vert, more = _mask(paths.get(raw.about["masks"]["vert"]), image, _INSTANCES)
    warnings += more
    values = set(np.flatnonzero(np.bincount(vert.ravel(), minlength=256)).tolist())
    vertebrae = {value for value in values if 0 < value < _SACRUM}
    named = not vertebrae or min(vertebrae) >= _FIRST or max(vertebrae) >= _FIRST_LUMBAR
    table = TABLE
    if not named:
        warnings += (f"unnamed: vertebrae are numbered {min(vertebrae)} to {max(vertebrae)}",)
    if not raw.about["masks"]["vert"]:
        warnings += ("no-instances: only tissues are known",)
    if not raw.about["masks"]["spine"]:
        warnings += ("no-subregions: only whole vertebrae and discs are known",)
        rows = [_INSTANCES[value] for value in values - {0}] + [WHOLE, (Kind.DISC.value,)]
        table = {**TABLE, 0: undrawn(rows)}
    labels = _pairs(named, _SIXTH in vertebrae)[spine, vert]
    return Read(image, Volume(labels, image.affine), table, warnings)


def _files(source: Path) -> tuple[dict[tuple[str, ...], list[Path]], dict[tuple[str, ...], tuple[list[Path], ...]]]:
    """Images, and masks of tissues and vertebrae, by the parts of their names that tell the exam."""
    images: dict[tuple[str, ...], list[Path]] = {}
    masks: dict[tuple[str, ...], tuple[list[Path], ...]] = {}
    for relative in walk(source):
        path = source / relative
        if not path.name.lower().endswith(SUFFIXES) or path.is_dir():
            continue
        parts = stem(path.name).split("_")
        which = [i for i, names in enumerate(_KINDS) if set(names) & set(parts)]
        if parts[-1] != "msk":
            images.setdefault(tuple(parts), []).append(path)
        elif which:
            kept = [part for part in parts[:-1] if not part.startswith(("mod-", "seg-"))]
            kept += [part.removeprefix("mod-") for part in parts if part.startswith("mod-")]
            masks.setdefault(tuple(kept), ([], []))[which[0]].append(path)
    return images, masks


def _mask(path: Path | None, image: Volume, table: Table) -> tuple[Array, tuple[str, ...]]:
    """A mask on the image's grid, uint8, zeros where there is none."""
    from lumbarseg import files

    if path is None:
        return np.zeros(image.array.shape, np.uint8), ()
    labels = files.read_labels(path)
    fit.check_values(labels.array, table, path, "it is no mask of SPINEPS as its documentation has them")
    moved, warnings = fit.on_grid(labels, image, path)
    return moved.array, warnings


def _pairs(named: bool, sixth: bool) -> Array:
    """(256, 256) uint8: what a voxel is by its values in both masks. sixth: whether there is an L6."""
    table = np.zeros((256, 256), np.uint8)
    for vert in (0, *_INSTANCES):
        names = _INSTANCES[vert] if named and vert else ()
        if vert == _UNDER_FIFTH and sixth:
            names = tuple(f"{n.partition('-')[0]}-{LEVELS[-1]}" for n in names)
        for spine in (0, *_PARTS):
            table[spine, vert] = _value(spine, vert, names)
    return table


def _value(spine: int, vert: int, names: tuple[str, ...]) -> int:
    """The value in `TABLE` of a voxel. names: what `vert` means, () where it has no name."""
    kinds = frozenset(classes_of(_PARTS[spine] if spine else _INSTANCES[vert] if vert else (Kind.BACKGROUND.value,)))
    level = next((name for name in names if name in LEVELS), "")
    disc = next((n for n in names if n not in tuple(Kind) and classes_of([n]) == {Kind.DISC}), "")
    exact = {
        frozenset({Kind.BODY}): by_name(level).label if level else _BODY,
        frozenset({Kind.ARCH}): arch_of(level).label if level else _ARCH,
        frozenset({Kind.DISC}): by_name(disc).label if disc else _DISC,
        frozenset({Kind.BODY, Kind.ARCH}): _WHOLE + by_name(level).label if level else _VERTEBRA,
        frozenset({Kind.BODY, Kind.DISC}): _PLATE,
        frozenset({Kind.SACRUM}): by_name(Kind.SACRUM.value).label,
        frozenset({Kind.CANAL}): by_name(Kind.CANAL.value).label,
        frozenset({Kind.BACKGROUND}): 0,
    }
    return exact[kinds]
