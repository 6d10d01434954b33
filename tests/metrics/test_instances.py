"""Instances counted by hand: hits, misses, false positives, and what is ignored."""

from __future__ import annotations

import numpy as np
import pytest

from lumbarseg.anatomy import structure_by_name
from lumbarseg.metrics.case_scores import instance_rows
from lumbarseg.metrics.instances import InstanceMatch, match_instances


def bar(**lengths: int) -> np.ndarray:
    """Return structures one after the other along one axis, `none` and what begins with it being background."""
    values = [0 if name.startswith("none") else structure_by_name(name.replace("_", "-")).label for name in lengths]
    return np.repeat(values, list(lengths.values())).astype(np.uint8).reshape(1, 1, -1)


def names(rows: list[InstanceMatch]) -> list[tuple[str | None, str | None]]:
    return [(row.reference_name, row.predicted_name) for row in rows]


def match(prediction: np.ndarray, values: list[int], table: dict[int, tuple[str, ...]]) -> list[InstanceMatch]:
    return match_instances(prediction, np.array(values, np.uint8).reshape(1, 1, -1), table)


def test_a_perfect_prediction_and_an_empty_one() -> None:
    reference = bar(L3=4, L3_L4=2, L4=4)
    assert names(match_instances(reference, reference)) == [("L3", "L3"), ("L4", "L4"), ("L3-L4", "L3-L4")]
    assert {row.iou for row in match_instances(reference, reference)} == {1.0}
    assert names(match_instances(reference * 0, reference)) == [("L3", None), ("L4", None), ("L3-L4", None)]
    assert names(match_instances(reference, reference * 0)) == [(None, "L3"), (None, "L4"), (None, "L3-L4")]
    assert match_instances(reference * 0, reference * 0) == []


def test_a_wrong_name_is_still_a_hit() -> None:
    rows = match_instances(bar(L4=4, L5=6), bar(L3=4, L4=6))
    assert names(rows) == [("L3", "L4"), ("L4", "L5")]


def test_half_is_not_enough() -> None:
    rows = match_instances(bar(L4=2, none=2), bar(L4=4))
    assert names(rows) == [("L4", None), (None, "L4")]
    (row,) = match_instances(bar(L4=3, none=1), bar(L4=4))
    assert (row.predicted_name, row.iou) == ("L4", 0.75)


def test_complete_vertebrae_are_bodies_with_their_arches() -> None:
    prediction = np.array([4, 4, 54, 54, 5, 5, 0, 0], np.uint8).reshape(1, 1, -1)
    table = {0: ("background",), 1: ("L4", "L4 arch"), 2: ("L5", "L5 arch")}
    assert names(match(prediction, [1, 1, 1, 1, 2, 2, 2, 2], table)) == [
        ("L4 vertebra", "L4 vertebra"),
        ("L5 vertebra", None),
        (None, "L5 vertebra"),
    ]


def test_unnamed_discs_are_separated_by_the_gap_between_them() -> None:
    values = [2] * 60 + [0] * 40 + [2] * 60 + [0] * 10 + [2] * 3
    prediction = bar(L3_L4=60, none=40, L4_L5=60, none_=13)
    table = {0: ("background", "sacrum"), 1: ("body", "arch"), 2: ("disc",)}
    rows = match(prediction, values, table)
    assert names(rows) == [(None, "L3-L4"), (None, "L4-L5")]  # the fragment of 3 mm3 is ignored
    assert all(row.in_reference and not row.has_reference_names and row.iou == 1 for row in rows)


@pytest.mark.parametrize("ambiguous", [("unknown",), ("background", "body"), ("background", "T12")])
def test_what_may_be_unannotated_is_no_false_positive(ambiguous: tuple[str, ...]) -> None:
    table = {0: ("background",), 1: ("L1",), 9: ambiguous}
    prediction = bar(T12=4, L1=4, none=2)
    assert names(match(prediction, [9, 9, 9, 9, 1, 1, 1, 1, 0, 0], table)) == [("L1", "L1")]
    assert names(match(prediction, [0, 0, 0, 0, 1, 1, 1, 1, 9, 9], table)) == [("L1", "L1"), (None, "T12")]


def test_an_unannotated_neighbour_is_recognised_by_position_not_by_its_wrong_name() -> None:
    """All names one too high: the predicted L2 is the L3 that is not annotated."""
    table = {0: ("background", "L3"), 2: ("L2",), 4: ("L4",)}
    prediction = bar(L1=4, L2=4, L3=4)
    assert names(match(prediction, [2] * 4 + [0] * 4 + [4] * 4, table)) == [("L2", "L1"), ("L4", "L3")]
    table = {0: ("background", "L5"), 2: ("L2",), 4: ("L4",)}
    assert names(match(prediction, [2] * 4 + [0] * 4 + [4] * 4, table)) == [("L2", "L1"), ("L4", "L3"), (None, "L2")]


def test_what_the_prediction_cannot_distinguish_is_not_scored() -> None:
    reference = bar(L3=4, L3_L4=2, L4=4)
    rows = match_instances(reference, reference, prediction_names=[frozenset({"disc"}), frozenset({"L3"})])
    assert names(rows) == [("L3", "L3"), ("L4", "L4")]


def test_an_instance_without_a_name_counts_as_predicted_and_not_as_named() -> None:
    table = {0: ("background",), 1: ("L4",), 61: ("body",)}
    prediction = bar(L3=60, none=2, L4=60)
    reference = np.array([61] * 60 + [0] * 2 + [1] * 60, np.uint8).reshape(1, 1, -1)
    rows = instance_rows([{"instances": [each.to_dict() for each in match_instances(prediction, reference, table)]}])
    assert [(row["hit"], row["named"]) for row in rows] == [(1, 1), (1, None)]
