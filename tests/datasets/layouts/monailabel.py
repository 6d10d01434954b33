"""A folder of exams as MONAI Label leaves it: datastore_v2.json, labels/final of a person, labels/original of a model.

Labels are as 3D Slicer saves them: its segments numbered 1..n in the order of its scene, the names beside. Every fourth
exam has no final label.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, structure_by_name
from lumbarseg.datasets.monailabel_datastore import DATASTORE_FILE, FINAL, ORIGINAL
from lumbarseg.datasets.schemes import disc_below
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam

NAMES = (*LUMBAR_LEVELS, *(disc_below(level) for level in LUMBAR_LEVELS), Kind.SACRUM.value, Kind.CANAL.value)
"""Annotated structures; posterior elements are not annotated."""

FAULTS = (
    *("", "shifted-idx", "unnamed", "", "label-header", "value without a name", "", ""),
    *("twice", "no names", "", "", "image removed", "declared"),
)
"""Fault of each exam in turn; unfinished exams have no label to inject a fault into."""

UNFINISHED_EVERY = 4
"""One exam in so many has no final label."""
_SHIFT = 7.0  # mm by which a label's header is off
_SCRIBBLES = "foreground_scribbles"
_UNKNOWN_NAME = "Segment_1"
_START_TIME = 1_760_000_000  # seconds since 1970
_MODEL, _ANNOTATOR = "lumbar_spine", "reader one"
_REFUSED = ("value without a name", "no names", "image removed")
Row = dict[str, Any]


def is_unfinished(number: int) -> bool:
    """Return whether exam `number` has no final label."""
    return number % UNFINISHED_EVERY == UNFINISHED_EVERY - 1


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams and the datastore's table; with faults, one of `FAULTS` in turn."""
    faults: list[InjectedFault] = []
    objects: dict[str, Row] = {}
    for number, exam in enumerate(exams):
        fault = FAULTS[number % len(FAULTS)] if with_faults and not is_unfinished(number) else ""
        path = folder / f"{exam.name}.nii.gz"
        io.write_image(exam.image, path)
        row: Row = {"image": _entry(path, _START_TIME + 3600 * number), "labels": {}}
        row["labels"][ORIGINAL] = _write_prediction(folder, exam, _START_TIME + 3600 * number + 60)
        if not is_unfinished(number):
            row["labels"][FINAL] = _write_final_label(folder, exam, fault, rng, _START_TIME + 3600 * number + 600)
        if fault == "image removed":
            path.unlink()
        if fault not in ("", "declared"):
            faults.append(InjectedFault(exam.name, "refused" if fault in _REFUSED else fault, fault))
        objects[exam.name] = row
    message = {"name": "new-dataset", "description": "New Dataset", "images_dir": ".", "labels_dir": "labels"}
    with io.atomic_write(folder / DATASTORE_FILE) as file:
        file.write(json.dumps({**message, "objects": objects}, indent=2).encode())
    return faults


def _entry(path: Path, seconds: int, **info: Any) -> Row:
    """Return a file's entry in the table."""
    return {"ext": ".nii.gz", "info": {**info, "ts": seconds, "name": path.name}}


def _write_prediction(folder: Path, exam: SyntheticExam, seconds: int) -> Row:
    """Write the stored prediction of a model: one body too thin, values in the order of its names."""
    labels = _renumbered(exam.labels.array, NAMES)
    labels[: len(labels) // 2][labels[: len(labels) // 2] == 1 + NAMES.index(LUMBAR_LEVELS[2])] = 0
    path = folder / "labels" / ORIGINAL / f"{exam.name}.nii.gz"
    io.write_labels(Volume(labels, exam.labels.affine), path, structures=())
    names = {name: folder_root for folder_root, name in enumerate(NAMES, start=1)}
    return _entry(path, seconds, model=_MODEL, params={"label_names": names, "digest": "0" * 64})


def _write_final_label(folder: Path, exam: SyntheticExam, fault: str, rng: np.random.Generator, seconds: int) -> Row:
    """Write the label saved by an annotator from 3D Slicer, segments in arbitrary order."""
    names = [str(name) for name in rng.permutation(np.array(NAMES, dtype=object))]
    labels, affine = _renumbered(exam.labels.array, names), exam.labels.affine.copy()
    message: list[Row] = [{"name": name, "idx": folder_root} for folder_root, name in enumerate(names, start=1)]
    info: Row = {"label_info": message, "model": _MODEL, "client_id": _ANNOTATOR}
    if fault == "shifted-idx":
        info["label_info"] = [{"name": _SCRIBBLES, "idx": 1}, *({**row, "idx": row["idx"] + 1} for row in message)]
    if fault == "unnamed":
        message[0]["name"] = _UNKNOWN_NAME
    if fault == "twice":
        message[names.index(LUMBAR_LEVELS[0])]["name"] = LUMBAR_LEVELS[1]
    if fault == "no names":
        del info["label_info"]
    if fault == "label-header":
        affine[2, 3] += _SHIFT
    if fault == "value without a name":
        labels[0, 0, 0] = len(names) + 1
    if fault == "declared":  # as our own server stores it
        declared = [structure_by_name(name).label for name in NAMES]
        labels = np.where(np.isin(exam.labels.array, declared), exam.labels.array, 0).astype(np.uint8)
        info |= {"values": "declared"}
    path = folder / "labels" / FINAL / f"{exam.name}.nii.gz"
    io.write_labels(Volume(labels, affine), path, structures=())
    return _entry(path, seconds, **info)


def _renumbered(labels: Array, names: Iterable[str]) -> Array:
    """Renumber the package's label values to positions in a list of names."""
    lookup = np.zeros(256, np.uint8)
    for folder_root, name in enumerate(names, start=1):
        lookup[structure_by_name(name).label] = folder_root
    return lookup[labels]
