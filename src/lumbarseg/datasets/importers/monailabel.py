"""MONAI Label's local datastore: exams that a person has finished, with who drew them, when, and after which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import STRUCTURES, structure_by_name
from lumbarseg.errors import DatasetError, LumbarsegError
from lumbarseg.io.label_names import read_label_names
from lumbarseg.volume import Volume

from .. import monailabel_datastore
from ..dataset import LabelTable, count_voxels
from ..label_names import parse_label_name
from ..monailabel_datastore import FINAL, ORIGINAL, StoredLabel
from ..orientation import estimate_orientation
from ..schemes import unannotated_names
from . import label_grid
from .chu import corrected_affine
from .file_pairs import clean_case_name, patients_from_names
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .own_labels import to_own_labels
from .paired_files import load_label_table

NAME = "monailabel"
UNKNOWN_VALUE = 255
"""The value of voxels whose segment has a name that is no structure."""

LABEL_TABLE: LabelTable = {
    0: ("background",),
    **{s.label: (s.name,) for s in sorted(STRUCTURES, key=lambda s: s.label)},
    UNKNOWN_VALUE: ("unknown",),
}
KNOWN_FAULTS = {
    **label_grid.KNOWN_FAULTS,
    "shifted-idx": "the numbers that the client noted are not those in the file; segments were taken in their order",
    "unnamed": "a segment's name is no structure; its voxels are unknown, neither background nor anything else",
    "twice": "two segments have one name; they were taken for one structure",
    "axis": "the header reverses axes, as the anatomy shows; corrected. Left and right cannot be verified",
}
_UNKNOWN_NAMES = ("unknown",)
_BACKGROUND = "background"


@dataclass(frozen=True)
class MonaiLabelOptions:
    """What is imported. tag: of the labels; table: names of values, for labels that have none beside them.

    patient: as in `patients`; licence, citation: of the exams.
    """

    tag: str = FINAL
    label_table: LabelTable | None = None
    patient_pattern: str | None = None
    licence: str = ""
    citation: str = ""


def make_importer(
    tag: str = FINAL, table: str | Path = "", patient: str | None = None, licence: str = "", citation: str = ""
) -> Importer:
    """An importer of the labels under a tag; table: a JSON file {value: [names]} or a scheme, "" for none."""
    wish = MonaiLabelOptions(tag, load_label_table(table) if table else None, patient, licence, citation)
    source = citation or "own exams, annotated with MONAI Label"
    return Importer(
        NAME,
        LABEL_TABLE,
        source,
        licence,
        partial(list_cases, wish=wish),
        partial(load_case, wish=wish),
        searches_subfolders=False,
    )


def list_cases(source: Path, wish: MonaiLabelOptions = MonaiLabelOptions()) -> SourceListing:
    """The exams with a label under the tag; exams without one wait for a person and are not told."""
    exams, refused = monailabel_datastore.list_exams(source)
    drawn = {exam.name: exam for exam in exams if wish.tag in exam.labels}
    if not drawn and not refused:
        tags = sorted({tag for exam in exams for tag in exam.labels})
        there = f"there are labels under {', '.join(tags)}; choose with --tag" if tags else "finish an exam first"
        raise DatasetError(f"{source}: none of its {len(exams)} exams has a label under {wish.tag}; {there}")
    known, unknown = patients_from_names(list(drawn), wish.patient_pattern) if drawn else ({}, [])
    raws = []
    for name, patient in known.items():
        exam, label = drawn[name], drawn[name].labels[wish.tag]
        about = {"annotated": _annotation_record(exam, label, wish.tag), "label": dict(label.info)}
        original = exam.labels.get(ORIGINAL)
        if original and wish.tag != ORIGINAL and original.timestamp <= label.timestamp:
            about["original"] = {"file": original.path.name, "info": dict(original.info)}
        contrast = str(exam.info.get("contrast") or "")
        paths = (exam.image, label.path)
        raws.append(
            SourceCase(
                clean_case_name(name),
                str(exam.info.get("patient") or clean_case_name(patient)),
                paths,
                contrast,
                metadata=about,
            )
        )
    return SourceListing(tuple(raws), (*((clean_case_name(name), reason) for name, reason in refused), *unknown))


def _annotation_record(exam: monailabel_datastore.DatastoreExam, label: StoredLabel, tag: str) -> dict[str, Any]:
    """Who, when, after which model, for the case's record."""
    original = exam.labels.get(ORIGINAL)
    return {
        "by": label.author,
        "at": label.saved_at,
        "tag": tag,
        "model": label.model or (original.model if original else ""),
        "digest": label.model_digest or (original.model_digest if original else ""),
        "other_tags": sorted(set(exam.labels) - {tag}),
    }


def load_case(raw: SourceCase, wish: MonaiLabelOptions = MonaiLabelOptions()) -> LoadedCase:
    """One exam in the package's own values; DatasetError when nothing tells what a value is."""
    path = raw.files[1]
    image = io.read_image(raw.files[0])
    labels, warnings = label_grid.labels_on_image_grid(io.read_labels(path), image, path)
    if set(count_voxels(labels.array)) <= {0}:
        raise DatasetError(f"{path}: nothing is drawn in it; draw the exam, or remove its label")
    label = StoredLabel(path, raw.metadata["label"])
    rows, told = _value_names(label, labels, wish)
    table, lookup = _own_label_table(rows)
    own = Volume(lookup[labels.array], labels.affine)
    changed = _compare_with_original(raw, own, table, image)
    affine, turns = corrected_affine(image.affine, estimate_orientation(image, own, table))
    about = {"annotated": {**raw.metadata["annotated"], **changed}}
    axes = [text for text in turns if text.startswith("axis:")]
    if axes:
        image, own = Volume(image.array, affine), Volume(own.array, affine)
    return LoadedCase(image, own, table, (*warnings, *told, *axes), about)


def _value_names(label: StoredLabel, labels: Volume, wish: MonaiLabelOptions) -> tuple[LabelTable, list[str]]:
    """What each value may be, and warnings."""
    present = count_voxels(labels.array)
    inside = read_label_names(label.path)
    if wish.label_table is not None and not inside and not label.info.get("label_info") and "values" not in label.info:
        label_grid.check_label_values(
            labels.array, wish.label_table, label.path, "add it to the table given with --table"
        )
        return {value: names for value, names in wish.label_table.items() if value}, []
    names, shifted = monailabel_datastore.names_of_values(label, present, inside)
    rows = {value: _structures_of_name(name) for value, name in names.items() if value}
    told = [shifted] if shifted else []
    strange = sorted({names[value] for value, row in rows.items() if row == _UNKNOWN_NAMES and value in present})
    told += [f"unnamed: {name!r}" for name in strange]
    used = [names[value].strip() for value in present if value in names]
    told += [f"twice: {name}" for name in sorted(set(used)) if used.count(name) > 1]
    if label.info.get("values") == monailabel_datastore.OWN_LABELS:
        rows = {value: row for value, row in rows.items() if value in present or row[0] in _client_label_names(label)}
    return rows, told


def _client_label_names(label: StoredLabel) -> set[str]:
    """Names that a person had before them, where the client said so."""
    info = label.info.get("label_info")
    rows = info if isinstance(info, list) else []
    return {str(row.get("name", "")).strip() for row in rows if isinstance(row, dict)}


def _structures_of_name(name: str) -> tuple[str, ...]:
    """What a segment of this name may be: a name of the table as it stands there, else as people write names."""
    text = name.strip()
    try:
        return (structure_by_name(text).name,)
    except LumbarsegError:
        meaning = parse_label_name(text)
    return meaning.structures if meaning else _UNKNOWN_NAMES


def _own_label_table(rows: Mapping[int, tuple[str, ...]]) -> tuple[LabelTable, np.ndarray]:
    """A table in the package's own values and (256,) uint8 that takes values there; equal rows share a value."""
    kinds = dict.fromkeys(names for names in rows.values() if names != _UNKNOWN_NAMES and _BACKGROUND not in names)
    table, numbers = to_own_labels(dict(enumerate(kinds, start=1)))
    place = {names: int(numbers[number]) for number, names in enumerate(kinds, start=1)}
    lookup = np.zeros(256, np.uint8)
    for value, names in rows.items():
        lookup[value] = UNKNOWN_VALUE if names == _UNKNOWN_NAMES else place.get(names, 0)
    unknown = {UNKNOWN_VALUE: _UNKNOWN_NAMES} if _UNKNOWN_NAMES in rows.values() else {}
    return {**table, 0: unannotated_names(kinds), **unknown}, lookup


def _compare_with_original(raw: SourceCase, own: Volume, table: LabelTable, image: Volume) -> dict[str, Any]:
    """How far the person's label is from the answer that was there before: mean Dice of what either shows.

    Nothing where no answer was stored, or it cannot be read any more.
    """
    said = raw.metadata.get("original")
    if not said:
        return {}
    path = raw.files[1].parent.parent / ORIGINAL / said["file"]
    try:
        before, _ = label_grid.labels_on_image_grid(io.read_labels(path), image, path)
        label = StoredLabel(path, said["info"])
        names, _ = monailabel_datastore.names_of_values(label, count_voxels(before.array), read_label_names(path))
        _, lookup = _own_label_table({value: _structures_of_name(name) for value, name in names.items() if value})
    except LumbarsegError:
        return {}
    answer = lookup[before.array]
    return _difference_from_prediction(answer, own.array, table, label)


def _difference_from_prediction(
    answer: np.ndarray, drawn: np.ndarray, table: LabelTable, label: StoredLabel
) -> dict[str, Any]:
    """Of structures that the person's table knows; others were not asked of the person."""
    known = [value for value, names in table.items() if value and names != _UNKNOWN_NAMES]
    both, sizes = count_voxels(np.where(answer == drawn, drawn, 0)), (count_voxels(answer), count_voxels(drawn))
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
        "answered_at": label.saved_at,
    }
