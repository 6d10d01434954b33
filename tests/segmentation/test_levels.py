"""Names are counted from an anchor, never twice, never with a gap, and marked where the anchor is weak."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumbarseg.anatomy import CLASSES, LEVELS
from lumbarseg.errors import SegmentError
from lumbarseg.preprocessing import PreparedImage, PreprocessingSpec
from lumbarseg.segmentation.instances import Instances, separate_vertebrae
from lumbarseg.segmentation.levels import LevelPin, UserLevels, assign_levels, list_levels, locate_user_levels
from lumbarseg.segmentation.orientation import Prediction
from lumbarseg.volume import Grid

from .columns import SPACING, Blocks, blocks

PLAIN = Blocks((27.0, 27.0, 26.0, 25.0), (8.0, 8.0, 8.0, 7.0), (0.0,) * 4, 0.0, 0.0, True)


def taken_apart(column: Blocks) -> tuple[Instances, np.ndarray]:
    classes, _ = column.paint()
    found = separate_vertebrae(classes, SPACING)
    assert found is not None
    scores = np.stack([(classes == kind) * 0.9 + 0.1 / 6 for kind in range(len(CLASSES))]).astype(np.float32)
    return found, scores


def prediction(scores: np.ndarray) -> Prediction:
    grid = Grid(scores.shape[1:], np.diag([*SPACING, 1.0]))
    prepared = PreparedImage(scores[0], grid, grid, PreprocessingSpec())
    return Prediction(prepared, (False, False), scores, scores.argmax(axis=0).astype(np.uint8))


def test_the_lowest_body_above_a_sacrum_is_l5() -> None:
    found, scores = taken_apart(PLAIN)
    naming = assign_levels(found, scores)
    assert naming.names == ("L5", "L4", "L3", "L2")
    assert naming.anchor == "sacrum"
    assert not naming.warnings


def test_without_a_sacrum_every_name_is_uncertain() -> None:
    found, scores = taken_apart(Blocks(PLAIN.heights, PLAIN.gaps, PLAIN.slips, 0.0, 0.0, False))
    naming = assign_levels(found, scores)
    named = list_levels(found, naming, prediction(scores))
    assert naming.warnings
    assert named and all(level.uncertain for level in named)


@settings(max_examples=15, deadline=None)
@given(blocks(), st.booleans())
def test_no_name_twice_and_no_gap(column: Blocks, sacrum: bool) -> None:
    column = Blocks(column.heights, column.gaps, column.slips, column.lean, column.sway, sacrum)
    found, scores = taken_apart(column)
    naming = assign_levels(found, scores)
    ranks = [LEVELS.index(level) for level in naming.names]
    assert ranks == list(range(ranks[0], ranks[0] - len(ranks), -1))


def test_the_users_word_counts() -> None:
    found, scores = taken_apart(PLAIN)
    assert assign_levels(found, scores, [("L4", 1)]).names[:2] == ("L4", "L3")
    assert assign_levels(found, scores, [("L3", 2)]).names[:3] == ("L4", "L3", "L2")
    assert assign_levels(found, scores, [("L6", 1)]).names[:2] == ("L6", "L5")
    assert not assign_levels(found, scores, [("L4", 1)]).warnings


def test_the_users_words_must_agree() -> None:
    found, scores = taken_apart(PLAIN)
    with pytest.raises(SegmentError, match="disagree"):
        assign_levels(found, scores, [("L5", 1), ("L3", 2)])


def test_a_pin_names_the_body_it_lies_in() -> None:
    found, _ = taken_apart(PLAIN)
    third = np.argwhere(found.bodies == 3).mean(axis=0)
    world = tuple(float(v) for v in third * SPACING)
    grid = Grid(found.bodies.shape, np.diag([*SPACING, 1.0]))
    pins = UserLevels(pins=(LevelPin("L1", world),))  # type: ignore[arg-type]
    assert locate_user_levels(pins, found, grid) == [("L1", 3)]
    with pytest.raises(SegmentError, match="no vertebra within"):
        locate_user_levels(UserLevels(pins=(LevelPin("L1", (500.0, 0.0, 0.0)),)), found, grid)


def test_names_past_the_first_vertebra_are_refused() -> None:
    found, scores = taken_apart(PLAIN)
    with pytest.raises(SegmentError, match="reach past"):
        assign_levels(found, scores, [("T2", 1)])


NO_SACRUM = Blocks(PLAIN.heights, PLAIN.gaps, PLAIN.slips, 0.0, 0.0, False)


def test_a_model_that_knows_no_sacrum_counts_from_the_lowest_body_it_was_taught() -> None:
    found, scores = taken_apart(NO_SACRUM)
    sure = assign_levels(found, scores, (), ("L4", 1.0))
    assert sure.names == ("L4", "L3", "L2", "L1")
    assert sure.anchor == "the lowest body, as in training"
    assert not sure.warnings
    mostly = assign_levels(found, scores, (), ("L4", 0.96))
    assert mostly.names == sure.names
    assert mostly.warnings and "96%" in mostly.warnings[0]
    assert assign_levels(found, scores, [("L5", 1)], ("L4", 1.0)).names[0] == "L5"


def test_it_counts_with_doubt_where_a_body_below_may_be_out_of_view() -> None:
    classes, _ = NO_SACRUM.paint()
    low = int(np.nonzero((classes > 0).any(axis=(0, 1)))[0].min())
    for gap in (4, 12):
        seen = np.ascontiguousarray(classes[:, :, low - gap :])
        found = separate_vertebrae(seen, SPACING)
        assert found is not None
        scores = np.stack([(seen == kind) * 0.9 + 0.1 / 6 for kind in range(len(CLASSES))]).astype(np.float32)
        naming = assign_levels(found, scores, (), ("L5", 1.0))
        assert naming.names[0] == "L5"
        assert naming.warnings and "may be missing" in naming.warnings[0]


def test_a_sacrum_in_view_comes_before_what_was_taught() -> None:
    found, scores = taken_apart(PLAIN)
    assert assign_levels(found, scores, (), ("L4", 1.0)).names[0] == "L5"
