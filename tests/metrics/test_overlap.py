"""Scores computed by hand: overlap, names, and what is ignored."""

from __future__ import annotations

import numpy as np
import pytest

from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.metrics.overlap import (
    StructureScore,
    compute_dice,
    find_missing_structures,
    find_wrong_names,
    score_structures,
    select_marked_uncertain,
)
from lumbarseg.metrics.structure_names import own_label_table
from lumbarseg.metrics.surface import SurfaceDistances, compute_surface_distances

L3, L4, L5 = (structure_by_name(name).label for name in ("L3", "L4", "L5"))
ARCH = structure_by_name("L4 arch").label


def bar(**lengths: int) -> np.ndarray:
    """Return structures one after the other along one axis: bar(L3=4, L4=6); `none` is background."""
    values = [0 if name == "none" else structure_by_name(name).label for name in lengths]
    return np.repeat(values, list(lengths.values())).astype(np.uint8).reshape(1, 1, -1)


def score_of(rows: list[StructureScore], name: str) -> StructureScore:
    (row,) = [row for row in rows if row.name == name]
    return row


def test_dice_of_hand_counted_masks() -> None:
    a, b = np.array([1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 1, 1], bool)
    assert compute_dice(a, b) == pytest.approx(2 * 2 / 7)
    assert compute_dice(a & ~a, b & ~b) == 1
    assert compute_dice(a, a & ~a) == 0


def test_surfaces_two_voxels_apart_are_two_spacings_apart() -> None:
    a, b = np.zeros((2, 20, 8, 8), bool)
    a[4:10, 2:6, 2:6] = b[6:12, 2:6, 2:6] = True
    far = compute_surface_distances(a, b, (1.5, 1.0, 1.0))
    assert far is not None
    assert far.largest == pytest.approx(3.0)
    assert 0 < far.mean < 3
    assert far.mean <= far.p95 <= far.largest
    assert compute_surface_distances(a, a, (1.5, 1.0, 1.0)) == SurfaceDistances(0, 0, 0)
    assert compute_surface_distances(a, a & ~a, (1, 1, 1)) is None


def test_a_perfect_prediction() -> None:
    reference = bar(L3=4, L4=6, none=3)
    rows = score_structures(reference.copy(), reference)
    assert [row.name for row in rows] == ["L3", "L4"]
    assert all((row.dice, row.volume_ratio, row.covering_dice, row.is_named_right) == (1, 1, 1, True) for row in rows)
    assert find_wrong_names(rows) == find_missing_structures(rows) == []


def test_a_shifted_name_has_overlap_but_no_dice() -> None:
    rows = score_structures(bar(L4=4, L5=6), bar(L3=4, L4=6))
    assert score_of(rows, "L3").dice == 0
    assert score_of(rows, "L3").covering_dice == 1
    assert score_of(rows, "L4").covered_by == "L5"
    assert find_wrong_names(rows) == ["L3 as L4", "L4 as L5"]
    assert score_of(rows, "L5").dice is None
    assert (score_of(rows, "L5").reference_voxels, score_of(rows, "L5").predicted_voxels) == (0, 6)


def test_a_quarter_or_less_is_no_cover() -> None:
    quarter, more = score_structures(bar(L4=2, none=6), bar(L4=8)), score_structures(bar(L4=3, none=5), bar(L4=8))
    assert score_of(quarter, "L4").covered_by is None
    assert find_missing_structures(quarter) == ["L4"]
    assert score_of(quarter, "L4").dice == pytest.approx(2 * 2 / 10)
    assert find_missing_structures(more) == []
    assert score_of(more, "L4").volume_ratio == pytest.approx(3 / 8)


def test_a_complete_vertebra_is_body_and_arch() -> None:
    prediction = np.array([L4, L4, ARCH, 0, L3, L3], np.uint8).reshape(1, 1, -1)
    reference = np.array([1, 1, 1, 1, 2, 2], np.uint8).reshape(1, 1, -1)
    rows = score_structures(prediction, reference, {0: ("background",), 1: ("L4", "L4 arch"), 2: ("L5", "L5 arch")})
    assert score_of(rows, "L4 vertebra").dice == pytest.approx(2 * 3 / 7)
    assert score_of(rows, "L4 vertebra").is_named_right
    assert find_wrong_names(rows) == ["L5 vertebra as L3 vertebra"]


def test_tissues_have_no_wrong_names() -> None:
    prediction = bar(L3=2, L4=2, none=4)
    reference = np.array([1, 1, 1, 60, 60, 60, 0, 3], np.uint8).reshape(1, 1, -1)
    rows = score_structures(
        prediction, reference, {1: ("body", "arch"), 60: ("body", "arch"), 2: ("disc",), 3: ("canal",)}
    )
    assert [row.name for row in rows] == ["vertebra", "canal"]
    assert score_of(rows, "vertebra").dice == pytest.approx(2 * 4 / 10)
    assert score_of(rows, "canal").dice == 0
    assert find_missing_structures(rows) == find_wrong_names(rows) == []


@pytest.mark.parametrize("ambiguous", [("unknown",), ("background", "body"), ("L4", "L5"), ("L4", "L4 arch")])
def test_ambiguous_voxels_are_ignored(ambiguous: tuple[str, ...]) -> None:
    reference = np.array([1, 1, 9, 9, 0, 0], np.uint8).reshape(1, 1, -1)
    table = {0: ("background",), 1: ("L4",), 9: ambiguous}
    inside = score_of(score_structures(bar(L4=4, none=2), reference, table), "L4")
    assert (inside.dice, inside.volume_ratio) == (1, 1)
    outside = score_of(score_structures(bar(L4=5, none=1), reference, table), "L4")
    assert outside.dice == pytest.approx(2 * 2 / 5)


def test_a_tissue_beside_its_named_structures_has_no_score() -> None:
    reference = np.array([1, 1, 61, 61, 0, 3], np.uint8).reshape(1, 1, -1)
    table = {0: ("background",), 1: ("L4", "L4 arch"), 3: ("canal",), 61: ("body", "arch")}
    rows = score_structures(bar(L4=3, L3=2, canal=1), reference, table)
    assert [row.name for row in rows] == ["L4 vertebra", "canal"]
    assert score_of(rows, "L4 vertebra").dice == 1


def test_the_own_values_can_be_restricted_to_kinds() -> None:
    reference = bar(L3=4, **{"L3-L4": 2}, canal=3, L4=4)
    assert [row.name for row in score_structures(reference, reference, own_label_table((Kind.DISC,)))] == ["L3-L4"]
    assert {row.name for row in score_structures(reference, reference)} == {"L3", "L3-L4", "L4", "canal"}


def test_a_spacing_asks_for_distances_and_a_score_goes_to_json() -> None:
    reference = bar(L3=4, L4=6)
    row = score_of(score_structures(reference, reference, spacing=(1, 1, 1)), "L3")
    assert row.to_dict()["distances"] == {"mean": 0.0, "p95": 0.0, "largest": 0.0}
    assert "distances" not in score_structures(reference, reference)[0].to_dict()


def test_a_wrong_name_is_marked_where_a_level_beside_it_is() -> None:
    wrong_names = ["L4-L5 as L3-L4", "L5 vertebra as L4 vertebra", "L2 as L1", "L5-S1 as L4-L5", "canal as L2 arch"]
    assert select_marked_uncertain(wrong_names, ["L4"]) == [
        "L4-L5 as L3-L4",
        "L5 vertebra as L4 vertebra",
        "L5-S1 as L4-L5",
    ]
    assert select_marked_uncertain(wrong_names, ["L1", "L2"]) == ["L2 as L1", "canal as L2 arch"]
    assert select_marked_uncertain(wrong_names, []) == []
