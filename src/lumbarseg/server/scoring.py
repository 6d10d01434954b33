"""Score the results of models against the final labels of annotators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.scoring import ScoringMethod

from lumbarseg.anatomy import structure_by_label
from lumbarseg.io import read_labels
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.volume import Array

from .label_values import to_package_labels


class DiceScoring(ScoringMethod):
    """Dice by structure name between a stored result and the label of an annotator."""

    def __init__(self) -> None:
        super().__init__("Dice by name of results of models against final labels")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Return the Dice of each structure of each exam, and their mean; also stored with each result."""
        label_tag = str(request.get("y") or DefaultLabelTag.FINAL.value)
        result_tag = str(request.get("y_pred") or DefaultLabelTag.ORIGINAL.value)
        scores: dict[str, dict[str, float]] = {}
        for name in sorted(datastore.get_labeled_images()):
            label, result = (datastore.get_label_uri(name, tag) for tag in (label_tag, result_tag))
            if not label or not result:
                continue
            info = datastore.get_label_info(name, result_tag)
            scores[name] = dice_per_structure(read_labels(Path(label)).array, _read_package_labels(Path(result), info))
            datastore.update_label_info(name, result_tag, {"scores": {"dice": scores[name]}})
        values = [value for row in scores.values() for value in row.values()]
        return {"exams": scores, "mean": float(np.mean(values)) if values else None}


def _read_package_labels(path: Path, info: Mapping[str, Any]) -> Array:
    """Read a stored result in package values."""
    labels = read_labels(path).array
    names = info.get("params", {}).get("label_names")
    return to_package_labels(labels, {value: name for name, value in names.items()}) if names else labels


def dice_per_structure(reference: Array, prediction: Array) -> dict[str, float]:
    """Compute the Dice of every structure that occurs in either label map."""
    values = [int(value) for value in np.union1d(reference, prediction) if value]
    scores = [round(compute_dice(reference == value, prediction == value), 4) for value in values]
    return {structure_by_label(value).name: score for value, score in zip(values, scores, strict=True)}
