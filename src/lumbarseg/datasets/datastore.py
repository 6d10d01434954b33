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

FILE = "datastore_v2.json"
FINAL, ORIGINAL = "final", "original"
"""Tags of a person's finished label, and of a model's answer."""
DECLARED = "declared"
"""What `info["values"]` says where a label was stored in the values of the table of structures."""

_APART = ("foreground_scribbles", "background_scribbles")
_BACKGROUND = "background"
Names = dict[int, str]


@dataclass(frozen=True)
class Label:
    """A label of an exam. info: what the client and the server noted beside it."""

    path: Path
    info: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model that was answered with, or corrected; "" where nobody said so."""
        return str(self.info.get("model") or "")

    @property
    def digest(self) -> str:
        """Of that model's file, as our server notes it."""
        said = self.info.get("params")
        return str((said if isinstance(said, dict) else self.info).get("digest") or "")

    @property
    def author(self) -> str:
        """Who saved it: the user, or at least the program that was used."""
        return str(self.info.get("user") or self.info.get("annotator") or self.info.get("client_id") or "")

    @property
    def seconds(self) -> int:
        """When it was saved, since 1970; 0 where nobody said so."""
        value = self.info.get("ts")
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else 0

    @property
    def moment(self) -> str:
        """When it was saved, as text with the time zone UTC; "" where nobody said so."""
        return datetime.fromtimestamp(self.seconds, UTC).isoformat() if self.seconds else ""


@dataclass(frozen=True)
class Exam:
    """An exam of the datastore. labels: by tag."""

    name: str
    image: Path
    info: Mapping[str, Any]
    labels: Mapping[str, Label] = field(default_factory=dict)


def exams(studies: Path) -> tuple[list[Exam], list[tuple[str, str]]]:
    """The exams that a datastore knows, and (name, reason) of those whose files are not there or lie outside of it.

    DatasetError when the folder holds no datastore, or its table is malformed.
    """
    path = studies / FILE
    values = _table(path)
    images, labels = (_folder(values, key, otherwise, path) for key, otherwise in (("images_dir", ""), _LABELS))
    found, refused = [], []
    for name, row in values["objects"].items():
        try:
            found.append(_exam(studies, name, row, images, labels))
        except DatasetError as error:
            refused.append((name, str(error)))
    strays = _strays(studies / labels / FINAL, values["objects"])
    return found, [*refused, *((file.name.partition(".")[0], _unlisted(file)) for file in strays)]


_LABELS = ("labels_dir", "labels")


def _table(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path.parent}: holds no {FILE}; give the folder that MONAI Label serves") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: no table of a datastore: {error}") from error
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: line {error.lineno}: no JSON: {error.msg}; is the server writing it?") from error
    if not isinstance(values, dict) or not isinstance(values.get("objects"), dict):
        raise DatasetError(f"{path}: objects: must be a table of exams; is this a datastore of MONAI Label?")
    return values


def _folder(values: Mapping[str, Any], key: str, otherwise: str, path: Path) -> str:
    folder = values.get(key, otherwise)
    if not isinstance(folder, str) or not _inside(folder):
        raise DatasetError(f"{path}: {key}: must be a folder inside the studies")
    return folder


def _exam(studies: Path, name: str, row: Any, images: str, labels: str) -> Exam:
    image = row.get("image") if isinstance(row, dict) else None
    drawn = row.get("labels", {}) if isinstance(row, dict) else None
    if (
        not isinstance(image, dict)
        or not isinstance(drawn, dict)
        or not all(isinstance(d, dict) for d in drawn.values())
    ):
        raise DatasetError(f"{FILE}: objects: {name}: must have an image and a table of labels")
    where = _file(studies, images, name, image)
    return Exam(
        name,
        where,
        _info(image),
        {
            tag: Label(_file(studies, f"{labels}/{tag}", name, one), _info(one))
            for tag, one in drawn.items()
            if tag != ORIGINAL or (studies / labels / tag / f"{name}{one.get('ext', '')}").is_file()
        },
    )


def _file(studies: Path, folder: str, name: str, row: Mapping[str, Any]) -> Path:
    """The file of an image or label; DatasetError when it is not there or not within the studies."""
    relative = f"{folder}/{name}{row.get('ext', '')}".lstrip("/")
    if not _inside(relative):
        raise DatasetError(f"{FILE}: {relative}: leads out of the studies folder")
    if not (studies / relative).is_file():
        raise DatasetError(f"{relative}: not there, though {FILE} tells of it; put it back, or remove the exam")
    return studies / relative


def _info(row: Mapping[str, Any]) -> dict[str, Any]:
    info = row.get("info", {})
    return info if isinstance(info, dict) else {}


def _inside(relative: str) -> bool:
    return not Path(relative).is_absolute() and ".." not in Path(relative).parts


def _strays(folder: Path, objects: Mapping[str, Any]) -> list[Path]:
    """Files of final labels of which the table does not tell."""
    found = sorted(folder.glob("*")) if folder.is_dir() else []
    names = {name for name, row in objects.items() if isinstance(row, dict) and FINAL in (row.get("labels") or {})}
    return [file for file in found if file.name[0] != "." and not any(file.name.startswith(f"{n}.") for n in names)]


def _unlisted(file: Path) -> str:
    return f"{file.name}: a final label that {FILE} does not list; save it through the server, which notes its names"


def meanings(label: Label, present: Iterable[int], inside: Names) -> tuple[Names, str]:
    """What the values of a label map mean, and a warning, if any; DatasetError when nothing tells that for certain.

    present: values that occur; inside: what the file itself says. The names that the client sent (`label_info`) count
    by their place where the file says nothing, for so 3D Slicer numbers what it saves; its `idx` is off where other
    segments came before, and is believed only where places cannot be meant.
    """
    values = {int(value) for value in present} - {0}
    if label.info.get("values") == DECLARED:
        return _explained({s.label: s.name for s in STRUCTURES}, values, label), ""
    if inside:
        return _explained(inside, values, label), ""
    rows = _rows(label)
    if rows is None:
        raise DatasetError(
            f"{label.path.name}: {FILE} does not say what its values are called (no label_info); "
            "save it again with names, or tell them with --table"
        )
    return _counted(rows, values, label)


def _counted(rows: list[tuple[str, int]], values: set[int], label: Label) -> tuple[Names, str]:
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
        return places, _SHIFTED.format(label.path.name)
    if by_place:
        return places, "" if by_number else _SHIFTED.format(label.path.name)
    return numbers if by_number else _explained(places, values, label), ""


_SHIFTED = "shifted-idx: {}: the numbers in label_info are not those in the file; names were taken in their order"


def _rows(label: Label) -> list[tuple[str, int]] | None:
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
    return [(name, number) for name, number in rows if name not in _APART and (name != _BACKGROUND or number)]


def _explained(names: Names, values: set[int], label: Label) -> Names:
    strange = sorted(values - set(names))
    if strange:
        raise DatasetError(f"{label.path.name}: holds the value {strange[0]}, which no name explains; save it again")
    return names
