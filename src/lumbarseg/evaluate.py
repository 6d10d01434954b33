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
from lumbarseg.datasets.folder import Table, table_from
from lumbarseg.errors import DatasetError, FileError, GridError, LumbarsegError, SegmentError
from lumbarseg.files import read_labels
from lumbarseg.model import Model
from lumbarseg.resample import reorient
from lumbarseg.score import (
    Difference,
    Line,
    Names,
    differences,
    exam_rows,
    instance_rows,
    judge,
    lines,
    structure_rows,
    worst,
)
from lumbarseg.score.names import labels_of
from lumbarseg.segment import segment
from lumbarseg.volume import Array, Volume

Row = dict[str, Any]

STRUCTURES = ("dice", "ratio", "surface_mm", "surface95_mm", "named")
INSTANCES = ("precision", "recall", "f1", "named_precision", "named_recall", "named_f1")
COMPARED = ("dice", "surface_mm", "surface95_mm")
EXAMS = ("dice", "surface_mm", "surface95_mm", "names_right", "wrong", "flagged", "missing")
_ENDINGS = ("{}.nii.gz", "{}_labels.nii.gz", "{}.nii", "{}_labels.nii", "{}.mha", "{}.nrrd")


@dataclass(frozen=True, eq=False)
class Answer:
    """What is to be judged. labels: (I, J, K) uint8 in the package's values on the case's grid; levels: named ones.

    uncertain: those of the levels that are marked so; refused: why nothing was found, "" otherwise; meaning: the sets
    that values stand for, where they are coarser than the table of structures; painted: kinds that it may show at all.
    """

    labels: Array
    levels: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    refused: str = ""
    meaning: tuple[Names, ...] = ()
    painted: frozenset[str] = frozenset(CLASSES)


Answerer = Callable[[Case, Volume], Answer]


@dataclass(frozen=True)
class Figures:
    """Lines of one kind. of: "structures", "instances" or "exams"; by: the keys of their groups."""

    of: str
    by: tuple[str, ...]
    lines: list[Line]

    def to_dict(self) -> Row:
        """Plain values for JSON."""
        return {"of": self.of, "by": list(self.by), "lines": [line.to_dict() for line in self.lines]}


def modelled(model: Model) -> Answerer:
    """Answers of a model, as `segment` gives them; an exam that it refuses is answered with nothing found.

    Kinds that the model was not taught are not asked of it.
    """
    painted = frozenset(str(kind) for kind in model.card.painted)

    def answer(case: Case, image: Volume) -> Answer:
        try:
            found = segment(image, model)
        except SegmentError as refused:
            return Answer(np.zeros(image.array.shape, np.uint8), refused=str(refused), painted=painted)
        except LumbarsegError as error:
            raise DatasetError(f"{case.image}: {error}") from error
        names = tuple(level.name for level in found.levels)
        uncertain = tuple(level.name for level in found.levels if level.uncertain)
        return Answer(found.labels.array, names, uncertain, painted=painted)

    return answer


def stored(folder: Path, table: Mapping[int, Sequence[str]] | str = "own") -> Answerer:
    """Answers from the label files of another program: FOLDER/NAME.nii.gz, NAME_labels.nii.gz, .mha or .nrrd.

    table: what their values mean, as in prepared datasets; "own": the package's values; "dataset": those of the case's
    own dataset. Axes may differ from the case's, the grid may not.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: no folder; give the one that holds the label files")

    def answer(case: Case, image: Volume) -> Answer:
        path = _label_file(folder, case.name)
        labels = reorient(read_labels(path), image.grid.axes)
        if not labels.grid.same_as(image.grid, tolerance=1e-2):
            raise GridError(f"{path}: not on the grid of {case.image}; resample it to that first")
        if table == "own":
            return Answer(labels.array)
        names = case.table if isinstance(table, str) else table
        values, meaning = _own_values(labels.array, names, path)
        return Answer(values, meaning=meaning)

    return answer


def examine(dataset: str, case: Case, answerers: Sequence[Answerer], distances: bool = True) -> list[Row]:
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
    for given in (answerer(case, image) for answerer in answerers):
        judged = judge(
            given.labels,
            truth.array,
            case.table,
            image.grid.spacing,
            distances=distances,
            uncertain=given.uncertain,
            meaning=given.meaning,
            painted=given.painted,
        )
        told: Row = {"error": given.refused or None, "levels": list(given.levels), "uncertain": list(given.uncertain)}
        rows.append(facts | told | judged)
    return rows


def tables(exams: Sequence[Row], by: Sequence[str] = ()) -> list[Figures]:
    """Every table of an evaluation: by dataset and structure, then by each of the keys.

    by: "level", "contrast", "scanner" or "kind"; structures and instances are kept apart by their kind within each.
    """
    structures, things, whole = structure_rows(exams), instance_rows(exams), exam_rows(exams)
    out = [
        Figures("structures", ("dataset", "structure"), lines(structures, ("dataset", "structure"), STRUCTURES)),
        Figures("instances", ("dataset", "kind"), lines(things, ("dataset", "kind"), INSTANCES)),
        Figures("exams", ("dataset",), lines(whole, ("dataset",), EXAMS)),
    ]
    for key in by:
        keys = tuple(dict.fromkeys((key, "kind")))
        known = (structures, things)
        if key == "level":
            known = ([row for row in structures if row["level"]], [row for row in things if row["level"]])
        out += [Figures("structures", keys, lines(known[0], keys, STRUCTURES))]
        out += [Figures("instances", keys, lines(known[1], keys, INSTANCES))]
        if key in ("contrast", "scanner"):
            out.append(Figures("exams", (key,), lines(whole, (key,), EXAMS)))
    return [table for table in out if table.lines]


def compared(first: Sequence[Row], second: Sequence[Row]) -> dict[str, list[Difference]]:
    """Dice and distances of two models on the same exams: "mean" of all structures of an exam, then each structure.

    What only one of them was asked for is in no figure.
    """
    first, second = shared(first, second), shared(second, first)
    whole = [[row | {"structure": "mean"} for row in exam_rows(exams)] for exams in (first, second)]
    parts = [structure_rows(exams) for exams in (first, second)]
    out = {}
    for measure in COMPARED:
        found = [
            each for rows in (whole, parts) for each in differences(rows[0], rows[1], ("dataset", "structure"), measure)
        ]
        if found:
            out[measure] = found
    return out


def gaps(first: Sequence[Row], second: Sequence[Row], count: int = 5) -> list[Row]:
    """The exams in which the first model falls behind the second by most, in mean Dice of what both were asked for."""
    first, second = shared(first, second), shared(second, first)
    others = {(row["dataset"], row["case"]): row["dice"] for row in exam_rows(second)}
    rows = [
        row | {"dice": row["dice"] - others[row["dataset"], row["case"]]}
        for row in exam_rows(first)
        if row["dice"] is not None
    ]
    return [row for row in worst(rows, "dice", count) if row["dice"] < 0]


def shared(exams: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Exams that others have too, with those structures alone that are scored there."""
    known = {(row["dataset"], row["case"]): {part["name"] for part in row["structures"]} for row in others}
    return [
        row | {"structures": [part for part in row["structures"] if part["name"] in known[row["dataset"], row["case"]]]}
        for row in exams
        if (row["dataset"], row["case"]) in known
    ]


def read_table(path: Path) -> Table:
    """What values mean, from a JSON file {value: [names]} as prepared datasets have it; 0 need not be there."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{path}: must be a table of voxel value to names")
    return table_from({"0": ["background"]} | values, str(path))


def _label_file(folder: Path, name: str) -> Path:
    for ending in _ENDINGS:
        if (folder / ending.format(name)).is_file():
            return folder / ending.format(name)
    raise FileError(f"{folder / name}.nii.gz: not found, nor {name}_labels.nii.gz; every case needs an answer")


def _own_values(labels: Array, table: Mapping[int, Sequence[str]], path: Path) -> tuple[Array, tuple[Names, ...]]:
    """Another program's values as this package's, and the sets that they stand for; "background" wins in a set."""
    strange = sorted({int(value) for value in np.unique(labels)} - set(table) - {0})
    if strange:
        raise DatasetError(f"{path}: holds the value {strange[0]}, which the label table does not explain")
    lookup, meaning = np.zeros(256, np.uint8), []
    for value, names in table.items():
        if value and not {"background", "unknown"} & set(names):
            lookup[value] = min(labels_of(names))
            meaning.append(frozenset(names))
    return lookup[labels], tuple(meaning)
