"""List what a person should review in pseudo-labels: disagreement of models and implausible anatomy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from lumbarseg.anatomy import CLASSES, LEVELS, Kind, structure_by_label
from lumbarseg.datasets.dataset import Case
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.datasets.validation.components import LabelRegion, find_label_regions
from lumbarseg.datasets.validation.level_order import check_level_order
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.volume import Array, Volume

from .ensemble import ModelPrediction

VOLUME_RANGES = {Kind.BODY: (8.0, 90.0), Kind.DISC: (1.0, 35.0)}
"""Volumes in ml of a complete lumbar body and disc, including those of children and collapsed ones."""
_RELATIVE_VOLUME_RANGES = {Kind.BODY: (0.45, 2.0), Kind.DISC: (0.25, 3.0)}  # of the median of the same exam

_MIN_DIFFERENCE = (100.0, 1500.0)  # mm2 in one slice, mm3 in all: less than both is the border of a small structure

PairwiseDice = dict[str, dict[str, float]]
"""Dice by structure name and pair of models: {"L3": {"a and b": 0.9}}."""


@dataclass(frozen=True)
class Agreement:
    """How far two models agree on a structure.

    pair: "a and b"; area, volume: where they differ, mm2 in the slice with the largest difference and mm3.
    """

    name: str
    pair: str
    dice: float
    area: float
    volume: float


def dice_by_name(agreements: Sequence[Agreement]) -> PairwiseDice:
    """Return the Dice of each structure and pair of models, as JSON values."""
    table: PairwiseDice = {}
    for agreement in agreements:
        table.setdefault(agreement.name, {})[agreement.pair] = agreement.dice
    return table


def pairwise_agreement(
    predictions: Sequence[ModelPrediction], nearest_labels: Mapping[Kind, Array], spacing: Array
) -> list[Agreement]:
    """Compare each structure between any two models that were trained on it.

    Parameters
    ----------
    nearest_labels : for each kind, the label of the structure that a voxel belongs to or lies next to, 0 for none
    spacing : (3,) mm
    """
    class_maps = [prediction.class_map() for prediction in predictions]
    agreements = []
    for kind, nearest in nearest_labels.items():
        for label in (int(value) for value in np.unique(nearest) if value):
            masks = {
                prediction.scope.name: (nearest == label) & (classes == CLASSES.index(kind))
                for prediction, classes in zip(predictions, class_maps, strict=True)
                if label in prediction.scope.labels and kind in prediction.scope.kinds
            }
            for first, second in combinations(masks, 2):
                if masks[first].any() or masks[second].any():
                    dice = round(compute_dice(masks[first], masks[second]), 3)
                    areas = (masks[first] ^ masks[second]).sum(axis=(1, 2)) * float(np.prod(spacing[1:]))
                    volume = float(areas.sum() * spacing[0])
                    name = structure_by_label(label).name
                    agreements.append(Agreement(name, f"{first} and {second}", dice, float(areas.max()), volume))
    return agreements


def describe_model_disagreements(agreements: Sequence[Agreement], threshold: float) -> list[str]:
    """List each structure and pair of models whose Dice is below the threshold.

    Pairs that differ by less than `_MIN_DIFFERENCE` are left out: the borders of a small structure, such as an
    articular process in one slice, are enough to make its Dice low.
    """
    min_area, min_volume = _MIN_DIFFERENCE
    return [
        f"disagreement: {a.name} Dice {a.dice:.2f} between {a.pair}"
        for a in agreements
        if a.dice < threshold and (a.area >= min_area or a.volume >= min_volume)
    ]


def list_implausibilities(labels: Volume, table: LabelTable, discs_expected: bool) -> list[str]:
    """List anatomical impossibilities in a label map: wrong order, wrong sizes, missing discs.

    labels: RAS, uint8 values of `table`; discs_expected: whether a missing disc is a finding.
    """
    regions = find_label_regions(labels, {value: names for value, names in table.items() if "unknown" not in names})
    findings = check_level_order(Case("", Path(), Path(), table), regions)
    texts = [f"{finding.check}: {finding.text}" for finding in findings if finding.severity != "note"]
    levels = {region.display_name: region for region in regions if region.level}
    if discs_expected:
        texts += _missing_discs(levels, table)
    return [*texts, *_implausible_volumes(levels, labels)]


def _missing_discs(levels: Mapping[str, LabelRegion], table: LabelTable) -> list[str]:
    """List the discs of the table that are missing between two neighbouring bodies."""
    names = {name for value, row in table.items() if value for name in row}
    missing = names - set(levels)
    pairs = pairwise(level for level in LEVELS if level in levels)
    return [f"gap: no disc between {above} and {below}" for above, below in pairs if f"{above}-{below}" in missing]


def _implausible_volumes(levels: Mapping[str, LabelRegion], labels: Volume) -> Iterator[str]:
    """Yield each complete body or disc whose volume is outside the known range or unlike that of its neighbours."""
    for kind, (lowest, highest) in VOLUME_RANGES.items():
        volumes = {
            name: sum(component.volume for component in region.components) / 1000
            for name, region in levels.items()
            if region.level and region.level.kind is kind and _is_complete(region, labels)
        }
        median = float(np.median(list(volumes.values()))) if len(volumes) > 2 else None
        low, high = _RELATIVE_VOLUME_RANGES[kind]
        for name, volume in volumes.items():
            if not lowest <= volume <= highest:
                yield f"size: {name} has {volume:.1f} ml, outside the known range of {lowest:g} to {highest:g} ml"
            elif median and not low <= volume / median <= high:
                yield f"size: {name} has {volume:.1f} ml, its neighbours {median:.1f} ml"


def _is_complete(region: LabelRegion, labels: Volume) -> bool:
    """Return whether no part of a region touches the edge of the exam, the outer slices included."""
    lateral = region.largest.points[:, 0]
    width = (labels.array.shape[0] - 1) * labels.grid.spacing[0]
    touches_edge = any(component.touches_edge for component in region.components)
    return not touches_edge and bool(lateral.min() > 0 and lateral.max() < width - 1e-6)
