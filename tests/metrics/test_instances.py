"""Things counted by hand: hits, misses, finds without a counterpart, and what counts for nobody."""

from __future__ import annotations

import numpy as np
import pytest

from lumbarseg.anatomy import structure_by_name
from lumbarseg.metrics import InstanceMatch, instance_rows, match_instances


def bar(**lengths: int) -> np.ndarray:
    """Structures one after the other along one axis, `none` and what begins with it being background."""
    values = [0 if name.startswith("none") else structure_by_name(name.replace("_", "-")).label for name in lengths]
    return np.repeat(values, list(lengths.values())).astype(np.uint8).reshape(1, 1, -1)


def told(rows: list[InstanceMatch]) -> list[tuple[str | None, str | None]]:
    return [(row.name, row.found_as) for row in rows]


def of(found: np.ndarray, values: list[int], table: dict[int, tuple[str, ...]]) -> list[InstanceMatch]:
    return match_instances(found, np.array(values, np.uint8).reshape(1, 1, -1), table)


def test_a_perfect_answer_and_an_empty_one() -> None:
    truth = bar(L3=4, L3_L4=2, L4=4)
    assert told(match_instances(truth, truth)) == [("L3", "L3"), ("L4", "L4"), ("L3-L4", "L3-L4")]
    assert {row.overlap for row in match_instances(truth, truth)} == {1.0}
    assert told(match_instances(truth * 0, truth)) == [("L3", None), ("L4", None), ("L3-L4", None)]
    assert told(match_instances(truth, truth * 0)) == [(None, "L3"), (None, "L4"), (None, "L3-L4")]
    assert match_instances(truth * 0, truth * 0) == []


def test_a_wrong_name_is_a_hit_all_the_same() -> None:
    rows = match_instances(bar(L4=4, L5=6), bar(L3=4, L4=6))
    assert told(rows) == [("L3", "L4"), ("L4", "L5")]


def test_half_is_not_enough() -> None:
    rows = match_instances(bar(L4=2, none=2), bar(L4=4))
    assert told(rows) == [("L4", None), (None, "L4")]
    (row,) = match_instances(bar(L4=3, none=1), bar(L4=4))
    assert (row.found_as, row.overlap) == ("L4", 0.75)


def test_whole_vertebrae_are_bodies_with_their_arches() -> None:
    found = np.array([4, 4, 54, 54, 5, 5, 0, 0], np.uint8).reshape(1, 1, -1)
    table = {0: ("background",), 1: ("L4", "L4 arch"), 2: ("L5", "L5 arch")}
    assert told(of(found, [1, 1, 1, 1, 2, 2, 2, 2], table)) == [
        ("L4 vertebra", "L4 vertebra"),
        ("L5 vertebra", None),
        (None, "L5 vertebra"),
    ]


def test_nameless_discs_are_told_apart_by_the_gap_between_them() -> None:
    values = [2] * 60 + [0] * 40 + [2] * 60 + [0] * 10 + [2] * 3
    found = bar(L3_L4=60, none=40, L4_L5=60, none_=13)
    table = {0: ("background", "sacrum"), 1: ("body", "arch"), 2: ("disc",)}
    rows = of(found, values, table)
    assert told(rows) == [(None, "L3-L4"), (None, "L4-L5")]  # the speck of 3 mm3 counts for nobody
    assert all(row.drawn and not row.nameable and row.overlap == 1 for row in rows)


@pytest.mark.parametrize("doubt", [("unknown",), ("background", "body"), ("background", "T12")])
def test_what_may_be_undrawn_is_no_false_find(doubt: tuple[str, ...]) -> None:
    table = {0: ("background",), 1: ("L1",), 9: doubt}
    found = bar(T12=4, L1=4, none=2)
    assert told(of(found, [9, 9, 9, 9, 1, 1, 1, 1, 0, 0], table)) == [("L1", "L1")]
    assert told(of(found, [0, 0, 0, 0, 1, 1, 1, 1, 9, 9], table)) == [("L1", "L1"), (None, "T12")]


def test_an_undrawn_neighbour_is_known_by_its_place_not_by_its_wrong_name() -> None:
    """All names one too high: what is called L2 is the L3 that nobody drew."""
    table = {0: ("background", "L3"), 2: ("L2",), 4: ("L4",)}
    found = bar(L1=4, L2=4, L3=4)
    assert told(of(found, [2] * 4 + [0] * 4 + [4] * 4, table)) == [("L2", "L1"), ("L4", "L3")]
    drawn = {0: ("background", "L5"), 2: ("L2",), 4: ("L4",)}
    assert told(of(found, [2] * 4 + [0] * 4 + [4] * 4, drawn)) == [("L2", "L1"), ("L4", "L3"), (None, "L2")]


def test_what_the_answer_cannot_tell_apart_is_not_judged() -> None:
    truth = bar(L3=4, L3_L4=2, L4=4)
    rows = match_instances(truth, truth, prediction_names=[frozenset({"disc"}), frozenset({"L3"})])
    assert told(rows) == [("L3", "L3"), ("L4", "L4")]


def test_a_thing_without_a_name_counts_as_found_and_not_as_named() -> None:
    table = {0: ("background",), 1: ("L4",), 61: ("body",)}
    found = bar(L3=60, none=2, L4=60)
    truth = np.array([61] * 60 + [0] * 2 + [1] * 60, np.uint8).reshape(1, 1, -1)
    rows = instance_rows([{"instances": [each.to_dict() for each in match_instances(found, truth, table)]}])
    assert [(row["hit"], row["named"]) for row in rows] == [(1, 1), (1, None)]
