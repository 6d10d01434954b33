"""`lumbarseg demo`: a synthetic exam, segmented, with its ground truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lumbarseg.anatomy import LUMBAR_LEVELS
from lumbarseg.batch.result_record import read_report
from lumbarseg.cli.main import main
from lumbarseg.io import read_image, read_labels

pytestmark = pytest.mark.usefixtures("model_file")


def test_it_writes_all_files_and_prints_the_report_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    output = capsys.readouterr().out
    page = tmp_path / "demo" / "demo_report.html"
    assert f"report: {page}\n" in output
    assert "L1 L2 L3 L4 L5" in output
    assert "cut off by the edge, not scored: T11" in output
    assert "<img" in page.read_text()
    labels = [read_labels(tmp_path / "demo" / name) for name in ("demo_labels.nii.gz", "demo_truth.nii.gz")]
    assert all(volume.grid.same_as(read_image(tmp_path / "demo" / "demo.nii.gz").grid) for volume in labels)


def test_level_names_match_the_ground_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    scores = {row["name"]: row for row in output["scores"]}
    assert all(scores[level]["found_as"] == level for level in LUMBAR_LEVELS)
    assert all(scores[level]["dice"] > 0.85 for level in LUMBAR_LEVELS)
    assert all(row["dice"] > 0.7 for row in scores.values())  # what the edge cuts off is not scored
    assert not output["warnings"]


def test_the_record_has_the_digests_of_the_files_as_written(tmp_path: Path) -> None:
    assert main(["demo", "-o", str(tmp_path)]) == 0
    report = read_report(tmp_path / "demo_report.json")
    assert report
    files = {"html": tmp_path / "demo_report.html", "labels": tmp_path / "demo_labels.nii.gz"}
    assert files.keys() <= report[1].files.keys() and report[1].modified_files(files) == []
