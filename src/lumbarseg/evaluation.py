"""A model, or the label files of another program, on the cases of prepared datasets: answers, judged exam by exam."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.datasets import Case, read_case
from lumbarseg.datasets.dataset import LabelTable, parse_label_table
from lumbarseg.errors import DatasetError, FileError, GridError, LumbarsegError, SegmentError
from lumbarseg.inference import Model
from lumbarseg.io import read_labels
from lumbarseg.metrics import (
    GroupSummary,
    ModelDifference,
    StructureNames,
    compare_models,
    exam_rows,
    instance_rows,
    score_case,
    structure_rows,
    summarize_groups,
    worst_rows,
)
from lumbarseg.metrics.structure_names import labels_with_names
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import segment
from lumbarseg.volume import Array, Volume

Row = dict[str, Any]

STRUCTURE_MEASURES = ("dice", "ratio", "surface_mm", "surface95_mm", "named")
INSTANCE_MEASURES = ("precision", "recall", "f1", "named_precision", "named_recall", "named_f1")
COMPARED_MEASURES = ("dice", "surface_mm", "surface95_mm")
EXAM_MEASURES = ("dice", "surface_mm", "surface95_mm", "names_right", "wrong", "flagged", "missing")
_LABEL_FILE_PATTERNS = ("{}.nii.gz", "{}_labels.nii.gz", "{}.nii", "{}_labels.nii", "{}.mha", "{}.nrrd")


@dataclass(frozen=True, eq=False)
class CasePrediction:
    """What is to be judged. labels: (I, J, K) uint8 in the package's values on the case's grid; levels: named ones.

    uncertain: those of the levels that are marked so; refused: why nothing was found, "" otherwise; meaning: the sets
    that values stand for, where they are coarser than the table of structures; painted: kinds that it may show at all.
    """

    labels: Array
    levels: tuple[str, ...] = ()
    uncertain_levels: tuple[str, ...] = ()
    error: str = ""
    value_names: tuple[StructureNames, ...] = ()
    segmented_kinds: frozenset[str] = frozenset(CLASSES)


CasePredictor = Callable[[Case, Volume], CasePrediction]


@dataclass(frozen=True)
class EvaluationTable:
    """Lines of one kind. of: "structures", "instances" or "exams"; by: the keys of their groups."""

    subject: str
    group_keys: tuple[str, ...]
    groups: list[GroupSummary]

    def to_dict(self) -> Row:
        """Plain values for JSON."""
        return {"of": self.subject, "by": list(self.group_keys), "lines": [line.to_dict() for line in self.groups]}


def predictor_from_model(model: Model) -> CasePredictor:
    """Answers of a model, as `segment` gives them; an exam that it refuses is answered with nothing found.

    Kinds that the model was not taught are not asked of it.
    """
    painted = frozenset(str(kind) for kind in model.card.output_kinds)

    def answer(case: Case, image: Volume) -> CasePrediction:
        try:
            found = segment(image, model)
        except SegmentError as refused:
            return CasePrediction(np.zeros(image.array.shape, np.uint8), error=str(refused), segmented_kinds=painted)
        except LumbarsegError as error:
            raise DatasetError(f"{case.image}: {error}") from error
        names = tuple(level.name for level in found.levels)
        uncertain = tuple(level.name for level in found.levels if level.uncertain)
        return CasePrediction(found.labels.array, names, uncertain, segmented_kinds=painted)

    return answer


def predictor_from_files(folder: Path, label_table: Mapping[int, Sequence[str]] | str = "own") -> CasePredictor:
    """Answers from the label files of another program: FOLDER/NAME.nii.gz, NAME_labels.nii.gz, .mha or .nrrd.

    table: what their values mean, as in prepared datasets; "own": the package's values; "dataset": those of the case's
    own dataset. Axes may differ from the case's, the grid may not.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: no folder; give the one that holds the label files")

    def answer(case: Case, image: Volume) -> CasePrediction:
        path = _find_label_file(folder, case.name)
        labels = reorient(read_labels(path), image.grid.axis_codes)
        if not labels.grid.same_as(image.grid, tolerance=1e-2):
            raise GridError(f"{path}: not on the grid of {case.image}; resample it to that first")
        if label_table == "own":
            return CasePrediction(labels.array)
        names = case.label_table if isinstance(label_table, str) else label_table
        values, meaning = _convert_values(labels.array, names, path)
        return CasePrediction(values, value_names=meaning)

    return answer


def evaluate_case(
    dataset: str, case: Case, predictors: Sequence[CasePredictor], with_distances: bool = True
) -> list[Row]:
    """One case judged for each answerer; LumbarsegError when it cannot be read or has no answer."""
    image, truth = read_case(case)
    facts: Row = {
        "dataset": dataset,
        "case": case.name,
        "patient": f"{case.source or dataset}/{case.patient or case.name}",
        "contrast": case.contrast,
        "scanner": case.scanner,
        "split": case.split,
    }
    rows = []
    for given in (answerer(case, image) for answerer in predictors):
        judged = score_case(
            given.labels,
            truth.array,
            case.label_table,
            image.grid.spacing,
            with_distances=with_distances,
            uncertain_levels=given.uncertain_levels,
            prediction_names=given.value_names,
            segmented_kinds=given.segmented_kinds,
        )
        told: Row = {
            "error": given.error or None,
            "levels": list(given.levels),
            "uncertain": list(given.uncertain_levels),
        }
        rows.append(facts | told | judged)
    return rows


def evaluation_tables(exams: Sequence[Row], group_keys: Sequence[str] = ()) -> list[EvaluationTable]:
    """Every table of an evaluation: by dataset and structure, then by each of the keys.

    by: "level", "contrast", "scanner" or "kind"; structures and instances are kept apart by their kind within each.
    """
    structures, things, whole = structure_rows(exams), instance_rows(exams), exam_rows(exams)
    out = [
        EvaluationTable(
            "structures",
            ("dataset", "structure"),
            summarize_groups(structures, ("dataset", "structure"), STRUCTURE_MEASURES),
        ),
        EvaluationTable(
            "instances", ("dataset", "kind"), summarize_groups(things, ("dataset", "kind"), INSTANCE_MEASURES)
        ),
        EvaluationTable("exams", ("dataset",), summarize_groups(whole, ("dataset",), EXAM_MEASURES)),
    ]
    for key in group_keys:
        keys = tuple(dict.fromkeys((key, "kind")))
        known = (structures, things)
        if key == "level":
            known = ([row for row in structures if row["level"]], [row for row in things if row["level"]])
        out += [EvaluationTable("structures", keys, summarize_groups(known[0], keys, STRUCTURE_MEASURES))]
        out += [EvaluationTable("instances", keys, summarize_groups(known[1], keys, INSTANCE_MEASURES))]
        if key in ("contrast", "scanner"):
            out.append(EvaluationTable("exams", (key,), summarize_groups(whole, (key,), EXAM_MEASURES)))
    return [table for table in out if table.groups]


def compare_evaluations(first: Sequence[Row], second: Sequence[Row]) -> dict[str, list[ModelDifference]]:
    """Dice and distances of two models on the same exams: "mean" of all structures of an exam, then each structure.

    What only one of them was asked for is in no figure.
    """
    first, second = restrict_to_shared(first, second), restrict_to_shared(second, first)
    whole = [[row | {"structure": "mean"} for row in exam_rows(exams)] for exams in (first, second)]
    parts = [structure_rows(exams) for exams in (first, second)]
    out = {}
    for measure in COMPARED_MEASURES:
        found = [
            each
            for rows in (whole, parts)
            for each in compare_models(rows[0], rows[1], ("dataset", "structure"), measure)
        ]
        if found:
            out[measure] = found
    return out


def largest_deficits(first: Sequence[Row], second: Sequence[Row], count: int = 5) -> list[Row]:
    """The exams in which the first model falls behind the second by most, in mean Dice of what both were asked for."""
    first, second = restrict_to_shared(first, second), restrict_to_shared(second, first)
    others = {(row["dataset"], row["case"]): row["dice"] for row in exam_rows(second)}
    rows = [
        row | {"dice": row["dice"] - others[row["dataset"], row["case"]]}
        for row in exam_rows(first)
        if row["dice"] is not None
    ]
    return [row for row in worst_rows(rows, "dice", count) if row["dice"] < 0]


def restrict_to_shared(exams: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Exams that others have too, with those structures alone that are scored there."""
    known = {(row["dataset"], row["case"]): {part["name"] for part in row["structures"]} for row in others}
    return [
        row | {"structures": [part for part in row["structures"] if part["name"] in known[row["dataset"], row["case"]]]}
        for row in exams
        if (row["dataset"], row["case"]) in known
    ]


def read_label_table(path: Path) -> LabelTable:
    """What values mean, from a JSON file {value: [names]} as prepared datasets have it; 0 need not be there."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{path}: must be a table of voxel value to names")
    return parse_label_table({"0": ["background"]} | values, str(path))


def _find_label_file(folder: Path, name: str) -> Path:
    for ending in _LABEL_FILE_PATTERNS:
        if (folder / ending.format(name)).is_file():
            return folder / ending.format(name)
    raise FileError(f"{folder / name}.nii.gz: not found, nor {name}_labels.nii.gz; every case needs an answer")


def _convert_values(
    labels: Array, label_table: Mapping[int, Sequence[str]], path: Path
) -> tuple[Array, tuple[StructureNames, ...]]:
    """Another program's values as this package's, and the sets that they stand for; "background" wins in a set."""
    strange = sorted({int(value) for value in np.unique(labels)} - set(label_table) - {0})
    if strange:
        raise DatasetError(f"{path}: holds the value {strange[0]}, which the label table does not explain")
    lookup, meaning = np.zeros(256, np.uint8), []
    for value, names in label_table.items():
        if value and not {"background", "unknown"} & set(names):
            lookup[value] = min(labels_with_names(names))
            meaning.append(frozenset(names))
    return lookup[labels], tuple(meaning)
