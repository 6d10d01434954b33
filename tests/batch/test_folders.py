"""`lumbarseg segment FOLDER`: which exams it means, where their results go, and what is printed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.batch import easy
from tests.program import ENVIRONMENT, PROGRAM

from lumbarseg.batch.options import BatchOptions, ExamOptions
from lumbarseg.batch.runner import find_jobs
from lumbarseg.cli.main import main


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file and one exam."""
    folder = tmp_path_factory.mktemp("examples")
    easy.model(folder / "m.onnx")
    easy.exams(folder, 1)
    return folder


@pytest.fixture
def study(examples: Path, tmp_path: Path) -> Path:
    """A folder of two patients, each with an exam of the same name, and files that are no exams."""
    folder = tmp_path / "in"
    for patient in ("anna", "ben"):
        (folder / patient).mkdir(parents=True)
        shutil.copy(examples / "e00.nii", folder / patient / "t2.nii")
    shutil.copy(examples / "e00.nii", folder / "anna" / "t2_mask.nii")
    (folder / "notes.txt").write_text("hello")
    return folder


def command(examples: Path, *arguments: str | Path) -> list[str]:
    return ["segment", *map(str, arguments), "--model", str(examples / "m.onnx"), "--device", "cpu"]


def label_maps(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*_labels.nii.gz"))


def test_results_keep_the_folders_of_the_exams(
    examples: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(examples, study, "-o", tmp_path / "out")) == 0
    assert label_maps(tmp_path / "out") == ["anna/t2_labels.nii.gz", "ben/t2_labels.nii.gz"]
    output, errors = capsys.readouterr()
    assert errors == f"lumbarseg: note: {study}: 2 exams; not read: 1 label map and 1 other file (.txt)\n"
    assert f"{study / 'ben' / 't2.nii'} (2 of 2)" in output
    assert "\n2 exams: 2 segmented in 0:00:" in output
    rows = list(csv.DictReader((tmp_path / "out" / "measurements.csv").open(newline="")))
    assert {row["exam"] for row in rows} == {str(study / name / "t2.nii") for name in ("anna", "ben")}
    assert all(float(row["volume_ml"]) > 0 for row in rows)


def test_flat_results_of_one_name_do_not_replace_each_other(
    examples: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(examples, study, "-o", tmp_path / "out", "--flat")) == 1
    assert label_maps(tmp_path / "out") == ["t2_labels.nii.gz"]
    assert "which has the same name" in capsys.readouterr().err


def test_results_inside_the_folder_are_not_exams_of_the_next_run(
    examples: Path, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study / "results"
    for _ in range(2):
        assert main(command(examples, study, "-o", out, "--format", "nifti,seg-nrrd")) == 0
    assert label_maps(out) == ["anna/t2_labels.nii.gz", "ben/t2_labels.nii.gz"]
    assert "2 exams: 2 unchanged" in capsys.readouterr().out


def test_another_series_has_files_of_its_own(study: Path, tmp_path: Path) -> None:
    options = BatchOptions((study,), tmp_path, ExamOptions(series="t1 tse"))
    job = next(find_jobs([study], tmp_path / "out", options, []))
    assert job.output_files["labels"] == tmp_path / "out" / "anna" / "t2_series-t1-tse_labels.nii.gz"


def test_a_label_map_is_refused(
    examples: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(examples, study / "anna" / "t2.nii", "-o", tmp_path)) == 0
    shutil.copy(tmp_path / "t2_labels.nii.gz", tmp_path / "scan.nii.gz")
    capsys.readouterr()
    assert main(command(examples, tmp_path / "scan.nii.gz", "-o", tmp_path / "out")) == 1
    assert "scan.nii.gz: a label map, not an exam" in capsys.readouterr().err


def test_permission_is_checked_before_anything_is_computed(
    examples: Path, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert main(command(examples, study, "-o", tmp_path / "out")) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "cannot be written" in line


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_names_that_the_console_cannot_show_do_not_stop_a_batch(encoding: str, examples: Path, tmp_path: Path) -> None:
    names = [b"r\xfccken.nii", "脊椎.nii".encode(), b"plain.nii"]
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    for name in names:
        shutil.copy(examples / "e00.nii", os.path.join(folder, name))
    arguments = [*PROGRAM, *command(examples, tmp_path / "in", "-o", tmp_path / "out")]
    logs = ["--jsonl", str(tmp_path / "a.jsonl"), "--table", str(tmp_path / "a.csv")]
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
    done = subprocess.run([*arguments, *logs], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"3 exams: 3 segmented" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert {os.fsencode(Path(line["exam"]).name) for line in lines} == set(names)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "| true"])
def test_a_closed_output_does_not_stop_a_batch(redirection: str, examples: Path, study: Path, tmp_path: Path) -> None:
    command_line = " ".join([*PROGRAM, *command(examples, study, "-o", tmp_path / "out")])
    subprocess.run(["sh", "-c", f"{command_line} {redirection}"], capture_output=True, env=ENVIRONMENT, check=False)
    assert label_maps(tmp_path / "out") == ["anna/t2_labels.nii.gz", "ben/t2_labels.nii.gz"]


def test_an_image_of_few_grey_values_is_an_exam(examples: Path, study: Path, tmp_path: Path) -> None:
    image = nib.load(study / "ben" / "t2.nii")
    assert len(np.unique(np.asarray(image.dataobj))) < 10
    assert main(command(examples, study / "ben" / "t2.nii", "-o", tmp_path / "out")) == 0
