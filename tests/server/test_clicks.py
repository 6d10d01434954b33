"""Clicks of 3D Slicer: voxels of the image as it was loaded, in any orientation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.errors import ServeError
from lumbarseg.resampling import reorient_grid
from lumbarseg.server.clicks import parse_clicks
from lumbarseg.volume import Grid

OBLIQUE = np.array([[0.3, 0.1, 3.9, -30], [-0.68, 0.1, 0.2, 80], [0.05, -0.69, 0.9, 40], [0, 0, 0, 1]])
GRID = Grid((40, 50, 12), OBLIQUE)


@given(
    st.sampled_from(["RAS", "LPS", "PIR", "SRA", "IPL", GRID.axis_codes]),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_click_position_is_exact_for_all_axis_orders(axes: str, fraction: tuple) -> None:
    point = GRID.to_world(np.array(fraction) * (np.array(GRID.shape) - 1))
    grid = reorient_grid(GRID, axes)
    voxel = grid.to_index(point).tolist()
    (click,) = parse_clicks({"L3": [voxel], "L4": [], "label": "L3"}, ("L3", "L4"), grid)
    assert click.structure == "L3" and click.positive
    assert np.linalg.norm(np.array(click.point) - point) < 0.1


def test_all_lists_of_a_request_are_used() -> None:
    request = {"L3": [[1, 2, 3]], "L3-L4": [[4, 5, 6], [7, 8, 9]], "background": [[0, 0, 0]], "label": "L3"}
    clicks = parse_clicks(request, ("L3", "L3-L4"), GRID)
    assert [click.structure for click in clicks] == ["L3", "L3-L4", "L3-L4", "background"]


def test_foreground_and_background_of_one_structure() -> None:
    request = {"label": "disc L3/L4", "foreground": [[1, 2, 3]], "background": [[4, 5, 6]]}
    assert [(c.structure, c.positive) for c in parse_clicks(request, ("L3",), GRID)] == [
        ("L3-L4", True),
        ("L3-L4", False),
    ]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"L3": [[40, 0, 0]]}, "outside the exam of 40 x 50 x 12"),
        ({"L3": [[-1, 0, 0]]}, "outside the exam"),
        ({"L3": [[1, 2]]}, r"voxels \[i, j, k\]"),
        ({"L3": "all"}, r"voxels \[i, j, k\]"),
        ({"L3": [[1, 2, "3"]]}, "three finite numbers"),
        ({"L3": [[1, 2, float("nan")]]}, "three finite numbers"),
        ({"foreground": [[1, 2, 3]]}, "need the name"),
        ({"foreground": [[1, 2, 3]], "label": "liver"}, "'liver' is no structure"),
        ({"L3": [[1, 2, 3]] * 501}, "at most 500"),
    ],
)
def test_invalid_clicks_are_refused(request_: dict, reason: str) -> None:
    with pytest.raises(ServeError, match=reason):
        parse_clicks(request_, ("L3",), GRID)
