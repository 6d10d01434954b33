"""The picture: its proportions, that it shows what was found, the right way up, and its words."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFont

from lumbarseg.anatomy import structure_by_name
from lumbarseg.report import picture
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .found import found, phantom


def opened(data: bytes) -> Array:
    image = Image.open(BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(int)


def near(picture: Array, name: str, tolerance: int = 30) -> Array:
    """Where the colour of a structure is, (n, 2) rows and columns."""
    return np.argwhere(np.abs(picture - np.array(structure_by_name(name).colour)).max(axis=-1) <= tolerance)


def drawn(axes: str | None = None) -> Array:
    image, labels = phantom().image, phantom().labels
    if axes:
        image, labels = reorient(image, axes), reorient(labels, axes)
    return opened(picture.render_picture(image, labels, found().levels, picture.caption(found())))


@pytest.mark.parametrize("axes", ["LIP", "PIR", "SAL"])
def test_the_order_of_axes_does_not_change_the_picture(axes: str) -> None:
    assert np.abs(drawn() - drawn(axes=axes)).max() <= 1


def test_names_stand_from_head_to_foot_on_the_right() -> None:
    rendered = drawn()
    panel = rendered[:, -picture.FULL_SIZE.panel_width :]
    heights = [near(panel, level.name, 3)[:, 0].mean() for level in found().levels]
    assert heights == sorted(heights)
    assert min(np.diff(heights)) > 20


def test_front_is_left_and_proportions_are_true() -> None:
    rendered = drawn()
    inside = rendered[:900, : -picture.FULL_SIZE.panel_width]
    canal = near(inside, "canal")[:, 1].mean()
    assert near(inside, "L3")[:, 1].mean() < canal
    grid = reorient(phantom().labels, "RAS").grid
    ratio = grid.shape[1] * grid.spacing[1] / (grid.shape[2] * grid.spacing[2])
    assert inside.shape[1] / 900 == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("wrong", [(1, -1, 1), (1, 1, -1), (1, -1, -1)])
def test_a_header_that_turns_the_patient_over_does_not_turn_the_picture(wrong: tuple[int, int, int]) -> None:
    image, labels = phantom().image, phantom().labels
    turned = np.diag([*wrong, 1.0]) @ labels.affine
    data = picture.render_picture(
        Volume(image.array, turned),
        Volume(labels.array, turned),
        found().levels,
        picture.caption(found()),
        (wrong[1] < 0, wrong[2] < 0),
    )
    assert np.abs(opened(data) - drawn()).max() <= 1


def test_doubt_is_seen() -> None:
    image, labels = phantom().image, phantom().labels
    sure = picture.render_picture(image, labels, found().levels)
    unsure = picture.render_picture(image, labels, found(uncertain=("L2", "L3")).levels)
    changed = np.argwhere((opened(sure) != opened(unsure)).any(axis=-1))
    width = opened(sure).shape[1] - picture.FULL_SIZE.panel_width
    assert len(changed) > 50
    assert changed[:, 1].min() >= width
    assert "uncertain" in picture.caption(found(uncertain=("L2",)))
    assert "uncertain" not in picture.caption(found())


def test_a_curved_column_is_followed() -> None:
    """Two bodies far apart from side to side are both cut in their middles."""
    array = np.zeros((30, 60, 90), np.uint8)
    array[4:9, 20:40, 60:80] = structure_by_name("L3").label
    array[20:25, 20:40, 10:30] = structure_by_name("L4").label
    labels = Volume(array, np.diag([2.0, 1, 1, 1]))
    opened_picture = opened(picture.render_picture(Volume(array.astype(np.float32), labels.affine), labels))
    assert len(near(opened_picture[:, : -picture.FULL_SIZE.panel_width], "L3"))
    assert len(near(opened_picture[:, : -picture.FULL_SIZE.panel_width], "L4"))


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 40, 200), (40, 64, 3)])
def test_odd_exams_have_a_picture_too(shape: tuple[int, int, int]) -> None:
    grid = np.diag([4.0, 1, 1, 1])
    image = np.random.default_rng(0).random(shape, np.float32)
    assert opened(picture.render_picture(Volume(image, grid), Volume(np.zeros(shape, np.uint8), grid))).size
    labels = np.zeros(shape, np.uint8)
    labels[0, :5, :2] = structure_by_name("L5").label
    assert opened(picture.render_picture(Volume(image, grid), Volume(labels, grid), (), "a " * 200)).size


def test_names_are_spread_and_stay_inside() -> None:
    assert picture._spread_positions([5, 8, 300, 310, 898], 28, 900) == [14, 42, 300, 328, 886]
    crowded = picture._spread_positions([890, 892, 895], 28, 900)
    assert crowded == [830, 858, 886]
    assert picture._spread_positions([], 28, 900) == []


def test_long_words_are_wrapped_between_words() -> None:
    font = ImageFont.load_default(size=16)
    lines = picture.wrap_text("one two three four five six", font, 80)
    assert " ".join(lines) == "one two three four five six"
    assert len(lines) > 1
    assert all(font.getlength(line) <= 80 for line in lines)
