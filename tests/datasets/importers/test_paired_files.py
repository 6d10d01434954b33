"""Pairs of files found by their names: every complete exam is imported, the others are reported in one line each."""

from __future__ import annotations

import json
from pathlib import Path

import nrrd
import numpy as np
import pytest
from tests import sets
from tests.conftest import ROOT
from tests.io.make_dicom import write_series

from lumbarseg import io
from lumbarseg.datasets import Dataset, read_case
from lumbarseg.datasets.importers import paired_files
from lumbarseg.datasets.importing import import_source
from lumbarseg.datasets.label_table import label_structures, read_label_table
from lumbarseg.datasets.writing import DatasetResult
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

SHAPE = (3, 16, 24)
LABEL_TABLES = ROOT / "benchmarks" / "label_tables"
SPACE = LABEL_TABLES / "spider_space.json"


def pairs(folder: Path, names: list[str], values: int = 4) -> Path:
    folder.mkdir()
    for seed, name in enumerate(names):
        image, labels = sets.exam(seed, values, SHAPE)
        io.write_image(image, folder / f"{name}_image.nii.gz")
        io.write_labels(labels, folder / f"{name}_labels.nii.gz", ())
    return folder


def import_layout(source: Path, target: Path, table: str | Path = SPACE, **options: str) -> DatasetResult:
    return import_source(paired_files.make_importer(table, **options), source, target, jobs=1, val_fraction=0.0)


def test_pairs_become_cases_with_source_and_licence(tmp_path: Path) -> None:
    source = pairs(tmp_path / "in", ["7_t1", "7_t2", "8_t2"])
    done = import_layout(source, tmp_path / "out", licence="CC BY 4.0", citation="SPIDER 2024")
    assert done.dataset.label_table == read_label_table(SPACE)
    cases = Dataset.open(tmp_path / "out").cases()
    assert [(case.name, case.patient) for case in cases] == [("7_t1", "7"), ("7_t2", "7"), ("8_t2", "8")]
    assert {(case.licence, case.source) for case in cases} == {("CC BY 4.0", "SPIDER 2024")}
    assert not any(case.warnings for case in cases)
    for seed, case in enumerate(cases):
        image, labels = read_case(case)
        expected = sets.exam(seed, 4, SHAPE)
        np.testing.assert_array_equal(labels.array, expected[1].array)
        assert image.grid.same_as(expected[0].grid)


def test_a_table_may_come_from_a_file(tmp_path: Path) -> None:
    source = pairs(tmp_path / "in", ["1"], values=2)
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"0": ["unknown"], "1": ["L4-L5", "sacrum"]}))
    result = import_layout(source, tmp_path / "out", table).dataset.label_table
    assert result == {0: ("unknown",), 1: ("L4-L5", "sacrum")}


def test_patterns_match_files_of_any_format(tmp_path: Path) -> None:
    image, labels = sets.exam(0, 4, SHAPE)
    source = tmp_path / "in"
    for name in ("a1", "a2_seg"):
        io.write_image(image, source / "images" / "deep" / f"{name}.nii")
    io.write_labels(labels, source / "labels" / "a1_seg.nii.gz", ())
    io.write_labels(labels, source / "labels" / "a2_seg_seg.nii", ())
    patterns = {"images": "images/**/{name}", "labels": "labels/{name}_seg"}
    assert set(import_layout(source, tmp_path / "out", **patterns).added) == {"a1", "a2_seg"}
    with pytest.raises(DatasetError, match="holds no file like"):
        import_layout(source, tmp_path / "none", images="images/{name}", labels="labels/{name}_seg")
    with pytest.raises(DatasetError, match=r"write \{name\} there"):
        import_layout(source, tmp_path / "none", images="images/*.nii", labels="labels/*.nii")
    with pytest.raises(DatasetError, match="give both"):
        paired_files.make_importer("default", images="images/{name}")


def test_a_pattern_of_names_leaves_other_files_alone(tmp_path: Path) -> None:
    """Images and labels side by side: the longer pattern has the labels, {name:GLOB} the exams."""
    source = tmp_path / "in"
    image, labels = sets.exam(0, 4, SHAPE)
    for name in ("Img_01", "Img_02"):
        io.write_image(image, source / f"{name}.nii.gz")
        io.write_labels(labels, source / f"{name}_Labels.nii.gz", ())
    io.write_image(image, source / "average.nii.gz")
    done = import_layout(source, tmp_path / "out", images="{name:Img_[0-9]*}", labels="{name:Img_[0-9]*}_Labels")
    assert set(done.added) == {"Img_01", "Img_02"} and not done.refused
    assert {case.patient for case in done.dataset.cases()} == {"Img_01", "Img_02"}  # not both of a patient "Img"


def test_images_may_be_folders_of_dicom(tmp_path: Path) -> None:
    source = tmp_path / "in"
    scan = reorient(sets.exam(0, 4, SHAPE)[0], "PIR")
    write_series(source / "p1" / "scan", Volume(scan.array.astype(np.int16), scan.affine))
    image = io.read_image(source / "p1" / "scan")
    io.write_labels(Volume(np.ones(image.array.shape, np.uint8), image.affine), source / "p1" / "mask.nii.gz", ())
    assert import_layout(source, tmp_path / "out", images="{name}/scan", labels="{name}/mask").added == ("p1",)


def test_the_patient_may_be_anywhere_in_a_name(tmp_path: Path) -> None:
    source = pairs(tmp_path / "in", ["t2-p7", "t1-p7", "t2-x"])
    done = import_layout(source, tmp_path / "out", patient=r"-(p\d+)")
    assert {case.patient for case in done.dataset.cases()} == {"p7"}
    assert "no patient in this name" in done.refused["t2-x"]
    with pytest.raises(DatasetError, match="no regular expression"):
        import_layout(source, tmp_path / "other", patient="(")


def test_every_fault_is_one_line_and_good_cases_are_kept(tmp_path: Path) -> None:
    source = pairs(
        tmp_path / "in", ["good", "half", "alone", "broken", "twice", "strange", "grey", "odd name", "odd-name"]
    )
    (source / "half_labels.nii.gz").unlink()
    (source / "alone_image.nii.gz").unlink()
    damaged = (source / "broken_image.nii.gz").read_bytes()
    (source / "broken_image.nii.gz").write_bytes(damaged[: len(damaged) // 2])
    image, labels = sets.exam(0, 4, SHAPE)
    io.write_image(image, source / "twice_image.nii")
    io.write_labels(Volume(labels.array + np.uint8(90), labels.affine), source / "strange_labels.nii.gz", ())
    io.write_image(Volume(labels.array + np.float32(0.3), labels.affine), source / "grey_labels.nii.gz")
    done = import_layout(source, tmp_path / "out")
    assert done.added == ("good",)
    message = {
        "half": "labels are missing",
        "alone": "image is missing",
        "broken": "broken_image.nii.gz",
        "twice": "2 images of one exam",
        "strange": "strange_labels.nii.gz: holds the values 90, 91, 92, 93",
        "grey": "grey values, not labels",
        "odd-name": "two exams under one name",
    }
    assert set(done.refused) == set(message)
    for name, text in message.items():
        assert text in done.refused[name] and "\n" not in done.refused[name]


def test_a_folder_of_another_kind_and_a_table_of_none(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match=r"holds no file like \{name\}_image"):
        import_layout(tmp_path / "in", tmp_path / "out")
    (tmp_path / "bad.json").write_text("{")
    for table, message in (
        ("spyder", "neither a file with a label table nor one of"),
        (tmp_path / "bad.json", "not JSON"),
    ):
        with pytest.raises(DatasetError, match=message):
            paired_files.make_importer(table)


def test_labels_on_another_grid_come_to_the_image_without_new_values(tmp_path: Path) -> None:
    source = pairs(tmp_path / "in", ["turned", "moved", "coarse", "beside"])
    image, labels = sets.exam(0, 4, SHAPE)
    for name in ("turned", "moved", "coarse", "beside"):
        io.write_image(image, source / f"{name}_image.nii.gz")
    affine = labels.affine.copy()
    affine[:3, 3] += 7
    io.write_labels(reorient(labels, "PSL"), source / "turned_labels.nii.gz", ())
    io.write_labels(Volume(labels.array, affine), source / "moved_labels.nii.gz", ())
    fine = Volume(labels.array.repeat(2, 1), labels.affine @ np.diag([1, 0.5, 1, 1]))
    io.write_labels(fine, source / "coarse_labels.nii.gz", ())
    io.write_labels(Volume(fine.array, affine @ np.diag([1, 0.5, 1, 1])), source / "beside_labels.nii.gz", ())
    done = import_layout(source, tmp_path / "out")
    assert done.cases_by_fault() == {"label-grid": ["coarse"], "label-header": ["moved"]}
    assert "lie beside the image" in done.refused["beside"]
    for case in done.dataset.cases():
        np.testing.assert_array_equal(read_case(case)[1].array, labels.array)


NAMED_FILES = ("{name:Img_[0-9]*[0-9]}", "named/{name}_named", ".+")


@pytest.mark.parametrize(
    ("table", "patterns", "folder", "exams"),
    [("bodies", NAMED_FILES, "chu", 10), (LABEL_TABLES / "siegen.json", ("", "", None), "siegen", 6)],
)
def test_patterns_and_tables_fit_real_exams(
    real: Path, table: str | Path, patterns: tuple[str, str, str | None], folder: str, exams: int
) -> None:
    importer = paired_files.make_importer(table, *patterns)
    result = importer.list_cases(real / folder)
    assert len(result.cases) == exams and not result.refused
    assert len({raw.patient for raw in result.cases}) == exams
    read = importer.load_case(result.cases[0])
    assert not read.warnings and read.labels.array.max() > 0


def save_seg_nrrd(path: Path, labels: Volume, names: dict[int, str]) -> None:
    """Write a segmentation as 3D Slicer does: a NRRD file with the names of its segments in the header."""
    header: dict[str, object] = {
        "space": "right-anterior-superior",
        "space directions": labels.affine[:3, :3].T,
        "space origin": labels.affine[:3, 3],
    }
    for number, (value, name) in enumerate(names.items()):
        header |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": str(value)}
        header |= {f"Segment{number}_ID": f"Segment_{number}", f"Segment{number}_Layer": "0"}
    nrrd.write(str(path), labels.array, header)


def import_slicer_exam(
    tmp_path: Path, names: dict[int, str], table: dict[str, list[str]]
) -> tuple[DatasetResult, Volume]:
    """Import one exam beside the segmentation of 3D Slicer that has these names, with a table of other values."""
    (tmp_path / "in").mkdir()
    (tmp_path / "table.json").write_text(json.dumps(table))
    image, labels = sets.exam(1, 2, SHAPE)
    io.write_image(image, tmp_path / "in" / "p1.nii.gz")
    save_seg_nrrd(tmp_path / "in" / "p1.seg.nrrd", labels, names)
    return import_layout(tmp_path / "in", tmp_path / "out", tmp_path / "table.json"), labels


TABLE = {"0": ["background"], "1": ["L1"], "2": ["L2"], "9": ["sacrum"]}


@pytest.mark.parametrize(("names", "values"), [({1: "L1"}, {1: 1}), ({1: "L2"}, {1: 2}), ({1: "Sacrum"}, {1: 9})])
def test_names_in_a_seg_nrrd_decide_what_its_values_mean(
    names: dict[int, str], values: dict[int, int], tmp_path: Path
) -> None:
    done, labels = import_slicer_exam(tmp_path, names, TABLE)
    (case,) = done.dataset.cases()
    expected = sum(value * (labels.array == old) for old, value in values.items())
    np.testing.assert_array_equal(read_case(case)[1].array, expected)
    assert [text.partition(":")[0] for text in case.warnings] == (["header-names"] if values != {1: 1} else [])


def test_a_name_that_is_no_structure_leaves_the_table_in_force(tmp_path: Path) -> None:
    done, labels = import_slicer_exam(tmp_path, {1: "Segment_1"}, TABLE)
    (case,) = done.dataset.cases()
    np.testing.assert_array_equal(read_case(case)[1].array, labels.array)
    assert not case.warnings


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({1: "L5"}, "the label table has no value for 'L5', a name in its header; add it"),
        ({1: "vertebra"}, "the label table has several values for 'vertebra'"),
    ],
)
def test_names_that_the_table_cannot_hold_are_refused(names: dict[int, str], text: str, tmp_path: Path) -> None:
    done, _ = import_slicer_exam(tmp_path, names, TABLE | {"1": ["sacrum"], "3": ["L1"]})
    assert text in done.refused["p1"]


def test_a_contradiction_beside_a_value_without_a_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "table.json").write_text(json.dumps(TABLE))
    image, labels = sets.exam(1, 3, SHAPE)
    io.write_image(image, tmp_path / "in" / "p1.nii.gz")
    save_seg_nrrd(tmp_path / "in" / "p1.seg.nrrd", labels, {1: "L2", 2: "Segment_2"})
    done = import_layout(tmp_path / "in", tmp_path / "out", tmp_path / "table.json")
    assert "calls the value 1 'L2', the label table L1, and no known name explains the value 2" in done.refused["p1"]


def test_names_in_a_nifti_header_count_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "table.json").write_text(json.dumps(TABLE))
    image, labels = sets.exam(1, 2, SHAPE)
    io.write_image(image, tmp_path / "in" / "p1_image.nii.gz")
    names = label_structures({0: ("background",), 1: ("L2",)})
    io.write_labels(labels, tmp_path / "in" / "p1_labels.nii.gz", names)
    (case,) = import_layout(tmp_path / "in", tmp_path / "out", tmp_path / "table.json").dataset.cases()
    np.testing.assert_array_equal(read_case(case)[1].array, 2 * labels.array)
