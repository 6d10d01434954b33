from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import grids
from tests.click_files import clicks_json

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, structure_by_name
from lumbarseg.clicks import Click, encode_clicks, parse_clicks
from lumbarseg.errors import FileError, LumbarsegError
from lumbarseg.preprocessing import ClickGaussian, PreprocessingSpec, network_grid
from lumbarseg.volume import Grid

POINTS = st.tuples(*[st.floats(-200, 200)] * 3)
NAMES = st.sampled_from([s.name for s in STRUCTURES] + list(CLASSES))


def grid_of(axes: str, turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Grid:
    """An exam of about 90 x 160 x 180 mm about the scanner's middle, whichever way its axes point."""
    size = {"R": (20, 4.4), "L": (20, 4.4), "A": (230, 0.7), "P": (230, 0.7), "S": (260, 0.7), "I": (260, 0.7)}
    shape = tuple(size[letter][0] for letter in axes)
    spacing = tuple(size[letter][1] for letter in axes)
    affine = grids.affine_of(axes, spacing, turn=turn)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(shape, affine)


@given(st.lists(st.builds(Click, POINTS, NAMES, st.booleans()), max_size=5))
def test_a_file_of_clicks_comes_back(clicks: list[Click]) -> None:
    assert parse_clicks(clicks_json(clicks), "x") == tuple(clicks)


def test_the_space_of_a_file_is_honoured() -> None:
    row = {"point": [1, 2.5, -3], "structure": "L3"}
    (ras,) = parse_clicks(json.dumps({"space": "RAS+ mm", "clicks": [row]}), "x")
    (lps,) = parse_clicks(json.dumps({"space": "LPS+ mm", "clicks": [row]}), "x")
    assert ras == Click((1.0, 2.5, -3.0), "L3")
    assert lps == Click((-1.0, -2.5, -3.0), "L3")


def test_markups_of_slicer_are_read() -> None:
    points = [
        {"label": "L3", "position": [1, 2, 3], "positionStatus": "defined"},
        {"label": "-L4-L5", "position": [1, 2, 3]},
        {"label": "L3-L4-2", "description": "Negative", "position": [1, 2, 3]},
        {"label": "L1-1", "position": [0, 0, 0]},
        {"label": "L2", "position": [0, 0, 0], "positionStatus": "preview"},
    ]
    text = json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points}]})
    assert parse_clicks(text, "x") == (
        Click((-1.0, -2.0, 3.0), "L3"),
        Click((-1.0, -2.0, 3.0), "L4-L5", positive=False),
        Click((-1.0, -2.0, 3.0), "L3-L4", positive=False),
        Click((0.0, 0.0, 0.0), "L1"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[]", "neither 'clicks'"),
        ('{"clicks": {}}', "clicks: must be a list"),
        ('{"clicks": [{"point": [1, 2, 3], "structure": "L3"}]}', r"clicks\[0\]: the file must state its space"),
        ('{"space": "RAS+ mm", "clicks": [{"point": [1, 2], "structure": "L3"}]}', "three numbers"),
        ('{"space": "RAS+ mm", "clicks": [{"point": [1, 2, NaN], "structure": "L3"}]}', "three finite numbers"),
        ('{"space": "RAS+ mm", "clicks": [{"point": [1, 2, 3], "structure": "L9"}]}', "'L9' is no structure"),
        ('{"space": "RAS+ mm", "clicks": [{"point": [1, 2, 3], "structure": 3}]}', "must be a name"),
        ('{"space": "RAS+ mm", "clicks": [{"point": [1, 2, 3], "structure": "L3", "positive": 1}]}', "true or false"),
        ('{"space": "RAS+ mm", "clicks": [{"point": [1, 2, 3], "structure": "L3", "negative": true}]}', "no key"),
        ('{"markups": [{"coordinateSystem": "LPS", "controlPoints": 3}]}', "controlPoints: must be a list"),
        (
            '{"markups": [{"coordinateSystem": "LPS", "controlPoints": [{"label": "F-1", "position": [1, 2, 3]}]}]}',
            "'F'",
        ),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(FileError, match=message) as error:
        parse_clicks(text, "a.json")
    assert str(error.value).startswith("a.json: ")
    assert "\n" not in str(error.value)


def test_a_click_knows_its_tissue_and_its_labels() -> None:
    assert Click((0, 0, 0), "L4-L5").channel == CLASSES.index(Kind.DISC)
    assert Click((0, 0, 0), "L4-L5", positive=False).channel == 0
    assert Click((0, 0, 0), "L4-L5").labels == {structure_by_name("L4-L5").label}
    assert structure_by_name("T12").label in Click((0, 0, 0), "body").labels
    assert Click((0, 0, 0), "background").labels == {0}
    with pytest.raises(LumbarsegError):
        Click((0, 0, 0), "L99")


@given(st.sampled_from(grids.AXIS_ORDERS), st.tuples(*[st.floats(-25, 25)] * 3), st.tuples(*[st.floats(-30, 30)] * 3))
@settings(deadline=None, max_examples=30)
def test_a_click_lies_where_it_was_set_whichever_way_an_exam_lies(
    axes: str, turn: tuple[float, float, float], point: tuple[float, float, float]
) -> None:
    spec = PreprocessingSpec(clicks=ClickGaussian())
    grid = network_grid(grid_of(axes, turn), spec)
    heat = encode_clicks([Click(point, "L3")], grid, ClickGaussian())[CLASSES.index(Kind.BODY)]
    top = np.array(np.unravel_index(heat.argmax(), heat.shape))
    distance = (grid.to_index(np.array(point)) - top) * grid.spacing
    assert abs(distance[0]) <= grid.spacing[0] / 2 + 1e-6
    assert np.abs(distance[1:]).max() <= 1.0
    weights = heat[top[0]] / heat[top[0]].sum()
    middle = np.array([np.sum(weights * index) for index in np.indices(heat.shape[1:])])
    assert np.abs(middle - grid.to_index(np.array(point))[1:]).max() < 1.0


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
def test_four_orientations_give_the_same_channels(axes: str) -> None:
    clicks = [Click((3.0, -20.0, 31.0), "L3"), Click((-11.0, 14.0, -40.0), "L4-L5", positive=False)]
    positions, plain = (
        encode_clicks(clicks, network_grid(grid_of(a), PreprocessingSpec()), ClickGaussian()) for a in (axes, "RAS")
    )
    assert positions.shape == plain.shape
    np.testing.assert_allclose(positions, plain, atol=1e-4)


def test_a_click_fades_from_slice_to_slice_and_stays_in_its_channel() -> None:
    grid = Grid((9, 60, 60), np.diag([4.4, 1.0, 1.0, 1.0]))
    point = tuple(grid.to_world(np.array([4, 30, 30])))
    out = encode_clicks([Click(point, "canal"), Click(point, "L1", positive=False)], grid, ClickGaussian())
    assert out.dtype == np.float32
    assert sorted(np.flatnonzero(out.max(axis=(1, 2, 3)) > 0)) == [0, CLASSES.index(Kind.CANAL)]
    strengths = out[0].max(axis=(1, 2))
    assert strengths[4] == pytest.approx(1.0)
    assert strengths[3] == pytest.approx(np.exp(-0.5 * (4.4 / 5) ** 2), abs=1e-5)
    assert strengths[2] < 0.25
    assert strengths[1] < 0.05
    assert out[0, 4, 30, 34] == pytest.approx(np.exp(-0.5), abs=1e-5)


def test_clicks_of_one_channel_do_not_add_up() -> None:
    grid = Grid((3, 20, 20), np.diag([4.4, 1.0, 1.0, 1.0]))
    click = Click((4.4, 10.0, 10.0), "L1")
    once, twice = encode_clicks([click], grid, ClickGaussian()), encode_clicks([click, click], grid, ClickGaussian())
    np.testing.assert_array_equal(once, twice)
    assert not encode_clicks([], grid, ClickGaussian()).any()
