"""`lumbarseg demo`: a synthetic exam, answered, with its truth beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lumbarseg.anatomy import LUMBAR_LEVELS
from lumbarseg.cli.main import main
from lumbarseg.io import read_image, read_labels

pytestmark = pytest.mark.usefixtures("model_file")


def test_it_writes_everything_and_says_where_the_report_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    told = capsys.readouterr().out
    page = tmp_path / "demo" / "demo_report.html"
    assert f"report: {page}\n" in told
    assert "L1 L2 L3 L4 L5" in told
    assert "<img" in page.read_text()
    labels = [read_labels(tmp_path / "demo" / name) for name in ("demo_labels.nii.gz", "demo_truth.nii.gz")]
    assert all(volume.grid.same_as(read_image(tmp_path / "demo" / "demo.nii.gz").grid) for volume in labels)


def test_its_names_are_those_of_the_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    scores = {row["name"]: row for row in told["scores"]}
    assert all(scores[level]["found_as"] == level for level in LUMBAR_LEVELS)
    assert all(scores[level]["dice"] > 0.85 for level in LUMBAR_LEVELS)
    assert not told["warnings"]
