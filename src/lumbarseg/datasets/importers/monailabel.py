"""MONAI Label's local datastore: exams that a person has finished, with who drew them, when, and after which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg import files
from lumbarseg.anatomy import STRUCTURES, by_name
from lumbarseg.datasets import datastore
from lumbarseg.datasets.anatomy_axes import facing
from lumbarseg.datasets.datastore import FINAL, ORIGINAL, Label
from lumbarseg.datasets.folder import Table, voxels
from lumbarseg.datasets.names import read_name
from lumbarseg.datasets.schemes import undrawn
from lumbarseg.errors import DatasetError, LumbarsegError
from lumbarseg.files.named import names_in
from lumbarseg.volume import Volume

from . import fit
from .chu import turned
from .folder import table_of
from .pairs import clean, patients
from .raw import Found, Importer, Raw, Read
from .values import own_values

NAME = "monailabel"
UNKNOWN = 255
"""The value of voxels whose segment has a name that is no structure."""

TABLE: Table = {
    0: ("background",),
    **{s.label: (s.name,) for s in sorted(STRUCTURES, key=lambda s: s.label)},
    UNKNOWN: ("unknown",),
}
TRAPS = {
    **fit.TRAPS,
    "shifted-idx": "the numbers that the client noted are not those in the file; segments were taken in their order",
    "unnamed": "a segment's name is no structure; its voxels are unknown, neither background nor anything else",
    "twice": "two segments have one name; they were taken for one structure",
    "axis": "the header reverses axes, as the anatomy shows; corrected. Left and right cannot be verified",
}
_ANY = ("unknown",)
_NOBODY = "background"


@dataclass(frozen=True)
class Wish:
    """What is imported. tag: of the labels; table: names of values, for labels that have none beside them.

    patient: as in `patients`; licence, citation: of the exams.
    """

    tag: str = FINAL
    table: Table | None = None
    patient: str | None = None
    licence: str = ""
    citation: str = ""


def importer(
    tag: str = FINAL, table: str | Path = "", patient: str | None = None, licence: str = "", citation: str = ""
) -> Importer:
    """An importer of the labels under a tag; table: a JSON file {value: [names]} or a scheme, "" for none."""
    wish = Wish(tag, table_of(table) if table else None, patient, licence, citation)
    source = citation or "own exams, annotated with MONAI Label"
    return Importer(NAME, TABLE, source, licence, partial(find, wish=wish), partial(read, wish=wish), deep=False)


def find(source: Path, wish: Wish = Wish()) -> Found:
    """The exams with a label under the tag; exams without one wait for a person and are not told."""
    exams, refused = datastore.exams(source)
    drawn = {exam.name: exam for exam in exams if wish.tag in exam.labels}
    if not drawn and not refused:
        tags = sorted({tag for exam in exams for tag in exam.labels})
        there = f"there are labels under {', '.join(tags)}; choose with --tag" if tags else "finish an exam first"
        raise DatasetError(f"{source}: none of its {len(exams)} exams has a label under {wish.tag}; {there}")
    known, unknown = patients(list(drawn), wish.patient) if drawn else ({}, [])
    raws = []
    for name, patient in known.items():
        exam, label = drawn[name], drawn[name].labels[wish.tag]
        about = {"annotated": _annotated(exam, label, wish.tag), "label": dict(label.info)}
        original = exam.labels.get(ORIGINAL)
        if original and wish.tag != ORIGINAL and original.seconds <= label.seconds:
            about["original"] = {"file": original.path.name, "info": dict(original.info)}
        contrast = str(exam.info.get("contrast") or "")
        paths = (exam.image, label.path)
        raws.append(Raw(clean(name), str(exam.info.get("patient") or clean(patient)), paths, contrast, about=about))
    return Found(tuple(raws), (*((clean(name), reason) for name, reason in refused), *unknown))


def _annotated(exam: datastore.Exam, label: Label, tag: str) -> dict[str, Any]:
    """Who, when, after which model, for the case's record."""
    original = exam.labels.get(ORIGINAL)
    return {
        "by": label.author,
        "at": label.moment,
        "tag": tag,
        "model": label.model or (original.model if original else ""),
        "digest": label.digest or (original.digest if original else ""),
        "other_tags": sorted(set(exam.labels) - {tag}),
    }


def read(raw: Raw, wish: Wish = Wish()) -> Read:
    """One exam in the package's own values; DatasetError when nothing tells what a value is."""
    path = raw.files[1]
    image = files.read_image(raw.files[0])
    labels, warnings = fit.on_grid(files.read_labels(path), image, path)
    if set(voxels(labels.array)) <= {0}:
        raise DatasetError(f"{path}: nothing is drawn in it; draw the exam, or remove its label")
    label = Label(path, raw.about["label"])
    rows, told = _rows(label, labels, wish)
    table, lookup = _own(rows)
    own = Volume(lookup[labels.array], labels.affine)
    changed = _changed(raw, own, table, image)
    affine, turns = turned(image.affine, facing(image, own, table))
    about = {"annotated": {**raw.about["annotated"], **changed}}
    axes = [text for text in turns if text.startswith("axis:")]
    if axes:
        image, own = Volume(image.array, affine), Volume(own.array, affine)
    return Read(image, own, table, (*warnings, *told, *axes), about)


def _rows(label: Label, labels: Volume, wish: Wish) -> tuple[Table, list[str]]:
    """What each value may be, and warnings."""
    present = voxels(labels.array)
    inside = names_in(label.path)
    if wish.table is not None and not inside and not label.info.get("label_info") and "values" not in label.info:
        fit.check_values(labels.array, wish.table, label.path, "add it to the table given with --table")
        return {value: names for value, names in wish.table.items() if value}, []
    names, shifted = datastore.meanings(label, present, inside)
    rows = {value: _meaning(name) for value, name in names.items() if value}
    told = [shifted] if shifted else []
    strange = sorted({names[value] for value, row in rows.items() if row == _ANY and value in present})
    told += [f"unnamed: {name!r}" for name in strange]
    used = [names[value].strip() for value in present if value in names]
    told += [f"twice: {name}" for name in sorted(set(used)) if used.count(name) > 1]
    if label.info.get("values") == datastore.DECLARED:
        rows = {value: row for value, row in rows.items() if value in present or row[0] in _offered(label)}
    return rows, told


def _offered(label: Label) -> set[str]:
    """Names that a person had before them, where the client said so."""
    info = label.info.get("label_info")
    rows = info if isinstance(info, list) else []
    return {str(row.get("name", "")).strip() for row in rows if isinstance(row, dict)}


def _meaning(name: str) -> tuple[str, ...]:
    """What a segment of this name may be: a name of the table as it stands there, else as people write names."""
    text = name.strip()
    try:
        return (by_name(text).name,)
    except LumbarsegError:
        meaning = read_name(text)
    return meaning.names if meaning else _ANY


def _own(rows: Mapping[int, tuple[str, ...]]) -> tuple[Table, np.ndarray]:
    """A table in the package's own values and (256,) uint8 that takes values there; equal rows share a value."""
    kinds = dict.fromkeys(names for names in rows.values() if names != _ANY and _NOBODY not in names)
    table, numbers = own_values(dict(enumerate(kinds, start=1)))
    place = {names: int(numbers[number]) for number, names in enumerate(kinds, start=1)}
    lookup = np.zeros(256, np.uint8)
    for value, names in rows.items():
        lookup[value] = UNKNOWN if names == _ANY else place.get(names, 0)
    unknown = {UNKNOWN: _ANY} if _ANY in rows.values() else {}
    return {**table, 0: undrawn(kinds), **unknown}, lookup


def _changed(raw: Raw, own: Volume, table: Table, image: Volume) -> dict[str, Any]:
    """How far the person's label is from the answer that was there before: mean Dice of what either shows.

    Nothing where no answer was stored, or it cannot be read any more.
    """
    said = raw.about.get("original")
    if not said:
        return {}
    path = raw.files[1].parent.parent / ORIGINAL / said["file"]
    try:
        before, _ = fit.on_grid(files.read_labels(path), image, path)
        label = Label(path, said["info"])
        names, _ = datastore.meanings(label, voxels(before.array), names_in(path))
        _, lookup = _own({value: _meaning(name) for value, name in names.items() if value})
    except LumbarsegError:
        return {}
    answer = lookup[before.array]
    return _difference(answer, own.array, table, label)


def _difference(answer: np.ndarray, drawn: np.ndarray, table: Table, label: Label) -> dict[str, Any]:
    """Of structures that the person's table knows; others were not asked of the person."""
    known = [value for value, names in table.items() if value and names != _ANY]
    both, sizes = voxels(np.where(answer == drawn, drawn, 0)), (voxels(answer), voxels(drawn))
    dices = [
        2 * both.get(value, 0) / (sizes[0].get(value, 0) + sizes[1].get(value, 0))
        for value in known
        if value in sizes[0] or value in sizes[1]
    ]
    here = np.isin(answer, known) | np.isin(drawn, known)
    return {
        "answer_dice": round(float(np.mean(dices)), 4) if dices else 1.0,
        "changed_voxels": int((here & (answer != drawn)).sum()),
        "answered_by": label.model,
        "answered_at": label.moment,
    }
