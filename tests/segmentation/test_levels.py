"""Level names are counted from an anchor, are unique and without a gap, and uncertain where the anchor is weak."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumbarseg.anatomy import CLASSES, LEVELS
from lumbarseg.errors import SegmentError
from lumbarseg.preprocessing import PreparedImage, PreprocessingSpec
from lumbarseg.segmentation.instances import Instances, separate_vertebrae
from lumbarseg.segmentation.levels import (
    MIN_CERTAIN_CONFIDENCE,
    SACRUM_ANCHOR,
    LevelPin,
    UserLevels,
    assign_levels,
    list_levels,
    locate_user_levels,
)
from lumbarseg.segmentation.prediction import Prediction
from lumbarseg.volume import Grid

from .columns import SPACING, Blocks, blocks

PLAIN = Blocks((27.0, 27.0, 26.0, 25.0), (8.0, 8.0, 8.0, 7.0), (0.0,) * 4, 0.0, 0.0, True)


def separated(column: Blocks) -> tuple[Instances, np.ndarray]:
    classes, _ = column.paint()
    instances = separate_vertebrae(classes, SPACING)
    assert instances is not None
    scores = np.stack([(classes == kind) * 0.9 + 0.1 / 6 for kind in range(len(CLASSES))]).astype(np.float32)
    return instances, scores


def prediction(scores: np.ndarray) -> Prediction:
    grid = Grid(scores.shape[1:], np.diag([*SPACING, 1.0]))
    prepared = PreparedImage(scores[0], grid, grid, PreprocessingSpec())
    return Prediction(prepared, (False, False), scores, scores.argmax(axis=0).astype(np.uint8))


def test_the_lowest_body_above_a_sacrum_is_l5() -> None:
    instances, scores = separated(PLAIN)
    assignment = assign_levels(instances, scores)
    assert assignment.names == ("L5", "L4", "L3", "L2")
    assert assignment.anchor == SACRUM_ANCHOR
    assert not assignment.warnings


def test_without_a_sacrum_every_name_is_uncertain() -> None:
    instances, scores = separated(Blocks(PLAIN.heights, PLAIN.gaps, PLAIN.slips, 0.0, 0.0, False))
    assignment = assign_levels(instances, scores)
    levels = list_levels(instances, assignment, prediction(scores))
    assert assignment.warnings
    assert levels and all(level.uncertain for level in levels)


@settings(max_examples=15, deadline=None)
@given(blocks(), st.booleans())
def test_no_name_twice_and_no_gap(column: Blocks, sacrum: bool) -> None:
    column = Blocks(column.heights, column.gaps, column.slips, column.lean, column.sway, sacrum)
    instances, scores = separated(column)
    assignment = assign_levels(instances, scores)
    ranks = [LEVELS.index(level) for level in assignment.names]
    assert ranks == list(range(ranks[0], ranks[0] - len(ranks), -1))


def test_names_from_the_user_override_the_count() -> None:
    instances, scores = separated(PLAIN)
    assert assign_levels(instances, scores, [("L4", 1)]).names[:2] == ("L4", "L3")
    assert assign_levels(instances, scores, [("L3", 2)]).names[:3] == ("L4", "L3", "L2")
    assert assign_levels(instances, scores, [("L6", 1)]).names[:2] == ("L6", "L5")


@pytest.mark.parametrize("body", [("T12", 1), ("L3", 2), ("L6", 1)])
def test_names_from_the_user_that_contradict_a_visible_sacrum_are_uncertain(body: tuple[str, int]) -> None:
    instances, scores = separated(PLAIN)
    assignment = assign_levels(instances, scores, [body])
    assert assignment.confidence < MIN_CERTAIN_CONFIDENCE
    assert "contradict the sacrum in view: counted from it, the lowest body is L5" in assignment.warnings[0]
    levels = list_levels(instances, assignment, prediction(scores))
    assert all(level.uncertain for level in levels)


def test_names_from_the_user_that_agree_with_the_sacrum_are_certain() -> None:
    instances, scores = separated(PLAIN)
    assignment = assign_levels(instances, scores, [("L4", 2)])
    assert (assignment.confidence, assignment.warnings) == (1.0, ())


def test_names_from_the_user_are_certain_without_a_sacrum() -> None:
    instances, scores = separated(Blocks(PLAIN.heights, PLAIN.gaps, PLAIN.slips, 0.0, 0.0, False))
    assignment = assign_levels(instances, scores, [("T12", 1)])
    assert (assignment.confidence, assignment.warnings) == (1.0, ())


def test_names_from_the_user_must_agree() -> None:
    instances, scores = separated(PLAIN)
    with pytest.raises(SegmentError, match="disagree"):
        assign_levels(instances, scores, [("L5", 1), ("L3", 2)])


def test_a_pin_names_the_body_it_lies_in() -> None:
    instances, _ = separated(PLAIN)
    third = np.argwhere(instances.bodies == 3).mean(axis=0)
    world = tuple(float(v) for v in third * SPACING)
    grid = Grid(instances.bodies.shape, np.diag([*SPACING, 1.0]))
    pins = UserLevels(pins=(LevelPin("L1", world),))  # type: ignore[arg-type]
    assert locate_user_levels(pins, instances, grid) == [("L1", 3)]
    with pytest.raises(SegmentError, match="no vertebra within"):
        locate_user_levels(UserLevels(pins=(LevelPin("L1", (500.0, 0.0, 0.0)),)), instances, grid)


def test_names_past_the_first_vertebra_are_refused() -> None:
    instances, scores = separated(PLAIN)
    with pytest.raises(SegmentError, match="reach past"):
        assign_levels(instances, scores, [("T2", 1)])


NO_SACRUM = Blocks(PLAIN.heights, PLAIN.gaps, PLAIN.slips, 0.0, 0.0, False)


def test_a_model_without_sacrum_counts_from_the_lowest_body_in_training() -> None:
    instances, scores = separated(NO_SACRUM)
    certain = assign_levels(instances, scores, (), ("L4", 1.0))
    assert certain.names == ("L4", "L3", "L2", "L1")
    assert certain.anchor == "the lowest body, as in training"
    assert not certain.warnings
    uncertain_share = assign_levels(instances, scores, (), ("L4", 0.96))
    assert uncertain_share.names == certain.names
    assert uncertain_share.warnings and "96%" in uncertain_share.warnings[0]
    assert assign_levels(instances, scores, [("L5", 1)], ("L4", 1.0)).names[0] == "L5"


def test_names_are_uncertain_where_a_body_below_may_be_out_of_view() -> None:
    classes, _ = NO_SACRUM.paint()
    low = int(np.nonzero((classes > 0).any(axis=(0, 1)))[0].min())
    for gap in (4, 12):
        classes_in_view = np.ascontiguousarray(classes[:, :, low - gap :])
        instances = separate_vertebrae(classes_in_view, SPACING)
        assert instances is not None
        scores = np.stack([(classes_in_view == kind) * 0.9 + 0.1 / 6 for kind in range(len(CLASSES))]).astype(
            np.float32
        )
        assignment = assign_levels(instances, scores, (), ("L5", 1.0))
        assert assignment.names[0] == "L5"
        assert assignment.warnings and "may be missing" in assignment.warnings[0]


def test_a_sacrum_in_view_overrides_the_trained_lowest_body() -> None:
    instances, scores = separated(PLAIN)
    assert assign_levels(instances, scores, (), ("L4", 1.0)).names[0] == "L5"
