"""Implausible anatomy, in label maps of blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lumbarseg.active_learning.ensemble import ModelPrediction, model_scopes
from lumbarseg.active_learning.review import (
    Agreement,
    describe_model_disagreements,
    list_implausibilities,
    pairwise_agreement,
)
from lumbarseg.anatomy import CLASSES, Kind, structure_by_name
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.inference import ModelCard
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.volume import Volume

ROWS = ("L5", "L4-L5", "L4", "L3-L4", "L3", "L2-L3", "L2", "L1-L2", "L1")
TABLE: LabelTable = {0: ("background",), **{structure_by_name(name).label: (name,) for name in ROWS}}


def column(**rows: float) -> Volume:
    """Blocks from foot to head; rows: widths in mm, by name with _ for -; 0 omits a structure."""
    labels = np.zeros((20, 60, 200), np.uint8)
    position = 4
    for name in ROWS:
        height = 10 if "-" in name else 28
        half = round(rows.get(name.replace("-", "_"), 40) / 2)
        labels[4:16, 30 - half : 30 + half, position : position + height] = structure_by_name(name).label
        position += height
    return Volume(labels, np.diag([3.0, 1.0, 1.0, 1.0]))


def test_plausible_spine_has_no_findings() -> None:
    assert list_implausibilities(column(), TABLE, discs_expected=True) == []


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"L3_L4": 0}, "gap: no disc between L3 and L4"),
        ({"L3": 4}, "size: L3 has 4.0 ml, outside the known range of 8 to 90 ml"),
        ({"L2": 12}, "size: L2 has 12.1 ml, its neighbours 40.3 ml"),
        ({"L2_L3": 2}, "size: L2-L3 has 0.7 ml, outside the known range of 1 to 35 ml"),
    ],
)
def test_implausible_anatomy_is_listed(changes: dict[str, float], finding: str) -> None:
    assert finding in list_implausibilities(column(**changes), TABLE, discs_expected=True)


def test_unexpected_discs_are_not_reported_missing() -> None:
    bodies = {value: names for value, names in TABLE.items() if "-" not in names[0]}
    labels = column()
    without_discs = Volume(
        np.where(np.isin(labels.array, list(bodies)), labels.array, 0).astype(np.uint8), labels.affine
    )
    assert list_implausibilities(without_discs, bodies, discs_expected=False) == []


def test_wrong_level_order_is_listed() -> None:
    labels = column()
    swap = np.arange(256, dtype=np.uint8)
    swap[[2, 3]] = 3, 2
    assert any(
        text.startswith("order:")
        for text in list_implausibilities(Volume(swap[labels.array], labels.affine), TABLE, True)
    )


def test_size_of_structure_at_the_edge_is_not_checked() -> None:
    labels = column(L1=6)
    cropped = Volume(labels.array[4:16], labels.affine)
    assert not any(text.startswith("size:") for text in list_implausibilities(cropped, TABLE, True))


def test_disagreements_below_the_threshold_are_listed() -> None:
    agreements = [
        Agreement("L3", "a and b", 0.62, 300.0, 1200.0),
        Agreement("L3", "a and c", 0.9, 300.0, 1200.0),
        Agreement("L4", "a and b", 0.8, 300.0, 1200.0),
    ]
    assert describe_model_disagreements(agreements, 0.8) == ["disagreement: L3 Dice 0.62 between a and b"]


def test_small_differences_are_no_disagreement() -> None:
    in_one_slice, in_many = (Agreement("L3 arch", "a and b", 0.5, 60.0, volume) for volume in (240.0, 2400.0))
    assert describe_model_disagreements([in_one_slice], 0.8) == []
    assert describe_model_disagreements([in_many], 0.8) == ["disagreement: L3 arch Dice 0.50 between a and b"]


def test_agreement_is_measured_in_mm() -> None:
    (scope,) = model_scopes({"a": ModelCard(PreprocessingSpec())})
    shape, body = (2, 10, 10), CLASSES.index(Kind.BODY)
    first, second = (np.zeros((len(CLASSES), *shape), np.float32) for _ in range(2))
    first[body, :, :4], second[body, :, :2] = 1, 1
    for probabilities in (first, second):
        probabilities[0] = 1 - probabilities[body]
    predictions = [ModelPrediction(replace(scope, name=name), p) for name, p in (("a", first), ("b", second))]
    nearest = {Kind.BODY: np.full(shape, structure_by_name("L3").label, np.uint8)}
    (agreement,) = pairwise_agreement(predictions, nearest, np.array([4.0, 1.5, 1.0]))
    assert (agreement.name, agreement.pair, agreement.dice) == ("L3", "a and b", 0.667)
    assert (agreement.area, agreement.volume) == (20 * 1.5, 2 * 20 * 1.5 * 4)
