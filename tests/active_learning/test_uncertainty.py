"""Uncertainty scores: reasons by weight, unusable exams last, cached by file and model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.datasets.small_phantoms import exam

from lumbarseg.active_learning.uncertainty import (
    ScoreComponent,
    UncertaintyScore,
    combine_components,
    estimate_uncertainty,
    rank_exams,
    sort_by_uncertainty,
)
from lumbarseg.inference import Model
from lumbarseg.io import write_image
from lumbarseg.volume import Volume

fractions = st.floats(0, 1)


@pytest.fixture(scope="module")
def clear() -> Volume:
    return exam(1, seed=3).image


def noisy(volume: Volume, sigma: float) -> Volume:
    """Add noise; sigma: relative to the maximum."""
    noise = np.random.default_rng(0).normal(0, sigma * float(volume.array.max()), volume.array.shape)
    return Volume((volume.array + np.abs(noise)).astype(np.float32), volume.affine)


def test_noise_increases_uncertainty(bundled_model: Model, clear: Volume) -> None:
    plain, spoilt = (
        estimate_uncertainty("plain", clear, bundled_model),
        estimate_uncertainty("spoilt", noisy(clear, 0.25), bundled_model),
    )
    assert plain.value < spoilt.value
    assert spoilt.reasons
    assert not plain.not_segmented and not plain.unusable
    assert set(plain.components) == {"voxels", "names", "mirror", "anatomy"}
    reported = [value for value in plain.components.values() if value >= 0.02]
    assert len(plain.reasons) == len(reported)


def test_same_second_model_adds_no_uncertainty(bundled_model: Model, clear: Volume) -> None:
    single, both = (
        estimate_uncertainty("x", clear, bundled_model),
        estimate_uncertainty("x", clear, bundled_model, bundled_model),
    )
    assert both.components["second_model"] == 0
    assert both.value == single.value


def test_noise_is_not_segmented_and_ct_is_unusable(bundled_model: Model, clear: Volume) -> None:
    noise = Volume(np.random.default_rng(0).random((12, 64, 64), np.float32), np.diag([4.0, 1, 1, 1]))
    score = estimate_uncertainty("noise", noise, bundled_model)
    assert score.not_segmented
    assert score.value == 1
    assert score.reasons[0].startswith("no segmentation: ")
    tissue = np.where(clear.array > np.percentile(clear.array, 30), 40 + 0.05 * clear.array, -1000)
    ct = estimate_uncertainty("ct", Volume(tissue.astype(np.float32), clear.affine), bundled_model)
    assert ct.unusable
    assert "CT" in ct.reasons[0]


def test_exams_without_segmentation_come_first_only_while_they_are_the_majority() -> None:
    certain, uncertain, failed, broken = (
        UncertaintyScore("certain", 0.1),
        UncertaintyScore("uncertain", 0.6),
        UncertaintyScore("failed", 1.0, not_segmented=True),
        UncertaintyScore("broken", 0.0, unusable=True),
    )
    ranked = sort_by_uncertainty([broken, certain, failed, uncertain])
    assert [score.name for score in ranked] == ["uncertain", "certain", "failed", "broken"]
    assert [score.name for score in sort_by_uncertainty([broken, certain, failed])] == ["failed", "certain", "broken"]


@given(st.lists(fractions, min_size=1, max_size=5), st.integers(0, 4), fractions)
def test_score_is_between_0_and_1_and_never_decreases(values: list[float], position: int, increase: float) -> None:
    components = [ScoreComponent(str(i), value, "") for i, value in enumerate(values)]
    before = combine_components("x", components).value
    position %= len(values)
    components[position] = ScoreComponent(str(position), max(values[position], increase), "")
    after = combine_components("x", components).value
    assert 0 <= before <= after <= 1
    assert before >= max(values) - 1e-4


def test_exams_are_scored_once_per_model(bundled_model: Model, clear: Volume, tmp_path: Path) -> None:
    write_image(clear, tmp_path / "a.nii.gz")
    write_image(noisy(clear, 0.3), tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(b"nothing")
    exams = {name: tmp_path / f"{name}.nii.gz" for name in "abc"}
    cache = tmp_path / "cache.json"
    first = rank_exams(exams, bundled_model, cache_path=cache)
    assert first.names == ("b", "a", "c")
    assert first.scores[-1].unusable
    assert rank_exams(exams, bundled_model, cache_path=cache, time_limit=-1) == first  # no time, but all are cached
    rank_exams({"a": exams["a"]}, bundled_model, bundled_model, cache)  # other models do not replace these scores
    assert rank_exams(exams, bundled_model, cache_path=cache, time_limit=-1) == first
    write_image(noisy(clear, 0.2), tmp_path / "a.nii.gz")
    assert rank_exams(exams, bundled_model, cache_path=cache, time_limit=-1).not_scored == ("a",)
    cache.write_text("{")
    assert rank_exams(exams, bundled_model, cache_path=cache, time_limit=-1).not_scored == ("a", "b", "c")
