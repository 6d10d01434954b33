"""Label values of clients: names decide, positions are 1..N, grids must be the exam's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.anatomy import STRUCTURES, Kind, structure_by_name
from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.resampling import reorient
from lumbarseg.server.label_values import (
    align_to_grid,
    encode_by_position,
    find_structure,
    offered_structures,
    resolve_label_names,
    result_structures,
    to_package_labels,
)
from lumbarseg.volume import Array, Grid, Volume

NINE = ("L1", "L2", "L3", "L4", "L5", "L1-L2", "L2-L3", "L3-L4", "L4-L5")
AFFINE = np.array([[0, 0, 4.0, -30], [-0.7, 0.05, 0, 80], [-0.05, -0.7, 0, 40], [0, 0, 0, 1]])


def exported(truth: Array, names: list[str]) -> Array:
    """As 3D Slicer exports segments: 1..n in the order of its scene."""
    out = np.zeros_like(truth)
    for position, name in enumerate(names, start=1):
        out[truth == structure_by_name(name).label] = position
    return out


def test_offered_structures_are_lumbar_and_ordered_by_value() -> None:
    names = offered_structures(set(Kind))
    assert names[:9] == NINE
    assert {"sacrum", "canal", "T12", "L5-S1", "L3 arch"} <= set(names)
    assert "T6" not in names and "L6" not in names
    assert offered_structures({Kind.DISC})[:4] == NINE[5:]


@given(st.sets(st.sampled_from(STRUCTURES), min_size=1))
def test_result_values_are_positions_of_names(present: set) -> None:
    labels = np.array([[[0, *(s.label for s in present)]]], np.uint8)
    names = result_structures(labels, offered_structures(set(Kind)))
    got = encode_by_position(labels, names)
    assert {s.name for s in present} <= set(names)
    for structure_ in present:  # 3D Slicer calls value n the n-th name, also where others are absent
        assert names[int(got[labels == structure_.label][0]) - 1] == structure_.name
    assert (got == 0).sum() == 1
    assert (to_package_labels(got, dict(enumerate(names, start=1))) == labels).all()


@given(st.permutations(NINE), st.booleans(), st.integers(0, 3))
def test_exported_segments_are_identified_by_name(order: list[str], shifted: bool, left_out: int) -> None:
    truth = np.arange(10, dtype=np.uint8).reshape(1, 2, 5)
    names = order[left_out:]
    info = [{"name": name, "idx": position + shifted} for position, name in enumerate(names, start=1)]
    if shifted:
        info.insert(0, {"name": "background", "idx": 1})
    labels = exported(truth, names)
    back = to_package_labels(labels, resolve_label_names(info, labels))
    is_exported = np.isin(truth, [structure_by_name(name).label for name in names])
    assert (back == np.where(is_exported, truth, 0)).all()


def test_idx_is_used_where_positions_do_not_fit() -> None:
    labels = np.array([[[0, 3, 9]]], np.uint8)
    info = [{"name": "L3", "idx": 3}, {"name": "L4-L5", "idx": 9}]
    assert (to_package_labels(labels, resolve_label_names(info, labels)) == labels).all()
    assert (to_package_labels(labels, resolve_label_names(None, labels)) == labels).all()


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ([{"name": "L3"}], "value 2, which label_info does not explain"),
        ("L3", "must be a list"),
        ([{"idx": 1}], "must be a list"),
        ([{"name": "L3", "idx": "1"}], "whole number"),
    ],
)
def test_label_info_must_explain_all_values(info: object, reason: str) -> None:
    with pytest.raises(LumbarsegError, match=reason):
        resolve_label_names(info, np.array([[[0, 1, 2]]], np.uint8))


def test_find_structure() -> None:
    assert [
        find_structure(name).name for name in ("L3", " L3 ", "vertebra L3", "disc L3/L4", "Sacrum", "spinal canal")
    ] == [*("L3", "L3", "L3", "L3-L4", "sacrum", "canal")]
    with pytest.raises(ServeError, match="'Segment_1' is no structure; rename it"):
        find_structure("Segment_1")


def test_empty_segment_may_have_any_name() -> None:
    labels = np.array([[[0, 2]]], np.uint8)
    info = [{"name": "Segment_1", "idx": 1}, {"name": "L3", "idx": 2}]
    assert to_package_labels(labels, resolve_label_names(info, labels)).max() == structure_by_name("L3").label


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SRA", "AIL"])
def test_label_with_other_axis_order_is_aligned(axes: str) -> None:
    rng = np.random.default_rng(3)
    label = Volume(rng.integers(0, 9, (5, 6, 4)).astype(np.uint8), AFFINE)
    reoriented = reorient(label, axes)
    slipped = np.array(reoriented.affine)
    slipped[:3, 3] += 0.02  # as headers in float32 are
    back = align_to_grid(Volume(reoriented.array, slipped), label.grid)
    assert (back.array == label.array).all() and (back.affine == label.affine).all()


@pytest.mark.parametrize("shift", [1.0, -4.0])
def test_label_of_another_exam_is_refused(shift: float) -> None:
    affine = AFFINE.copy()
    affine[2, 3] += shift
    with pytest.raises(ServeError, match="is not on the exam's grid") as caught:
        align_to_grid(Volume(np.zeros((5, 6, 4), np.uint8), affine), Grid((5, 6, 4), AFFINE))
    assert caught.value.status == 422
