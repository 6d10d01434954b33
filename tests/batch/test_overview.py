"""The index page and the table of measurements of all exams of an output folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.batch import easy

from lumbarseg.cli.main import main
from lumbarseg.report.index_page import linked_files


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return easy.model(tmp_path_factory.mktemp("model") / "m.onnx")


def run(model: Path, out: Path, *exams: Path, options: tuple[str, ...] = ()) -> int:
    command = ["segment", *map(str, exams), "-o", str(out), "--model", str(model), "--device", "cpu", *options]
    return main(command)


def linked_names(out: Path) -> set[str]:
    """Return the pages and reports that the index links; each exists."""
    files = linked_files((out / "index.html").read_text(encoding="utf-8"))
    assert all((out / file).is_file() for file in files)
    return {file.as_posix() for file in files}


def table_exams(out: Path) -> set[str]:
    with (out / "measurements.csv").open(newline="", encoding="utf-8") as file:
        return {Path(row["exam"]).name for row in csv.DictReader(file)}


def test_several_runs_into_one_folder_share_one_overview(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, (first, second, third) = tmp_path / "out", easy.exams(tmp_path / "in" / "anna", 3)
    assert run(model, out, first) == 0
    assert not (out / "index.html").exists()  # one exam has its page
    capsys.readouterr()
    assert run(model, out, second) == 0
    assert f"all exams of {out}: {out / 'index.html'}  {out / 'measurements.csv'}" in capsys.readouterr().out
    assert linked_names(out) == {"e00_report.html", "e01_report.html"}
    third.rename(tmp_path / "in" / "anna" / "new.nii")
    first.unlink(), second.unlink()
    assert run(model, out, tmp_path / "in") == 0  # keeps the folder of the exam
    everything = {"e00_report.html", "e01_report.html", "anna/new_report.html"}
    assert linked_names(out) == everything
    assert table_exams(out) == {"e00.nii", "e01.nii", "new.nii"}
    (out / "e01_report.json").unlink()
    (exam,) = easy.exams(tmp_path / "more", 1)
    assert run(model, out, exam.rename(tmp_path / "more" / "last.nii")) == 0
    assert linked_names(out) == everything - {"e01_report.html"} | {"last_report.html"}


def test_a_refused_exam_stands_first_until_it_can_be_read(model: Path, tmp_path: Path) -> None:
    out, exams = tmp_path / "out", easy.exams(tmp_path / "in", 2)
    good = exams[1].read_bytes()
    exams[1].write_bytes(b"no exam")
    assert run(model, out, tmp_path / "in") == 1
    assert "neither NIfTI" in json.loads((out / "e01_report.json").read_text())["error"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.index("neither NIfTI") < page.index("e00_report.html")
    exams[1].write_bytes(good)
    assert run(model, out, tmp_path / "in") == 0
    assert linked_names(out) == {"e00_report.html", "e01_report.html"}
    assert "error" not in json.loads((out / "e01_report.json").read_text())


def test_a_wrong_option_is_no_longer_listed_once_the_exam_is_segmented(model: Path, tmp_path: Path) -> None:
    out, exams = tmp_path / "out", easy.exams(tmp_path / "in", 2)
    assert run(model, out, *exams, options=("--series", "T2")) == 1
    assert "leave out --series" in (out / "index.html").read_text(encoding="utf-8")
    assert run(model, out, *exams) == 0
    assert linked_names(out) == {"e00_report.html", "e01_report.html"}


def test_a_failure_keeps_the_result_of_an_earlier_run(model: Path, tmp_path: Path) -> None:
    out, exams = tmp_path / "out", easy.exams(tmp_path / "in", 2)
    assert run(model, out, tmp_path / "in") == 0
    before = (out / "e01_report.json").read_bytes()
    exams[1].write_bytes(b"no exam")
    assert run(model, out, tmp_path / "in") == 1
    assert (out / "e01_report.json").read_bytes() == before
    assert "neither NIfTI" in (out / "index.html").read_text(encoding="utf-8")


def test_files_of_other_programs_are_kept(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, exams = tmp_path / "out", easy.exams(tmp_path / "in", 2)
    out.mkdir()
    (out / "index.html").write_text("<html>mine</html>")
    (out / "other_report.json").write_text('{"format": "mine"}')
    assert run(model, out, *exams) == 0
    assert (out / "index.html").read_text() == "<html>mine</html>"
    assert table_exams(out) == {"e00.nii", "e01.nii"}
    assert f"note: {out / 'index.html'}: not written by lumbarseg, so it is kept" in capsys.readouterr().err


def test_formats_without_pages_and_tables_leave_the_overview_out(model: Path, tmp_path: Path) -> None:
    out, exams = tmp_path / "out", easy.exams(tmp_path / "in", 2)
    assert run(model, out, *exams, options=("--format", "nifti")) == 0
    suffixes = ("_labels.nii.gz", "_report.json", ".png")
    assert {path.name for path in out.iterdir()} == {f"e0{n}{suffix}" for n in (0, 1) for suffix in suffixes}
