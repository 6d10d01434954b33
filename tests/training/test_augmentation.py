from __future__ import annotations

import numpy as np
import pytest
import torch

from lumbarseg.training.augmentation import (
    _FLIP_ANTERIOR,
    _FLIP_VERTICAL,
    IntensityTransform,
    SpatialTransform,
    apply_intensity_transform,
    apply_spatial_transform,
    sample_intensity_transform,
    sample_spatial_transform,
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


@pytest.mark.parametrize(("axis", "probability"), [(0, _FLIP_ANTERIOR), (1, _FLIP_VERTICAL)])
def test_most_crops_stay_upright_and_few_are_mirrored(axis: int, probability: float) -> None:
    codes = np.ones((80, 100), np.uint8)
    mirrored = 0
    for seed in range(400):
        spatial = sample_spatial_transform(np.random.default_rng(seed), (80, 100), np.array([[40, 50]]), CROP)
        middle = SpatialTransform(spatial.matrix, np.array([40.0, 50.0]), spatial.displacement, border_padding=True)
        means = apply_spatial_transform(ramp(axis), codes, middle, CROP)[0][0].mean(1 - axis)
        falls = bool(means[-CROP // 3 :].mean() < means[: CROP // 3].mean())
        assert falls == (spatial.matrix[axis, axis] < 0), seed
        mirrored += falls
    assert 0 < probability < 0.2
    assert abs(mirrored / 400 - probability) < 0.05


def test_the_identity_transform_is_a_crop() -> None:
    image = np.random.default_rng(0).random((5, 80, 100)).astype(np.float32)
    codes = np.random.default_rng(1).integers(0, 4, (80, 100)).astype(np.uint8)
    crop, crop_codes = apply_spatial_transform(
        image, codes, SpatialTransform(np.eye(2), np.array([39.5, 49.5]), None, False), CROP
    )
    np.testing.assert_allclose(crop.numpy(), image[:, 8:72, 18:82], atol=1e-4)
    np.testing.assert_array_equal(crop_codes, codes[8:72, 18:82])


def test_outside_the_slice_codes_are_unknown() -> None:
    codes = np.full((80, 100), 3, np.uint8)
    for border_padding, border in ((True, 1.0), (False, 0.0)):
        spatial = SpatialTransform(np.eye(2), np.array([0.5, 49.5]), None, border_padding)
        image, crop_codes = apply_spatial_transform(np.ones((5, 80, 100), np.float32), codes, spatial, CROP)
        assert (crop_codes[:31] == 0).all()
        assert (crop_codes[31:] == 3).all()
        np.testing.assert_allclose(image[:, :30].numpy(), border)


def test_image_and_labels_move_together() -> None:
    codes = np.zeros((80, 100), np.uint8)
    codes[30:50, 40:60] = 1
    image = np.broadcast_to(codes, (5, 80, 100)).astype(np.float32)
    for seed in range(40):
        spatial = sample_spatial_transform(np.random.default_rng(seed), (80, 100), np.array([[40, 50]]), CROP)
        crop, crop_codes = apply_spatial_transform(
            image, codes, SpatialTransform(spatial.matrix, np.array([40.0, 50.0]), spatial.displacement, False), CROP
        )
        bright = crop[2].numpy() > 0.5
        assert (bright == (crop_codes == 1)).mean() > 0.97


@pytest.mark.parametrize("side", range(4))
def test_a_truncated_field_of_view_ends_before_a_side(side: int) -> None:
    image = torch.arange(16.0).reshape(1, 4, 4).expand(5, 4, 4)
    codes = np.full((4, 4), 2, np.uint8)
    out, crop_codes = truncate_field_of_view(image, codes, (side, 1))
    truncated = [(0, slice(None)), (3, slice(None)), (slice(None), 0), (slice(None), 3)][side]
    remaining = [(1, slice(None)), (2, slice(None)), (slice(None), 1), (slice(None), 2)][side]
    assert (crop_codes[truncated] == 0).all()
    assert (crop_codes == 0).sum() == 4
    assert torch.equal(out[(0, *truncated)], image[(0, *remaining)])
    assert torch.equal(truncate_field_of_view(image, codes, (side, 0))[0], image)


def test_intensity_transforms_leave_their_input() -> None:
    image = torch.rand(5, 32, 32)
    remaining = image.clone()
    assert torch.equal(apply_intensity_transform(image, PLAIN, np.random.default_rng(0)), image)
    for transform in [sample_intensity_transform(np.random.default_rng(seed)) for seed in range(3)]:
        first = apply_intensity_transform(image, transform, np.random.default_rng(5))
        assert torch.equal(image, remaining)
        assert torch.equal(first, apply_intensity_transform(image, transform, np.random.default_rng(5)))
        assert not torch.equal(first, image)


def test_every_intensity_transform_gives_finite_numbers() -> None:
    transforms = [sample_intensity_transform(np.random.default_rng(seed)) for seed in range(200)]
    assert {transform.inverted for transform in transforms} == {True, False}
    image = torch.rand(5, 32, 32) * 1.5
    assert all(
        torch.isfinite(apply_intensity_transform(image, transform, np.random.default_rng(0))).all()
        for transform in transforms
    )
