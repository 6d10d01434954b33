"""MONAI Label's local datastore: a folder of exams, datastore_v2.json, and labels under labels/TAG.

The names stored beside a label say what its values mean, never their numbers: 3D Slicer numbers the segments that it
saves 1..n in the order of its scene.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lumbarseg.anatomy import STRUCTURES
from lumbarseg.errors import DatasetError

from .dataset import is_relative_inside
from .json_files import read_json_object

DATASTORE_FILE = "datastore_v2.json"
FINAL, ORIGINAL = "final", "original"
"""Tags of a finished label, and of a model's prediction."""
OWN_LABELS = "declared"
"""Content of `info["values"]` where a label was stored with the package's own label values."""

_LABELS_FOLDER = "labels"
_SCRIBBLE_NAMES = ("foreground_scribbles", "background_scribbles")
_SHIFTED_WARNING = "shifted-idx: {}: the numbers in label_info are not those in the file; names were taken in order"

LabelNames = dict[int, str]


@dataclass(frozen=True)
class StoredLabel:
    """A label of an exam; info: what the client and the server stored beside it."""

    path: Path
    info: Mapping[str, Any]

    @property
    def model(self) -> str:
        """Return the model that predicted or preceded this label, "" where it is unknown."""
        return str(self.info.get("model") or "")

    @property
    def model_digest(self) -> str:
        """Return the SHA-256 of the file of the model that made this label, as lumbarseg serve stores it."""
        params = self.info.get("params")
        return str((params if isinstance(params, dict) else self.info).get("digest") or "")

    @property
    def author(self) -> str:
        """Return the user who saved it, or at least the program."""
        return str(self.info.get("user") or self.info.get("annotator") or self.info.get("client_id") or "")

    @property
    def timestamp(self) -> int:
        """Return when it was saved, seconds since 1970; 0 where it is unknown."""
        value = self.info.get("ts")
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0

    @property
    def saved_at(self) -> str:
        """Return when it was saved, ISO 8601 in UTC; "" where it is unknown."""
        return datetime.fromtimestamp(self.timestamp, UTC).isoformat() if self.timestamp else ""


@dataclass(frozen=True)
class DatastoreExam:
    """An exam of the datastore; labels: by tag."""

    name: str
    image: Path
    info: Mapping[str, Any]
    labels: Mapping[str, StoredLabel] = field(default_factory=dict)


def list_exams(studies: Path) -> tuple[list[DatastoreExam], list[tuple[str, str]]]:
    """Return the exams of a datastore, and (name, reason) of those whose files are missing or outside of it.

    DatasetError when the folder holds no datastore, or its table is malformed.
    """
    path = studies / DATASTORE_FILE
    _, values = read_json_object(path, "give the folder that MONAI Label serves")
    if not isinstance(values.get("objects"), dict):
        raise DatasetError(f"{path}: objects: must be a table of exams; is this a datastore of MONAI Label?")
    folders = {"images_dir": values.get("images_dir", ""), "labels_dir": values.get("labels_dir", _LABELS_FOLDER)}
    for key, folder in folders.items():
        if not is_relative_inside(folder):
            raise DatasetError(f"{path}: {key}: must be a folder inside the studies")
    exams, refused = [], []
    for name, entry in values["objects"].items():
        try:
            exams.append(_parse_exam(studies, name, entry, *folders.values()))
        except DatasetError as error:
            refused.append((name, str(error)))
    reason = f"a final label that {DATASTORE_FILE} does not list; save it through the server, which stores its names"
    unlisted = _unlisted_labels(studies / folders["labels_dir"] / FINAL, values["objects"])
    refused += [(file.name.partition(".")[0], f"{file.name}: {reason}") for file in unlisted]
    return exams, refused


def _parse_exam(studies: Path, name: str, entry: Any, images: str, labels: str) -> DatastoreExam:
    image, by_tag = (entry.get("image"), entry.get("labels", {})) if isinstance(entry, dict) else (None, None)
    if not (isinstance(image, dict) and isinstance(by_tag, dict)):
        raise DatasetError(f"{DATASTORE_FILE}: objects: {name}: must have an image and a table of labels")
    stored = {}
    for tag, label in by_tag.items():
        if not isinstance(label, dict):
            raise DatasetError(f"{DATASTORE_FILE}: objects: {name}: must have an image and a table of labels")
        is_stored = (studies / labels / tag / f"{name}{label.get('ext', '')}").is_file()
        if tag != ORIGINAL or is_stored:
            stored[tag] = StoredLabel(_existing_file(studies, f"{labels}/{tag}", name, label), _info_of(label))
    return DatastoreExam(name, _existing_file(studies, images, name, image), _info_of(image), stored)


def _existing_file(studies: Path, folder: str, name: str, entry: Mapping[str, Any]) -> Path:
    """Return the file of an image or label; DatasetError when it is missing or outside of the studies."""
    relative = f"{folder}/{name}{entry.get('ext', '')}".lstrip("/")
    if not is_relative_inside(relative):
        raise DatasetError(f"{DATASTORE_FILE}: {relative}: leads out of the studies folder")
    if not (studies / relative).is_file():
        raise DatasetError(f"{relative}: missing, though {DATASTORE_FILE} lists it; put it back, or remove the exam")
    return studies / relative


def _info_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    info = entry.get("info", {})
    return info if isinstance(info, dict) else {}


def _unlisted_labels(folder: Path, objects: Mapping[str, Any]) -> list[Path]:
    """Return the files of final labels that the table does not list."""
    files = sorted(folder.glob("[!.]*")) if folder.is_dir() else []
    names = [
        name for name, entry in objects.items() if isinstance(entry, dict) and FINAL in (entry.get("labels") or {})
    ]
    return [file for file in files if not any(file.name.startswith(f"{name}.") for name in names)]


def names_of_values(
    label: StoredLabel, present_values: Iterable[int], names_in_file: LabelNames
) -> tuple[LabelNames, str]:
    """Return what the values of a label map mean, and a warning, if any; DatasetError when that is not certain.

    The names that the client sent (`label_info`) are used where the file has none. They count by their position, as 3D
    Slicer numbers what it saves; its `idx` is wrong where other segments came before, and is used only where positions
    cannot be meant.

    Parameters
    ----------
    present_values : values that occur in the map
    names_in_file : names of values that the file itself holds
    """
    values = {int(value) for value in present_values} - {0}
    if label.info.get("values") == OWN_LABELS:
        return _require_names({s.label: s.name for s in STRUCTURES}, values, label), ""
    if names_in_file:
        return _require_names(names_in_file, values, label), ""
    rows = _label_info_rows(label)
    if rows is None:
        raise DatasetError(
            f"{label.path.name}: {DATASTORE_FILE} has no names of its values (no label_info); "
            "save it again with names, or explain the values with --table"
        )
    return _names_by_position_or_number(rows, values, label)


def _names_by_position_or_number(
    rows: list[tuple[str, int]], values: set[int], label: StoredLabel
) -> tuple[LabelNames, str]:
    """Return names by position, or by `idx`."""
    by_position = {position: name for position, (name, _) in enumerate(rows, start=1)}
    by_number = {number: name for name, number in rows}
    fits_position = values <= set(by_position)
    fits_number = values <= set(by_number) and len(by_number) == len(rows)
    if not fits_position:
        return by_number if fits_number else _require_names(by_position, values, label), ""
    different = [value for value in values if fits_number and by_position[value] != by_number[value]]
    if different and values != set(by_position):  # with all positions in use, 3D Slicer has numbered them
        value = min(different)
        readings = f"{by_position[value]} by its position and {by_number[value]} by its idx"
        raise DatasetError(f"{label.path.name}: the value {value} is {readings} in label_info; save it again")
    return by_position, _SHIFTED_WARNING.format(label.path.name) if different or not fits_number else ""


def _label_info_rows(label: StoredLabel) -> list[tuple[str, int]] | None:
    """Return (name, value) for each entry of `label_info`, scribbles left out; None without label information.

    A model's prediction has `label_names` instead, {name: value}.
    """
    params = label.info.get("params")
    names = params.get("label_names") if isinstance(params, dict) else None
    info = label.info.get("label_info")
    if info is None and isinstance(names, dict):
        info = [{"name": name, "idx": number} for name, number in names.items()]
    if info is None:
        return None
    rows = parse_label_info(info, label.path.name)
    return [row for row in rows if row[0] not in _SCRIBBLE_NAMES and row != ("background", 0)]


def parse_label_info(info: Any, name: str) -> list[tuple[str, int]]:
    """Return names and numbers of the rows of `label_info`; DatasetError, with the label's name, when malformed."""
    if not isinstance(info, list) or not all(isinstance(r, dict) and isinstance(r.get("name"), str) for r in info):
        raise DatasetError(f'{name}: label_info must be a list of {{"name": ..., "idx": ...}}')
    rows = [(row["name"], row.get("idx", position)) for position, row in enumerate(info, start=1)]
    if not all(type(number) is int for _, number in rows):
        raise DatasetError(f"{name}: label_info: idx must be a whole number")
    return rows


def _require_names(names: LabelNames, values: set[int], label: StoredLabel) -> LabelNames:
    unnamed = sorted(values - set(names))
    if unnamed:
        raise DatasetError(f"{label.path.name}: holds the value {unnamed[0]}, which no name explains; save it again")
    return names
