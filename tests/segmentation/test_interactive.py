"""Refinement by clicks: the model of the package behind one that follows every click, and one that follows none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lumbarseg.anatomy import CLASSES, Kind, labels_of_kind, structure_by_name
from lumbarseg.clicks import Click
from lumbarseg.errors import SegmentError
from lumbarseg.inference import Model, ModelCard
from lumbarseg.phantom import Phantom
from lumbarseg.preprocessing import ClickGaussian, PreprocessingSpec
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import (
    LevelPin,
    Segmentation,
    UserLevels,
    override_with_clicks,
    refine_with_clicks,
    segment,
    segment_with_clicks,
)
from lumbarseg.segmentation.interactive import CHANGE_RADIUS, CONTACT_RADIUS, changes_near_clicks
from lumbarseg.volume import Array, Volume


@dataclass(frozen=True, eq=False)
class ClickFollowingModel:
    """The shipped network, with `gain` times what is clicked added to its logits."""

    model: Model
    gain: float

    @property
    def card(self) -> ModelCard:
        return replace(self.model.card, spec=PreprocessingSpec(clicks=ClickGaussian()))

    def run(self, windows: Array) -> Array:
        unclicked = windows.copy()
        unclicked[:, 5:] = 0
        return self.model.run(unclicked) + self.gain * (windows[:, 5:] > 0.4)


@dataclass(frozen=True, eq=False)
class ModelWithoutClicks:
    """The shipped network as one that reads no clicks."""

    model: Model

    @property
    def card(self) -> ModelCard:
        return replace(self.model.card, spec=PreprocessingSpec())

    def run(self, windows: Array) -> Array:
        return self.model.run(np.pad(windows, ((0, 0), (0, len(CLASSES)), (0, 0), (0, 0))))


@pytest.fixture(scope="module")
def model(bundled_model: Model) -> Model:
    return bundled_model


@pytest.fixture(scope="module")
def following_model(model: Model) -> ClickFollowingModel:
    return ClickFollowingModel(model, 50.0)


@pytest.fixture(scope="module")
def ignoring_model(model: Model) -> ClickFollowingModel:
    return ClickFollowingModel(model, 0.0)


@pytest.fixture(scope="module")
def automatic(phantom: Phantom, ignoring_model: ClickFollowingModel) -> Segmentation:
    return segment(phantom.image, ignoring_model, keep_state=True)


def centre(volume: Volume, name: str) -> tuple[float, float, float]:
    """A point deep inside a structure, RAS+ mm."""
    depth = ndimage.distance_transform_edt(volume.array == structure_by_name(name).label, sampling=volume.grid.spacing)
    x, y, z = volume.grid.to_world(np.array(np.unravel_index(depth.argmax(), depth.shape)))
    return float(x), float(y), float(z)


def point_outside(volume: Volume, name: str, way: tuple[float, float, float]) -> tuple[float, float, float]:
    """The first place outside a structure from its centre on, some mm further; the axes of `way` are RAS+."""
    index = np.array(centre(volume, name))
    while volume.array[voxel(volume, index)] == structure_by_name(name).label:
        index = index + way
    x, y, z = index + way
    return float(x), float(y), float(z)


def voxel(volume: Volume, point: object) -> tuple[int, ...]:
    return tuple(np.rint(volume.grid.to_index(np.array(point))).astype(int))


def distance_from_clicks(volume: Volume, clicks: list[Click]) -> Array:
    """Distance of each voxel from the nearest click, mm."""
    indices = np.stack(np.indices(volume.array.shape), -1).astype(np.float32) * np.float32(volume.grid.spacing)
    points = [volume.grid.to_index(np.array(click.point)) * volume.grid.spacing for click in clicks]
    return np.min([np.linalg.norm(indices - point, axis=-1) for point in points], axis=0)


def test_without_clicks_the_result_is_the_automatic_one(
    phantom: Phantom, model: Model, automatic: Segmentation, ignoring_model: ClickFollowingModel
) -> None:
    plain = segment(phantom.image, model)
    np.testing.assert_array_equal(plain.labels.array, automatic.labels.array)
    assert plain.levels == automatic.levels
    confirmed = refine_with_clicks(automatic, ignoring_model, [Click(centre(plain.labels, "canal"), "canal")])
    np.testing.assert_array_equal(confirmed.labels.array, plain.labels.array)


@pytest.mark.parametrize(
    ("name", "way", "positive"),
    [("L3", (0, 0.6, 0), True), ("L4-L5", (0, 0.6, 0), True), ("L2", (0, 0, 0), False), ("canal", (0, -0.5, 0), True)],
)
@pytest.mark.parametrize("gain", ["following_model", "ignoring_model"])
def test_a_click_is_followed_near_it_and_changes_nothing_far_away(
    gain: str,
    name: str,
    way: tuple[float, float, float],
    positive: bool,
    automatic: Segmentation,
    request: pytest.FixtureRequest,
) -> None:
    before = automatic.labels
    click = Click(point_outside(before, name, way) if any(way) else centre(before, name), name, positive)
    refined = refine_with_clicks(automatic, request.getfixturevalue(gain), [click])
    index = voxel(before, click.point)
    assert (int(refined.labels.array[index]) in click.labels) == positive
    changed = refined.labels.array != before.array
    assert changed.any()
    assert distance_from_clicks(before, [click])[changed].max() <= CHANGE_RADIUS + 1e-3
    pieces, count = ndimage.label(changed, np.ones((3, 3, 3)))
    nearest = ndimage.minimum(distance_from_clicks(before, [click]), pieces, range(1, count + 1))
    assert np.max(nearest) <= CONTACT_RADIUS + 1e-3
    overrides = [note for note in refined.warnings if "overridden" in note]
    assert len(overrides) == (gain == "ignoring_model")
    assert [level.name for level in refined.levels] == [level.name for level in automatic.levels]


def test_all_clicks_hold_together(automatic: Segmentation, following_model: ClickFollowingModel) -> None:
    before = automatic.labels
    clicks = [
        Click(point_outside(before, "L3", (0, 0.6, 0)), "L3"),
        Click(point_outside(before, "L5", (0, 0.6, 0)), "L5"),
        Click(centre(before, "L1-L2"), "L1-L2", positive=False),
        Click(point_outside(before, "canal", (0, -0.5, 0)), "canal"),
    ]
    refined = refine_with_clicks(automatic, following_model, clicks).labels
    assert all((int(refined.array[voxel(refined, c.point)]) in c.labels) == c.positive for c in clicks)
    assert distance_from_clicks(before, clicks)[refined.array != before.array].max() <= CHANGE_RADIUS + 1e-3


def test_a_click_deep_in_a_body_names_it_as_a_pin_does(
    phantom: Phantom, automatic: Segmentation, ignoring_model: ClickFollowingModel
) -> None:
    point = centre(automatic.labels, "L4")
    refined = refine_with_clicks(automatic, ignoring_model, [Click(point, "L5")])
    pinned = segment(phantom.image, ignoring_model, UserLevels(pins=(LevelPin("L5", point),)))
    differs = refined.labels.array != pinned.labels.array
    assert differs.sum() < 20  # ties of two arches go to the higher number
    assert np.isin(refined.labels.array[differs], labels_of_kind(Kind.ARCH)).all()
    assert [level.name for level in refined.levels] == [level.name for level in pinned.levels]
    assert refined.anchor == "given by the user"
    assert refined.confidence < 0.75 and any("contradict the sacrum in view" in text for text in refined.warnings)
    disc = refine_with_clicks(automatic, ignoring_model, [Click(centre(automatic.labels, "L3-L4"), "L4-L5")])
    np.testing.assert_array_equal(disc.labels.array, refined.labels.array)


def test_a_click_near_a_border_moves_the_border_and_no_name(
    automatic: Segmentation, following_model: ClickFollowingModel
) -> None:
    before = automatic.labels
    index = np.array(centre(before, "L3-L4"))
    while before.array[voxel(before, index)] != structure_by_name("L4").label:
        index = index - (0, 0, 0.4)
    point = tuple(index.tolist())  # just inside L4
    refined = refine_with_clicks(automatic, following_model, [Click(point, "L3-L4")])
    assert refined.labels.array[voxel(before, point)] == structure_by_name("L3-L4").label
    assert [level.name for level in refined.levels] == [level.name for level in automatic.levels]


def test_a_negative_click_on_a_name_changes_no_voxel_of_another_name(
    automatic: Segmentation, following_model: ClickFollowingModel
) -> None:
    before = automatic.labels
    refined = refine_with_clicks(automatic, following_model, [Click(centre(before, "L4"), "L3", positive=False)])
    np.testing.assert_array_equal(refined.labels.array, before.array)


def test_what_contradicts_itself_is_one_line(
    phantom: Phantom, automatic: Segmentation, ignoring_model: ClickFollowingModel
) -> None:
    before = automatic.labels
    l3, l5 = centre(before, "L3"), centre(before, "L5")
    with pytest.raises(SegmentError, match=r"contradict each other about the names: L4 at .*, and L5 at"):
        refine_with_clicks(automatic, ignoring_model, [Click(l3, "L4"), Click(l5, "L5")])
    with pytest.raises(SegmentError, match=r"contradict each other: L3 at .*, and canal at"):
        refine_with_clicks(automatic, ignoring_model, [Click(l3, "L3"), Click(l3, "canal")])
    with pytest.raises(SegmentError, match=r"contradict each other: not L3 at .*, and L3 at"):
        refine_with_clicks(automatic, ignoring_model, [Click(l3, "L3", positive=False), Click(l3, "L3")])
    pinned = segment(phantom.image, ignoring_model, UserLevels(pins=(LevelPin("L3", l3),)), keep_state=True)
    with pytest.raises(SegmentError, match=r"--pin and the click on L4 at .* disagree"):
        refine_with_clicks(pinned, ignoring_model, [Click(l3, "L4")])


def test_clicks_that_cannot_be_are_refused(
    automatic: Segmentation, model: Model, ignoring_model: ClickFollowingModel
) -> None:
    point = centre(automatic.labels, "L3")
    with pytest.raises(
        SegmentError, match=r"does not accept clicks; use one that was trained with .* --method deepedit"
    ):
        refine_with_clicks(automatic, ModelWithoutClicks(model), [Click(point, "L3")])
    with pytest.raises(SegmentError, match=r"click 2 \(L4 at 900, 0, 0\) lies outside the exam"):
        refine_with_clicks(automatic, ignoring_model, [Click(point, "L3"), Click((900.0, 0.0, 0.0), "L4")])
    far = point_outside(automatic.labels, "canal", (0, -3, 0))
    refined = refine_with_clicks(automatic, ignoring_model, [Click(far, "T5")])
    assert any("was ignored" in note for note in refined.warnings)
    np.testing.assert_array_equal(refined.labels.array, automatic.labels.array)


@pytest.mark.parametrize("axes", ["LPS", "PIR", "SLA"])
def test_the_same_clicks_give_the_same_voxels_in_every_orientation(
    axes: str, phantom: Phantom, automatic: Segmentation, following_model: ClickFollowingModel
) -> None:
    before = automatic.labels
    clicks = [
        Click(point_outside(before, "L3", (0, 0.6, 0)), "L3"),
        Click(centre(before, "L1-L2"), "L1-L2", positive=False),
    ]
    plain = refine_with_clicks(automatic, following_model, clicks).labels
    reoriented = segment_with_clicks(reorient(phantom.image, axes), following_model, clicks).labels
    assert reoriented.grid.axis_codes == axes
    back = reorient(reoriented, plain.grid.axis_codes)
    assert (back.array != plain.array).sum() <= 1e-4 * (plain.array > 0).sum()
    assert (plain.array != before.array).sum() > 100


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.floats(0.02, 0.5))
@settings(deadline=None, max_examples=30)
def test_what_a_click_touches_is_near_it_and_in_one_piece_with_it(seed: int, count: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    spacing = np.array([5.0, 2.0, 2.0])
    changes = rng.random((12, 40, 44)) < share
    positions = rng.random((count, 3)) * (np.array(changes.shape) - 1)
    out = changes_near_clicks(changes, positions, spacing)
    assert not (out & ~changes).any()
    indices = np.stack(np.indices(changes.shape), -1)
    gaps = np.min([np.linalg.norm((indices - position) * spacing, axis=-1) for position in positions], axis=0)
    assert not (out & (gaps > CHANGE_RADIUS + 1e-3)).any()
    assert out[changes & (gaps < CONTACT_RADIUS - 1e-3)].all()
    pieces, _ = ndimage.label(changes & (gaps <= CHANGE_RADIUS), np.ones((3, 3, 3)))
    for piece in np.unique(pieces[out]):
        assert gaps[pieces == piece].min() <= CONTACT_RADIUS + 1e-3


def test_kinds_may_be_clicked_without_a_level(automatic: Segmentation, ignoring_model: ClickFollowingModel) -> None:
    before = automatic.labels
    point = point_outside(before, "L3-L4", (0, 0.6, 0))
    refined = refine_with_clicks(automatic, ignoring_model, [Click(point, "disc")]).labels
    assert refined.array[voxel(before, point)] == structure_by_name("L3-L4").label
    emptied = refine_with_clicks(automatic, ignoring_model, [Click(centre(before, "L3-L4"), "background")]).labels
    assert emptied.array[voxel(before, centre(before, "L3-L4"))] == 0


def test_refinement_needs_the_state(automatic: Segmentation, ignoring_model: ClickFollowingModel) -> None:
    with pytest.raises(ValueError, match="keep_state=True"):
        refine_with_clicks(
            replace(automatic, state=None), ignoring_model, [Click(centre(automatic.labels, "L3"), "L3")]
        )


def test_a_model_without_clicks_is_refined_by_overrides(phantom: Phantom, model: Model) -> None:
    deaf = ModelWithoutClicks(model)
    before = segment(phantom.image, deaf, keep_state=True)
    point = point_outside(before.labels, "L3", (0, 0.6, 0))
    after = override_with_clicks(before, deaf, [Click(point, "L3")])
    assert after.labels.array[voxel(before.labels, point)] == structure_by_name("L3").label
    assert any("overridden" in warning for warning in after.warnings)
