"""MRSpineSeg 2021: T2 exams; whole vertebrae from T9 down, their discs and the sacrum in one label map."""

from __future__ import annotations

from pathlib import Path

from lumbarseg import files
from lumbarseg.datasets.folder import Table, voxels
from lumbarseg.datasets.schemes import SCHEMES, undrawn
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Volume

from . import fit
from .pairs import find_pairs
from .raw import Found, Importer, Raw, Read
from .values import own_values

_ROWS = SCHEMES["mrspineseg"]
TABLE, _OWN = own_values(_ROWS)
TRAPS = dict(fit.TRAPS)
_UPPER = {int(_OWN[value]) for value in (9, 10, 18, 19)}
"""T10, T9 and the discs below them, which few exams have: where they lack, nobody may have drawn them."""
_IMAGES, _MASKS = "**/MR/Case{name}", "**/Mask/mask_case{name}"


def find(source: Path) -> Found:
    """The pairs MR/Case{n}.nii.gz and Mask/mask_case{n}.nii.gz, wherever they lie in the folder."""
    try:
        pairs, refused = find_pairs(source, _IMAGES, _MASKS)
    except DatasetError as error:
        raise DatasetError(
            f"{source}: holds no MR/Case1.nii.gz with Mask/mask_case1.nii.gz; give the folder train of MRSpineSeg"
        ) from error
    raws = [Raw(f"Case{number}", number, paths, "T2") for number, paths in sorted(pairs.items(), key=_by_number)]
    return Found(tuple(raws), tuple((f"Case{number}", reason.replace("**/", "")) for number, reason in refused))


def read(raw: Raw) -> Read:
    """One exam in the package's own values; DatasetError when its mask holds a value of none of the 19 structures."""
    path = raw.files[1]
    image = files.read_image(raw.files[0])
    labels, warnings = fit.on_grid(files.read_labels(path), image, path)
    fit.check_values(labels.array, _ROWS, path, "was it resized with interpolation?")
    if not labels.array.any():
        raise DatasetError(f"{path}: nothing is drawn in it; leave this exam out, or copy its mask again")
    own = Volume(_OWN[labels.array], labels.affine)
    table = _table(set(voxels(own.array)))
    return Read(image, own, table if table != TABLE else None, warnings)


def _table(present: set[int]) -> Table:
    """The values of one exam."""
    rows = {value: names for value, names in TABLE.items() if value and (value in present or value not in _UPPER)}
    return {0: undrawn(rows.values()), **rows}


def _by_number(item: tuple[str, tuple[Path, Path]]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdecimal() else 0, item[0])


IMPORTER = Importer(
    name="mrspineseg",
    table=TABLE,
    citation="MRSpineSeg 2021: Pang et al., IEEE Trans Med Imaging 40(1):262, 2021",
    licence="signed agreement; research only, no redistribution",
    find=find,
    read=read,
)
