"""SPIDER (Zenodo 10159290): images and masks as .mha, counted from the lowest vertebra, with two CSV tables."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

from lumbarseg.anatomy import Kind
from lumbarseg.errors import DatasetError

from ..label_table import count_voxels
from ..schemes import REGULAR_VERTEBRAE, SCHEMES
from . import source_labels
from .file_pairs import clean_case_name, find_pairs, walk_paths
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .source_labels import PARTIAL_OFFSET, load_own_labels, to_own_labels

_PARTIAL, _DISC_OFFSET = 100, 200  # added to a vertebra's count: partly in view, and the disc below it
_SOURCE_TABLE = {**SCHEMES["spider"], _DISC_OFFSET: (Kind.DISC.value,)}  # 200: a disc below the lowest that is counted
LABEL_TABLE, _TO_OWN_LABEL = to_own_labels(_SOURCE_TABLE)
CITATION = "SPIDER: van der Graaf et al., Sci Data 11:264, 2024; Zenodo 10159290"
LICENCE = "CC BY 4.0"
KNOWN_FAULTS = {
    **source_labels.KNOWN_FAULTS,
    "stir": "a series called T2 that is STIR, as its description says; its contrast was set to STIR",
    "counting": "there is a level below the one counted as the lowest; names were counted and may be one level off",
    "same-acquisition": "two series of a patient are one acquisition, as their parameters say",
    "above-T1": "counts that reach above T1; such vertebrae and discs are kept without a name",
    "no-overview": "overview.csv has no row for this exam: no scanner, no official split",
}

_IMAGES, _MASKS = "**/images/{name}.mha", "**/masks/{name}.mha"
_FILE_NAME = re.compile(r"(\d+)_(t1|t2|t2_SPACE)")
_CONTRASTS = {"t1": "T1", "t2": "T2", "t2_SPACE": "SPACE"}
_SPLITS = {"training": "train", "validation": "val"}
_PARAMETERS = (
    "EchoTime", "RepetitionTime", "FlipAngle", "SliceThickness", "PixelSpacing", "MRAcquisitionType",
    "SeriesDescription", "SequenceName", "EchoTrainLength",
)  # fmt: skip
_MIN_SHARED_PARAMETERS = 4  # parameters that two series must share to be one acquisition

CsvRow = dict[str, str]


def list_cases(source: Path) -> SourceListing:
    """List the pairs images/NAME.mha and masks/NAME.mha, also in images/images/, with the entries of the two tables."""
    not_found = "holds no images/1_t1.mha with masks/1_t1.mha; give the folder with the files of Zenodo 10159290"
    pairs, refused = find_pairs(source, _IMAGES, _MASKS, not_found)
    overview = {row.get("new_file_name", ""): row for row in _read_csv(source, "overview.csv")}
    gradings: dict[str, list[CsvRow]] = {}
    for row in _read_csv(source, "radiological_gradings.csv"):
        gradings.setdefault(_integer_text(row.get("Patient", "")), []).append(row)
    cases = []
    for name, paths in pairs.items():
        if match := _FILE_NAME.fullmatch(name):
            cases.append(_source_case(match, paths, overview, gradings.get(match[1])))
        else:
            reason = f"{paths[0]}: a name of SPIDER looks like 1_t1, 1_t2 or 1_t2_SPACE; rename it"
            refused.append((clean_case_name(name), reason))
    cases.sort(key=lambda case: (int(case.patient), case.name))
    return SourceListing(tuple(cases), tuple(refused))


def _source_case(
    name: re.Match[str], paths: tuple[Path, Path], overview: dict[str, CsvRow], gradings: list[CsvRow] | None
) -> SourceCase:
    """Return a case with its row of overview.csv, the age, its gradings, and a series of the same acquisition."""
    row = overview.get(name[0], {})
    metadata: dict[str, object] = {k: text for k, text in row.items() if text and k not in ("birth_date", "subset")}
    # years, from a column that is called birth_date and holds an age
    if age := re.fullmatch(r"0*(\d{1,3})(?:\.\d*)?\s*Y?", row.get("birth_date", ""), re.IGNORECASE):
        metadata["age"] = int(age[1])
    other = f"{name[1]}_{'t2' if name[2] == 't2_SPACE' else 't2_SPACE'}"
    if name[2] != "t1" and _is_same_acquisition(row, overview.get(other, {})):
        metadata["same_acquisition"] = other
    if gradings:
        metadata["gradings"] = gradings
    is_stir = re.search(r"\b(STIR|TIRM)\b", row.get("SeriesDescription", ""), re.IGNORECASE) is not None
    contrast = "STIR" if name[2] == "t2" and is_stir else _CONTRASTS[name[2]]
    scanner = " ".join(f"{row.get('Manufacturer', '')} {row.get('ManufacturerModelName', '')}".split())
    split = _SPLITS.get(row.get("subset", "").lower())
    return SourceCase(name[0], name[1], paths, contrast, scanner, split, metadata)


def load_case(case: SourceCase) -> LoadedCase:
    """Load one exam in the package's own labels; DatasetError when its mask holds a value that SPIDER does not use."""
    suggestion = "is it an 8-bit copy, or was it resized with interpolation?"
    loaded, source_labels = load_own_labels(case, _SOURCE_TABLE, _TO_OWN_LABEL, suggestion)
    partial_values = range(PARTIAL_OFFSET + 1, PARTIAL_OFFSET + _PARTIAL)
    partly = [LABEL_TABLE[value][0] for value in count_voxels(loaded.labels.array) if value in partial_values]
    warnings = (*loaded.warnings, *_case_warnings(case, set(count_voxels(source_labels.array)) - {0}))
    return replace(loaded, warnings=warnings, metadata={"partly_in_view": partly} if partly else {})


def _case_warnings(case: SourceCase, present: set[int]) -> list[str]:
    warnings = []
    if case.contrast == "STIR":
        warnings.append(f"stir: named t2, described as {case.metadata['SeriesDescription']}")
    is_graded = any(_integer_text(row.get("IVD label", "")) == "0" for row in case.metadata.get("gradings", []))
    if is_graded or _DISC_OFFSET in present:
        reason = "the gradings have an IVD label 0" if is_graded else f"the mask has a disc {_DISC_OFFSET}"
        warnings.append(
            f"counting: {reason}, a level below the one counted as the lowest; L5 = 1 is a rule, not anatomy"
        )
    if other := case.metadata.get("same_acquisition"):
        warnings.append(f"same-acquisition: {other} has the same parameters in overview.csv")
    high = sorted(value for value in present if value != _PARTIAL and value % _PARTIAL > len(REGULAR_VERTEBRAE))
    if high:
        warnings.append(f"above-T1: the values {', '.join(map(str, high))}; kept without a name")
    if "new_file_name" not in case.metadata:
        warnings.append("no-overview: overview.csv has no row for it")
    return warnings


def _read_csv(source: Path, name: str) -> list[CsvRow]:
    """Read a table somewhere in the folder, without blanks around names and values; [] where there is none."""
    path = next((source / relative for relative in walk_paths(source) if Path(relative).name == name), None)
    if path is None:
        return []
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file, restkey="", restval=""))
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table: {error}; copy it again") from error
    return [{key.strip(): value.strip() for key, value in row.items() if key} for row in rows]


def _is_same_acquisition(row: CsvRow, other: CsvRow) -> bool:
    shared = [key for key in _PARAMETERS if row.get(key) and other.get(key)]
    return len(shared) >= _MIN_SHARED_PARAMETERS and all(row[key] == other[key] for key in shared)


def _integer_text(text: str) -> str:
    """Return a number as whole digits: "1.0" is "1"."""
    try:
        return str(int(float(text)))
    except (ValueError, OverflowError):
        return text


IMPORTER = Importer("spider", LABEL_TABLE, CITATION, LICENCE, list_cases, load_case, KNOWN_FAULTS)
