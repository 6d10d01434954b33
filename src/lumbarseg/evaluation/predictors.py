"""Predictions to evaluate: those of a model, or label files that another program wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.datasets import Case
from lumbarseg.datasets.label_table import LabelTable, require_explained
from lumbarseg.errors import DatasetError, FileError, GridError, LumbarsegError, SegmentError
from lumbarseg.inference import Model
from lumbarseg.io import read_labels
from lumbarseg.metrics.structure_names import AMBIGUOUS_NAMES, StructureNames, labels_with_names
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import segment
from lumbarseg.volume import Array, Volume

_LABEL_FILE_PATTERNS = ("{}.nii.gz", "{}_labels.nii.gz", "{}.nii", "{}_labels.nii", "{}.mha", "{}.nrrd")


@dataclass(frozen=True, eq=False)
class CasePrediction:
    """A prediction for one case.

    labels : (I, J, K) uint8 on the grid of the case, values of `anatomy.STRUCTURES`
    levels, uncertain_levels : names that were given, and those of them marked uncertain
    error : why nothing was predicted, "" otherwise
    value_names : what the values stand for, if they are coarser than `anatomy.STRUCTURES`
    segmented_kinds : kinds that the model segments
    """

    labels: Array
    levels: tuple[str, ...] = ()
    uncertain_levels: tuple[str, ...] = ()
    error: str = ""
    value_names: tuple[StructureNames, ...] = ()
    segmented_kinds: frozenset[str] = frozenset(CLASSES)


CasePredictor = Callable[[Case, Volume], CasePrediction]


def predictor_from_model(model: Model) -> CasePredictor:
    """Return a predictor that segments each case with a model; an exam without a spine gives an empty prediction."""
    kinds = frozenset(str(kind) for kind in model.card.output_kinds)

    def predict(case: Case, image: Volume) -> CasePrediction:
        try:
            segmentation = segment(image, model)
        except SegmentError as error:
            return CasePrediction(np.zeros(image.array.shape, np.uint8), error=str(error), segmented_kinds=kinds)
        except LumbarsegError as error:
            raise DatasetError(f"{case.image}: {error}") from error
        levels = tuple(level.name for level in segmentation.levels)
        uncertain = tuple(level.name for level in segmentation.levels if level.uncertain)
        return CasePrediction(segmentation.labels.array, levels, uncertain, segmented_kinds=kinds)

    return predict


def predictor_from_files(folder: Path, label_table: LabelTable | str = "default") -> CasePredictor:
    """Return a predictor that reads FOLDER/NAME.nii.gz, NAME_labels.nii.gz, .nii, .mha or .nrrd for each case.

    Parameters
    ----------
    label_table : what the values of the files mean; "default" for the values of this package, "dataset" for those of
        the dataset of the case. The files must lie on the grid of the case, in any orientation of the axes.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; give the one that holds the label files")

    def predict(case: Case, image: Volume) -> CasePrediction:
        path = _find_label_file(folder, case.name)
        labels = reorient(read_labels(path), image.grid.axis_codes)
        if not labels.grid.same_as(image.grid, tolerance=1e-2):
            raise GridError(f"{path}: not on the grid of {case.image}; resample it to that grid first")
        if label_table == "default":
            return CasePrediction(labels.array)
        table = case.label_table if isinstance(label_table, str) else label_table
        converted, value_names = _convert_values(labels.array, table, path)
        return CasePrediction(converted, value_names=value_names)

    return predict


def _find_label_file(folder: Path, name: str) -> Path:
    for pattern in _LABEL_FILE_PATTERNS:
        if (folder / pattern.format(name)).is_file():
            return folder / pattern.format(name)
    raise FileError(f"{folder / name}.nii.gz: not found, nor {name}_labels.nii.gz; every case needs a label file")


def _convert_values(
    labels: Array, table: Mapping[int, Sequence[str]], path: Path
) -> tuple[Array, tuple[StructureNames, ...]]:
    """Convert another program's values to labels of this package, and return the names that each value stands for."""
    require_explained(np.unique(labels).tolist(), {0, *table}, path)
    rows = {value: names for value, names in table.items() if value and not AMBIGUOUS_NAMES & set(names)}
    lookup = np.zeros(256, np.uint8)
    for value, names in rows.items():
        lookup[value] = min(labels_with_names(names))
    return lookup[labels], tuple(frozenset(names) for names in rows.values())
