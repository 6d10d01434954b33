"""The prepared dataset: a folder with `dataset.json`, `images/` and `labels/`, readable by other programs.

The label table says for each voxel value which structures it may be: {1: ("body", "arch")} is a whole vertebra,
{0: ("background", "sacrum")} a background in which nobody drew the sacrum, {9: ("unknown",)} anything at all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import kinds_from_names
from lumbarseg.errors import DatasetError, LumbarsegError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .json_lines import with_line_number
from .label_structures import label_structures

FORMAT = "lumbarseg dataset"
VERSION = 1
SPLITS = ("train", "val", "test")
AXES = "RAS"

LabelTable = dict[int, tuple[str, ...]]

_TEXT_FIELDS = ("patient", "contrast", "scanner", "licence", "source")
_CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


@dataclass(frozen=True)
class Case:
    """One exam with its labels. image, labels: paths; table: what its voxel values may be; about: everything else.

    present: voxels of each value that occurs; empty in datasets that were written without.
    """

    name: str
    image: Path
    labels: Path
    label_table: LabelTable
    patient: str = ""
    contrast: str = ""
    scanner: str = ""
    split: str = "train"
    licence: str = ""
    source: str = ""
    geometry: dict[str, Any] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    voxel_counts: dict[int, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A folder of cases and its label table. refused: exams of its source that are not in it, name to reason."""

    folder: Path
    name: str
    label_table: LabelTable
    all_cases: tuple[Case, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Read and check `dataset.json`; DatasetError names the file, the line and the field that is wrong."""
        path = Path(folder) / "dataset.json"
        text, values = _load_json(path)
        try:
            return cls._from_json(Path(folder), values)
        except DatasetError as error:
            raise DatasetError(f"{path}: {with_line_number(str(error).removeprefix(f'{path}: '), text)}") from error

    @classmethod
    def _from_json(cls, folder: Path, values: dict[str, Any]) -> Dataset:
        path = folder / "dataset.json"
        if values.get("format") != FORMAT or values.get("version") != VERSION:
            raise DatasetError(f"{path}: format: not a {FORMAT} of version {VERSION}; import the data again")
        name = values.get("name")
        if not isinstance(name, str):
            raise DatasetError(f"{path}: name: must be text")
        table = parse_label_table(values.get("labels"), f"{path}: labels")
        rows = values.get("cases")
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: cases: must be a list")
        cases = tuple(_parse_case(folder, table, row, f"{path}: cases[{i}]") for i, row in enumerate(rows))
        twice = [name for name, times in Counter(case.name for case in cases).items() if times > 1]
        if twice:
            raise DatasetError(f"{path}: cases: the name {twice[0]} is used twice")
        refused = values.get("refused", {})
        if not isinstance(refused, dict) or not all(isinstance(reason, str) for reason in refused.values()):
            raise DatasetError(f"{path}: refused: must be a table of names to reasons")
        return cls(folder, name, table, cases, refused)

    def cases(self, split: str | None = None) -> list[Case]:
        """Its cases, of one split or of all."""
        if split is not None and split not in SPLITS:
            raise DatasetError(f"{self.folder}: {split!r} is no split; choose one of {', '.join(SPLITS)}")
        return [case for case in self.all_cases if split in (None, case.split)]


def create_dataset(folder: Path | str, name: str, label_table: Mapping[int, Iterable[str]]) -> Dataset:
    """An empty dataset in a folder that holds none yet."""
    dataset = plan_dataset(folder, name, label_table)
    save_dataset(dataset)
    return dataset


def plan_dataset(folder: Path | str, name: str, label_table: Mapping[int, Iterable[str]]) -> Dataset:
    """As `create`, but nothing is written before `save`."""
    folder = Path(folder)
    path = folder / "dataset.json"
    if path.exists():
        raise DatasetError(f"{path}: there is a dataset already; choose another folder")
    checked = parse_label_table({str(v): list(names) for v, names in label_table.items()}, f"{path}: labels")
    return Dataset(folder, name, checked)


def write_case(folder: Path | str, name: str, image: Volume, labels: Volume, metadata: Mapping[str, Any]) -> Case:
    """Store one case and enter it in `dataset.json`; the files of other cases are not touched.

    image: (I, J, K) any axes; labels: (I, J, K) uint8 on the same grid; about: patient, contrast, scanner, split,
    licence, source, warnings, table where they are known; every other key is kept as it is.
    """
    dataset = Dataset.open(folder)
    case = write_case_files(dataset, name, image, labels, metadata)
    add_cases(dataset.folder, [case])
    return case


def write_case_files(dataset: Dataset, name: str, image: Volume, labels: Volume, metadata: Mapping[str, Any]) -> Case:
    """Write the two files of a case without entering it in `dataset.json`; many processes may do so at once."""
    from lumbarseg import io

    where = f"{dataset.folder / 'dataset.json'}: case {name}"
    if not _CASE_NAME.fullmatch(name):
        raise DatasetError(f"{where}: a name may hold letters, digits, '.', '_' and '-' only")
    if not image.grid.same_as(labels.grid):
        raise DatasetError(f"{where}: image and labels lie on different grids")
    image, labels = reorient(image, AXES), reorient(labels, AXES)
    row = {
        "name": name,
        "image": f"images/{name}.nii.gz",
        "labels": f"labels/{name}.nii.gz",
        **_fields_from_metadata(metadata),
    }
    row["about"] = {k: v for k, v in metadata.items() if k not in row}
    row["geometry"] = {
        "shape": list(image.grid.shape),
        "spacing": [round(s, 6) for s in image.grid.spacing],
        "axes": AXES,
    }
    present = count_voxels(labels.array)
    table = _case_table(row, dataset.label_table, where)
    _check_values(present, table, where)
    row["present"] = {str(value): count for value, count in present.items()}
    io.write_image(Volume(_as_int16_if_exact(image.array), image.affine), dataset.folder / row["image"])
    io.write_labels(labels, dataset.folder / row["labels"], label_structures(table))
    row["checksums"] = {part: file_checksum(dataset.folder / row[part]) for part in ("image", "labels")}
    return _parse_case(dataset.folder, dataset.label_table, row, where)


def add_cases(folder: Path | str, cases: Iterable[Case]) -> Dataset:
    """Enter stored cases in `dataset.json`, in one atomic step; a case of the same name is replaced."""
    return register_cases(folder, cases)


def register_cases(folder: Path | str, cases: Iterable[Case], refused: Mapping[str, str] | None = None) -> Dataset:
    """As `add_cases`; refused: what to note instead of the exams refused so far. Nothing is written for no change."""
    dataset = Dataset.open(folder)
    rows = {case.name: case for case in (*dataset.all_cases, *cases)}
    reasons = dict(sorted((dataset.refused if refused is None else refused).items()))
    grown = replace(dataset, all_cases=tuple(rows[name] for name in sorted(rows)), refused=reasons)
    if grown != dataset:
        save_dataset(grown)
    return grown


def _as_int16_if_exact(array: np.ndarray) -> np.ndarray:
    """The same numbers as int16 where that holds them exactly: half the bytes to pack, and quicker to unpack."""
    if array.dtype.kind != "f" or array.size == 0 or array.min() < -(2**15) or array.max() >= 2**15:
        return array
    whole = array.astype(np.int16)
    return whole if np.array_equal(whole, array) else array


def read_case(case: Case) -> tuple[Volume, Volume]:
    """Image (float32) and labels (uint8) of a case; DatasetError when they do not fit each other or the table."""
    from lumbarseg import io

    image, labels = io.read_image(case.image), io.read_labels(case.labels)
    if not image.grid.same_as(labels.grid, tolerance=1e-2):
        raise DatasetError(f"{case.labels}: not on the grid of {case.image.name}")
    _check_values(count_voxels(labels.array), case.label_table, str(case.labels))
    return image, labels


def count_voxels(labels: np.ndarray) -> dict[int, int]:
    """How many voxels each value has that occurs; labels: any shape, uint8."""
    counts = np.bincount(labels.ravel(order="K"), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def verify_checksums(case: Case) -> None:
    """Compare the files with their checksums; DatasetError names the one that changed."""
    for part, path in (("image", case.image), ("labels", case.labels)):
        if case.checksums.get(part) != file_checksum(path):
            raise DatasetError(f"{path}: changed since it was written (checksum differs); import the case again")


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse_label_table(values: Any, location: str) -> LabelTable:
    """A label table from JSON values, value 0 included; `where` opens the error's message."""
    if not isinstance(values, Mapping) or not values:
        raise DatasetError(f"{location}: must be a table of voxel value to names")
    table: LabelTable = {}
    for key, names in values.items():
        if not str(key).isdecimal() or int(key) > 255:
            raise DatasetError(f"{location}: {key!r} is no voxel value from 0 to 255")
        if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) for n in names):
            raise DatasetError(f"{location}[{key}]: must be a list of names")
        try:
            kinds_from_names(names)
        except LumbarsegError as error:
            raise DatasetError(f"{location}[{key}]: {error}") from error
        table[int(key)] = tuple(names)
    if 0 not in table:
        raise DatasetError(f"{location}: says nothing about the value 0; write what the unlabelled voxels may be")
    return dict(sorted(table.items()))


def _load_json(path: Path) -> tuple[str, dict[str, Any]]:
    """Its text, and the values in it."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        raise DatasetError(f"{path}: not found; a prepared dataset is a folder with this file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: line {error.lineno}: no JSON: {error.msg}, column {error.colno}") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: no JSON of a dataset: nested too deeply") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{path}: must hold one JSON object")
    return text, values


def _parse_case(folder: Path, label_table: LabelTable, row: Any, location: str) -> Case:
    if not isinstance(row, dict):
        raise DatasetError(f"{location}: must be an object")
    name = row.get("name")
    if not isinstance(name, str) or not _CASE_NAME.fullmatch(name):
        raise DatasetError(f"{location}: name: must be text of letters, digits, '.', '_' and '-'")
    for key in _TEXT_FIELDS:
        if not isinstance(row.get(key, ""), str):
            raise DatasetError(f"{location}: {key}: must be text")
    for key in ("geometry", "checksums", "about"):
        if not isinstance(row.get(key, {}), dict):
            raise DatasetError(f"{location}: {key}: must be an object")
    if row.get("split", "train") not in SPLITS:
        raise DatasetError(f"{location}: split: {row['split']!r} is none of {', '.join(SPLITS)}")
    warnings = row.get("warnings", [])
    if not isinstance(warnings, list) or not all(isinstance(w, str) for w in warnings):
        raise DatasetError(f"{location}: warnings: must be a list of texts")
    return Case(
        name,
        _path_in_folder(folder, row.get("image"), f"{location}: image"),
        _path_in_folder(folder, row.get("labels"), f"{location}: labels"),
        _case_table(row, label_table, location),
        split=row.get("split", "train"),
        geometry=row.get("geometry", {}),
        checksums=row.get("checksums", {}),
        voxel_counts=_parse_voxel_counts(row.get("present", {}), f"{location}: present"),
        warnings=tuple(warnings),
        metadata=row.get("about", {}),
        **{key: row.get(key, "") for key in _TEXT_FIELDS},
    )


def _path_in_folder(folder: Path, relative: Any, location: str) -> Path:
    """The path of a file that must exist in the folder and nowhere else."""
    if not isinstance(relative, str) or Path(relative).is_absolute() or ".." in Path(relative).parts:
        raise DatasetError(f"{location}: must be a path inside the dataset's folder")
    if not (folder / relative).is_file():
        raise DatasetError(f"{location}: {folder / relative} does not exist")
    return folder / relative


def _case_table(row: Mapping[str, Any], table: LabelTable, location: str) -> LabelTable:
    return parse_label_table(row["table"], f"{location}: table") if "table" in row else table


def _parse_voxel_counts(values: Any, location: str) -> dict[int, int]:
    """Voxels per value from JSON values."""
    if not isinstance(values, dict):
        raise DatasetError(f"{location}: must be an object")
    for key, count in values.items():
        if not key.isdecimal() or int(key) > 255 or not isinstance(count, int) or count < 0:
            raise DatasetError(f"{location}: {key!r}: {count!r} is no voxel value with a count of voxels")
    return {int(key): count for key, count in values.items()}


def _fields_from_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `about` that have a field of their own."""
    known = {key: metadata[key] for key in (*_TEXT_FIELDS, "split", "warnings", "table") if key in metadata}
    if "warnings" in known:
        known["warnings"] = list(known["warnings"])
    if "table" in known:
        known["table"] = {str(value): list(names) for value, names in known["table"].items()}
    return known


def _check_values(values: Iterable[int], label_table: LabelTable, location: str) -> None:
    strange = sorted(set(values) - set(label_table))
    if strange:
        raise DatasetError(f"{location}: holds the value {strange[0]}, which the label table does not explain")


def _case_to_json(case: Case, dataset: Dataset) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": case.name,
        "image": case.image.relative_to(dataset.folder).as_posix(),
        "labels": case.labels.relative_to(dataset.folder).as_posix(),
        **{key: getattr(case, key) for key in _TEXT_FIELDS},
        "split": case.split,
        "geometry": case.geometry,
        "checksums": case.checksums,
        "present": {str(value): count for value, count in case.voxel_counts.items()},
        "warnings": list(case.warnings),
        "about": case.metadata,
    }
    if case.label_table != dataset.label_table:
        row["table"] = {str(value): list(names) for value, names in case.label_table.items()}
    return row


def save_dataset(dataset: Dataset) -> None:
    """Write a dataset's `dataset.json` beside its place, then move it there."""
    from lumbarseg import io

    values = {
        "format": FORMAT,
        "version": VERSION,
        "name": dataset.name,
        "labels": {str(value): list(names) for value, names in dataset.label_table.items()},
        "cases": [_case_to_json(case, dataset) for case in dataset.all_cases],
    }
    if dataset.refused:
        values["refused"] = dataset.refused
    path = dataset.folder / "dataset.json"
    try:
        text = json.dumps(values, indent=1)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}: what is said about a case is no JSON: {error}") from error
    with io.atomic_write(path) as file:
        file.write(text.encode())
