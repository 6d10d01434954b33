"""Spines with every fault of discs and bodies: no body missing, none twice, none with a wrong number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumbarseg.anatomy import CLASSES
from lumbarseg.segmentation.centerline import BODY, DISC, SACRUM, fit_centerline
from lumbarseg.segmentation.disc_planes import find_disc_planes
from lumbarseg.segmentation.instances import separate_vertebrae
from lumbarseg.segmentation.levels import MIN_CERTAIN_CONFIDENCE, assign_levels, find_sacrum_evidence

from .spines import BlockSpine, SpinePlan, build_spine

FAULTS = {
    "none": SpinePlan(),
    "a single slice": SpinePlan(slices=1),
    "two bodies": SpinePlan(count=2),
    "nine bodies": SpinePlan(count=9, lordosis=5),
    "slices of 5 mm": SpinePlan(slice=5, slices=9),
    "rims grown together": SpinePlan(touching=True, noise=0.1),
    "four thin discs": SpinePlan(thin=frozenset({2, 3, 4, 5})),
    "every disc thin": SpinePlan(thin=frozenset(range(1, 8))),
    "two discs missing": SpinePlan(missing=frozenset({2, 3})),
    "every disc missing": SpinePlan(missing=frozenset(range(1, 8))),
    "a fused pair": SpinePlan(fused=frozenset({3})),
    "the upper pair fused": SpinePlan(fused=frozenset({6}), touching=True),
    "no disc on the sacrum": SpinePlan(missing=frozenset({1})),
    "grown to the sacrum": SpinePlan(count=3, missing=frozenset({1}), thin=frozenset({1, 2}), lordosis=-2, slope=8),
    "a slip forward": SpinePlan(slips={2: 14.0}),
    "a slip backward": SpinePlan(slips={3: -10.0}),
    "a sideways curve": SpinePlan(bend=10, slices=25),
    "two crushed bodies": SpinePlan(crushed=frozenset({3, 4})),
    "steep": SpinePlan(slope=50, lordosis=14),
    "hollow backward": SpinePlan(slope=5, lordosis=-4),
    "small": SpinePlan(size=0.8),
    "large": SpinePlan(size=1.2),
    "no sacrum": SpinePlan(sacrum=0),
    "the upper body cut": SpinePlan(top_cut=20),
}


def numbers(spine: BlockSpine) -> list[int]:
    """For each body from the lowest: the number under which most of it was found; 0 when less than three quarters."""
    instances = separate_vertebrae(spine.classes, spine.spacing)
    assert instances is not None
    out = []
    for n in range(1, spine.plan.count + 1):
        votes = np.bincount(instances.bodies[spine.bodies == n], minlength=instances.count + 1)
        out.append(int(votes.argmax()) if votes.max() > 0.75 * votes.sum() else 0)
    return [*out, instances.count]


@pytest.mark.parametrize("fault", FAULTS)
def test_bodies_keep_their_order_whatever_the_fault(fault: str) -> None:
    plan = FAULTS[fault]
    assert numbers(build_spine(plan)) == [*range(1, plan.count + 1), plan.count]


@st.composite
def plans(draw: st.DrawFn) -> SpinePlan:
    """Columns of three to nine bodies with one fault among their inner discs, and any posture."""
    count = draw(st.integers(3, 9))
    fault = draw(st.sampled_from(["thin", "missing", "fused", "crushed", "none"]))
    levels = frozenset({draw(st.integers(2, count - 1))}) if fault != "none" else frozenset()
    slips = {draw(st.integers(1, count)): draw(st.floats(-8, 12))} if fault in ("thin", "none") else {}
    slices = draw(st.sampled_from([1, 11, 15]))
    return SpinePlan(
        count=count,
        slices=slices,
        slice=draw(st.floats(3, 5)),
        size=draw(st.floats(0.85, 1.15)),
        lordosis=draw(st.floats(-2, min(12, 70 / count))),
        slope=draw(st.floats(5, 45)),
        bend=draw(st.sampled_from([0.0, 3.0])) if slices > 1 else 0.0,
        slips=slips,
        sacrum=draw(st.sampled_from([0.0, 20.0, 60.0])),
        touching=draw(st.booleans()),
        noise=draw(st.sampled_from([0.0, 0.1])),
        **({fault: levels} if levels else {}),
    )


@settings(max_examples=40, deadline=None)
@given(plans())
def test_one_fault_never_shifts_the_count(plan: SpinePlan) -> None:
    assert numbers(build_spine(plan)) == [*range(1, plan.count + 1), plan.count]


def test_planes_lie_in_their_discs_and_tilt_with_them() -> None:
    spine = build_spine(SpinePlan(slope=40, lordosis=10))
    column = fit_centerline(spine.classes, spine.spacing)
    assert column is not None
    voxels = np.argwhere((spine.classes == BODY) | (spine.classes == DISC))
    planes = find_disc_planes(
        column.curve_coordinates(voxels, spine.spacing), spine.classes[tuple(voxels.T)], thick=True
    )
    assert len(planes) == spine.plan.count + 1
    for n in range(2, spine.plan.count + 1):
        disc = column.curve_coordinates(np.argwhere(spine.discs == n), spine.spacing)
        assert abs(planes[n - 1].is_below(disc).mean() - 0.5) < 0.35
    assert all(plane.disc_share > 0.9 for plane in planes[1:-1])


def test_a_disc_left_within_the_sacrum_is_no_disc_of_the_column() -> None:
    spine = build_spine(SpinePlan(slope=10, lordosis=2))
    classes = spine.classes.copy()
    sacral = np.argwhere(classes == SACRUM)[:, 2]
    rest = (classes == SACRUM) & (np.abs(np.arange(classes.shape[2]) - (sacral.max() - 26)) < 2)
    classes[rest] = DISC
    instances = separate_vertebrae(classes, spine.spacing)
    assert instances is not None and instances.count == spine.plan.count
    assert not instances.discs[rest].any()
    assert (instances.discs[spine.discs == 1] == 1).mean() > 0.9


@pytest.mark.parametrize("plan", [SpinePlan(), SpinePlan(slope=45), SpinePlan(slices=1)])
def test_a_first_sacral_body_taken_for_a_lumbar_one_makes_the_names_uncertain(plan: SpinePlan) -> None:
    spine = build_spine(plan)
    classes = spine.classes.copy()
    sacral = np.argwhere(classes == SACRUM)[:, 2]
    classes[:, :, int(np.percentile(sacral, 99)) - 24 :][
        classes[:, :, int(np.percentile(sacral, 99)) - 24 :] == SACRUM
    ] = BODY
    instances = separate_vertebrae(classes, spine.spacing)
    assert instances is not None
    scores = np.stack([(classes == kind) * 0.9 + 0.1 / 6 for kind in range(len(CLASSES))]).astype(np.float32)
    assert instances.count == plan.count + (not instances.excluded_s1_signs)
    assert instances.excluded_s1_signs or plan.slope < 45
    assert instances.excluded_s1_signs or find_sacrum_evidence(instances).disc_contact < 0.3
    assert assign_levels(instances, scores).confidence < MIN_CERTAIN_CONFIDENCE
