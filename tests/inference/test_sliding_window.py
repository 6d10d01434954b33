from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import tiny

from lumbarseg.errors import ModelError
from lumbarseg.inference import Model, ModelCard
from lumbarseg.inference.sliding_window import MIN_OVERLAP, sliding_window_inference, tile_starts
from lumbarseg.preprocessing import PreprocessingSpec, extract_windows
from lumbarseg.volume import Array

BLOCKS = PreprocessingSpec(tile=16, depth=4)
SQUARES = PreprocessingSpec(tile=16)


def identity(windows: Array) -> Array:
    """A network that sees its middle slice, or each of a block: (N, 1, ...) to (N, 2, ...)."""
    middle = windows if windows.ndim == 5 else windows[:, 2:3]
    return np.concatenate([middle, 2 * middle], 1)


@given(st.integers(1, 40), st.integers(1, 40))
def test_tiles_reach_from_end_to_end_and_overlap(count: int, size: int) -> None:
    count = max(count, size)
    result = tile_starts(count, size)
    assert (result[0], result[-1] + size) == (0, count)
    gaps = np.diff(result)
    assert (gaps >= 1).all()
    assert (gaps <= max(1, size * (1 - MIN_OVERLAP) + 1)).all()


@pytest.mark.parametrize("spec", [BLOCKS, SQUARES])
@pytest.mark.parametrize("shape", [(1, 5, 9), (3, 16, 16), (9, 40, 17), (4, 12, 33)])
def test_the_logits_of_a_voxel_return_to_it(spec: PreprocessingSpec, shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    array.setflags(write=False)
    result = sliding_window_inference(identity, array, spec, 2)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, np.stack([array, 2 * array]), atol=1e-6)


def test_every_window_has_the_size_of_the_specification() -> None:
    shapes: list[tuple[int, ...]] = []

    def network(tiles: Array) -> Array:
        shapes.append(tiles.shape[1:])
        return np.zeros((len(tiles), 2, *tiles.shape[2:]), np.float32)

    sliding_window_inference(network, np.zeros((7, 20, 50), np.float32), BLOCKS, 2)
    assert set(shapes) == {(1, 4, 16, 16)}
    shapes.clear()
    sliding_window_inference(network, np.zeros((7, 20, 50), np.float32), SQUARES, 2)
    assert set(shapes) == {(5, 16, 16)}


def test_squares_see_the_neighbours_of_their_slice() -> None:
    array = np.random.default_rng(0).random((5, 16, 16)).astype(np.float32)
    result = sliding_window_inference(lambda tiles: tiles[:, :2], array, SQUARES, 2)
    np.testing.assert_allclose(
        result, extract_windows(array, PreprocessingSpec(multiple=16))[:, :2].swapaxes(0, 1), atol=1e-6
    )


def test_the_specification_is_what_it_was_for_a_network_of_any_size() -> None:
    assert not {"tile", "depth"} & set(PreprocessingSpec().to_dict())
    assert PreprocessingSpec.from_dict(PreprocessingSpec().to_dict()) == PreprocessingSpec()
    assert PreprocessingSpec.from_dict(BLOCKS.to_dict()) == BLOCKS
    assert (BLOCKS.inputs, SQUARES.inputs) == (1, 5)
    for wrong in ({"depth": 4}, {"tile": 16, "depth": -1}, {"tile": 2000}, {"tile": 1.5}, {"tile": 16, "depth": "4"}):
        with pytest.raises(ModelError, match="malformed"):
            PreprocessingSpec.from_dict(PreprocessingSpec().to_dict() | wrong)


def test_a_network_that_does_not_read_its_tiles_is_refused(tmp_path: Path) -> None:
    assert Model.load(tiny.write(tmp_path / "squares.onnx", ModelCard(SQUARES))).card.spec == SQUARES
    with pytest.raises(ModelError, match=r"does not take windows of \(1, 1, 4, 16, 16\)"):
        Model.load(tiny.write(tmp_path / "blocks.onnx", ModelCard(BLOCKS)))
