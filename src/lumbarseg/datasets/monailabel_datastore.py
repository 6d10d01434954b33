"""MONAI Label's local datastore: a folder of exams, datastore_v2.json, and labels under labels/TAG.

A label's values mean what the names beside it say, never what their numbers are elsewhere: 3D Slicer numbers the
segments that it saves 1..n in the order of its scene, whatever they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lumbarseg.anatomy import STRUCTURES
from lumbarseg.errors import DatasetError

DATASTORE_FILE = "datastore_v2.json"
FINAL, ORIGINAL = "final", "original"
"""Tags of a person's finished label, and of a model's answer."""
OWN_LABELS = "declared"
"""What `info["values"]` says where a label was stored in the values of the table of structures."""

_SCRIBBLE_NAMES = ("foreground_scribbles", "background_scribbles")
_BACKGROUND = "background"
LabelNames = dict[int, str]


@dataclass(frozen=True)
class StoredLabel:
    """A label of an exam. info: what the client and the server noted beside it."""

    path: Path
    info: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model that was answered with, or corrected; "" where nobody said so."""
        return str(self.info.get("model") or "")

    @property
    def model_digest(self) -> str:
        """Of that model's file, as our server notes it."""
        said = self.info.get("params")
        return str((said if isinstance(said, dict) else self.info).get("digest") or "")

    @property
    def author(self) -> str:
        """Who saved it: the user, or at least the program that was used."""
        return str(self.info.get("user") or self.info.get("annotator") or self.info.get("client_id") or "")

    @property
    def timestamp(self) -> int:
        """When it was saved, since 1970; 0 where nobody said so."""
        value = self.info.get("ts")
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0

    @property
    def saved_at(self) -> str:
        """When it was saved, as text with the time zone UTC; "" where nobody said so."""
        return datetime.fromtimestamp(self.timestamp, UTC).isoformat() if self.timestamp else ""


@dataclass(frozen=True)
class DatastoreExam:
    """An exam of the datastore. labels: by tag."""

    name: str
    image: Path
    info: Mapping[str, Any]
    labels: Mapping[str, StoredLabel] = field(default_factory=dict)


def list_exams(studies: Path) -> tuple[list[DatastoreExam], list[tuple[str, str]]]:
    """The exams that a datastore knows, and (name, reason) of those whose files are not there or lie outside of it.

    DatasetError when the folder holds no datastore, or its table is malformed.
    """
    path = studies / DATASTORE_FILE
    values = _load_table(path)
    images, labels = (
        _folder_setting(values, key, otherwise, path) for key, otherwise in (("images_dir", ""), _LABELS_FOLDER)
    )
    found, refused = [], []
    for name, row in values["objects"].items():
        try:
            found.append(_parse_exam(studies, name, row, images, labels))
        except DatasetError as error:
            refused.append((name, str(error)))
    strays = _unlisted_labels(studies / labels / FINAL, values["objects"])
    return found, [*refused, *((file.name.partition(".")[0], _unlisted_reason(file)) for file in strays)]


_LABELS_FOLDER = ("labels_dir", "labels")


def _load_table(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{path.parent}: holds no {DATASTORE_FILE}; give the folder that MONAI Label serves"
        ) from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: no table of a datastore: {error}") from error
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: line {error.lineno}: no JSON: {error.msg}; is the server writing it?") from error
    if not isinstance(values, dict) or not isinstance(values.get("objects"), dict):
        raise DatasetError(f"{path}: objects: must be a table of exams; is this a datastore of MONAI Label?")
    return values


def _folder_setting(values: Mapping[str, Any], key: str, otherwise: str, path: Path) -> str:
    folder = values.get(key, otherwise)
    if not isinstance(folder, str) or not _is_relative_inside(folder):
        raise DatasetError(f"{path}: {key}: must be a folder inside the studies")
    return folder


def _parse_exam(studies: Path, name: str, row: Any, images: str, labels: str) -> DatastoreExam:
    image = row.get("image") if isinstance(row, dict) else None
    drawn = row.get("labels", {}) if isinstance(row, dict) else None
    if (
        not isinstance(image, dict)
        or not isinstance(drawn, dict)
        or not all(isinstance(d, dict) for d in drawn.values())
    ):
        raise DatasetError(f"{DATASTORE_FILE}: objects: {name}: must have an image and a table of labels")
    where = _existing_file(studies, images, name, image)
    return DatastoreExam(
        name,
        where,
        _info_of(image),
        {
            tag: StoredLabel(_existing_file(studies, f"{labels}/{tag}", name, one), _info_of(one))
            for tag, one in drawn.items()
            if tag != ORIGINAL or (studies / labels / tag / f"{name}{one.get('ext', '')}").is_file()
        },
    )


def _existing_file(studies: Path, folder: str, name: str, row: Mapping[str, Any]) -> Path:
    """The file of an image or label; DatasetError when it is not there or not within the studies."""
    relative = f"{folder}/{name}{row.get('ext', '')}".lstrip("/")
    if not _is_relative_inside(relative):
        raise DatasetError(f"{DATASTORE_FILE}: {relative}: leads out of the studies folder")
    if not (studies / relative).is_file():
        raise DatasetError(
            f"{relative}: not there, though {DATASTORE_FILE} tells of it; put it back, or remove the exam"
        )
    return studies / relative


def _info_of(row: Mapping[str, Any]) -> dict[str, Any]:
    info = row.get("info", {})
    return info if isinstance(info, dict) else {}


def _is_relative_inside(relative: str) -> bool:
    return not Path(relative).is_absolute() and ".." not in Path(relative).parts


def _unlisted_labels(folder: Path, objects: Mapping[str, Any]) -> list[Path]:
    """Files of final labels of which the table does not tell."""
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    names = {name for name, row in objects.items() if isinstance(row, dict) and FINAL in (row.get("labels") or {})}
    return [file for file in found if file.name[0] != "." and not any(file.name.startswith(f"{n}.") for n in names)]


def _unlisted_reason(file: Path) -> str:
    return f"{file.name}: a final label that {DATASTORE_FILE} does not list; save it through the server, which notes its names"


def names_of_values(
    label: StoredLabel, present_values: Iterable[int], names_in_file: LabelNames
) -> tuple[LabelNames, str]:
    """What the values of a label map mean, and a warning, if any; DatasetError when nothing tells that for certain.

    present: values that occur; inside: what the file itself says. The names that the client sent (`label_info`) count
    by their place where the file says nothing, for so 3D Slicer numbers what it saves; its `idx` is off where other
    segments came before, and is believed only where places cannot be meant.
    """
    values = {int(value) for value in present_values} - {0}
    if label.info.get("values") == OWN_LABELS:
        return _require_names({s.label: s.name for s in STRUCTURES}, values, label), ""
    if names_in_file:
        return _require_names(names_in_file, values, label), ""
    rows = _label_info_rows(label)
    if rows is None:
        raise DatasetError(
            f"{label.path.name}: {DATASTORE_FILE} does not say what its values are called (no label_info); "
            "save it again with names, or tell them with --table"
        )
    return _names_by_position_or_number(rows, values, label)


def _names_by_position_or_number(
    rows: list[tuple[str, int]], values: set[int], label: StoredLabel
) -> tuple[LabelNames, str]:
    """Names by place, or by `idx`."""
    places = {place: name for place, (name, _) in enumerate(rows, start=1)}
    numbers = {number: name for name, number in rows}
    by_place = values <= set(places)
    by_number = values <= set(numbers) and len(numbers) == len(rows)
    if by_place and by_number and any(places[value] != numbers[value] for value in values):
        if values != set(places):  # all places in use: so 3D Slicer numbers what it saves
            value = min(value for value in values if places[value] != numbers[value])
            told = f"{places[value]} by its place and {numbers[value]} by its idx"
            raise DatasetError(f"{label.path.name}: the value {value} is {told} in label_info; save it again")
        return places, _SHIFTED_WARNING.format(label.path.name)
    if by_place:
        return places, "" if by_number else _SHIFTED_WARNING.format(label.path.name)
    return numbers if by_number else _require_names(places, values, label), ""


_SHIFTED_WARNING = (
    "shifted-idx: {}: the numbers in label_info are not those in the file; names were taken in their order"
)


def _label_info_rows(label: StoredLabel) -> list[tuple[str, int]] | None:
    """Names and numbers of `label_info` without scribbles, None where there is none.

    A model's answer has `label_names` instead, name to number.
    """
    said = label.info.get("params")
    names = said.get("label_names") if isinstance(said, dict) else None
    info = label.info.get("label_info")
    if info is None and isinstance(names, dict):
        info = [{"name": name, "idx": number} for name, number in names.items()]
    if info is None:
        return None
    if not isinstance(info, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in info
    ):
        raise DatasetError(f'{label.path.name}: label_info must be a list of {{"name": ..., "idx": ...}}')
    rows = [(row["name"], row.get("idx", place)) for place, row in enumerate(info, start=1)]
    if not all(type(number) is int for _, number in rows):
        raise DatasetError(f"{label.path.name}: label_info: idx must be a whole number")
    return [(name, number) for name, number in rows if name not in _SCRIBBLE_NAMES and (name != _BACKGROUND or number)]


def _require_names(names: LabelNames, values: set[int], label: StoredLabel) -> LabelNames:
    strange = sorted(values - set(names))
    if strange:
        raise DatasetError(f"{label.path.name}: holds the value {strange[0]}, which no name explains; save it again")
    return names
