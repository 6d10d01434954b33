"""Correction of the axes of a labelled exam that the anatomy shows to be reversed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lumbarseg.orientation import estimate_orientation
from lumbarseg.volume import Volume

from .label_table import LabelTable

KNOWN_FAULTS = {
    "axis": "the header reverses axes, as the anatomy shows; corrected. Left and right cannot be verified",
    "unsure": "the anatomy does not show which way an axis points; left as the header says",
}


@dataclass(frozen=True, eq=False)
class OrientedExam:
    """An exam with corrected axes.

    Attributes
    ----------
    warnings : "axis: ..." for corrected axes and "unsure: ..." for those that the anatomy does not show
    reasons : the evidence of each cue
    """

    image: Volume
    labels: Volume
    warnings: tuple[str, ...]
    reasons: tuple[str, ...]


def correct_orientation(image: Volume, labels: Volume, label_table: LabelTable) -> OrientedExam:
    """Correct the axes that the anatomy shows to be reversed.

    One reversed axis alone would mirror the patient, so left and right turn with it.
    """
    estimate = estimate_orientation(image, labels, label_table)
    verdicts = {"front and back": estimate.anterior_posterior, "head and feet": estimate.superior_inferior}
    signs = np.array([1.0, *(-1.0 if verdict < 0 else 1.0 for verdict in verdicts.values()), 1.0])
    signs[0] = signs[1] * signs[2]
    warnings = []
    if wrong := " and ".join(name for name, verdict in verdicts.items() if verdict < 0):
        mirrored = ", and left and right with them (they cannot be verified)" if signs[0] < 0 else ""
        warnings.append(f"axis: the header reverses {wrong}, as the anatomy shows; corrected{mirrored}")
    if unsure := " and ".join(name for name, verdict in verdicts.items() if verdict == 0):
        warnings.append(f"unsure: the anatomy does not show {unsure}; left as the header says")
    affine = np.diag(signs) @ image.affine
    return OrientedExam(Volume(image.array, affine), Volume(labels.array, affine), tuple(warnings), estimate.reasons)
