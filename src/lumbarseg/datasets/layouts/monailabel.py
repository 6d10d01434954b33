"""A folder of exams as MONAI Label leaves it: datastore_v2.json, labels/final of a person, labels/original of a model.

Labels are as 3D Slicer saves them: its segments numbered 1..n in the order of its scene, the names beside. Every fourth
exam waits for a person.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, structure_by_name
from lumbarseg.volume import Array, Volume

from ..monailabel_datastore import DATASTORE_FILE, FINAL, ORIGINAL
from ..schemes import disc_below
from .exam import Exam, Planted

NAMES = (*LUMBAR_LEVELS, *(disc_below(level) for level in LUMBAR_LEVELS), Kind.SACRUM.value, Kind.CANAL.value)
"""What the person draws; posterior elements are left undrawn."""

PLAN = (
    *("", "shifted-idx", "unnamed", "", "label-header", "value without a name", "", ""),
    *("twice", "no names", "", "", "image removed", "declared"),
)
"""What is planted in one exam after the other; those that wait for a person have no label to plant anything in."""

WAITS = 4
"""Of so many exams one waits."""
_SHIFT = 7.0  # mm by which a label's header is off
_SCRIBBLES = "foreground_scribbles"
_STRANGE = "Segment_1"
_BEGAN = 1_760_000_000  # seconds since 1970
_MODEL, _PERSON = "lumbar_spine", "reader one"
_REFUSED = ("value without a name", "no names", "image removed")
Row = dict[str, Any]


def waits(number: int) -> bool:
    """Whether exam `number` has no final label."""
    return number % WAITS == WAITS - 1


def write(folder: Path, exams: Iterable[Exam], rng: np.random.Generator, traps: bool) -> list[Planted]:
    """The exams with a datastore's table, with `traps` as `PLAN` says."""
    planted: list[Planted] = []
    objects: dict[str, Row] = {}
    for number, exam in enumerate(exams):
        trap = PLAN[number % len(PLAN)] if traps and not waits(number) else ""
        path = folder / f"{exam.name}.nii.gz"
        io.write_image(exam.image, path)
        row: Row = {"image": _noted(path, _BEGAN + 3600 * number), "labels": {}}
        row["labels"][ORIGINAL] = _answer(folder, exam, _BEGAN + 3600 * number + 60)
        if not waits(number):
            row["labels"][FINAL] = _drawn(folder, exam, trap, rng, _BEGAN + 3600 * number + 600)
        if trap == "image removed":
            path.unlink()
        if trap not in ("", "declared"):
            planted.append(Planted(exam.name, "refused" if trap in _REFUSED else trap, trap))
        objects[exam.name] = row
    told = {"name": "new-dataset", "description": "New Dataset", "images_dir": ".", "labels_dir": "labels"}
    with io.atomic_write(folder / DATASTORE_FILE) as file:
        file.write(json.dumps({**told, "objects": objects}, indent=2).encode())
    return planted


def _noted(path: Path, seconds: int, **info: Any) -> Row:
    """A file's row in the table."""
    return {"ext": ".nii.gz", "info": {**info, "ts": seconds, "name": path.name}}


def _answer(folder: Path, exam: Exam, seconds: int) -> Row:
    """The stored answer of a model: one body too thin, values in the order of its names."""
    labels = _encoded(exam.labels.array, NAMES)
    labels[: len(labels) // 2][labels[: len(labels) // 2] == 1 + NAMES.index(LUMBAR_LEVELS[2])] = 0
    path = folder / "labels" / ORIGINAL / f"{exam.name}.nii.gz"
    io.write_labels(Volume(labels, exam.labels.affine), path, structures=())
    names = {name: place for place, name in enumerate(NAMES, start=1)}
    return _noted(path, seconds, model=_MODEL, params={"label_names": names, "digest": "0" * 64})


def _drawn(folder: Path, exam: Exam, trap: str, rng: np.random.Generator, seconds: int) -> Row:
    """The label that a person saved from 3D Slicer, whose segments stand in an order of their own."""
    names = [str(name) for name in rng.permutation(np.array(NAMES, dtype=object))]
    labels, affine = _encoded(exam.labels.array, names), exam.labels.affine.copy()
    told: list[Row] = [{"name": name, "idx": place} for place, name in enumerate(names, start=1)]
    info: Row = {"label_info": told, "model": _MODEL, "client_id": _PERSON}
    if trap == "shifted-idx":
        info["label_info"] = [{"name": _SCRIBBLES, "idx": 1}, *({**row, "idx": row["idx"] + 1} for row in told)]
    if trap == "unnamed":
        told[0]["name"] = _STRANGE
    if trap == "twice":
        told[names.index(LUMBAR_LEVELS[0])]["name"] = LUMBAR_LEVELS[1]
    if trap == "no names":
        del info["label_info"]
    if trap == "label-header":
        affine[2, 3] += _SHIFT
    if trap == "value without a name":
        labels[0, 0, 0] = len(names) + 1
    if trap == "declared":  # as our own server stores it
        declared = [structure_by_name(name).label for name in NAMES]
        labels = np.where(np.isin(exam.labels.array, declared), exam.labels.array, 0).astype(np.uint8)
        info |= {"values": "declared"}
    path = folder / "labels" / FINAL / f"{exam.name}.nii.gz"
    io.write_labels(Volume(labels, affine), path, structures=())
    return _noted(path, seconds, **info)


def _encoded(labels: Array, names: Iterable[str]) -> Array:
    """Labels in the package's own values as places in a list of names."""
    lookup = np.zeros(256, np.uint8)
    for place, name in enumerate(names, start=1):
        lookup[structure_by_name(name).label] = place
    return lookup[labels]
