"""Distances of surfaces: by hand, and as MONAI measures them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumbarseg.io import read_labels
from lumbarseg.metrics.surface import SurfaceDistances, compute_surface_distances


def monais(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> SurfaceDistances:
    """The same three figures by monai.metrics."""
    torch, metrics = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    pair = [torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (a, b)]
    mean = metrics.compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=spacing)
    p95, largest = (
        metrics.compute_hausdorff_distance(*pair, include_background=True, percentile=percent, spacing=spacing)
        for percent in (95, None)
    )
    return SurfaceDistances(float(mean), float(p95), float(largest))


def same(measured: SurfaceDistances | None, expected: SurfaceDistances) -> bool:
    assert measured is not None
    values = [(measured.mean, expected.mean), (measured.p95, expected.p95), (measured.largest, expected.largest)]
    return all(a == pytest.approx(b, rel=1e-5, abs=1e-5) for a, b in values)


def test_two_points_on_a_line() -> None:
    a, b = np.zeros((2, 1, 1, 12), bool)
    a[0, 0, 2] = b[0, 0, 7] = True
    assert compute_surface_distances(a, b, (9.0, 9.0, 0.5)) == SurfaceDistances(2.5, 2.5, 2.5)


def test_the_larger_of_both_ways_is_the_95_percent_distance() -> None:
    a, b = np.zeros((2, 1, 1, 60), bool)
    a[0, 0, 10::2] = True  # 25 points, all of them their own surface
    b[0, 0, 10] = True
    far = compute_surface_distances(a, b, (1, 1, 1))
    position = np.arange(0, 50, 2)
    assert far == SurfaceDistances(pytest.approx(position.sum() / 26), pytest.approx(np.percentile(position, 95)), 48)
    assert compute_surface_distances(b, a, (1, 1, 1)) == far


def test_a_single_slice_is_measured_in_its_plane() -> None:
    a, b = np.zeros((2, 1, 20, 20), bool)
    a[0, 4:14, 4:14] = b[0, 5:15, 4:14] = True
    one = compute_surface_distances(a, b, (4.5, 0.8, 0.8))
    assert same(one, monais(a[0], b[0], (0.8, 0.8)))
    transposed = compute_surface_distances(np.moveaxis(a, 0, 2), np.moveaxis(b, 0, 2), (0.8, 0.8, 4.5))
    assert transposed == one


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.sampled_from([0.6, 1.0, 3.3])] * 3))
def test_the_figures_are_monais(seed: int, spacing: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 5, 9, 8)) < rng.uniform(0.02, 0.7)
    a[2, 4, 4] = b[1, 3, 5] = True
    assert same(compute_surface_distances(a, b, spacing), monais(a, b, spacing))


def test_real_masks_of_thick_slices_measure_as_monai_does(real: Path) -> None:
    labels = read_labels(sorted((real / "siegen").glob("*_labels.nii.gz"))[0])
    body = labels.array == 4
    assert body.any()
    shifted = np.roll(labels.array == 4, (1, 2), axis=(0, 1)) | (labels.array == 3)
    assert same(
        compute_surface_distances(shifted, body, labels.grid.spacing), monais(shifted, body, labels.grid.spacing)
    )
