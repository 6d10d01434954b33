"""Scores worked out by hand: what counts as overlap, as a right name, and what counts for nobody."""

from __future__ import annotations

import numpy as np
import pytest

from lumbarseg import metrics as scores
from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.metrics import (
    StructureScore,
    compute_dice,
    compute_surface_distances,
    compute_volume_ratio,
    score_structures,
)
from lumbarseg.metrics.overlap import select_marked_uncertain

L3, L4, L5 = (structure_by_name(name).label for name in ("L3", "L4", "L5"))
ARCH = structure_by_name("L4 arch").label


def bar(**lengths: int) -> np.ndarray:
    """Structures one after the other along one axis: bar(L3=4, L4=6); `none` is background."""
    values = [0 if name == "none" else structure_by_name(name).label for name in lengths]
    return np.repeat(values, list(lengths.values())).astype(np.uint8).reshape(1, 1, -1)


def only(rows: list[StructureScore], name: str) -> StructureScore:
    (row,) = [row for row in rows if row.name == name]
    return row


def test_dice_and_ratio_of_hand_counted_masks() -> None:
    a, b = np.array([1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 1, 1], bool)
    assert compute_dice(a, b) == pytest.approx(2 * 2 / 7)
    assert compute_volume_ratio(a, b) == pytest.approx(3 / 4)
    assert compute_dice(a & ~a, b & ~b) == 1
    assert compute_dice(a, a & ~a) == 0
    assert compute_volume_ratio(a, a & ~a) == float("inf")


def test_surfaces_two_voxels_apart_are_two_spacings_apart() -> None:
    a, b = np.zeros((2, 20, 8, 8), bool)
    a[4:10, 2:6, 2:6] = b[6:12, 2:6, 2:6] = True
    far = compute_surface_distances(a, b, (1.5, 1.0, 1.0))
    assert far is not None
    assert far.largest == pytest.approx(3.0)
    assert 0 < far.mean < 3
    assert far.mean <= far.p95 <= far.largest
    assert compute_surface_distances(a, a, (1.5, 1.0, 1.0)) == scores.SurfaceDistances(0, 0, 0)
    assert compute_surface_distances(a, a & ~a, (1, 1, 1)) is None


def test_a_perfect_answer() -> None:
    truth = bar(L3=4, L4=6, none=3)
    rows = score_structures(truth.copy(), truth)
    assert [row.name for row in rows] == ["L3", "L4"]
    assert all((row.dice, row.ratio, row.overlap, row.is_named_right) == (1, 1, 1, True) for row in rows)
    assert scores.find_wrong_names(rows) == scores.find_missing_structures(rows) == []


def test_a_shifted_name_has_overlap_but_no_dice() -> None:
    rows = score_structures(bar(L4=4, L5=6), bar(L3=4, L4=6))
    assert only(rows, "L3").dice == 0
    assert only(rows, "L3").overlap == 1
    assert only(rows, "L4").found_as == "L5"
    assert scores.find_wrong_names(rows) == ["L3 as L4", "L4 as L5"]
    assert only(rows, "L5").dice is None
    assert (only(rows, "L5").truth, only(rows, "L5").found) == (0, 6)


def test_what_covers_a_quarter_or_less_covers_nothing() -> None:
    quarter, more = score_structures(bar(L4=2, none=6), bar(L4=8)), score_structures(bar(L4=3, none=5), bar(L4=8))
    assert only(quarter, "L4").found_as is None
    assert scores.find_missing_structures(quarter) == ["L4"]
    assert only(quarter, "L4").dice == pytest.approx(2 * 2 / 10)
    assert scores.find_missing_structures(more) == []
    assert only(more, "L4").ratio == pytest.approx(3 / 8)


def test_a_whole_vertebra_is_body_and_arch() -> None:
    found = np.array([L4, L4, ARCH, 0, L3, L3], np.uint8).reshape(1, 1, -1)
    truth = np.array([1, 1, 1, 1, 2, 2], np.uint8).reshape(1, 1, -1)
    rows = score_structures(found, truth, {0: ("background",), 1: ("L4", "L4 arch"), 2: ("L5", "L5 arch")})
    assert only(rows, "L4 vertebra").dice == pytest.approx(2 * 3 / 7)
    assert only(rows, "L4 vertebra").is_named_right
    assert scores.find_wrong_names(rows) == ["L5 vertebra as L3 vertebra"]


def test_tissues_have_no_names_to_get_wrong() -> None:
    found = bar(L3=2, L4=2, none=4)
    truth = np.array([1, 1, 1, 60, 60, 60, 0, 3], np.uint8).reshape(1, 1, -1)
    rows = score_structures(found, truth, {1: ("body", "arch"), 60: ("body", "arch"), 2: ("disc",), 3: ("canal",)})
    assert [row.name for row in rows] == ["vertebra", "canal"]
    assert only(rows, "vertebra").dice == pytest.approx(2 * 4 / 10)
    assert only(rows, "canal").dice == 0
    assert scores.find_missing_structures(rows) == scores.find_wrong_names(rows) == []


@pytest.mark.parametrize("doubt", [("unknown",), ("background", "body"), ("L4", "L5"), ("L4", "L4 arch")])
def test_doubt_counts_neither_for_nor_against(doubt: tuple[str, ...]) -> None:
    truth = np.array([1, 1, 9, 9, 0, 0], np.uint8).reshape(1, 1, -1)
    table = {0: ("background",), 1: ("L4",), 9: doubt}
    inside = only(score_structures(bar(L4=4, none=2), truth, table), "L4")
    assert (inside.dice, inside.ratio) == (1, 1)
    outside = only(score_structures(bar(L4=5, none=1), truth, table), "L4")
    assert outside.dice == pytest.approx(2 * 2 / 5)


def test_a_tissue_beside_its_named_structures_is_a_rest_that_nobody_can_score() -> None:
    truth = np.array([1, 1, 61, 61, 0, 3], np.uint8).reshape(1, 1, -1)
    table = {0: ("background",), 1: ("L4", "L4 arch"), 3: ("canal",), 61: ("body", "arch")}
    rows = score_structures(bar(L4=3, L3=2, canal=1), truth, table)
    assert [row.name for row in rows] == ["L4 vertebra", "canal"]
    assert only(rows, "L4 vertebra").dice == 1


def test_the_own_values_can_be_restricted_to_kinds() -> None:
    truth = bar(L3=4, **{"L3-L4": 2}, canal=3, L4=4)
    assert [row.name for row in score_structures(truth, truth, scores.own_label_table((Kind.DISC,)))] == ["L3-L4"]
    assert {row.name for row in score_structures(truth, truth)} == {"L3", "L3-L4", "L4", "canal"}


def test_distances_come_when_a_spacing_is_given_and_a_row_goes_to_json() -> None:
    truth = bar(L3=4, L4=6)
    row = only(score_structures(truth, truth, spacing=(1, 1, 1)), "L3")
    assert row.to_dict()["distances"] == {"mean": 0.0, "p95": 0.0, "largest": 0.0}
    assert "distances" not in score_structures(truth, truth)[0].to_dict()


def test_a_wrong_name_is_marked_where_a_level_beside_it_is() -> None:
    texts = ["L4-L5 as L3-L4", "L5 vertebra as L4 vertebra", "L2 as L1", "L5-S1 as L4-L5", "canal as L2 arch"]
    assert select_marked_uncertain(texts, ["L4"]) == ["L4-L5 as L3-L4", "L5 vertebra as L4 vertebra", "L5-S1 as L4-L5"]
    assert select_marked_uncertain(texts, ["L1", "L2"]) == ["L2 as L1", "canal as L2 arch"]
    assert select_marked_uncertain(texts, []) == []
