"""SPIDER (Zenodo 10159290): exams and masks as .mha, counted from the lowest vertebra, with two tables beside."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from lumbarseg import io
from lumbarseg.anatomy import Kind
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Volume

from ..dataset import count_voxels
from ..schemes import REGULAR_VERTEBRAE, SCHEMES
from . import label_grid
from .file_pairs import clean_case_name, find_pairs, walk_paths
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .own_labels import PARTIAL_OFFSET, to_own_labels

_PARTIAL, _DISC_OFFSET = 100, 200  # added to a vertebra's count: partly in view, and the disc below it
_SOURCE_TABLE = {
    **SCHEMES["spider"],
    _DISC_OFFSET: (Kind.DISC.value,),
}  # and a disc below the one that is counted as the lowest
LABEL_TABLE, _TO_OWN_LABEL = to_own_labels(_SOURCE_TABLE)
KNOWN_FAULTS = {
    **label_grid.KNOWN_FAULTS,
    "stir": "a series called T2 that is STIR, as its description says; its contrast was set to STIR",
    "counting": "there is a level below the one counted as the lowest; names were counted and may be one level off",
    "same-acquisition": "two series of a patient are one acquisition, as their parameters say",
    "above-T1": "counts that reach above T1; such vertebrae and discs are kept without a name",
    "no-overview": "overview.csv says nothing of this exam: no scanner, no official split",
}

_IMAGES, _MASKS = "**/images/{name}.mha", "**/masks/{name}.mha"
_FILE_NAME = re.compile(r"(\d+)_(t1|t2|t2_SPACE)")
_CONTRASTS = {"t1": "T1", "t2": "T2", "t2_SPACE": "SPACE"}
_SPLITS = {"training": "train", "validation": "val"}
_PARAMETERS = (
    "EchoTime", "RepetitionTime", "FlipAngle", "SliceThickness", "PixelSpacing", "MRAcquisitionType",
    "SeriesDescription", "SequenceName", "EchoTrainLength",
)  # fmt: skip
_MIN_SHARED_PARAMETERS = 4  # parameters that two series must share to be called one acquisition

CsvRow = dict[str, str]


def list_cases(source: Path) -> SourceListing:
    """The pairs images/NAME.mha and masks/NAME.mha, in images/images/ too, with what the two tables say of them."""
    try:
        pairs, refused = find_pairs(source, _IMAGES, _MASKS)
    except DatasetError as error:
        raise DatasetError(
            f"{source}: holds no images/1_t1.mha with masks/1_t1.mha; give the folder with the files of Zenodo 10159290"
        ) from error
    overview = {row.get("new_file_name", ""): row for row in _read_csv(source, "overview.csv")}
    gradings: dict[str, list[CsvRow]] = {}
    for row in _read_csv(source, "radiological_gradings.csv"):
        gradings.setdefault(_integer_text(row.get("Patient", "")), []).append(row)
    raws = []
    refused = [(name, reason.replace("**/", "")) for name, reason in refused]
    for name, paths in pairs.items():
        match = _FILE_NAME.fullmatch(name)
        if match:
            raws.append(_source_case(name, paths, match[1], match[2], overview, gradings.get(match[1], [])))
        else:
            refused.append(
                (clean_case_name(name), f"{paths[0]}: a name of SPIDER looks like 1_t1, 1_t2 or 1_t2_SPACE; rename it")
            )
    return SourceListing(tuple(sorted(raws, key=lambda raw: (int(raw.patient), raw.name))), tuple(refused))


def _source_case(
    name: str, paths: tuple[Path, Path], patient: str, series: str, overview: dict[str, CsvRow], gradings: list[CsvRow]
) -> SourceCase:
    row = overview.get(name, {})
    about: dict[str, Any] = {key: text for key, text in row.items() if text and key not in ("birth_date", "subset")}
    if (age := _age_in_years(row.get("birth_date", ""))) is not None:
        about["age"] = age
    if gradings:
        about["gradings"] = gradings
    twin = f"{patient}_{'t2' if series == 't2_SPACE' else 't2_SPACE'}"
    if series != "t1" and _is_same_acquisition(row, overview.get(twin, {})):
        about["same_acquisition"] = twin
    contrast = "STIR" if series == "t2" and _is_stir(row) else _CONTRASTS[series]
    scanner = " ".join(f"{row.get('Manufacturer', '')} {row.get('ManufacturerModelName', '')}".split())
    split = _SPLITS.get(row.get("subset", "").lower())
    return SourceCase(name, patient, paths, contrast, scanner, split, about)


def load_case(raw: SourceCase) -> LoadedCase:
    """One exam in the package's own values; DatasetError when its mask holds a value that SPIDER does not use."""
    path = raw.files[1]
    image = io.read_image(raw.files[0])
    labels, warnings = label_grid.labels_on_image_grid(io.read_labels(path), image, path)
    label_grid.check_label_values(
        labels.array, _SOURCE_TABLE, path, "is it an 8-bit copy, or was it resized with interpolation?"
    )
    present = set(count_voxels(labels.array)) - {0}
    if not present:
        raise DatasetError(f"{path}: nothing is drawn in it; leave this exam out, or copy its mask again")
    own = Volume(_TO_OWN_LABEL[labels.array], labels.affine)
    partly = [
        LABEL_TABLE[value][0] for value in count_voxels(own.array) if PARTIAL_OFFSET < value < PARTIAL_OFFSET + _PARTIAL
    ]
    about = {"partly_in_view": partly} if partly else {}
    return LoadedCase(image, own, warnings=(*warnings, *_case_warnings(raw, present)), metadata=about)


def _case_warnings(raw: SourceCase, present: set[int]) -> list[str]:
    told = []
    if raw.contrast == "STIR":
        told.append(f"stir: named t2, described as {raw.metadata['SeriesDescription']}")
    graded = any(_integer_text(row.get("IVD label", "")) == "0" for row in raw.metadata.get("gradings", []))
    if graded or _DISC_OFFSET in present:
        where = "the gradings have an IVD label 0" if graded else f"the mask has a disc {_DISC_OFFSET}"
        told.append(f"counting: {where}, a level below the one counted as the lowest; L5 = 1 is a rule, not anatomy")
    if twin := raw.metadata.get("same_acquisition"):
        told.append(f"same-acquisition: {twin} has the same parameters in overview.csv")
    high = sorted(value for value in present if value != _PARTIAL and value % _PARTIAL > len(REGULAR_VERTEBRAE))
    if high:
        told.append(f"above-T1: the values {', '.join(map(str, high))}; kept without a name")
    if "new_file_name" not in raw.metadata:
        told.append("no-overview: overview.csv has no row for it")
    return told


def _read_csv(source: Path, name: str) -> list[CsvRow]:
    """The rows of a table somewhere in the folder, blanks around names and values removed; none where it lacks."""
    path = next((source / relative for relative in walk_paths(source) if Path(relative).name == name), None)
    if path is None:
        return []
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table: {error}; copy it again") from error
    return [{(key or "").strip(): (value or "").strip() for key, value in _named_columns(row)} for row in rows]


def _named_columns(row: dict[Any, Any]) -> list[tuple[str, str]]:
    """Columns of a row; what stands past the last named one is left out."""
    return [(key, value) for key, value in row.items() if isinstance(key, str) and not isinstance(value, list)]


def _is_stir(row: CsvRow) -> bool:
    return re.search(r"\b(STIR|TIRM)\b", row.get("SeriesDescription", ""), re.IGNORECASE) is not None


def _is_same_acquisition(row: CsvRow, other: CsvRow) -> bool:
    shared = [key for key in _PARAMETERS if row.get(key) and other.get(key)]
    return len(shared) >= _MIN_SHARED_PARAMETERS and all(row[key] == other[key] for key in shared)


def _integer_text(text: str) -> str:
    """A number as whole digits: "1.0" is "1"."""
    try:
        return str(int(float(text)))
    except (ValueError, OverflowError):
        return text


def _age_in_years(text: str) -> int | None:
    """Years, from a column that is called birth_date and holds an age."""
    match = re.fullmatch(r"0*(\d{1,3})(?:\.\d*)?\s*Y?", text, re.IGNORECASE)
    return int(match[1]) if match else None


IMPORTER = Importer(
    name="spider",
    label_table=LABEL_TABLE,
    citation="SPIDER: van der Graaf et al., Sci Data 11:264, 2024; Zenodo 10159290",
    licence="CC BY 4.0",
    list_cases=list_cases,
    load_case=load_case,
)
