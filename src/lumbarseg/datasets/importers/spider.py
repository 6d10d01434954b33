"""SPIDER (Zenodo 10159290): exams and masks as .mha, counted from the lowest vertebra, with two tables beside."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from lumbarseg import files
from lumbarseg.anatomy import Kind
from lumbarseg.datasets.folder import voxels
from lumbarseg.datasets.schemes import COLUMN, SCHEMES
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Volume

from . import fit
from .pairs import clean, find_pairs, walk
from .raw import Found, Importer, Raw, Read
from .values import SECOND, own_values

_PARTLY, _DISC = 100, 200  # added to a vertebra's count: partly in view, and the disc below it
_ROWS = {**SCHEMES["spider"], _DISC: (Kind.DISC.value,)}  # and a disc below the one that is counted as the lowest
TABLE, _OWN = own_values(_ROWS)
TRAPS = {
    **fit.TRAPS,
    "stir": "a series called T2 that is STIR, as its description says; its contrast was set to STIR",
    "counting": "there is a level below the one counted as the lowest; names were counted and may be one level off",
    "same-acquisition": "two series of a patient are one acquisition, as their parameters say",
    "above-T1": "counts that reach above T1; such vertebrae and discs are kept without a name",
    "no-overview": "overview.csv says nothing of this exam: no scanner, no official split",
}

_IMAGES, _MASKS = "**/images/{name}.mha", "**/masks/{name}.mha"
_NAME = re.compile(r"(\d+)_(t1|t2|t2_SPACE)")
_CONTRASTS = {"t1": "T1", "t2": "T2", "t2_SPACE": "SPACE"}
_SPLITS = {"training": "train", "validation": "val"}
_PARAMETERS = (
    "EchoTime", "RepetitionTime", "FlipAngle", "SliceThickness", "PixelSpacing", "MRAcquisitionType",
    "SeriesDescription", "SequenceName", "EchoTrainLength",
)  # fmt: skip
_ENOUGH = 4  # parameters that two series must share to be called one acquisition

Row = dict[str, str]


def find(source: Path) -> Found:
    """The pairs images/NAME.mha and masks/NAME.mha, in images/images/ too, with what the two tables say of them."""
    try:
        pairs, refused = find_pairs(source, _IMAGES, _MASKS)
    except DatasetError as error:
        raise DatasetError(
            f"{source}: holds no images/1_t1.mha with masks/1_t1.mha; give the folder with the files of Zenodo 10159290"
        ) from error
    overview = {row.get("new_file_name", ""): row for row in _table(source, "overview.csv")}
    gradings: dict[str, list[Row]] = {}
    for row in _table(source, "radiological_gradings.csv"):
        gradings.setdefault(_whole(row.get("Patient", "")), []).append(row)
    raws = []
    refused = [(name, reason.replace("**/", "")) for name, reason in refused]
    for name, paths in pairs.items():
        match = _NAME.fullmatch(name)
        if match:
            raws.append(_raw(name, paths, match[1], match[2], overview, gradings.get(match[1], [])))
        else:
            refused.append(
                (clean(name), f"{paths[0]}: a name of SPIDER looks like 1_t1, 1_t2 or 1_t2_SPACE; rename it")
            )
    return Found(tuple(sorted(raws, key=lambda raw: (int(raw.patient), raw.name))), tuple(refused))


def _raw(
    name: str, paths: tuple[Path, Path], patient: str, series: str, overview: dict[str, Row], gradings: list[Row]
) -> Raw:
    row = overview.get(name, {})
    about: dict[str, Any] = {key: text for key, text in row.items() if text and key not in ("birth_date", "subset")}
    if (age := _age(row.get("birth_date", ""))) is not None:
        about["age"] = age
    if gradings:
        about["gradings"] = gradings
    twin = f"{patient}_{'t2' if series == 't2_SPACE' else 't2_SPACE'}"
    if series != "t1" and _same_acquisition(row, overview.get(twin, {})):
        about["same_acquisition"] = twin
    contrast = "STIR" if series == "t2" and _is_stir(row) else _CONTRASTS[series]
    scanner = " ".join(f"{row.get('Manufacturer', '')} {row.get('ManufacturerModelName', '')}".split())
    split = _SPLITS.get(row.get("subset", "").lower())
    return Raw(name, patient, paths, contrast, scanner, split, about)


def read(raw: Raw) -> Read:
    """One exam in the package's own values; DatasetError when its mask holds a value that SPIDER does not use."""
    path = raw.files[1]
    image = files.read_image(raw.files[0])
    labels, warnings = fit.on_grid(files.read_labels(path), image, path)
    fit.check_values(labels.array, _ROWS, path, "is it an 8-bit copy, or was it resized with interpolation?")
    present = set(voxels(labels.array)) - {0}
    if not present:
        raise DatasetError(f"{path}: nothing is drawn in it; leave this exam out, or copy its mask again")
    own = Volume(_OWN[labels.array], labels.affine)
    partly = [TABLE[value][0] for value in voxels(own.array) if SECOND < value < SECOND + _PARTLY]
    about = {"partly_in_view": partly} if partly else {}
    return Read(image, own, warnings=(*warnings, *_warnings(raw, present)), about=about)


def _warnings(raw: Raw, present: set[int]) -> list[str]:
    told = []
    if raw.contrast == "STIR":
        told.append(f"stir: named t2, described as {raw.about['SeriesDescription']}")
    graded = any(_whole(row.get("IVD label", "")) == "0" for row in raw.about.get("gradings", []))
    if graded or _DISC in present:
        where = "the gradings have an IVD label 0" if graded else f"the mask has a disc {_DISC}"
        told.append(f"counting: {where}, a level below the one counted as the lowest; L5 = 1 is a rule, not anatomy")
    if twin := raw.about.get("same_acquisition"):
        told.append(f"same-acquisition: {twin} has the same parameters in overview.csv")
    high = sorted(value for value in present if value != _PARTLY and value % _PARTLY > len(COLUMN))
    if high:
        told.append(f"above-T1: the values {', '.join(map(str, high))}; kept without a name")
    if "new_file_name" not in raw.about:
        told.append("no-overview: overview.csv has no row for it")
    return told


def _table(source: Path, name: str) -> list[Row]:
    """The rows of a table somewhere in the folder, blanks around names and values removed; none where it lacks."""
    path = next((source / relative for relative in walk(source) if Path(relative).name == name), None)
    if path is None:
        return []
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table: {error}; copy it again") from error
    return [{(key or "").strip(): (value or "").strip() for key, value in _texts(row)} for row in rows]


def _texts(row: dict[Any, Any]) -> list[tuple[str, str]]:
    """Columns of a row; what stands past the last named one is left out."""
    return [(key, value) for key, value in row.items() if isinstance(key, str) and not isinstance(value, list)]


def _is_stir(row: Row) -> bool:
    return re.search(r"\b(STIR|TIRM)\b", row.get("SeriesDescription", ""), re.IGNORECASE) is not None


def _same_acquisition(row: Row, other: Row) -> bool:
    shared = [key for key in _PARAMETERS if row.get(key) and other.get(key)]
    return len(shared) >= _ENOUGH and all(row[key] == other[key] for key in shared)


def _whole(text: str) -> str:
    """A number as whole digits: "1.0" is "1"."""
    try:
        return str(int(float(text)))
    except (ValueError, OverflowError):
        return text


def _age(text: str) -> int | None:
    """Years, from a column that is called birth_date and holds an age."""
    match = re.fullmatch(r"0*(\d{1,3})(?:\.\d*)?\s*Y?", text, re.IGNORECASE)
    return int(match[1]) if match else None


IMPORTER = Importer(
    name="spider",
    table=TABLE,
    citation="SPIDER: van der Graaf et al., Sci Data 11:264, 2024; Zenodo 10159290",
    licence="CC BY 4.0",
    find=find,
    read=read,
)
