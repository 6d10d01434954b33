"""Formats of the label map: their names on the command line, their files, and wrong names."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image
from tests.report.segmented_phantom import phantom, phantom_segmentation

from lumbarseg.batch import output_formats
from lumbarseg.batch.exam_task import StageTimer, describe_segmentation
from lumbarseg.batch.options import FORMAT_SUFFIXES, ExamOptions
from lumbarseg.batch.output_formats import SegmentedExam, output_paths, write_outputs
from lumbarseg.cli import segment
from lumbarseg.cli.main import build_parser, main
from lumbarseg.inference import Model
from lumbarseg.io import LoadedExam
from lumbarseg.measurement import measure_structures
from lumbarseg.report import ReportSource, build_report
from lumbarseg.report.exam_report import NOTICE
from lumbarseg.volume import Volume


def test_every_format_has_a_file_of_its_own_and_a_writer(tmp_path: Path) -> None:
    files = output_paths(tmp_path, "exam", FORMAT_SUFFIXES)
    assert len({path.name.casefold() for path in files.values()}) == len(files) == len(FORMAT_SUFFIXES) + 2
    assert all(path.parent == tmp_path and path.name.startswith("exam") for path in files.values())
    assert set(files) - {"report"} == set(output_formats._WRITERS)


def parsed_formats(*options: str) -> tuple[str, ...]:
    args = build_parser("segment").parse_args(["segment", "exam.nii.gz", "-o", "out", *options])
    return segment._batch_options(args).exam.formats


def test_label_map_page_and_table_are_the_default(tmp_path: Path) -> None:
    assert parsed_formats() == ("nifti", "html", "csv")
    assert list(output_paths(tmp_path, "exam")) == ["labels", "html", "csv", "report", "picture"]


def test_names_are_listed_or_repeated_and_count_once() -> None:
    assert parsed_formats("--format", "nifti, nifti") == ("nifti",)
    assert parsed_formats("--format", "seg-nrrd,nifti", "--format", "nifti") == ("seg-nrrd", "nifti")


def test_a_format_brings_the_one_that_it_needs() -> None:
    assert parsed_formats("--format", "itksnap") == ("nifti", "itksnap")
    assert parsed_formats("--format", "dicom-sr", "--store") == ("dicom-seg", "dicom-sr")


@pytest.mark.parametrize("text", ["", "dicom", "nifti,", "nifti;seg-nrrd"])
def test_an_unknown_format_is_wrong_usage_that_lists_the_formats(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", "exam.nii.gz", "-o", str(tmp_path), "--format", text]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in FORMAT_SUFFIXES)


def test_the_report_as_page_and_the_measurements_as_table(tmp_path: Path) -> None:
    segmentation = phantom_segmentation()
    report = build_report(segmentation, measure_structures(segmentation.labels), ReportSource("exam.nii.gz", "shipped"))
    options = ExamOptions(formats=("nifti", "html", "csv"))
    segmented = SegmentedExam(segmentation, segmentation.labels, report, b"PNG", options)
    exam = LoadedExam(phantom().image, [], {}, tmp_path / "exam.nii.gz")
    files = output_paths(tmp_path, "exam", ("html", "csv"))
    write_outputs(segmented, exam, {name: files[name] for name in ("html", "csv")})
    page = files["html"].read_text(encoding="utf-8")
    assert "exam_labels.nii.gz" in page and "L5-S1" in page and NOTICE in page
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text(encoding="utf-8"))))
    assert [row["name"] for row in rows] == [row["name"] for row in report["measurements"]]
    (l4,) = [row for row in rows if row["name"] == "L4"]
    (expected,) = [row for row in report["measurements"] if row["name"] == "L4"]
    assert l4["exam"] == "exam.nii.gz" and float(l4["anterior_mm"]) == expected["anterior_mm"]
    assert [row["anterior_mm"] for row in rows if row["name"] == "canal"] == [""]


def test_a_header_with_wrong_axes_turns_neither_picture_nor_measurements() -> None:
    correct = phantom_segmentation()
    labels = Volume(correct.labels.array, np.diag([1.0, -1.0, -1.0, 1.0]) @ correct.labels.affine)
    wrong = replace(correct, labels=labels, flips=(True, True))
    model = cast("Model", SimpleNamespace(path=Path("m.onnx"), card=SimpleNamespace(digest="0")))
    results = []
    for segmentation in (correct, wrong):
        image = Volume(phantom().image.array, segmentation.labels.affine)
        exam = LoadedExam(image, [], {}, Path("exam.nii.gz"))
        results.append(describe_segmentation("exam", exam, segmentation, model, ExamOptions(), StageTimer()))
    assert results[0].report["measurements"] == results[1].report["measurements"]
    pictures = [np.asarray(Image.open(io.BytesIO(result.picture))).astype(int) for result in results]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
