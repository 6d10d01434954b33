from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.training.partial_annotations import (
    allowed_everywhere,
    find_lowest_structure,
    make_zones_explicit,
    mean_heights,
    possible_sets,
    unannotated_zones,
)
from lumbarseg.training.training_volumes import PartialLabelCodec
from lumbarseg.volume import Array

BACKGROUND, BODY, DISC, CANAL, SACRUM, ARCH = CLASSES
LUMBAR: LabelTable = {n: (f"L{n}",) for n in range(1, 6)}


def column(values: list[int]) -> Array:
    """Labels of one voxel per height, from the lowest upward, beside background."""
    labels = np.zeros((1, 2, len(values)), np.uint8)
    labels[0, 0] = values
    return labels


#               L5    L4       (L3)        L2    L1       above
COLUMN = column([5, 5, 0, 4, 4, 0, 0, 0, 0, 2, 2, 0, 1, 1, 0, 0])


def test_a_missing_body_is_unknown_between_its_neighbours_only() -> None:
    table = {0: ("background", "L3"), **LUMBAR}
    ((kind, inside),) = unannotated_zones(COLUMN, table, 0)
    assert kind is Kind.BODY
    assert np.flatnonzero(inside).tolist() == [4, 5, 6, 7, 8, 9]  # between the middles of L4 (3.5) and L2 (9.5)
    codec = PartialLabelCodec.from_tables([table])
    encoded = codec.encode(COLUMN, table)
    assert {codec.allowed_sets[c] for c in encoded[0, 0, 5:9]} == {frozenset({BACKGROUND, BODY})}
    assert codec.allowed_sets[encoded[0, 0, 2]] == codec.allowed_sets[encoded[0, 1, 15]] == {BACKGROUND}
    assert codec.allowed_sets[encoded[0, 0, 9]] == {BODY}


def test_what_lies_above_the_highest_has_no_upper_limit() -> None:
    table = {0: ("background", "T12", "T12-L1", "canal"), **LUMBAR}
    codec = PartialLabelCodec.from_tables([table])
    encoded = codec.encode(COLUMN, table)
    assert codec.allowed_sets[encoded[0, 1, 0]] == {BACKGROUND, CANAL}  # a kind is unknown everywhere
    assert codec.allowed_sets[encoded[0, 1, 12]] == {BACKGROUND, CANAL}
    assert (
        codec.allowed_sets[encoded[0, 1, 15]]
        == codec.allowed_sets[encoded[0, 1, 13]]
        == {BACKGROUND, CANAL, BODY, DISC}
    )


def test_an_arch_lies_between_the_bodies_beside_its_own() -> None:
    table = {0: ("background", "L4 arch"), **LUMBAR}
    ((kind, inside),) = unannotated_zones(COLUMN, table, 0)
    assert kind is Kind.ARCH
    assert np.flatnonzero(inside).tolist() == list(range(1, 10))  # L5's middle is 0.5, L2's 9.5


def test_a_table_without_unannotated_structures_is_a_lookup() -> None:
    table = {0: ("background", "sacrum"), 6: ("unknown",), **LUMBAR}
    codec = PartialLabelCodec.from_tables([table])
    np.testing.assert_array_equal(codec.encode(COLUMN, table), codec.lookup_table(table)[COLUMN])
    assert unannotated_zones(COLUMN, table, 0) == []
    np.testing.assert_array_equal(make_zones_explicit(COLUMN, table)[0], COLUMN)


def test_zones_get_values_of_their_own_for_scores() -> None:
    table = {0: ("background", "T12", "L3"), **LUMBAR}
    labels, rows = make_zones_explicit(COLUMN, table)
    assert rows[0] == ("background",)
    (free,) = set(rows) - set(table)
    assert rows[free] == ("background", "body")
    assert set(np.flatnonzero((labels == free).any(axis=(0, 1)))) == {4, 5, 6, 7, 8, 9, 13, 14, 15}
    np.testing.assert_array_equal(np.where(labels == free, 0, labels), COLUMN)


def test_the_lowest_body_in_view() -> None:
    assert find_lowest_structure(COLUMN, LUMBAR) == "L5"
    assert find_lowest_structure(COLUMN[..., 2:], LUMBAR) == "L4"
    assert (
        find_lowest_structure(COLUMN[..., 2:], {0: ("background", "L5"), **LUMBAR}) == ""
    )  # L5 may be there without annotation
    assert find_lowest_structure(COLUMN, {0: ("background", "T12", "L6"), **LUMBAR}) == "L5"
    assert find_lowest_structure(COLUMN, {**LUMBAR, 5: ("body",)}) == ""
    assert find_lowest_structure(np.zeros_like(COLUMN), LUMBAR) == ""


def test_the_lowest_disc_in_view() -> None:
    table: LabelTable = {1: ("L2-L3",), 2: ("L3-L4",), 4: ("L4-L5",), 5: ("L5-S1",)}
    assert find_lowest_structure(COLUMN, table, Kind.DISC) == "L5-S1"
    assert find_lowest_structure(COLUMN[..., 2:], table, Kind.DISC) == "L4-L5"  # tags 6-9 alone: it ends there
    assert find_lowest_structure(COLUMN[..., 2:], {0: ("background", "L5-S1"), **table}, Kind.DISC) == ""
    assert (
        find_lowest_structure(COLUMN, {0: ("background", "T12-L1", "L5-L6", "L6-S1", "L4-S1"), **table}, Kind.DISC)
        == "L5-S1"
    )
    assert find_lowest_structure(COLUMN, {5: ("disc",)}, Kind.DISC) == find_lowest_structure(COLUMN, table) == ""


def test_middles_are_of_bodies_and_whole_vertebrae() -> None:
    heights = mean_heights(COLUMN, {4: ("L4", "L4 arch"), 5: ("L5", "L4"), 2: ("body",), 1: ("L1 arch",)})
    assert {s.name: at for s, at in heights.items()} == {"L4": 3.5}


@given(st.lists(st.sampled_from(["T12", "L3", "L3-L4", "L4 arch", "canal", "sacrum"]), unique=True))
def test_every_code_that_occurs_is_possible(unannotated: list[str]) -> None:
    table = {0: ("background", *unannotated), **LUMBAR}
    codec = PartialLabelCodec.from_tables([table])
    encoded = codec.encode(COLUMN, table)
    allowed = codec.allowed[encoded]
    assert allowed[COLUMN == 0][:, 0].all()
    everything = frozenset().union(*possible_sets(table[0]))
    assert allowed[COLUMN == 0].any(axis=0).tolist() == [k in everything for k in CLASSES]
    assert allowed_everywhere(table[0]) <= everything
