"""How well the models' answers agree with the labels of people."""

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

_FINAL, _ORIGINAL = DefaultLabelTag.FINAL.value, DefaultLabelTag.ORIGINAL.value


class DiceScoring(ScoringMethod):
    """Dice by name between an answer and the label that a person made of it."""

    def __init__(self) -> None:
        super().__init__("Dice of the models' answers against the labels of people, by name")

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Name of exam to name of structure to Dice, and their mean; stored with each answer, too."""
        y, pred = str(request.get("y") or _FINAL), str(request.get("y_pred") or _ORIGINAL)
        scores: dict[str, dict[str, float]] = {}
        for name in sorted(datastore.get_labeled_images()):
            theirs, ours = (datastore.get_label_uri(name, tag) for tag in (y, pred))
            if not theirs or not ours:
                continue
            info = datastore.get_label_info(name, pred)
            scores[name] = dice_per_structure(
                _read_package_labels(Path(theirs), {}), _read_package_labels(Path(ours), info)
            )
            datastore.update_label_info(name, pred, {"scores": {"dice": scores[name]}})
        every = [value for row in scores.values() for value in row.values()]
        return {"exams": scores, "mean": float(np.mean(every)) if every else None}


def _read_package_labels(path: Path, info: Mapping[str, Any]) -> Array:
    """A stored label map in declared values."""
    labels = read_labels(path).array
    names = info.get("params", {}).get("label_names")
    return to_package_labels(labels, {value: name for name, value in names.items()}) if names else labels


def dice_per_structure(reference: Array, prediction: Array) -> dict[str, float]:
    """Dice of every structure that either label map holds."""
    values = sorted({int(value) for labels in (reference, prediction) for value in np.unique(labels)} - {0})
    return {
        structure_by_label(value).name: round(compute_dice(reference == value, prediction == value), 4)
        for value in values
    }
