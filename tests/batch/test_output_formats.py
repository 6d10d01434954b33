"""What an answer is written as: names of forms, their files, and wrong names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lumbarseg.batch import output_formats
from lumbarseg.cli.main import build_parser, main


def test_every_form_has_a_file_of_its_own(tmp_path: Path) -> None:
    files = output_formats.output_paths(tmp_path, "exam", output_formats.OUTPUT_FORMATS)
    assert (
        len({path.name.casefold() for path in files.values()}) == len(files) >= len(output_formats.OUTPUT_FORMATS) + 2
    )
    assert all(path.parent == tmp_path and path.name.startswith("exam") for path in files.values())


def asked(*words: str) -> tuple[str, ...]:
    return output_formats.requested_formats(build_parser("segment").parse_args(["segment", "exam.nii.gz", "-o", "out", *words]))


def test_without_a_wish_it_is_nifti(tmp_path: Path) -> None:
    assert asked() == ("nifti",)
    assert list(output_formats.output_paths(tmp_path, "exam")) == ["labels", "report", "picture"]


def test_names_are_listed_or_repeated_and_counted_once() -> None:
    assert output_formats.parse_formats("nifti, nifti") == ("nifti",)
    assert asked("--format", "seg-nrrd,nifti", "--format", "nifti") == ("seg-nrrd", "nifti")


def test_a_form_brings_what_it_needs() -> None:
    assert asked("--format", "itksnap") == ("nifti", "itksnap")


@pytest.mark.parametrize("text", ["", "dicom", "nifti,", "NIFTI", "nifti;seg-nrrd"])
def test_an_unknown_form_is_wrong_usage_that_lists_the_forms(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", "exam.nii.gz", "-o", str(tmp_path), "--format", text]) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in output_formats.OUTPUT_FORMATS)
