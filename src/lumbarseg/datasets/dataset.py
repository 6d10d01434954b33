"""The prepared dataset: a folder with `dataset.json`, `images/` and `labels/`, readable by other programs."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from lumbarseg import io
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .json_files import read_json_object, with_line_number
from .label_table import (
    LabelTable,
    count_voxels,
    label_structures,
    label_table_to_json,
    parse_label_table,
    require_explained,
)

FILE_NAME = "dataset.json"
FORMAT = "lumbarseg dataset"
VERSION = 1
SPLITS = ("train", "val", "test")
AXES = "RAS"

_TEXT_FIELDS = ("patient", "contrast", "scanner", "licence", "source")
_FIELD_TYPES: dict[str, type] = {
    **dict.fromkeys(_TEXT_FIELDS, str),
    **dict.fromkeys(("geometry", "checksums", "present", "about"), dict),
    "warnings": list,
}
_TYPE_NAMES: dict[type, str] = {str: "text", dict: "an object", list: "a list"}
_KEYS = {"label_table": "table", "voxel_counts": "present", "metadata": "about"}  # field of a case: key in the file
_CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


class Geometry(TypedDict, total=False):
    """Voxels, spacing (mm) and axes of an image; empty where they are unknown."""

    shape: list[int]
    spacing: list[float]
    axes: str


@dataclass(frozen=True)
class Case:
    """One exam with its labels.

    Attributes
    ----------
    image, labels : paths of the two files
    label_table : what the values of the label map may be
    split : "train", "val" or "test"
    geometry : of the image
    checksums : SHA-256 of "image" and "labels"
    voxel_counts : voxels of each value that occurs; empty in datasets that were written without
    warnings : what the importer reported, "fault: detail"
    metadata : everything else that is known of the exam, JSON values
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
    geometry: Geometry = field(default_factory=Geometry)
    checksums: dict[str, str] = field(default_factory=dict)
    voxel_counts: dict[int, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A folder of cases and its label table; refused: exams of its source that it does not contain, with the reason."""

    folder: Path
    name: str
    label_table: LabelTable
    all_cases: tuple[Case, ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Read and check `dataset.json`; DatasetError names the file, the line and the field that is wrong."""
        path = Path(folder) / FILE_NAME
        text, values = read_json_object(path, f"a prepared dataset is a folder with {FILE_NAME} in it")
        try:
            return cls._from_json(Path(folder), values)
        except DatasetError as error:
            raise DatasetError(f"{path}: {with_line_number(str(error), text)}") from error

    @classmethod
    def _from_json(cls, folder: Path, values: dict[str, Any]) -> Dataset:
        is_known = values.get("format") == FORMAT and values.get("version") == VERSION
        _require(is_known, "format", f"not a {FORMAT} of version {VERSION}; import the data into a new folder")
        name, rows, refused = values.get("name"), values.get("cases"), values.get("refused", {})
        _require(isinstance(name, str), "name", "must be text")
        _require(isinstance(rows, list), "cases", "must be a list")
        is_table = isinstance(refused, dict) and all(isinstance(reason, str) for reason in refused.values())
        _require(is_table, "refused", "must be a table of names and reasons")
        table = parse_label_table(values.get("labels"), "labels")
        cases = tuple(_parse_case(folder, table, row, f"cases[{i}]") for i, row in enumerate(rows or ()))
        repeated = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
        _require(not repeated, "cases", f"the name {repeated[0] if repeated else ''} is used twice")
        return cls(folder, str(name), table, cases, refused)

    def cases(self, split: str | None = None) -> list[Case]:
        """Return the cases of one split or of all; DatasetError when there is no such split."""
        if split not in (None, *SPLITS):
            raise DatasetError(f"{self.folder}: {split!r} is no split; choose one of {', '.join(SPLITS)}")
        return [case for case in self.all_cases if split in (None, case.split)]


def create_dataset(folder: Path | str, name: str, label_table: Mapping[int, Iterable[str]]) -> Dataset:
    """Write an empty dataset into a folder; DatasetError when there is one already."""
    path = Path(folder) / FILE_NAME
    if path.exists():
        raise DatasetError(f"{path}: there is a dataset already; choose another folder")
    dataset = Dataset(Path(folder), name, parse_label_table(label_table_to_json(label_table), f"{path}: labels"))
    save_dataset(dataset)
    return dataset


def write_case(folder: Path | str, name: str, image: Volume, labels: Volume, metadata: Mapping[str, Any]) -> Case:
    """Write one case and add it to `dataset.json`; see `write_case_files`."""
    dataset = Dataset.open(folder)
    case = write_case_files(dataset, name, image, labels, metadata)
    add_cases(dataset.folder, [case])
    return case


def write_case_files(dataset: Dataset, name: str, image: Volume, labels: Volume, metadata: Mapping[str, Any]) -> Case:
    """Write the two files of a case, without adding it to `dataset.json`; processes may do so in parallel.

    Parameters
    ----------
    name : letters, digits, ".", "_" and "-"
    image : (I, J, K), any axes
    labels : (I, J, K) uint8 on the same grid
    metadata : patient, contrast, scanner, split, licence, source, warnings and table where known; every other key is
        kept as it is
    """
    location = f"{dataset.folder / FILE_NAME}: case {name}"
    _require(_CASE_NAME.fullmatch(name), location, "a name may hold letters, digits, '.', '_' and '-' only")
    _require(image.grid.same_as(labels.grid), location, "image and labels lie on different grids")
    image, labels = reorient(image, AXES), reorient(labels, AXES)
    row: dict[str, Any] = {"name": name, "image": f"images/{name}.nii.gz", "labels": f"labels/{name}.nii.gz"}
    row |= {key: metadata[key] for key in (*_TEXT_FIELDS, "split", "warnings", "table") if key in metadata}
    row["about"] = {key: value for key, value in metadata.items() if key not in row}
    spacing = [round(s, 6) for s in image.grid.spacing]
    row["geometry"] = {"shape": list(image.grid.shape), "spacing": spacing, "axes": AXES}
    counts = count_voxels(labels.array)
    row["table"] = label_table_to_json(row.get("table", dataset.label_table))
    row["warnings"] = list(row.get("warnings", ()))
    table = parse_label_table(row["table"], f"{location}: table")
    require_explained(counts, table, location)
    row["present"] = {str(value): count for value, count in counts.items()}
    io.write_image(Volume(_as_int16_if_exact(image.array), image.affine), dataset.folder / row["image"])
    io.write_labels(labels, dataset.folder / row["labels"], label_structures(table))
    row["checksums"] = {part: file_checksum(dataset.folder / row[part]) for part in ("image", "labels")}
    return _parse_case(dataset.folder, dataset.label_table, row, location)


def _as_int16_if_exact(array: Array) -> Array:
    """Return the same numbers as int16 where that is exact: half the bytes to compress, and faster to read."""
    if array.dtype.kind != "f" or array.size == 0 or array.min() < -(2**15) or array.max() >= 2**15:
        return array
    rounded = array.astype(np.int16)
    return rounded if np.array_equal(rounded, array) else array


def add_cases(folder: Path | str, cases: Iterable[Case], refused: Mapping[str, str] | None = None) -> Dataset:
    """Add written cases to `dataset.json` in one atomic step and return the dataset.

    A case of the same name is replaced. refused: the new table of refused exams, by default the one that is there.
    Nothing is written when nothing changes.
    """
    dataset = Dataset.open(folder)
    by_name = {case.name: case for case in (*dataset.all_cases, *cases)}
    reasons = dict(sorted((dataset.refused if refused is None else refused).items()))
    extended = replace(dataset, all_cases=tuple(by_name[name] for name in sorted(by_name)), refused=reasons)
    if extended != dataset:
        save_dataset(extended)
    return extended


def read_case(case: Case) -> tuple[Volume, Volume]:
    """Read image (float32) and labels (uint8); DatasetError when they do not match each other or the label table."""
    image, labels = io.read_image(case.image), io.read_labels(case.labels)
    _require(image.grid.same_as(labels.grid, tolerance=1e-2), str(case.labels), f"not on the grid of {case.image.name}")
    require_explained(count_voxels(labels.array), case.label_table, case.labels)
    return image, labels


def verify_checksums(case: Case) -> None:
    """Compare the files with their checksums; DatasetError names a file that changed."""
    for part, path in (("image", case.image), ("labels", case.labels)):
        if case.checksums.get(part) != file_checksum(path):
            raise DatasetError(f"{path}: changed since it was written (checksum differs); import into a new folder")


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_dataset(dataset: Dataset) -> None:
    """Write `dataset.json`, atomically; DatasetError when the metadata of a case are not JSON values."""
    values = {
        "format": FORMAT,
        "version": VERSION,
        "name": dataset.name,
        "labels": label_table_to_json(dataset.label_table),
        "cases": [_case_to_json(case, dataset) for case in dataset.all_cases],
        **({"refused": dataset.refused} if dataset.refused else {}),
    }
    path = dataset.folder / FILE_NAME
    try:
        text = json.dumps(values, indent=1)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}: the metadata of a case are not JSON values: {error}") from error
    with io.atomic_write(path) as file:
        file.write(text.encode())


def _case_to_json(case: Case, dataset: Dataset) -> dict[str, Any]:
    row = {_KEYS.get(f.name, f.name): getattr(case, f.name) for f in fields(case)}
    row |= {part: row[part].relative_to(dataset.folder).as_posix() for part in ("image", "labels")}
    row |= {"present": {str(value): count for value, count in case.voxel_counts.items()}}
    row |= {"warnings": list(case.warnings), "table": label_table_to_json(case.label_table)}
    if case.label_table == dataset.label_table:
        del row["table"]
    return row


def _require(condition: object, location: str, message: str) -> None:
    if not condition:
        raise DatasetError(f"{location}: {message}")


def _parse_case(folder: Path, label_table: LabelTable, row: Any, location: str) -> Case:
    """Return a case from its JSON object; DatasetError names the field that is wrong."""
    _require(isinstance(row, dict), location, "must be an object")
    row = {"name": "", "split": SPLITS[0], "table": None} | {key: kind() for key, kind in _FIELD_TYPES.items()} | row
    for key, kind in _FIELD_TYPES.items():
        _require(isinstance(row[key], kind), f"{location}: {key}", f"must be {_TYPE_NAMES[kind]}")
    is_name = isinstance(row["name"], str) and _CASE_NAME.fullmatch(row["name"])
    _require(is_name, f"{location}: name", "must be text of letters, digits, '.', '_' and '-'")
    _require(row["split"] in SPLITS, f"{location}: split", f"{row['split']!r} is none of {', '.join(SPLITS)}")
    is_text = all(isinstance(text, str) for text in row["warnings"])
    _require(is_text, f"{location}: warnings", "must be a list of texts")
    return Case(
        name=row["name"],
        image=_path_in_folder(folder, row.get("image"), f"{location}: image"),
        labels=_path_in_folder(folder, row.get("labels"), f"{location}: labels"),
        label_table=parse_label_table(row["table"], f"{location}: table") if row["table"] is not None else label_table,
        voxel_counts=_parse_voxel_counts(row["present"], f"{location}: present"),
        warnings=tuple(row["warnings"]),
        metadata=row["about"],
        **{key: row[key] for key in (*_TEXT_FIELDS, "split", "geometry", "checksums")},
    )


def is_relative_inside(relative: object) -> bool:
    """Return whether a path is relative and does not lead out of its folder."""
    return isinstance(relative, str) and not Path(relative).is_absolute() and ".." not in Path(relative).parts


def _path_in_folder(folder: Path, relative: Any, location: str) -> Path:
    """Return the path of a file that must exist inside the folder."""
    _require(is_relative_inside(relative), location, "must be a path inside the dataset's folder")
    _require((folder / relative).is_file(), location, f"{folder / relative} does not exist")
    return folder / relative


def _parse_voxel_counts(values: dict[str, Any], location: str) -> dict[int, int]:
    for key, count in values.items():
        is_count = key.isdecimal() and int(key) <= 255 and isinstance(count, int) and count >= 0
        _require(is_count, location, f"{key!r}: {count!r} is no voxel value with a number of voxels")
    return {int(key): count for key, count in values.items()}
