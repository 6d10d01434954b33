"""The picture of an exam: proportions, orientation, outlines and names."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFont

from lumbarseg.anatomy import STRUCTURES, structure_by_name
from lumbarseg.measurement import locate_measurements, measure_spine
from lumbarseg.report import picture
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .segmented_phantom import phantom, phantom_segmentation


def decode(data: bytes) -> Array:
    image = Image.open(BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(int)


def find_colour(picture: Array, name: str, tolerance: int = 30) -> Array:
    """Return the rows and columns, (n, 2), of pixels in the colour of a structure."""
    return np.argwhere(np.abs(picture - np.array(structure_by_name(name).colour)).max(axis=-1) <= tolerance)


def render(axes: str | None = None) -> Array:
    image, labels = phantom().image, phantom().labels
    if axes:
        image, labels = reorient(image, axes), reorient(labels, axes)
    return decode(
        picture.render_picture(image, labels, phantom_segmentation().levels, picture.caption(phantom_segmentation()))
    )


@pytest.mark.parametrize("axes", ["LIP", "PIR", "SAL"])
def test_the_order_of_axes_does_not_change_the_picture(axes: str) -> None:
    assert np.abs(render() - render(axes=axes)).max() <= 1


def test_names_are_on_the_right_from_head_to_foot() -> None:
    pixels = render()
    panel = pixels[:, -picture.FULL_SIZE.panel_width :]
    heights = [find_colour(panel, level.name, 3)[:, 0].mean() for level in phantom_segmentation().levels]
    assert heights == sorted(heights)
    assert min(np.diff(heights)) > 20


def test_bodies_discs_and_sacrum_are_named_from_head_to_foot() -> None:
    image, labels = (reorient(volume, "RAS") for volume in (phantom().image, phantom().labels))
    _, anchors = picture.render_slice(image, labels, STRUCTURES, picture.FULL_SIZE)
    orders = [structure.order for structure, _ in anchors]
    assert orders == sorted(orders)
    assert {"L4", "L4-L5", "L5", "L5-S1", "sacrum"} <= {structure.name for structure, _ in anchors}


def test_front_is_left_and_proportions_are_true() -> None:
    pixels = render()
    inside = pixels[:900, : -picture.FULL_SIZE.panel_width]
    canal = find_colour(inside, "canal")[:, 1].mean()
    assert find_colour(inside, "L3")[:, 1].mean() < canal
    grid = reorient(phantom().labels, "RAS").grid
    ratio = grid.shape[1] * grid.spacing[1] / (grid.shape[2] * grid.spacing[2])
    assert inside.shape[1] / 900 == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("wrong", [(1, -1, 1), (1, 1, -1), (1, -1, -1)])
def test_a_header_with_wrong_axes_does_not_turn_the_picture(wrong: tuple[int, int, int]) -> None:
    image, labels = phantom().image, phantom().labels
    rotated = np.diag([*wrong, 1.0]) @ labels.affine
    data = picture.render_picture(
        Volume(image.array, rotated),
        Volume(labels.array, rotated),
        phantom_segmentation().levels,
        picture.caption(phantom_segmentation()),
        (wrong[1] < 0, wrong[2] < 0),
    )
    assert np.abs(decode(data) - render()).max() <= 1


def test_uncertain_names_are_marked() -> None:
    image, labels = phantom().image, phantom().labels
    sure = picture.render_picture(image, labels, phantom_segmentation().levels)
    unsure = picture.render_picture(image, labels, phantom_segmentation(uncertain=("L2", "L3")).levels)
    changed = np.argwhere((decode(sure) != decode(unsure)).any(axis=-1))
    width = decode(sure).shape[1] - picture.FULL_SIZE.panel_width
    assert len(changed) > 50
    assert changed[:, 1].min() >= width
    assert picture.caption(phantom_segmentation(), "exam.nii").startswith("exam.nii \u00b7 names from: the sacrum")
    assert "uncertain" in picture.caption(phantom_segmentation(uncertain=("L2",)))
    assert "uncertain" not in picture.caption(phantom_segmentation())


def test_a_curved_column_is_followed() -> None:
    """Two bodies with a lateral distance are both shown in their middle slices."""
    array = np.zeros((30, 60, 90), np.uint8)
    array[4:9, 20:40, 60:80] = structure_by_name("L3").label
    array[20:25, 20:40, 10:30] = structure_by_name("L4").label
    labels = Volume(array, np.diag([2.0, 1, 1, 1]))
    pixels = decode(picture.render_picture(Volume(array.astype(np.float32), labels.affine), labels))
    assert len(find_colour(pixels[:, : -picture.FULL_SIZE.panel_width], "L3"))
    assert len(find_colour(pixels[:, : -picture.FULL_SIZE.panel_width], "L4"))


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 40, 200), (40, 64, 3)])
def test_unusual_shapes_have_a_picture(shape: tuple[int, int, int]) -> None:
    grid = np.diag([4.0, 1, 1, 1])
    image = np.random.default_rng(0).random(shape, np.float32)
    assert decode(picture.render_picture(Volume(image, grid), Volume(np.zeros(shape, np.uint8), grid))).size
    labels = np.zeros(shape, np.uint8)
    labels[0, :5, :2] = structure_by_name("L5").label
    assert decode(picture.render_picture(Volume(image, grid), Volume(labels, grid), (), "a " * 200)).size


def test_names_are_spread_inside_the_picture() -> None:
    assert picture.spread_positions([5, 8, 300, 310, 898], 28, 14, 886) == [14, 42, 300, 328, 886]
    crowded = picture.spread_positions([890, 892, 895], 28, 14, 886)
    assert crowded == [830, 858, 886]
    assert picture.spread_positions([], 28, 14, 886) == []


def test_text_is_wrapped_between_words() -> None:
    font = ImageFont.load_default(size=16)
    lines = picture.wrap_text("one two three four five six", font, 80)
    assert " ".join(lines) == "one two three four five six"
    assert len(lines) > 1
    assert all(font.getlength(line) <= 80 for line in lines)


@pytest.mark.parametrize("axes", ["RAS", "LIP", "PIR"])
def test_lines_of_measurements_lie_on_their_structures(axes: str) -> None:
    labels = reorient(phantom().labels, axes)
    ras = reorient(labels, "RAS")
    lines = locate_measurements(measure_spine(labels))
    assert {"anterior", "middle", "posterior", "depth", "slip", "lordosis", "canal"} <= {line.name for line in lines}
    for line in (line for line in lines if line.name in ("middle", "depth")):
        mask = (ras.array == structure_by_name(line.structure).label).any(axis=0)
        start, end = np.array(line.start), np.array(line.end)
        length = np.linalg.norm((end - start) * ras.grid.spacing[1:])
        assert length == pytest.approx(line.value, abs=1.5), line
        centre = np.rint((start + end) / 2).astype(int)
        assert mask[tuple(centre)], line


def test_measurements_in_the_picture() -> None:
    image, labels = phantom().image, phantom().labels
    without = decode(picture.render_picture(image, labels))
    measured = decode(picture.render_picture(image, labels, lines=locate_measurements(measure_spine(labels))))
    assert measured.shape == without.shape
    changed = (measured != without).any(axis=-1)
    body = np.abs(without - np.array(structure_by_name("L4").colour)).max(axis=-1) <= 90
    assert changed[body].any()
    assert 0.005 < changed.mean() < 0.2
