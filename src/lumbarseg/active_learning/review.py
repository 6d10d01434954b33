"""What a person should look at in labels that nobody drew: models that disagree, and anatomy that cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from lumbarseg.anatomy import LEVELS, Kind, structure_by_label
from lumbarseg.datasets.dataset import Case, LabelTable
from lumbarseg.datasets.validation.components import LabelRegion, label_regions
from lumbarseg.datasets.validation.level_order import check_level_order
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.volume import Array, Volume

from .ensemble import ModelPrediction

KNOWN_FAULTS = {
    "disagreement": "models that know the same structure draw it differently; look whose is right",
    "unknown": "where models disagree strongly, voxels were left unknown",
    "gap": "a structure is missing in the column, or two lie too far apart",
    "order": "names do not follow each other as they must",
    "size": "a structure is smaller or larger than any in a person, or than its neighbours allow",
    "uncertain-names": "what the names were counted from does not make them certain",
    "axis": "the header and the anatomy tell different axes; the anatomy was believed",
    "image-header": "the image's own header is odd; it was read as told",
}

VOLUME_RANGES = {Kind.BODY: (8.0, 90.0), Kind.DISC: (1.0, 35.0)}
"""ml that a whole lumbar body and a disc have in a person, children and collapsed ones included."""

_RELATIVE_VOLUME_RANGES = {Kind.BODY: (0.45, 2.0), Kind.DISC: (0.25, 3.0)}  # of the median of the same exam

PairwiseDice = dict[str, dict[str, float]]


def pairwise_agreement(predictions: Sequence[ModelPrediction], nearest_labels: Mapping[Kind, Array]) -> PairwiseDice:
    """Dice of each structure between each two models that were made for it: {structure: {"a and b": Dice}}.

    names: for each kind the label of the structure that a voxel belongs to or lies next to, 0 for none.
    """
    found = [voice.class_map() for voice in predictions]
    out: PairwiseDice = {}
    for kind, near in nearest_labels.items():
        for label in (int(value) for value in np.unique(near) if value):
            here = near == label
            heard = [
                i for i, voice in enumerate(predictions) if label in voice.scope.labels and kind in voice.scope.kinds
            ]
            masks = {i: here & (found[i] == list(Kind).index(kind)) for i in heard}
            for i, j in combinations(heard, 2):
                if masks[i].any() or masks[j].any():
                    pair = f"{predictions[i].scope.name} and {predictions[j].scope.name}"
                    out.setdefault(structure_by_label(label).name, {})[pair] = round(
                        compute_dice(masks[i], masks[j]), 3
                    )
    return out


def list_disagreements(agreement: PairwiseDice, threshold: float) -> list[str]:
    """A line for each structure and pair of models below `least`."""
    return [
        f"disagreement: {name} Dice {value:.2f} between {pair}"
        for name, pairs in agreement.items()
        for pair, value in pairs.items()
        if value < threshold
    ]


def list_implausibilities(labels: Volume, table: LabelTable, discs_expected: bool) -> list[str]:
    """What cannot be in a person; labels: RAS, uint8, values of `table`; discs: whether these were looked for."""
    parts = label_regions(labels, {value: names for value, names in table.items() if "unknown" not in names})
    case = Case("", Path(), Path(), table)
    told = [
        f"{finding.check}: {finding.text}" for finding in check_level_order(case, parts) if finding.severity != "note"
    ]
    named = {part.display_name: part for part in parts if part.level}
    if discs_expected:
        told += _missing_discs(named, table)
    return told + _implausible_volumes(named, labels)


def _missing_discs(parts_by_name: Mapping[str, LabelRegion], table: LabelTable) -> list[str]:
    """Neighbouring bodies between which no disc was found, though such discs were looked for."""
    sought = {name for value, names in table.items() if value for name in names}
    bodies = [level for level in LEVELS if level in parts_by_name]
    return [
        f"gap: no disc between {upper} and {lower}"
        for upper, lower in pairwise(bodies)
        if f"{upper}-{lower}" in sought and f"{upper}-{lower}" not in parts_by_name
    ]


def _implausible_volumes(parts_by_name: Mapping[str, LabelRegion], labels: Volume) -> list[str]:
    told = []
    for kind, (least, most) in VOLUME_RANGES.items():
        volumes = {
            name: sum(piece.volume for piece in part.components) / 1000
            for name, part in parts_by_name.items()
            if part.level and part.level.kind is kind and _is_complete(part, labels)
        }
        usual = float(np.median(list(volumes.values()))) if len(volumes) > 2 else None
        low, high = _RELATIVE_VOLUME_RANGES[kind]
        for name, volume in volumes.items():
            if not least <= volume <= most:
                told.append(f"size: {name} has {volume:.1f} ml; {least:g} to {most:g} are known")
            elif usual and not low <= volume / usual <= high:
                told.append(f"size: {name} has {volume:.1f} ml, its neighbours {usual:.1f}")
    return told


def _is_complete(part: LabelRegion, labels: Volume) -> bool:
    """Whether nothing of a structure lies at the edge of the exam, the outer slices included."""
    across = part.largest.points[:, 0]
    width = (labels.array.shape[0] - 1) * labels.grid.spacing[0]
    return not any(piece.touches_edge for piece in part.components) and bool(
        across.min() > 0 and across.max() < width - 1e-6
    )
