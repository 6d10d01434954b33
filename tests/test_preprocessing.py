"""The contract with the network, both ways: every voxel goes to its place and comes back to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.grids import AXIS_ORDERS, affine_of, filled

from lumbarseg.errors import ModelError, SegmentError
from lumbarseg.preprocessing import (
    ClickGaussian,
    Normalisation,
    PreparedImage,
    PreprocessingSpec,
    argmax_classes,
    classes_on_source_grid,
    extract_windows,
    labels_on_source_grid,
    network_grid,
    normalise_intensity,
    preprocess,
    refuse_ct,
)
from lumbarseg.volume import Array, Grid, Volume

SPEC = PreprocessingSpec()


def exam_grids(axes: str, finest: float = 0.3, thinnest: float = 0.3) -> st.SearchStrategy[Grid]:
    """Grids as scanners make them: in `axes`, oblique, anisotropic; the axis to the left or right may be thick."""
    across = next(i for i, letter in enumerate(axes) if letter in "LR")
    steps = [st.floats(thinnest if axis == across else finest, 6.0) for axis in range(3)]
    angle = st.floats(-25, 25)
    affines = st.builds(
        affine_of, st.just(axes), st.tuples(*steps), st.tuples(*[st.floats(-300, 300)] * 3), st.tuples(*[angle] * 3)
    )
    return st.builds(Grid, st.tuples(*[st.integers(1, 12)] * 3), affines)


def frame(source: Grid, spec: PreprocessingSpec = SPEC) -> PreparedImage:
    """What `prepare` gives, without an image."""
    grid = network_grid(source, spec)
    return PreparedImage(np.zeros(grid.shape, np.float32), grid, source, spec)


def positions(grid: Grid) -> Array:
    """Where every voxel is, (I, J, K, 3) mm."""
    return grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1))


def nearest(grid: Grid, points: Array) -> tuple[Array, ...]:
    """Index of the voxel of `grid` nearest to each point."""
    index = np.rint(grid.to_index(points)).astype(int)
    return tuple(np.moveaxis(np.clip(index, 0, np.array(grid.shape) - 1), -1, 0))


@pytest.mark.parametrize("axes", AXIS_ORDERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_voxel_of_the_exam_gets_the_label_of_the_nearest_voxel_of_the_network(
    axes: str, data: st.DataObject
) -> None:
    prepared = frame(data.draw(exam_grids(axes)))
    source, network = prepared.source_grid, prepared.grid
    assert network.axis_codes == "RAS"
    labels = np.arange(np.prod(network.shape)).reshape(network.shape)
    result = labels_on_source_grid(labels, prepared)
    assert result.shape == source.shape
    from_there = np.stack(np.unravel_index(result, network.shape), axis=-1)
    position = network.to_index(positions(source))
    distance = np.abs(np.clip(position, 0, np.array(network.shape) - 1) - from_there)
    assert distance.max() <= 0.5 + 1e-6
    assert np.abs(position - from_there).max() <= 0.75 + 1e-6  # at a border the network's grid may end earlier


@pytest.mark.parametrize("axes", AXIS_ORDERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_labels_sent_to_a_finer_network_grid_and_back_are_the_same_voxel_for_voxel(
    axes: str, data: st.DataObject
) -> None:
    prepared = frame(data.draw(exam_grids(axes, finest=1.02, thinnest=2.4)))
    labels = filled(prepared.source_grid, dtype=np.uint8).array
    sent = labels[nearest(prepared.source_grid, positions(prepared.grid))]
    assert np.array_equal(labels_on_source_grid(sent, prepared), labels)


@pytest.mark.parametrize("axes", AXIS_ORDERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_label_painted_at_a_point_comes_back_at_that_point(axes: str, data: st.DataObject) -> None:
    prepared = frame(data.draw(exam_grids(axes)))
    source, network = prepared.source_grid, prepared.grid
    target = np.array([data.draw(st.integers(0, n - 1)) for n in source.shape])
    point = source.to_world(target)
    index = np.clip(network.to_index(point), 0, np.array(network.shape) - 1)
    painted = np.abs(np.moveaxis(np.indices(network.shape), 0, -1) - index).max(axis=-1) <= 0.5 + 1e-6
    restored = labels_on_source_grid(painted.astype(np.uint8) * 7, prepared)
    assert restored[tuple(target)] == 7
    distance = network.to_index(positions(source)[restored == 7]) - network.to_index(point)
    assert np.abs(distance).max() <= 1.5 + 1e-6  # half a voxel each way, a quarter more at a border


def reoriented_spacing(grid: Grid) -> Array:
    """Spacing of a grid in the order left, front, up."""
    order = [next(i for i, letter in enumerate(grid.axis_codes) if letter in pair) for pair in ("LR", "PA", "IS")]
    return np.array(grid.spacing)[order]


@pytest.mark.parametrize("axes", AXIS_ORDERS)
def test_at_the_networks_own_spacing_nothing_is_resampled(axes: str) -> None:
    across = next(i for i, letter in enumerate(axes) if letter in "LR")
    spacing = tuple(4.0 if axis == across else 1.0 for axis in range(3))
    source = Grid((7, 8, 9), affine_of(axes, spacing, (5, 6, 7), (10, -20, 5)))
    prepared = frame(source)
    assert sorted(prepared.grid.shape) == [7, 8, 9]
    labels = filled(source, dtype=np.uint8).array
    sent = labels[nearest(source, positions(prepared.grid))]
    assert np.array_equal(np.sort(sent.ravel()), np.sort(labels.ravel()))
    assert np.array_equal(labels_on_source_grid(sent, prepared), labels)
    scores = np.stack([sent % 2 == 0, sent % 2 == 1]).astype(np.float32)
    assert np.array_equal(classes_on_source_grid(scores, prepared), labels % 2)


@settings(max_examples=30, deadline=None)
@given(scores=arrays(np.float32, (4, 2, 3, 3), elements=st.integers(0, 3)))
def test_of_equal_scores_the_first_class_counts(scores: Array) -> None:
    before = scores.copy()
    result = argmax_classes(scores)
    assert np.array_equal(result, scores.argmax(axis=0))
    assert result.dtype == np.uint8
    assert np.array_equal(scores, before)


def test_only_the_changed_region_is_interpolated_and_as_before() -> None:
    prepared = frame(Grid((9, 30, 40), affine_of("RAS", (4.0, 0.7, 0.8), (0, 0, 0), (5, 10, -5))))
    scores = np.random.default_rng(0).random((3, *prepared.grid.shape)).astype(np.float32)
    changed = np.zeros(prepared.grid.shape, bool)
    changed[2:7, 5:15, 10:25] = True
    all_windows, part = classes_on_source_grid(scores, prepared), classes_on_source_grid(scores, prepared, changed)
    position = prepared.grid.to_index(positions(prepared.source_grid))
    inside = ((position >= [2, 5, 10]) & (position <= [6, 14, 24])).all(axis=-1)
    far = ((position < [-1, 2, 7]) | (position > [9, 18, 28])).any(axis=-1)
    assert inside.any()
    assert far.any()
    assert np.array_equal(part[inside], all_windows[inside])
    assert not part[far].any()
    assert all_windows[far].any()


@pytest.mark.parametrize("axes", AXIS_ORDERS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_the_best_class_is_the_best_between_the_networks_voxels_too(axes: str, data: st.DataObject) -> None:
    """Scores that rise linearly through space stay exact when interpolated: the border of a class is a plane."""
    prepared = frame(data.draw(exam_grids(axes)))
    direction = np.array([0.3, -0.8, 0.5])
    border = float(np.median(positions(prepared.grid) @ direction))
    scores = np.stack([np.zeros(prepared.grid.shape), positions(prepared.grid) @ direction - border]).astype(np.float32)
    result = classes_on_source_grid(scores, prepared)
    assert result.shape == prepared.source_grid.shape
    assert result.dtype == np.uint8
    position = prepared.grid.to_index(positions(prepared.source_grid))
    inside = ((position >= 0) & (position <= np.array(prepared.grid.shape) - 1)).all(axis=-1)
    score = positions(prepared.source_grid) @ direction - border
    clear = inside & (abs(score) > 1e-2)
    assert np.array_equal(result[clear], (score > 0)[clear])


@settings(max_examples=30, deadline=None)
@given(shear=st.tuples(*[st.floats(-0.3, 0.3)] * 6), axes=st.sampled_from(AXIS_ORDERS))
def test_sheared_grids_come_back_too(shear: tuple[float, ...], axes: str) -> None:
    slant = np.eye(4)
    slant[[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]] = shear
    across = next(i for i, letter in enumerate(axes) if letter in "LR")
    spacing = tuple(6.0 if axis == across else 1.0 for axis in range(3))
    source = Grid((4, 5, 6), slant @ affine_of(axes, spacing))
    prepared = frame(source)
    labels = filled(source, dtype=np.uint8).array
    sent = labels[nearest(source, positions(prepared.grid))]
    assert np.array_equal(labels_on_source_grid(sent, prepared), labels)


STACKS = {
    "sagittal": Grid((90, 100, 15), affine_of("PIR", (0.7, 0.7, 4.4), (-30, 40, 60), (3, 5, -4))),
    "sagittal, thin": Grid((60, 70, 60), affine_of("PIL", (0.94, 0.94, 1.0), (30, 40, 60))),
    "axial": Grid((120, 100, 14), affine_of("LPS", (0.8, 0.8, 6.0), (48, 40, -40), (20, 0, 0))),
    "coronal": Grid((120, 100, 18), affine_of("LIA", (0.9, 0.9, 5.0), (50, -40, 45), (0, 0, 10))),
    "isotropic": Grid((80, 90, 100), affine_of("RAS", (1.0, 1.0, 1.0), (-40, -45, -50), (4, -8, 12))),
    "isotropic, fine": Grid((130, 100, 120), affine_of("ASL", (0.6, 0.6, 0.6), (-30, -35, 30))),
}


def blob(grid: Grid, centre: Array, width: float = 6.0) -> Volume:
    """A bright ball in noise."""
    distance = np.linalg.norm(positions(grid) - centre, axis=-1)
    noise = np.random.default_rng(0).normal(100, 5, grid.shape)
    return Volume((noise + 900 * np.exp(-0.5 * (distance / width) ** 2)).astype(np.float32), grid.affine)


@pytest.mark.parametrize("source", STACKS.values(), ids=STACKS)
def test_every_kind_of_exam_goes_through(source: Grid) -> None:
    centre = source.to_world(np.array(source.shape) * (0.4, 0.5, 0.55))
    volume = blob(source, centre)
    volume.array.setflags(write=False)
    before = volume.array.copy()
    prepared = preprocess(volume, SPEC)
    assert np.array_equal(volume.array, before)

    assert prepared.array.shape == prepared.grid.shape
    assert prepared.array.dtype == np.float32
    assert (prepared.array.min(), prepared.array.max()) == pytest.approx((0, 1), abs=SPEC.normalisation.limit - 1)
    assert prepared.grid.axis_codes == "RAS"
    assert prepared.grid.spacing[1:] == pytest.approx((1, 1), rel=0.01)
    thickness = reoriented_spacing(source)[0]
    assert prepared.grid.spacing[0] == pytest.approx(thickness * max(1, round(SPEC.slab / thickness)))
    bright = np.argwhere(prepared.array > 0.8 * prepared.array.max()).mean(axis=0)
    result = prepared.grid.to_world(bright)
    assert np.linalg.norm(result - centre) < np.linalg.norm(prepared.grid.spacing) / 2 + 1

    restored_labels = labels_on_source_grid((prepared.array > 0.8 * prepared.array.max()).astype(np.uint8), prepared)
    assert restored_labels.shape == source.shape
    back = source.to_world(np.argwhere(restored_labels).mean(axis=0))
    assert np.linalg.norm(back - centre) < np.linalg.norm(prepared.grid.spacing) / 2 + 1


@pytest.mark.parametrize("axes", AXIS_ORDERS)
def test_one_exam_looks_the_same_in_every_axis_order(axes: str) -> None:
    from lumbarseg.resampling import reorient

    source = Grid((9, 40, 50), affine_of("RAS", (4.0, 0.7, 0.8), (-20, -14, -20), (5, 5, 5)))
    volume = blob(source, source.to_world(np.array([4, 22, 30])))
    first, second = preprocess(volume, SPEC), preprocess(reorient(volume, axes), SPEC)
    assert second.grid.same_as(first.grid, 1e-6)
    assert second.array == pytest.approx(first.array, abs=1e-4)


def test_a_single_slice_goes_through() -> None:
    source = Grid((40, 50, 1), affine_of("PIR", (0.7, 0.7, 4.0)))
    prepared = preprocess(blob(source, source.to_world(np.array([20, 25, 0]))), SPEC)
    assert prepared.array.shape == (1, 28, 35)
    assert extract_windows(prepared.array, SPEC).shape == (1, 5, 32, 64)
    assert labels_on_source_grid(prepared.array > 1, prepared).shape == (40, 50, 1)


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_a_constant_image_is_refused(value: float) -> None:
    volume = Volume(np.full((20, 20, 8), value, np.float32), affine_of("PIR", (1, 1, 4)))
    with pytest.raises(SegmentError, match="the image is constant"):
        preprocess(volume, SPEC)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 1000), shift=st.floats(-1000, 1000))
def test_scale_and_offset_of_the_intensities_do_not_matter(scale: float, shift: float) -> None:
    source = Grid((40, 50, 6), affine_of("PIR", (1, 1, 4)))
    image = blob(source, source.to_world(np.array([20, 25, 3]))).array.transpose(2, 0, 1)
    other = (image.astype(np.float64) * scale + shift * scale).astype(np.float32)
    other.setflags(write=False)
    assert normalise_intensity(other, SPEC) == pytest.approx(normalise_intensity(image, SPEC), abs=0.02)


def test_shading_of_a_coil_is_taken_away() -> None:
    anatomy = np.random.default_rng(0).uniform(0.2, 1, (9, 20, 30)).repeat(6, axis=1).repeat(6, axis=2)
    shading = np.exp(-np.arange(120) / 40)[:, None] * np.ones((1, 180))
    image = normalise_intensity((anatomy * shading * 1000).astype(np.float32), SPEC)
    raw = (anatomy * shading)[:, :60].mean() / (anatomy * shading)[:, 60:].mean()
    assert image[:, :60].mean() / image[:, 60:].mean() < raw / 1.5


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(st.integers(1, 6), st.integers(1, 70), st.integers(1, 70)), neighbours=st.integers(0, 3))
def test_windows_hold_each_slice_with_its_neighbours(shape: tuple[int, int, int], neighbours: int) -> None:
    spec = replace(SPEC, neighbours=neighbours)
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    array.setflags(write=False)
    result = extract_windows(array, spec)
    assert result.shape[:2] == (shape[0], 2 * neighbours + 1)
    assert all(size % 32 == 0 and 0 <= size - n < 32 for size, n in zip(result.shape[2:], shape[1:], strict=True))
    for index in range(shape[0]):
        for position in range(2 * neighbours + 1):
            which = min(max(index + position - neighbours, 0), shape[0] - 1)
            assert np.array_equal(result[index, position, : shape[1], : shape[2]], array[which])
            assert result[index, position, -1, -1] == array[which, -1, -1]


def test_a_specification_survives_its_dict() -> None:
    spec = PreprocessingSpec(
        pixel=0.9, slab=4.0, neighbours=1, multiple=16, normalisation=Normalisation(low=1.0, power=0.5)
    )
    assert PreprocessingSpec.from_dict(spec.to_dict()) == spec
    assert PreprocessingSpec.from_dict(PreprocessingSpec().to_dict()) == PreprocessingSpec()


def changed(**values: Any) -> dict[str, Any]:
    return {**PreprocessingSpec().to_dict(), **values}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {name: value for name, value in PreprocessingSpec().to_dict().items() if name != "normalisation"},
        changed(unknown=1),
        changed(pixel=0.0),
        changed(pixel=-1.0),
        changed(pixel=float("nan")),
        changed(pixel=float("inf")),
        changed(pixel="1.0"),
        changed(pixel=None),
        changed(slab=0.0),
        changed(neighbours=-1),
        changed(neighbours=2.5),
        changed(neighbours=10**9),
        changed(multiple=0),
        changed(multiple=10**9),
        changed(axes="SAR"),
        changed(axes="RRR"),
        changed(axes="XYZ"),
        changed(axes=""),
        changed(axes=None),
        changed(normalisation=None),
        changed(normalisation={"low": 1.0, "unknown": 2.0}),
        changed(normalisation={"low": "much"}),
        changed(normalisation={**PreprocessingSpec().to_dict()["normalisation"], "power": float("nan")}),
        changed(normalisation={**PreprocessingSpec().to_dict()["normalisation"], "local": 0.0}),
        [],
        None,
        "spec",
    ],
)
def test_malformed_specifications_are_refused(values: Any) -> None:
    with pytest.raises(ModelError, match="specification is malformed"):
        PreprocessingSpec.from_dict(values)


def test_clicks_are_part_of_the_specification_only_where_they_are_read() -> None:
    assert "clicks" not in PreprocessingSpec().to_dict()
    assert PreprocessingSpec().inputs == 5
    spec = PreprocessingSpec(clicks=ClickGaussian(sigma=5.0))
    assert PreprocessingSpec.from_dict(spec.to_dict()) == spec
    assert spec.inputs == 11
    for wrong in ({"sigma": 0.0, "through": 1.0}, {"sigma": "4", "through": 1.0}, {"size": 1.0}, 3):
        with pytest.raises(ModelError, match="malformed"):
            PreprocessingSpec.from_dict({**PreprocessingSpec().to_dict(), "clicks": wrong})


def test_windows_hold_clicks_after_the_slices() -> None:
    array = np.random.default_rng(0).random((4, 20, 33)).astype(np.float32)
    spec = PreprocessingSpec(clicks=ClickGaussian())
    clicks = np.random.default_rng(1).random((6, *array.shape)).astype(np.float32)
    plain, out = extract_windows(array, PreprocessingSpec()), extract_windows(array, spec, clicks)
    assert out.shape == (4, 11, 32, 64)
    np.testing.assert_array_equal(out[:, :5], plain)
    np.testing.assert_array_equal(out[:, 5:, :20, :33], clicks.swapaxes(0, 1))
    assert not out[:, 5:, 20:].any()
    assert not extract_windows(array, spec)[:, 5:].any()


def test_a_fine_exam_is_restored_in_slabs_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(np.random.default_rng(0).random((40, 60, 50)).astype(np.float32), np.diag([0.5, 0.5, 0.5, 1.0]))
    prepared = preprocess(volume, SPEC)
    scores = np.random.default_rng(1).random((4, *prepared.array.shape), dtype=np.float32)
    all_windows = classes_on_source_grid(scores, prepared)
    monkeypatch.setattr("lumbarseg.preprocessing._CHUNK_VOXELS", 7 * 60 * 50)
    assert np.array_equal(classes_on_source_grid(scores, prepared), all_windows)


@pytest.mark.parametrize("fill", [-1000.0, 1e5, float("nan")])
def test_fill_outside_the_field_of_view_changes_nothing(fill: float) -> None:
    rng = np.random.default_rng(3)
    array = rng.gamma(2.0, 100.0, (6, 60, 60)).astype(np.float32)
    border = np.ones((60, 60), bool)
    border[10:-10, 8:-8] = False
    array[:, border] = array[:, ~border].min()
    filled = np.where(border, np.float32(fill), array)
    grid = np.diag([4.0, 1.0, 1.0, 1.0])
    expected = preprocess(Volume(array, grid), PreprocessingSpec()).array
    assert np.array_equal(preprocess(Volume(filled, grid), PreprocessingSpec()).array, expected)


def ct(seed: int = 0) -> Array:
    """Return values of a lumbar CT: air, fat, muscle and bone."""
    rng = np.random.default_rng(seed)
    centres = rng.choice([-1000.0, -100.0, 50.0, 60.0, 250.0], (6, 40, 40), p=[0.3, 0.2, 0.3, 0.1, 0.1])
    return (centres + rng.normal(0, 25, centres.shape)).astype(np.float32)


def test_ct_is_recognised_by_its_header_or_its_values() -> None:
    exam = Volume(ct(), np.eye(4))
    for modality in (None, "CT"):
        with pytest.raises(SegmentError, match=r"looks like CT.*--modality mr"):
            refuse_ct(exam, modality)
    refuse_ct(exam, "mr")
    refuse_ct(exam, "MR")


@pytest.mark.parametrize("shift", [-1024.0, -600.0, -450.0])
def test_mr_with_negative_values_is_mr(shift: float) -> None:
    values = np.random.default_rng(1).gamma(1.5, 250.0, (6, 40, 40)) + shift
    refuse_ct(Volume(values.astype(np.float32), np.eye(4)))
