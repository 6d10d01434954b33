"""The most doubtful exams come first, for reasons that are told; what cannot be used comes last."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.datasets.small_phantoms import exam

from lumbarseg.active_learning.uncertainty import (
    UncertaintyScore,
    combine_components,
    estimate_uncertainty,
    rank_exams,
    sort_by_uncertainty,
)
from lumbarseg.errors import ModelError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import write_image
from lumbarseg.volume import Volume

shares = st.floats(0, 1)


@pytest.fixture(scope="module")
def model() -> Model:
    try:
        return Model.load(bundled_model_path())
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clear() -> Volume:
    return exam(1, seed=3).image


def noisy(volume: Volume, much: float) -> Volume:
    """The same exam under noise; much: of its largest value."""
    noise = np.random.default_rng(0).normal(0, much * float(volume.array.max()), volume.array.shape)
    return Volume((volume.array + np.abs(noise)).astype(np.float32), volume.affine)


def test_noise_raises_doubt_and_reasons_are_told_by_weight(model: Model, clear: Volume) -> None:
    plain, spoilt = (
        estimate_uncertainty("plain", clear, model),
        estimate_uncertainty("spoilt", noisy(clear, 0.25), model),
    )
    assert plain.value < spoilt.value
    assert spoilt.reasons
    assert not plain.not_segmented and not plain.unusable
    assert set(plain.components) == {"unsure", "names", "mirror", "anatomy"}
    heavy = [share for share in sorted(plain.components.values(), reverse=True) if share >= 0.02]
    assert len(plain.reasons) == len(heavy)


def test_a_second_model_that_agrees_adds_no_doubt(model: Model, clear: Volume) -> None:
    alone, both = estimate_uncertainty("x", clear, model), estimate_uncertainty("x", clear, model, model)
    assert both.components["other"] == 0
    assert both.value == alone.value


def test_what_is_no_spine_is_refused_and_what_is_ct_cannot_be_used(model: Model, clear: Volume) -> None:
    noise = Volume(np.random.default_rng(0).random((12, 64, 64), np.float32), np.diag([4.0, 1, 1, 1]))
    refused = estimate_uncertainty("noise", noise, model)
    assert refused.not_segmented
    assert refused.value == 1
    assert refused.reasons[0].startswith("no answer: ")
    ct = estimate_uncertainty("ct", Volume(clear.array - 1000, clear.affine), model)
    assert ct.unusable
    assert "CT" in ct.reasons[0]


def test_among_answered_exams_refused_ones_wait_but_not_where_most_are_refused() -> None:
    sure, unsure, none, broken = (
        UncertaintyScore("sure", 0.1),
        UncertaintyScore("unsure", 0.6),
        UncertaintyScore("none", 1.0, not_segmented=True),
        UncertaintyScore("broken", 0.0, unusable=True),
    )
    assert [one.name for one in sort_by_uncertainty([broken, sure, none, unsure])] == [
        "unsure",
        "sure",
        "none",
        "broken",
    ]
    assert [one.name for one in sort_by_uncertainty([broken, sure, none])] == ["none", "sure", "broken"]


@given(st.lists(shares, min_size=1, max_size=5), st.integers(0, 4), shares)
def test_doubt_lies_between_0_and_1_and_no_part_lowers_it(parts: list[float], place: int, more: float) -> None:
    rows = [(str(i), share, "") for i, share in enumerate(parts)]
    before = combine_components("x", rows).value
    at = place % len(parts)
    rows[at] = (str(at), max(parts[at], more), "")
    after = combine_components("x", rows).value
    assert 0 <= before <= after <= 1
    assert before >= max(parts) - 1e-4


def test_exams_are_looked_at_once_per_model(model: Model, clear: Volume, tmp_path: Path) -> None:
    write_image(clear, tmp_path / "a.nii.gz")
    write_image(noisy(clear, 0.3), tmp_path / "b.nii.gz")
    (tmp_path / "c.nii.gz").write_bytes(b"nothing")
    exams = {name: tmp_path / f"{name}.nii.gz" for name in "abc"}
    first = rank_exams(exams, model, cache_path=tmp_path / "doubts.json")
    assert first.names == ("b", "a", "c")
    assert first.scores[-1].unusable
    again = rank_exams(
        exams, model, cache_path=tmp_path / "doubts.json", time_limit=-1
    )  # no time, but everything is known
    assert again == first
    rank_exams({"a": exams["a"]}, model, model, tmp_path / "doubts.json")  # other models push nothing out
    assert rank_exams(exams, model, cache_path=tmp_path / "doubts.json", time_limit=-1) == first
    write_image(noisy(clear, 0.2), tmp_path / "a.nii.gz")
    assert rank_exams(exams, model, cache_path=tmp_path / "doubts.json", time_limit=-1).not_scored == ("a",)
    (tmp_path / "doubts.json").write_text("{")
    assert rank_exams(exams, model, cache_path=tmp_path / "doubts.json", time_limit=-1).not_scored == ("a", "b", "c")
