"""An S1 with a disc below it is no lumbar vertebra: its lean shows it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumbarseg.segmentation.centerline import BODY, SACRUM
from lumbarseg.segmentation.instances import separate_vertebrae
from lumbarseg.segmentation.sacrum import (
    LEANS,
    NO_COMPLETE_DISC,
    SMALL,
    STEEP,
    TAPERS,
    describe_s1_signs,
    disc_contact_share,
    find_sacral_signs,
    is_first_sacral_body,
    lean_angle,
)

from .spines import BlockSpine, SpinePlan, build_spine


def square(spine: BlockSpine) -> np.ndarray:
    """The classes of a spine whose upper sacrum, 24 pixels of it, was taken for a body."""
    classes = spine.classes.copy()
    top = int(np.percentile(np.argwhere(classes == SACRUM)[:, 2], 99)) - 24
    upper = classes[:, :, top:]
    upper[upper == SACRUM] = BODY
    return classes


def test_a_leaning_lowest_body_without_a_whole_disc_counts_as_sacrum() -> None:
    spine = build_spine(SpinePlan(slope=45))
    instances = separate_vertebrae(square(spine), spine.spacing)
    assert instances is not None and instances.excluded_s1_signs and instances.count == spine.plan.count
    for n in range(1, spine.plan.count + 1):
        assert (instances.bodies[spine.bodies == n] == n).mean() > 0.9
    assert instances.sacrum[(square(spine) == BODY) & (spine.classes == SACRUM)].mean() > 0.9


@pytest.mark.parametrize("slope", [5.0, 20.0])
def test_an_upright_one_is_left_alone(slope: float) -> None:
    spine = build_spine(SpinePlan(slope=slope))
    instances = separate_vertebrae(square(spine), spine.spacing)
    assert instances is not None and not instances.excluded_s1_signs and instances.count == spine.plan.count + 1


@settings(max_examples=15, deadline=None)
@given(st.floats(5, 50), st.floats(0, 12))
def test_a_true_l5_on_its_disc_is_never_counted_as_sacrum(slope: float, lordosis: float) -> None:
    spine = build_spine(SpinePlan(slope=slope, lordosis=lordosis))
    instances = separate_vertebrae(spine.classes, spine.spacing)
    assert instances is not None and not instances.excluded_s1_signs and instances.count == spine.plan.count


def test_lean_is_the_angle_of_two_middles_in_mm() -> None:
    lower = np.array([[10.0, 5.0], [12.0, 9.0]])
    assert lean_angle(lower, lower + np.array([20, 20])) == pytest.approx(45)
    assert lean_angle(lower, lower + np.array([10, 20])) == pytest.approx(np.degrees(np.arctan2(10, 20)))
    assert lean_angle(lower, np.zeros((0, 2))) == 0


def test_a_disc_under_part_of_a_body_is_that_part_of_its_underside() -> None:
    bodies, discs, sacrum = (np.zeros((1, 20, 20), np.uint8) for _ in range(3))
    bodies[:, 4:14, 10:16], discs[:, 4:7, 6:9], sacrum[:, 7:14, 2:9] = 1, 1, 1
    assert disc_contact_share(bodies, discs, sacrum > 0) == pytest.approx(0.3)
    assert find_sacral_signs(bodies, discs, sacrum > 0, np.ones(3)) == (NO_COMPLETE_DISC,)


@pytest.mark.parametrize(
    ("signs", "is_sacral", "s1_reason"),
    [
        ((), False, ""),
        ((LEANS,), False, ""),
        ((TAPERS, LEANS), False, ""),
        ((LEANS, SMALL), False, "S1 may be lumbarised: leans forward, small body, square body, complete disc below"),
        ((NO_COMPLETE_DISC,), False, "the lowest body may be S1: no complete disc below"),
        ((SMALL, NO_COMPLETE_DISC), False, "the lowest body may be S1: small body, no complete disc below"),
        ((LEANS, STEEP, NO_COMPLETE_DISC), True, "the lowest body may be S1: leans forward, steeper than L5, no"),
    ],
)
def test_signs_that_agree_decide_and_others_are_named(signs: tuple[str, ...], is_sacral: bool, s1_reason: str) -> None:
    assert is_first_sacral_body(signs) == is_sacral
    assert describe_s1_signs(signs).startswith(s1_reason) and bool(describe_s1_signs(signs)) == bool(s1_reason)


def test_a_small_steep_body_that_narrows_downward_shows_every_sign_of_s1() -> None:
    bodies, discs, sacrum = (np.zeros((1, 120, 140), np.uint8) for _ in range(3))
    for number, height in ((2, 60), (3, 95)):
        bodies[:, 40:70, height : height + 25] = number
    axis = np.array([np.sin(np.radians(40)), np.cos(np.radians(40))])
    for along in np.arange(-10, 10, 0.4):
        across = np.arange(-1, 1, 0.02)[:, None] * (11 + 0.3 * along) * (axis[1], -axis[0])
        points = np.rint(np.array([27, 38]) + along * axis + across).astype(int)
        bodies[0, points[:, 0], points[:, 1]] = 1
    sacrum[:, 5:60, 5:29] = bodies[:, 5:60, 5:29] == 0
    signs = find_sacral_signs(bodies, discs, sacrum > 0, np.ones(3))
    assert set(signs) == {LEANS, STEEP, SMALL, TAPERS, NO_COMPLETE_DISC}
    discs[:, :, :-6] = (bodies[:, :, 6:] == 1) & (bodies[:, :, :-6] == 0)
    assert NO_COMPLETE_DISC not in find_sacral_signs(bodies, discs, sacrum > 0, np.ones(3))
