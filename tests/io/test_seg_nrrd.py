"""Segmentations for 3D Slicer, read back with slicerio, the reader of Slicer's developers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grids import affine_of, grids

from lumbarseg.anatomy import STRUCTURES, structure_by_name
from lumbarseg.errors import FileError
from lumbarseg.io import find_exams, read_labels, seg_nrrd, write_image
from lumbarseg.io.seg_nrrd import Segment
from lumbarseg.terminology import CATEGORY, TERMINOLOGY_CONTEXT, structure_codes
from lumbarseg.volume import Grid, Volume

slicerio = pytest.importorskip("slicerio")

SEGMENTS = [Segment(s.label, s.name, s.colour, structure_codes(s)) for s in STRUCTURES]
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def random_labels(grid: Grid, seed: int) -> Volume:
    """Return random values of the table and background."""
    labels = np.random.default_rng(seed).choice([0, *(s.label for s in STRUCTURES)], grid.shape)
    return Volume(labels.astype(np.uint8), grid.affine)


@settings(max_examples=30, deadline=None)
@given(grids(), st.integers(0, 99))
def test_every_voxel_and_the_geometry_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, grid: Grid, seed: int
) -> None:
    path = tmp_path_factory.mktemp("seg") / "exam.seg.nrrd"
    labels = random_labels(grid, seed)
    seg_nrrd.write(labels, SEGMENTS, path)
    stored = slicerio.read_segmentation(str(path))
    np.testing.assert_array_equal(stored["voxels"], labels.array)
    np.testing.assert_allclose(stored["ijkToLPS"], TO_LPS @ grid.affine, rtol=1e-12, atol=1e-9)
    assert sorted(s["labelValue"] for s in stored["segments"]) == sorted(set(labels.array.ravel().tolist()) - {0})
    for segment in stored["segments"]:
        low_high = np.reshape(segment["extent"], (3, 2))
        inside = np.argwhere(labels.array == segment["labelValue"])
        np.testing.assert_array_equal(low_high, np.stack([inside.min(axis=0), inside.max(axis=0)], axis=1))


def test_names_colours_and_codes_are_read_back(tmp_path: Path) -> None:
    l4, disc, l6 = structure_by_name("L4"), structure_by_name("L4-L5"), structure_by_name("L6")
    array = np.zeros((4, 5, 6), np.uint8)
    array[1, 1, 1], array[2, 2, 2], array[3, 3, 3] = l4.label, disc.label, l6.label
    rows = [
        Segment(s.label, s.name, s.colour, structure_codes(s), s is disc)
        for s in (l4, disc, l6, structure_by_name("L1"))
    ]
    seg_nrrd.write(Volume(array, affine_of("PIR", (4.0, 0.5, 0.5))), rows, tmp_path / "exam.seg.nrrd")
    stored = {row["name"]: row for row in slicerio.read_segmentation(str(tmp_path / "exam.seg.nrrd"))["segments"]}
    assert list(stored) == ["L4", "L4-L5", "L6"]
    for name, row in stored.items():
        np.testing.assert_allclose(np.array(row["color"]) * 255, structure_by_name(name).colour, atol=1e-3)
        assert row["terminology"]["contextName"] == TERMINOLOGY_CONTEXT
        assert row["terminology"]["category"] == ["SCT", CATEGORY.value, CATEGORY.meaning]
    body = stored["L4"]["terminology"]
    assert body["type"] == ["SCT", "11994002", "L4 vertebra"]
    assert body["typeModifier"] == ["SCT", "3572006", "Vertebral body"]
    assert "anatomicRegion" not in body
    assert stored["L4-L5"]["terminology"]["type"] == ["SCT", "84020006", "L4/L5 disc"]
    assert stored["L6"]["terminology"]["anatomicRegion"] == ["SCT", "122496007", "Lumbar spine"]
    assert [row["status"] for row in stored.values()] == ["inprogress", "flagged", "inprogress"]
    assert len({row["id"] for row in stored.values()}) == 3


def test_it_is_read_as_a_label_map_and_never_as_an_exam(tmp_path: Path) -> None:
    labels = random_labels(Grid((5, 6, 7), affine_of("LPS")), 3)
    seg_nrrd.write(labels, SEGMENTS, tmp_path / "exam.seg.nrrd")
    read = read_labels(tmp_path / "exam.seg.nrrd")
    np.testing.assert_array_equal(read.array, labels.array)
    assert read.grid.same_as(labels.grid)
    write_image(Volume(labels.array.astype(np.float32), labels.affine), tmp_path / "exam.nii.gz")
    assert find_exams([tmp_path]) == [tmp_path / "exam.nii.gz"]


def test_a_map_without_a_structure_is_a_segmentation_without_a_segment(tmp_path: Path) -> None:
    seg_nrrd.write(Volume(np.zeros((3, 4, 5), np.uint8), np.eye(4)), SEGMENTS, tmp_path / "empty.seg.nrrd")
    assert slicerio.read_segmentation(str(tmp_path / "empty.seg.nrrd"))["segments"] == []


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"must end in \.seg\.nrrd"):
        seg_nrrd.write(Volume(np.zeros((3, 4, 5), np.uint8), np.eye(4)), SEGMENTS, tmp_path / "exam.nrrd")
    assert not list(tmp_path.iterdir())
