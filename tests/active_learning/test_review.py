"""Anatomy that cannot be, in blocks for bodies and discs."""

from __future__ import annotations

import numpy as np
import pytest

from lumbarseg.active_learning.review import list_disagreements, list_implausibilities
from lumbarseg.anatomy import structure_by_name
from lumbarseg.datasets.dataset import LabelTable
from lumbarseg.volume import Volume

ROWS = ("L5", "L4-L5", "L4", "L3-L4", "L3", "L2-L3", "L2", "L1-L2", "L1")
TABLE: LabelTable = {0: ("background",), **{structure_by_name(name).label: (name,) for name in ROWS}}


def column(**rows: float) -> Volume:
    """Blocks from foot to head; rows: other widths than 44 mm, by name with _ for -; 0 leaves one out."""
    labels = np.zeros((20, 60, 200), np.uint8)
    at = 4
    for name in ROWS:
        height = 10 if "-" in name else 28
        half = round(rows.get(name.replace("-", "_"), 40) / 2)
        labels[4:16, 30 - half : 30 + half, at : at + height] = structure_by_name(name).label
        at += height
    return Volume(labels, np.diag([3.0, 1.0, 1.0, 1.0]))


def test_a_plausible_column_is_no_matter() -> None:
    assert list_implausibilities(column(), TABLE, discs_expected=True) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"L3_L4": 0}, "gap: no disc between L3 and L4"),
        ({"L3": 4}, "size: L3 has 4.0 ml; 8 to 90 are known"),
        ({"L2": 12}, "size: L2 has 12.1 ml, its neighbours 40.3"),
        ({"L2_L3": 2}, "size: L2-L3 has 0.7 ml; 1 to 35 are known"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, float], told: str) -> None:
    assert told in list_implausibilities(column(**changes), TABLE, discs_expected=True)


def test_discs_that_nobody_looked_for_are_not_missed() -> None:
    bodies = {value: names for value, names in TABLE.items() if "-" not in names[0]}
    labels = column()
    plain = Volume(np.where(np.isin(labels.array, list(bodies)), labels.array, 0).astype(np.uint8), labels.affine)
    assert list_implausibilities(plain, bodies, discs_expected=False) == []


def test_names_out_of_order_are_told() -> None:
    labels = column()
    swap = np.arange(256, dtype=np.uint8)
    swap[[2, 3]] = 3, 2
    assert any(
        text.startswith("order:")
        for text in list_implausibilities(Volume(swap[labels.array], labels.affine), TABLE, True)
    )


def test_a_structure_at_the_edge_has_no_size() -> None:
    labels = column(L1=6)
    cut = Volume(labels.array[4:16], labels.affine)
    assert not any(text.startswith("size:") for text in list_implausibilities(cut, TABLE, True))


def test_disagreements_are_told_below_a_dice() -> None:
    found = {"L3": {"a and b": 0.62, "a and c": 0.9}, "L4": {"a and b": 0.8}}
    assert list_disagreements(found, 0.8) == ["disagreement: L3 Dice 0.62 between a and b"]
