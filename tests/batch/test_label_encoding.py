"""Label maps in the values of other programs, and back through the importers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tests.io.itk import write_metaimage
from tests.report.segmented_phantom import phantom, phantom_segmentation

from lumbarseg.anatomy import STRUCTURES, Kind, arch_of_level, structure_by_name
from lumbarseg.batch import label_encoding
from lumbarseg.batch.options import DEFAULT_SCHEME, SCHEMES, ExamOptions
from lumbarseg.batch.output_formats import SegmentedExam, output_paths, write_outputs
from lumbarseg.cli.main import main
from lumbarseg.datasets import read_case
from lumbarseg.datasets.importers import get_importer, paired_files
from lumbarseg.datasets.importing import import_source
from lumbarseg.datasets.schemes import SCHEMES as TABLES
from lumbarseg.io import LoadedExam, read_image, read_labels, write_image, write_labels
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

slicerio = pytest.importorskip("slicerio")

FOREIGN = SCHEMES[1:]
L6 = structure_by_name("L6").label


def segmented_exam(scheme: str = DEFAULT_SCHEME, posterior: str = "separate") -> SegmentedExam:
    """Return the phantom's ground truth as a result; its highest body is L6, which most programs have no value for."""
    array = phantom_segmentation(("L3",)).labels.array.copy()
    highest = next(s.label for s in STRUCTURES if s.kind is Kind.BODY and (array == s.label).any())
    array[array == highest] = L6
    labels = label_encoding.apply_posterior_choice(Volume(array, phantom_segmentation().labels.affine), posterior)
    _, left_out = label_encoding.describe_labels(labels.array, scheme, posterior)
    options = ExamOptions(posterior=posterior, scheme=scheme)
    return SegmentedExam(phantom_segmentation(("L3",)), labels, {"left_out": left_out}, b"", options)


def write(segmented: SegmentedExam, folder: Path, name: str = "nifti") -> Path:
    """Write one label map; return its path."""
    files = output_paths(folder, "p1", [name])
    key, path = next(iter(files.items()))
    write_outputs(segmented, LoadedExam(phantom().image, [], {}, folder / "p1.nii.gz"), {key: path})
    return path


@pytest.mark.parametrize("scheme", FOREIGN)
def test_the_importers_read_what_was_written(scheme: str, tmp_path: Path) -> None:
    segmented = segmented_exam(scheme)
    write_image(phantom().image, tmp_path / "in" / "p1_image.nii.gz")
    write(segmented, tmp_path / "in")
    table = tmp_path / "table.json"
    table.write_text(json.dumps(TABLES[scheme]))
    done = import_source(paired_files.make_importer(table), tmp_path / "in", tmp_path / "out", jobs=1)
    (case,) = done.dataset.cases()
    read = read_case(case)[1].array
    truth = reorient(segmented.labels, read_case(case)[1].grid.axis_codes).array
    missing = set()
    for structure in STRUCTURES:
        inside = set(read[truth == structure.label].tolist())
        if inside == {0}:
            missing.add(structure.name)
        elif inside:
            (value,) = inside
            assert structure.name in case.label_table[value] or structure.kind in case.label_table[value], (
                structure.name
            )
    assert missing == set(segmented.report["left_out"])
    assert "canal" not in missing or scheme in ("totalsegmentator", "mrspineseg")


def test_the_importer_of_spineps_reads_it(tmp_path: Path) -> None:
    segmented = segmented_exam("spineps")
    write_image(phantom().image, tmp_path / "in" / "sub-1_T2w.nii.gz")
    labels = read_labels(write(segmented, tmp_path))
    write_labels(labels, tmp_path / "in" / "derivatives_seg" / "sub-1" / "sub-1_mod-T2w_seg-vert_msk.nii.gz", ())
    done = import_source(paired_files.make_importer("spineps"), tmp_path / "in", tmp_path / "out", jobs=1)
    (case,) = done.dataset.cases()
    read = read_case(case)[1].array
    truth = reorient(segmented.labels, read_case(case)[1].grid.axis_codes).array
    for name in ("L2", "L5", "L6", "L4 arch", "L4-L5", "sacrum", "canal"):
        (value,) = set(read[truth == structure_by_name(name).label].tolist())
        assert name in case.label_table[value] or structure_by_name(name).kind in case.label_table[value], name


def test_spiders_own_importer_reads_it(tmp_path: Path) -> None:
    segmented = segmented_exam("spider")
    labels = read_labels(write(segmented, tmp_path))
    write_metaimage(phantom().image, tmp_path / "spider" / "images" / "1_t2.mha")
    write_metaimage(labels, tmp_path / "spider" / "masks" / "1_t2.mha")
    done = import_source(get_importer("spider"), tmp_path / "spider", tmp_path / "out", jobs=1)
    (case,) = done.dataset.cases()
    read = read_case(case)[1].array
    truth = reorient(segmented.labels, read_case(case)[1].grid.axis_codes).array
    for name in ("L2", "L5", "L4 arch", "L4-L5", "canal"):
        (value,) = set(read[truth == structure_by_name(name).label].tolist())
        assert name in case.label_table[value] or structure_by_name(name).kind in case.label_table[value]


def test_an_l6_has_a_value_in_one_scheme_only() -> None:
    left_out = {scheme: "L6" in segmented_exam(scheme).report["left_out"] for scheme in SCHEMES}
    assert left_out == {scheme: scheme not in (DEFAULT_SCHEME, "spineps") for scheme in SCHEMES}


@pytest.mark.parametrize(("posterior", "modifier"), [("separate", None), ("merge", None), ("omit", "Vertebral body")])
def test_a_value_of_another_program_is_a_whole_vertebra(posterior: str, modifier: str | None, tmp_path: Path) -> None:
    path = write(segmented_exam("totalspineseg", posterior), tmp_path, "seg-nrrd")
    rows = {row["name"]: row for row in slicerio.read_segmentation(str(path))["segments"]}
    assert rows["L4"]["labelValue"] == 44
    assert rows["L4"]["terminology"]["type"] == ["SCT", "11994002", "L4 vertebra"]
    assert rows["L4"]["terminology"].get("typeModifier", [None] * 3)[2] == modifier
    assert not [name for name in rows if "arch" in name]


@pytest.mark.parametrize(("posterior", "body"), [("separate", True), ("merge", False), ("omit", True)])
def test_the_default_scheme_follows_the_posterior_choice(posterior: str, body: bool, tmp_path: Path) -> None:
    path = write(segmented_exam(posterior=posterior), tmp_path, "seg-nrrd")
    rows = {row["name"]: row for row in slicerio.read_segmentation(str(path))["segments"]}
    assert ("typeModifier" in rows["L4"]["terminology"]) == body
    assert ("L4 arch" in rows) == (posterior == "separate")
    assert {name for name, row in rows.items() if row["status"] == "flagged"} - {"L3 arch"} == {"L3", "L2-L3", "L3-L4"}
    assert rows["L4"]["status"] == "inprogress"


def test_values_of_a_file_match_report_and_header(tmp_path: Path) -> None:
    segmented = segmented_exam("spineps")
    array = read_labels(write(segmented, tmp_path)).array
    meanings, _ = label_encoding.describe_labels(segmented.labels.array, "spineps", "separate")
    assert {int(value) for value in meanings} == set(np.unique(array).tolist()) - {0}
    header: Any = nib.load(tmp_path / "p1_labels.nii.gz").header
    table = json.loads(header.extensions[1].get_content())["labels"]
    assert {str(row["value"]): row["name"] for row in table} == meanings
    assert meanings["23"] == "L4"


def test_nothing_is_changed_in_place() -> None:
    segmented = segmented_exam("spider")
    segmented.labels.array.setflags(write=False)
    before = segmented.labels.array.copy()
    label_encoding.encode_labels(segmented.labels, "spider")
    np.testing.assert_array_equal(segmented.labels.array, before)
    assert label_encoding.encode_labels(segmented.labels, DEFAULT_SCHEME) is segmented.labels


def test_a_label_table_has_unique_values() -> None:
    for scheme in SCHEMES:
        rows = label_encoding.label_table(scheme, "separate")
        assert len({row.label for row in rows}) == len(rows)
        arches = {arch_of_level(row.name).name for row in rows if row.kind is Kind.BODY}
        assert scheme == DEFAULT_SCHEME or not arches & {row.name for row in rows}


def test_the_command_writes_all_of_it(exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--format", "seg-nrrd,itksnap", "--scheme", "mrspineseg"]
    assert main(["segment", str(exam), "-o", str(tmp_path), *options]) == 0
    assert "the scheme mrspineseg has no value for canal: left out" in capsys.readouterr().out
    assert {path.name.removeprefix("spine") for path in tmp_path.iterdir()} == {
        *("_labels.nii.gz", ".seg.nrrd", "_labels.txt", "_report.json", ".png")
    }
    report = json.loads((tmp_path / "spine_report.json").read_text())
    assert report["scheme"] == "mrspineseg"
    assert report["labels"]["3"] == "L4"
    labels = read_labels(tmp_path / "spine.seg.nrrd")
    assert labels.grid.same_as(read_image(exam).grid)
    np.testing.assert_array_equal(labels.array, read_labels(tmp_path / "spine_labels.nii.gz").array)


def test_an_unknown_scheme_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "exam.nii.gz", "-o", str(tmp_path), "--scheme", "verse"]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in SCHEMES)
