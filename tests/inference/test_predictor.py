from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from tests import tiny

from lumbarseg.clicks import Click, encode_clicks
from lumbarseg.errors import ModelError
from lumbarseg.inference import ClickCache, Model, ModelCard, predict
from lumbarseg.inference.predictor import predict_with_clicks
from lumbarseg.preprocessing import ClickGaussian, PreprocessingSpec, extract_windows
from lumbarseg.volume import Array, Grid


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 31, 33), (4, 20, 70), (5, 64, 40), (11, 50, 33)])
def test_a_few_slices_at_a_time_give_what_all_at_once_would(shape: tuple[int, int, int], path: Path) -> None:
    model = Model.load(path)
    array = np.random.default_rng(1).random(shape).astype(np.float32)
    array.setflags(write=False)
    probabilities = predict(model, array)
    logits = model.run(extract_windows(array, model.card.spec))[:, :, : shape[1], : shape[2]]
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (6, *shape)
    np.testing.assert_allclose(probabilities, softmax(logits, axis=1).swapaxes(0, 1), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)


def test_the_card_bias_is_added_before_the_softmax(tmp_path: Path, path: Path) -> None:
    bias = (0.0, 2.0, 0.0, 0.0, -3.0, 0.0)
    shifted = Model.load(tiny.write(tmp_path / "shifted.onnx", ModelCard(PreprocessingSpec(), bias=bias)))
    array = np.random.default_rng(1).random((3, 32, 32)).astype(np.float32)
    plain, probabilities = predict(Model.load(path), array), predict(shifted, array)
    odds = np.log(probabilities + 1e-12) - np.log(plain + 1e-12)
    usable = (plain > 1e-4).all(0) & (probabilities > 1e-4).all(0)
    assert usable.sum() > 10
    for channel, value in enumerate(bias):
        np.testing.assert_allclose((odds[channel] - odds[0])[usable], value, atol=1e-3)


def test_large_logits_do_not_overflow(tmp_path: Path) -> None:
    model = Model.load(
        tiny.write(tmp_path / "tiny.onnx", ModelCard(PreprocessingSpec(), bias=(300.0, 0.0, 0.0, 0.0, 0.0, -300.0)))
    )
    probabilities = predict(model, np.ones((2, 32, 32), np.float32))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities[0], 1)


def test_clicks_are_read_beside_the_slices(tmp_path: Path) -> None:
    spec = PreprocessingSpec(clicks=ClickGaussian())
    model = Model.load(tiny.write(tmp_path / "clicks.onnx", ModelCard(spec), inputs=spec.inputs))
    assert model.card.spec == spec
    array = np.random.default_rng(1).random((11, 50, 33)).astype(np.float32)
    base = predict(model, array)
    base.setflags(write=False)
    grid = Grid((11, 50, 33), np.diag([20.0, 1.0, 1.0, 1.0]))
    assert predict_with_clicks(model, array, [], grid, base) == []
    click = Click((80.0, 20.0, 20.0), "L3")
    (view,) = predict_with_clicks(model, array, [click], grid, base)
    logits = model.run(extract_windows(array, spec, encode_clicks([click], grid, ClickGaussian())))[:, :, :50, :33]
    np.testing.assert_allclose(
        view.probabilities, softmax(logits, axis=1)[view.region[0]][:, *view.region[1:]], atol=1e-5
    )
    assert view.region[0] == 4
    assert np.abs(view.probabilities - base[:, *view.region]).max() > 1e-3


@dataclass(frozen=True, eq=False)
class CountingModel:
    """A model that says how many slices it was asked about."""

    model: Model
    requested_slices: list[int] = field(default_factory=list)

    @property
    def card(self) -> ModelCard:
        return self.model.card

    def run(self, windows: Array) -> Array:
        self.requested_slices.append(len(windows))
        return self.model.run(windows)


def test_the_next_click_predicts_only_slices_that_it_changes(tmp_path: Path) -> None:
    spec = PreprocessingSpec(clicks=ClickGaussian())
    model = CountingModel(Model.load(tiny.write(tmp_path / "clicks.onnx", ModelCard(spec), inputs=spec.inputs)))
    grid = Grid((16, 40, 40), np.diag([4.0, 1.0, 1.0, 1.0]))
    array = np.random.default_rng(1).random(grid.shape).astype(np.float32)
    base = predict(model, array)
    clicks = [Click((12.0, 20.0, 20.0), "L3"), Click((40.0, 12.0, 20.0), "L4"), Click((44.0, 30.0, 9.0), "L3-L4")]
    cache = ClickCache()
    for count, new in ((1, 7), (2, 7), (2, 0), (3, 7), (2, 6)):  # a click taken back leaves six with another
        model.requested_slices.clear()
        cached = predict_with_clicks(model, array, clicks[:count], grid, base, cache)
        assert sum(model.requested_slices) == new
        fresh = predict_with_clicks(model, array, clicks[:count], grid, base)
        assert [view.region for view in cached] == [view.region for view in fresh]
        for one, other in zip(cached, fresh, strict=True):
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)
    other = CountingModel(model.model)
    predict_with_clicks(other, array, clicks, grid, base, cache)
    assert sum(other.requested_slices) > 7  # another model is asked about everything


def test_a_network_without_clicks_refuses_them(path: Path) -> None:
    array = np.zeros((3, 32, 32), np.float32)
    model = Model.load(path)
    with pytest.raises(ModelError, match="does not accept clicks"):
        predict_with_clicks(model, array, [], Grid(array.shape, np.eye(4)), predict(model, array))
