"""The contact sheet: pictures with names, coloured findings, pages of forty exams."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from lumbarseg.anatomy import STRUCTURES, Kind, structure_by_name
from lumbarseg.report import contact_sheet
from lumbarseg.report.contact_sheet import ContactSheet, SheetTile
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .parsed_html import ParsedHtml
from .segmented_phantom import phantom


@pytest.fixture(scope="module")
def volumes() -> tuple[Volume, Volume]:
    sheet = phantom()
    return reorient(sheet.image, "RAS"), reorient(sheet.labels, "RAS")


def decode(data: bytes) -> Array:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB")).astype(int)


def count_pixels(picture: Array, colour: tuple[int, int, int], tolerance: int = 45) -> int:
    return int((np.abs(picture - np.array(colour)).sum(axis=2) < tolerance).sum())


def test_a_picture_names_the_vertebrae(volumes: tuple[Volume, Volume]) -> None:
    picture = decode(contact_sheet.render_tile_picture(*volumes, STRUCTURES))
    assert (
        picture.shape[0] <= contact_sheet.TILE_LAYOUT.max_height
        and picture.shape[1] <= contact_sheet.TILE_LAYOUT.max_width + contact_sheet.TILE_LAYOUT.panel_width
    )
    unnamed = [replace(s, name="") if s.kind is Kind.BODY else s for s in STRUCTURES]
    without_names = decode(contact_sheet.render_tile_picture(*volumes, unnamed))
    for level in ("L1", "L2", "L3", "L4", "L5"):
        colour = structure_by_name(level).colour
        assert count_pixels(picture, colour) > count_pixels(without_names, colour) + 10


def test_structures_without_a_name_are_outlined_only(volumes: tuple[Volume, Volume]) -> None:
    body = replace(structure_by_name("L3"), label=1, name="")
    image, labels = volumes
    bodies = np.isin(labels.array, [s.label for s in STRUCTURES if s.kind is Kind.BODY])
    disc = structure_by_name("L3-L4")  # its name reserves the panel, though no voxel has it
    label_map = Volume(bodies.astype(np.uint8), labels.affine)
    picture = decode(contact_sheet.render_tile_picture(image, label_map, [body, disc]))
    assert count_pixels(picture, body.colour) > 200
    l3 = replace(structure_by_name("L3"), label=1, name="L3")
    with_name = decode(contact_sheet.render_tile_picture(image, label_map, [l3, disc]))
    assert count_pixels(with_name, body.colour) > count_pixels(picture, body.colour)


def test_an_exam_of_many_slices_has_two_lateral_ones(volumes: tuple[Volume, Volume]) -> None:
    image, labels = volumes
    middle = len(image.array) // 2
    one = [Volume(volume.array[middle : middle + 1], volume.affine) for volume in volumes]
    picture = decode(contact_sheet.render_tile_picture(image, labels, STRUCTURES))
    single = decode(contact_sheet.render_tile_picture(*one, STRUCTURES))
    right = picture[:, -contact_sheet.LATERAL_LAYOUT.max_width :]
    assert np.ptp(right) > 100  # an image, where a single slice has the panel of names
    assert single.shape[1] / single.shape[0] < picture.shape[1] / picture.shape[0]


def test_an_exam_of_two_slices_has_a_coronal_view(volumes: tuple[Volume, Volume]) -> None:
    """From side to side each slice is one strip: the second, blank one is dark."""
    middle = len(volumes[0].array) // 2
    two = [Volume(volume.array[middle : middle + 2].copy(), np.diag([20.0, 1, 1, 1])) for volume in volumes]
    two[0].array[1] = two[1].array[1] = 0
    picture = decode(contact_sheet.render_tile_picture(two[0], two[1], STRUCTURES))
    right, left = picture[50:-50, -70:-60], picture[50:-50, -10:]  # the patient's right is on the left of the picture
    assert right.mean() < 5 and left.mean() > 100


def test_an_exam_without_labels_is_shown_completely(volumes: tuple[Volume, Volume]) -> None:
    image, labels = volumes
    empty = Volume(np.zeros_like(labels.array), labels.affine)
    picture = decode(contact_sheet.render_tile_picture(image, empty, STRUCTURES))
    (_, depth, height), (_, across, up) = image.array.shape, image.grid.spacing
    ratio = (picture.shape[1] - contact_sheet.TILE_LAYOUT.panel_width) / picture.shape[0]
    assert ratio == pytest.approx(depth * across / (height * up), rel=0.03)


def tiles(count: int) -> tuple[SheetTile, ...]:
    return tuple(SheetTile(f"case-{i}", ("train", "T2")) for i in range(count))


def test_findings_have_their_colours() -> None:
    findings = (("error", "order: L2 lies below L3"), ("warning", "specks: one"), ("note", "small"))
    sheet = ContactSheet("set", {"cases": "1"}, (), (SheetTile("a", ("train",), findings),))
    picture = decode(next(contact_sheet.render_png_pages(sheet)))
    assert count_pixels(picture, (255, 104, 104)) > 1000  # frame and text
    assert count_pixels(picture, (255, 190, 92)) > 20
    quiet = decode(next(contact_sheet.render_png_pages(replace(sheet, tiles=(SheetTile("a", ("train",)),)))))
    assert count_pixels(quiet, (255, 104, 104)) == 0


@pytest.mark.parametrize(("count", "pages"), [(1, 1), (40, 1), (41, 2), (81, 3)])
def test_many_exams_take_several_pages(count: int, pages: int) -> None:
    assert len(list(contact_sheet.render_png_pages(ContactSheet("set", {}, (), tiles(count))))) == pages


def test_the_page_is_well_formed_and_escaped() -> None:
    tile = SheetTile('<b>"x"</b>', ("a & b",), (("error", "<script>alert(1)</script>"),))
    page = contact_sheet.render_html_page(
        ContactSheet("one & two", {"cases": "<2>"}, (("note", "left < right"),), (tile, *tiles(2)))
    )
    tags = ParsedHtml(page).tags
    assert tags.count("figure") == 3 and "script" not in tags
    assert "one &amp; two" in page and "&lt;script&gt;" in page
