from __future__ import annotations

import numpy as np
import pytest
import torch

from lumbarseg.training.augmentation import (
    _FLIP_ANTERIOR_PROBABILITY,
    _FLIP_VERTICAL_PROBABILITY,
    IntensityTransform,
    SpatialTransform,
    apply_intensity_transform,
    apply_spatial_transform,
    draw_intensity_transform,
    draw_spatial_transform,
    truncate_field_of_view,
)

CROP = 64
PLAIN = IntensityTransform(
    gamma=1.0,
    gain=1.0,
    offset=0.0,
    noise=0.0,
    blur=False,
    low_resolution=(0, 1.0),
    bias_field=None,
    inverted=False,
    truncated_side=(0, 0),
)


def ramp(axis: int) -> np.ndarray:
    """(5, 80, 100) that rises along an axis of the slice."""
    return np.broadcast_to(np.indices((80, 100))[axis], (5, 80, 100)).astype(np.float32)


@pytest.mark.parametrize(("axis", "share"), [(0, _FLIP_ANTERIOR_PROBABILITY), (1, _FLIP_VERTICAL_PROBABILITY)])
def test_most_crops_stay_upright_and_few_are_mirrored(axis: int, share: float) -> None:
    codes = np.ones((80, 100), np.uint8)
    mirrored = 0
    for seed in range(400):
        pose = draw_spatial_transform(np.random.default_rng(seed), (80, 100), np.array([[40, 50]]), CROP)
        middle = SpatialTransform(pose.matrix, np.array([40.0, 50.0]), pose.displacement, border_padding=True)
        means = apply_spatial_transform(ramp(axis), codes, middle, CROP)[0][0].mean(1 - axis)
        falls = bool(means[-CROP // 3 :].mean() < means[: CROP // 3].mean())
        assert falls == (pose.matrix[axis, axis] < 0), seed
        mirrored += falls
    assert 0 < share < 0.2
    assert abs(mirrored / 400 - share) < 0.05


def test_a_straight_pose_is_a_crop() -> None:
    image = np.random.default_rng(0).random((5, 80, 100)).astype(np.float32)
    codes = np.random.default_rng(1).integers(0, 4, (80, 100)).astype(np.uint8)
    placed, found = apply_spatial_transform(
        image, codes, SpatialTransform(np.eye(2), np.array([39.5, 49.5]), None, False), CROP
    )
    np.testing.assert_allclose(placed.numpy(), image[:, 8:72, 18:82], atol=1e-4)
    np.testing.assert_array_equal(found, codes[8:72, 18:82])


def test_beyond_the_slice_nothing_is_known() -> None:
    codes = np.full((80, 100), 3, np.uint8)
    for repeat, border in ((True, 1.0), (False, 0.0)):
        pose = SpatialTransform(np.eye(2), np.array([0.5, 49.5]), None, repeat)
        image, found = apply_spatial_transform(np.ones((5, 80, 100), np.float32), codes, pose, CROP)
        assert (found[:31] == 0).all()
        assert (found[31:] == 3).all()
        np.testing.assert_allclose(image[:, :30].numpy(), border)


def test_image_and_labels_move_together() -> None:
    codes = np.zeros((80, 100), np.uint8)
    codes[30:50, 40:60] = 1
    image = np.broadcast_to(codes, (5, 80, 100)).astype(np.float32)
    for seed in range(40):
        pose = draw_spatial_transform(np.random.default_rng(seed), (80, 100), np.array([[40, 50]]), CROP)
        placed, found = apply_spatial_transform(
            image, codes, SpatialTransform(pose.matrix, np.array([40.0, 50.0]), pose.displacement, False), CROP
        )
        bright = placed[2].numpy() > 0.5
        assert (bright == (found == 1)).mean() > 0.97


@pytest.mark.parametrize("side", range(4))
def test_a_cut_field_ends_before_a_side(side: int) -> None:
    image = torch.arange(16.0).reshape(1, 4, 4).expand(5, 4, 4)
    codes = np.full((4, 4), 2, np.uint8)
    out, found = truncate_field_of_view(image, codes, (side, 1))
    gone = [(0, slice(None)), (3, slice(None)), (slice(None), 0), (slice(None), 3)][side]
    kept = [(1, slice(None)), (2, slice(None)), (slice(None), 1), (slice(None), 2)][side]
    assert (found[gone] == 0).all()
    assert (found == 0).sum() == 4
    assert torch.equal(out[(0, *gone)], image[(0, *kept)])
    assert torch.equal(truncate_field_of_view(image, codes, (side, 0))[0], image)


def test_looks_change_brightness_alone_and_leave_their_input() -> None:
    image = torch.rand(5, 32, 32)
    kept = image.clone()
    assert torch.equal(apply_intensity_transform(image, PLAIN, np.random.default_rng(0)), image)
    for look in [draw_intensity_transform(np.random.default_rng(seed)) for seed in range(3)]:
        first = apply_intensity_transform(image, look, np.random.default_rng(5))
        assert torch.equal(image, kept)
        assert torch.equal(first, apply_intensity_transform(image, look, np.random.default_rng(5)))
        assert not torch.equal(first, image)


def test_every_look_gives_finite_numbers() -> None:
    looks = [draw_intensity_transform(np.random.default_rng(seed)) for seed in range(200)]
    assert {look.inverted for look in looks} == {True, False}
    image = torch.rand(5, 32, 32) * 1.5
    assert all(torch.isfinite(apply_intensity_transform(image, look, np.random.default_rng(0))).all() for look in looks)
