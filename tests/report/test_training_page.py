"""The page of a training run, and its charts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.report.line_chart import Curve, moving_average, render_chart
from lumbarseg.report.training_page import WorstExam, render_training_page

from .parsed_html import ParsedHtml

EXAMS = [
    {"exam": "good", "group": 0, "dice": 0.9, "wrong": []},
    {"exam": "<poor>", "group": 0, "dice": 0.5, "wrong": ["L4 as L5"]},
]
RESULT: dict[str, Any] = {
    "preset": "chu-5",
    "targets": ["L1", "L4-L5"],
    "method": "segmentation",
    "network": "planar",
    "init": "none",
    "fold": "1/5",
    "datasets": ["chu"],
    "exams": {"train": 8, "held_out": 2, "left_out": 0},
    "step": 40,
    "epochs": 2.0,
    "minutes": 130.0,
    "finished": True,
    "precision": "bf16",
    "device": "cpu",
    "best": {"score": 0.7, "step": 20, "dice": {"L1": 0.8, "L4-L5": 0.6}, "exams": EXAMS},
    "last": {"step": 40, "score": 0.65, "dice": {"L1": 0.7, "L4-L5": 0.6}},
    "settings": {"seed": 1, "targets": ["L1"], "fold": ""},
}
ROWS = [
    {"step": 20.0, "loss": 0.5, "rate": 1e-3, "score": 0.7, "L1": 0.8, "L4-L5": 0.6},
    {"step": 40.0, "loss": 0.4, "rate": 1e-4, "score": 0.65, "L1": 0.7, "L4-L5": 0.6},
]


def checked_html(text: str) -> str:
    ParsedHtml(text)
    return text


def test_the_page_is_complete_and_self_contained() -> None:
    text = checked_html(render_training_page("run", RESULT, ROWS, [WorstExam("<poor>", 0.5, ["L4 as L5"], b"a", b"b")]))
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|<script|http", text)
    for part in ("0.700", "1 of 2", "2 h 10 min", "L4 as L5", "Dice of discs", "Dice of vertebral bodies", "fold 1/5"):
        assert part in text
    assert "<poor>" not in text
    assert text.count("<svg") == 5


def test_a_run_without_validation_exams_has_a_page() -> None:
    rows = [{key: row[key] for key in ("step", "loss", "rate")} for row in ROWS]
    text = checked_html(render_training_page("run", RESULT | {"best": {}, "last": {}, "finished": False}, rows))
    assert "No scores" in text
    assert "running or stopped" in text
    assert text.count("<svg") == 2
    checked_html(render_training_page("run", RESULT | {"best": {}, "last": {}}, []))


VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=700)


@given(VALUES, st.booleans())
def test_curves_stay_inside_their_chart(values: list[float], faint: bool) -> None:
    points = [(float(i), value) for i, value in enumerate(values)]
    text = checked_html(render_chart("x", [Curve("y", "red", points, faint)]))
    points_px = [tuple(map(float, pair.split(","))) for pair in re.findall(r'points="([^"]*)"', text)[0].split()]
    assert all(60 <= x <= 640 and 0 <= y <= 250 for x, y in points_px)
    assert len(points_px) <= 502
    heights = [y for _, y in points_px]
    assert heights[0] == pytest.approx(max(heights)) or values[0] != min(values)


def test_a_chart_without_points_is_empty() -> None:
    assert render_chart("x", [Curve("y", "red", [])]) == ""


def test_the_moving_average_is_the_mean_of_the_last_values() -> None:
    assert moving_average([(0, 1), (1, 3), (2, 5)], 2) == [(0, 1), (1, 2), (2, 4)]
    assert moving_average([(0, 1), (1, 3)], 1) == [(0, 1), (1, 3)]
