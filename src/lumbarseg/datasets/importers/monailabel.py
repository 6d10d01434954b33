"""MONAI Label's local datastore: finished exams, with annotator, time, and the model they started from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import STRUCTURES
from lumbarseg.errors import DatasetError, LumbarsegError
from lumbarseg.io.label_names import read_label_names
from lumbarseg.volume import Array, Volume

from .. import monailabel_datastore, orientation
from ..label_names import possible_structures
from ..label_table import UNKNOWN, LabelTable, count_voxels, require_explained
from ..monailabel_datastore import FINAL, ORIGINAL, DatastoreExam, StoredLabel, names_of_values
from ..schemes import unannotated_names
from . import source_labels
from .file_pairs import clean_case_name, patients_from_names
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .paired_files import load_label_table
from .source_labels import read_labels_on_grid, to_own_labels

NAME = "monailabel"
UNKNOWN_VALUE = 255
"""The value of voxels whose segment has a name that is no structure."""

LABEL_TABLE: LabelTable = {
    0: ("background",),
    **{s.label: (s.name,) for s in sorted(STRUCTURES, key=lambda s: s.label)},
    UNKNOWN_VALUE: (UNKNOWN,),
}
KNOWN_FAULTS = {
    **source_labels.KNOWN_FAULTS,
    "axis": orientation.KNOWN_FAULTS["axis"],
    "shifted-idx": "the numbers that the client stored are not those in the file; segments were taken in their order",
    "unnamed": "a segment's name is no structure; its voxels are unknown, neither background nor anything else",
    "twice": "two segments have one name; they were taken for one structure",
}
_UNKNOWN_NAMES = (UNKNOWN,)


def make_importer(
    tag: str = FINAL, table: str | Path = "", patient: str | None = None, licence: str = "", citation: str = ""
) -> Importer:
    """Return an importer of the labels under a tag; table: a JSON file {value: [names]} or a scheme, "" for none."""
    return Importer(
        NAME,
        LABEL_TABLE,
        citation or "own exams, annotated with MONAI Label",
        licence,
        partial(list_cases, tag=tag, patient_pattern=patient),
        partial(load_case, label_table=load_label_table(table) if table else None),
        KNOWN_FAULTS,
        searches_subfolders=False,
    )


def list_cases(source: Path, tag: str = FINAL, patient_pattern: str | None = None) -> SourceListing:
    """List the exams with a label under the tag; exams without one are not finished, and not reported."""
    exams, refused = monailabel_datastore.list_exams(source)
    finished = {exam.name: exam for exam in exams if tag in exam.labels}
    if not finished and not refused:
        tags = sorted({tag for exam in exams for tag in exam.labels})
        hint = f"there are labels under {', '.join(tags)}; choose with --tag" if tags else "finish an exam first"
        raise DatasetError(f"{source}: none of its {len(exams)} exams has a label under {tag}; {hint}")
    patients, unknown = patients_from_names(list(finished), patient_pattern) if finished else ({}, [])
    cases = [_source_case(finished[name], patient, tag) for name, patient in patients.items()]
    return SourceListing(tuple(cases), (*((clean_case_name(name), reason) for name, reason in refused), *unknown))


def _source_case(exam: DatastoreExam, patient: str, tag: str) -> SourceCase:
    """Return a case with its annotator, time and model in the metadata."""
    label, original = exam.labels[tag], exam.labels.get(ORIGINAL)
    record = {
        "by": label.author,
        "at": label.saved_at,
        "tag": tag,
        "model": label.model or (original.model if original else ""),
        "digest": label.model_digest or (original.model_digest if original else ""),
        "other_tags": sorted(set(exam.labels) - {tag}),
    }
    metadata = {"annotated": record, "label": dict(label.info)}
    if original and tag != ORIGINAL and original.timestamp <= label.timestamp:
        metadata["original"] = {"file": original.path.name, "info": dict(original.info)}
    patient = str(exam.info.get("patient") or clean_case_name(patient))
    contrast = str(exam.info.get("contrast") or "")
    return SourceCase(clean_case_name(exam.name), patient, (exam.image, label.path), contrast, metadata=metadata)


def load_case(case: SourceCase, label_table: LabelTable | None = None) -> LoadedCase:
    """Load one exam in the package's own labels; DatasetError when the meaning of a value is unknown."""
    image, path = io.read_image(case.files[0]), case.files[1]
    labels, warnings = read_labels_on_grid(path, image)
    if not labels.array.any():
        raise DatasetError(f"{path}: nothing is labelled; annotate the exam, or remove its label")
    label = StoredLabel(path, case.metadata["label"])
    rows, name_warnings = _value_names(label, labels, label_table)
    table, lookup = _own_label_table(rows)
    own = Volume(lookup[labels.array], labels.affine)
    changes = _compare_with_original(case, own, table, image)
    exam = orientation.correct_orientation(image, own, table)
    axis_warnings = [text for text in exam.warnings if text.startswith("axis:")]
    if axis_warnings:
        image, own = exam.image, exam.labels
    metadata = {"annotated": {**case.metadata["annotated"], **changes}}
    return LoadedCase(image, own, table, (*warnings, *name_warnings, *axis_warnings), metadata)


def _value_names(label: StoredLabel, labels: Volume, label_table: LabelTable | None) -> tuple[LabelTable, list[str]]:
    """Return what each value may be, and warnings; label_table: for a label without stored names."""
    present = count_voxels(labels.array)
    in_file = read_label_names(label.path)
    has_names = in_file or label.info.get("label_info") or "values" in label.info
    if label_table is not None and not has_names:
        require_explained(present, label_table, label.path, "add it to the table given with --table")
        return {value: names for value, names in label_table.items() if value}, []
    names, shifted = names_of_values(label, present, in_file)
    rows = {value: possible_structures(name) or _UNKNOWN_NAMES for value, name in names.items() if value}
    warnings = [shifted] if shifted else []
    unknown = sorted({names[value] for value, row in rows.items() if row == _UNKNOWN_NAMES and value in present})
    warnings += [f"unnamed: {name!r}" for name in unknown]
    used = [names[value].strip() for value in present if value in names]
    warnings += [f"twice: {name}" for name in sorted(set(used)) if used.count(name) > 1]
    if label.info.get("values") == monailabel_datastore.OWN_LABELS:
        offered = _client_label_names(label)
        rows = {value: row for value, row in rows.items() if value in present or row[0] in offered}
    return rows, warnings


def _client_label_names(label: StoredLabel) -> set[str]:
    """Return the names that the client offered to the annotator, where it stored them."""
    info = label.info.get("label_info")
    rows = info if isinstance(info, list) else []
    return {str(row.get("name", "")).strip() for row in rows if isinstance(row, dict)}


def _own_label_table(rows: Mapping[int, tuple[str, ...]]) -> tuple[LabelTable, Array]:
    """Return a table in the package's own labels, and a (256,) uint8 lookup of values; equal rows share a value."""
    sets = dict.fromkeys(names for names in rows.values() if names != _UNKNOWN_NAMES and "background" not in names)
    table, own_value = to_own_labels(dict(enumerate(sets, start=1)))
    values = {names: int(own_value[number]) for number, names in enumerate(sets, start=1)}
    lookup = np.zeros(256, np.uint8)
    for value, names in rows.items():
        lookup[value] = UNKNOWN_VALUE if names == _UNKNOWN_NAMES else values.get(names, 0)
    unknown = {UNKNOWN_VALUE: _UNKNOWN_NAMES} if _UNKNOWN_NAMES in rows.values() else {}
    return {**table, 0: unannotated_names(sets), **unknown}, lookup


def _compare_with_original(case: SourceCase, own: Volume, table: LabelTable, image: Volume) -> dict[str, float | str]:
    """Return how far the final label is from the model's stored prediction; {} where that cannot be read."""
    original = case.metadata.get("original")
    if not original:
        return {}
    path = case.files[1].parent.parent / ORIGINAL / original["file"]
    label = StoredLabel(path, original["info"])
    try:
        stored, _ = read_labels_on_grid(path, image)
        names, _ = names_of_values(label, count_voxels(stored.array), read_label_names(path))
        _, lookup = _own_label_table(
            {value: possible_structures(name) or _UNKNOWN_NAMES for value, name in names.items() if value}
        )
    except LumbarsegError:
        return {}
    dice, changed = _difference(lookup[stored.array], own.array, table)
    return {
        "answer_dice": dice,
        "changed_voxels": changed,
        "answered_by": label.model,
        "answered_at": label.saved_at,
    }


def _difference(prediction: Array, final: Array, table: LabelTable) -> tuple[float, int]:
    """Return mean Dice and the number of changed voxels of the structures in the final label's table."""
    values = [value for value, names in table.items() if value and names != _UNKNOWN_NAMES]
    shared = count_voxels(np.where(prediction == final, final, 0))
    predicted, annotated = count_voxels(prediction), count_voxels(final)
    sizes = {value: predicted.get(value, 0) + annotated.get(value, 0) for value in values}
    dice = [2 * shared.get(value, 0) / size for value, size in sizes.items() if size]
    is_compared = np.isin(prediction, values) | np.isin(final, values)
    return round(float(np.mean(dice)), 4) if dice else 1.0, int((is_compared & (prediction != final)).sum())
