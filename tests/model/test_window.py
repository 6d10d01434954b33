from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from tests import tiny

from lumbarseg.clicks import Blob
from lumbarseg.errors import ModelError
from lumbarseg.model import Card, Model, predict
from lumbarseg.model.window import again
from lumbarseg.prepare import Spec, windows


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 31, 33), (4, 20, 70), (5, 64, 40), (11, 50, 33)])
def test_a_few_slices_at_a_time_give_what_all_at_once_would(shape: tuple[int, int, int], path: Path) -> None:
    model = Model.load(path)
    array = np.random.default_rng(1).random(shape).astype(np.float32)
    array.setflags(write=False)
    found = predict(model, array)
    logits = model.run(windows(array, model.card.spec))[:, :, : shape[1], : shape[2]]
    assert found.dtype == np.float32
    assert found.shape == (6, *shape)
    np.testing.assert_allclose(found, softmax(logits, axis=1).swapaxes(0, 1), atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_the_card_bias_is_added_before_the_softmax(tmp_path: Path, path: Path) -> None:
    bias = (0.0, 2.0, 0.0, 0.0, -3.0, 0.0)
    shifted = Model.load(tiny.write(tmp_path / "shifted.onnx", Card(Spec(), bias=bias)))
    array = np.random.default_rng(1).random((3, 32, 32)).astype(np.float32)
    plain, found = predict(Model.load(path), array), predict(shifted, array)
    odds = np.log(found + 1e-12) - np.log(plain + 1e-12)
    usable = (plain > 1e-4).all(0) & (found > 1e-4).all(0)
    assert usable.sum() > 10
    for channel, value in enumerate(bias):
        np.testing.assert_allclose((odds[channel] - odds[0])[usable], value, atol=1e-3)


def test_large_logits_do_not_overflow(tmp_path: Path) -> None:
    model = Model.load(tiny.write(tmp_path / "tiny.onnx", Card(Spec(), bias=(300.0, 0.0, 0.0, 0.0, 0.0, -300.0))))
    found = predict(model, np.ones((2, 32, 32), np.float32))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], 1)


def test_clicks_are_read_beside_the_slices(tmp_path: Path) -> None:
    spec = Spec(clicks=Blob())
    model = Model.load(tiny.write(tmp_path / "clicks.onnx", Card(spec), inputs=spec.inputs))
    assert model.card.spec == spec
    array = np.random.default_rng(1).random((11, 50, 33)).astype(np.float32)
    base = predict(model, array)
    clicks = np.zeros((6, *array.shape), np.float32)
    np.testing.assert_array_equal(again(model, array, clicks, base), base)
    clicks[1, 4, 20, 20] = 1
    base.setflags(write=False)
    found = again(model, array, clicks, base)
    logits = model.run(windows(array, spec, clicks))[:, :, :50, :33]
    np.testing.assert_allclose(found[:, 4], softmax(logits, axis=1)[4], atol=1e-5)
    changed = np.abs(found - base).max(axis=0) > 1e-6
    assert sorted(np.flatnonzero(changed.any(axis=(1, 2)))) == [4]
    assert not changed[4, :, 22:].any()
    assert changed[4, 20, 20]


def test_a_network_without_clicks_refuses_them(path: Path) -> None:
    array = np.zeros((3, 32, 32), np.float32)
    model = Model.load(path)
    with pytest.raises(ModelError, match="reads no clicks"):
        again(model, array, np.zeros((6, 3, 32, 32), np.float32), predict(model, array))
