"""The Python API: one line segments an exam; results are measured, drawn and saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.small_phantoms import exam

import lumbarseg
from lumbarseg.anatomy import LEVELS
from lumbarseg.errors import FileError, LumbarsegError
from lumbarseg.inference import Model
from lumbarseg.io import read_image, read_labels, write_image


@pytest.fixture(scope="module")
def exam_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "exam.nii.gz"
    write_image(exam(1, seed=3).image, path)
    return path


@pytest.fixture(scope="module")
def spine(exam_file: Path, bundled_model: Model) -> lumbarseg.SegmentedSpine:
    return lumbarseg.segment(exam_file, bundled_model)


def test_one_line_segments_a_file(exam_file: Path, spine: lumbarseg.SegmentedSpine) -> None:
    result = lumbarseg.segment(str(exam_file))
    assert {"L1", "L5"} <= {level.name for level in result.levels}
    assert np.array_equal(result.labels.array, spine.labels.array)


def test_volume_has_the_same_result_as_its_file(
    exam_file: Path, spine: lumbarseg.SegmentedSpine, bundled_model: Model
) -> None:
    result = lumbarseg.segment(read_image(exam_file), bundled_model)
    assert np.array_equal(result.labels.array, spine.labels.array)


def test_measurements_are_by_name(spine: lumbarseg.SegmentedSpine) -> None:
    assert 15 < (spine.measurements["L3"].middle or 0) < 45
    assert spine.measurements["L4-L5"].volume > 0
    assert {row["name"] for row in spine.report["measurements"]} == set(spine.measurements)


def test_figure_is_an_image(spine: lumbarseg.SegmentedSpine) -> None:
    figure = spine.figure()
    assert figure.width > 300 and figure.height > 300
    measured = spine.figure("measurements")
    assert measured.size == figure.size and measured.tobytes() != figure.tobytes()
    with pytest.raises(lumbarseg.LumbarsegError, match="choose one of outlines, measurements"):
        spine.figure("heights")


@pytest.mark.parametrize("name", ["a_labels.nii.gz", "a.nii", "A.seg.nrrd", "a.png", "a.html", "a.csv", "a.json"])
def test_save_by_suffix(spine: lumbarseg.SegmentedSpine, tmp_path: Path, name: str) -> None:
    path = spine.save(tmp_path / name)
    assert path.is_file() and list(tmp_path.iterdir()) == [path]
    if path.suffix == ".json":
        assert json.loads(path.read_text())["levels"]
    elif path.suffix in (".gz", ".nii", ".nrrd"):
        assert read_labels(path).array.any()


def test_unknown_suffix_is_an_error(spine: lumbarseg.SegmentedSpine, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"must end in one of .*\.nii\.gz"):
        spine.save(tmp_path / "exam.jpg")
    with pytest.raises(FileError, match="DICOM"):
        spine.save(tmp_path / "exam.seg.dcm")


def test_level_names_are_case_insensitive(exam_file: Path, bundled_model: Model) -> None:
    result = lumbarseg.segment(exam_file, bundled_model, lowest="l4")
    assert result.levels[-1].name == "L4"
    centre = result.levels[-2].centre
    assert lumbarseg.segment(exam_file, bundled_model, pins=[("l2", centre)]).levels[-2].name == "L2"


def test_unknown_level_lists_the_names(exam_file: Path, bundled_model: Model) -> None:
    with pytest.raises(LumbarsegError, match=r"'L9' is not a vertebra; choose one of T1, .*, L6"):
        lumbarseg.segment(exam_file, bundled_model, lowest="L9")
    assert LEVELS[-1] == "L6"


def test_dir_lists_the_public_names() -> None:
    assert dir(lumbarseg) == sorted(lumbarseg.__all__)
    assert all(hasattr(lumbarseg, name) for name in lumbarseg.__all__)
