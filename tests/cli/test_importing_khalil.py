"""`lumbarseg import khalil`: arguments, output, exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.datasets import small_phantoms
from tests.datasets.layouts import khalil

from lumbarseg.cli import importing
from lumbarseg.cli.main import main
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.importers import IMPORTERS
from lumbarseg.datasets.importers import khalil as khalil_importer


def test_the_command_has_every_source() -> None:
    assert set(importing.SOURCES) == set(IMPORTERS)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    khalil.write(folder, small_phantoms.exams(3), np.random.default_rng(0), True)
    return folder


def test_known_faults_are_reported_by_name(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "khalil", str(source), str(tmp_path / "out"), "--jobs", "1", "--val-fraction", "0"]) == 0
    out = capsys.readouterr().out
    assert f"suffix: 1 case (S01_Avanto_sagittal_T2-TSE): {khalil_importer.KNOWN_FAULTS['suffix']}" in out
    assert "3 cases (3 train); 3 added, 0 unchanged, 0 refused" in out
    assert main(["import", "khalil", str(source), str(tmp_path / "out"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["cases"] == {"train": 3}
    assert len(values["unchanged"]) == 3
    warnings = [text for texts in values["warnings"].values() for text in texts]
    assert {text.partition(":")[0] for text in warnings} == {"suffix", "mask-header"}


def test_a_refused_case_is_reported_and_sets_the_exit_code(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(source / "S01" / "Ingenia" / "Labels")
    assert main(["import", "khalil", str(source), str(tmp_path / "out"), "--jobs", "1"]) == 3
    out, error = capsys.readouterr()
    assert "1 refused" in out
    (line,) = [line for line in error.splitlines() if "warning" in line]
    assert "S01_Ingenia_sagittal_T2-TSE: refused: S01/Ingenia/sagittal/T2_TSE.nii.gz: no masks" in line
    assert len(Dataset.open(tmp_path / "out").cases()) == 2


def test_a_wrong_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, message in ((tmp_path, "SUBJECT/SCANNER/FOLDER/*T2*.nii.gz"), (tmp_path / "gone", "no folder")):
        assert main(["import", "khalil", str(folder), str(tmp_path / "out")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert not (tmp_path / "out").exists()
    assert main(["import", "khalil", str(tmp_path), str(tmp_path / "out"), "--val-fraction", "1"]) == 2
    assert main(["import", "osf", str(tmp_path), str(tmp_path / "out")]) == 2
