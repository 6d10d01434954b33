"""`lumbarseg import`: somebody's pairs as a prepared dataset."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import ROOT
from tests.io.make_nifti import SAGITTAL, save_nifti

from lumbarseg.cli.main import main
from lumbarseg.datasets import Dataset

SPACE = str(ROOT / "benchmarks" / "label_tables" / "spider_space.json")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Eleven patients, the last one twice; values 0 to 3."""
    source = tmp_path / "pairs"
    source.mkdir()
    rng = np.random.default_rng(0)
    for name in [*(f"p{i:02d}" for i in range(11)), "p10_second"]:
        save_nifti(source / f"{name}_image.nii.gz", rng.normal(100, 20, (6, 7, 5)).astype(np.float32), SAGITTAL)
        save_nifti(source / f"{name}_labels.nii.gz", rng.integers(0, 4, (6, 7, 5), np.uint8), SAGITTAL)
    return source


def test_patterns_patients_and_channels_are_passed_on(pairs: Path, tmp_path: Path) -> None:
    patterns = ["--images", "{name:p0*}_image", "--labels", "{name:p0*}_labels", "--patient", "p(.)"]
    arguments = ["import", "folder", str(pairs), str(tmp_path / "set"), "--table", SPACE, "--jobs", "1"]
    assert main([*arguments, *patterns]) == 0
    cases = Dataset.open(tmp_path / "set").cases()
    assert len(cases) == 10
    assert {(case.patient, case.source) for case in cases} == {("0", "pairs")}


def test_pairs_become_a_dataset(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "set"
    arguments = ["import", "folder", str(pairs), str(target), "--table", SPACE, "--licence", "CC BY 4.0"]
    assert main([*arguments, "--val-fraction", "0.5", "--jobs", "1"]) == 0
    assert "12 cases" in capsys.readouterr().out
    cases = Dataset.open(target).cases()
    assert {case.licence for case in cases} == {"CC BY 4.0"}
    assert {case.split for case in cases} == {"train", "val"}
    assert len({case.split for case in cases if case.patient == "p10"}) == 1
    assert main(["info", str(target), "--json"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert message["labels"]["1"] == "body or arch"
    assert message["patients"] == 11


def test_a_table_of_ones_own(pairs: Path, tmp_path: Path) -> None:
    table = {"0": ["background"], "1": ["L5"], "2": ["L4-L5"], "3": ["unknown"]}
    (tmp_path / "table.json").write_text(json.dumps(table))
    arguments = ["import", "folder", str(pairs), str(tmp_path / "set"), "--table", str(tmp_path / "table.json")]
    assert main([*arguments, "--jobs", "1"]) == 0
    assert Dataset.open(tmp_path / "set").label_table[2] == ("L4-L5",)


def test_what_does_not_fit_is_one_line(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.json").write_text(json.dumps({"0": ["background"], "1": ["L5"]}))
    arguments = ["import", "folder", str(pairs), str(tmp_path / "set"), "--table", str(tmp_path / "table.json")]
    assert main([*arguments, "--jobs", "1"]) == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if "which the label table does not explain" in line]
    assert len(lines) == 12
    assert main(["import", "folder", str(tmp_path), str(tmp_path / "other"), "--preset", "default"]) == 1
    assert main(["import", "folder", str(pairs), str(tmp_path / "other")]) == 2


def test_a_proposed_table_imports_what_it_describes(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, target = tmp_path / "labels.json", tmp_path / "mine"
    (tmp_path / "short.json").write_text(json.dumps({"0": ["background"]}))
    assert main(["import", "folder", str(pairs), str(target), "--table", str(tmp_path / "short.json")]) == 3
    assert "holds the values 1, 2, 3, which the label table does not explain" in capsys.readouterr().err
    assert main(["import", "folder", str(pairs), str(target), "--propose", str(table)]) == 0
    *rows, s1, hint, command = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]
    assert "if it is S1, call it sacrum" in s1
    assert "guessed from position and size in 12 label maps" in hint
    assert main([*command.split()[1:]]) == 0
    assert len(Dataset.open(target).cases()) == 12
    assert main(["import", "folder", str(pairs), str(target), "--propose", str(table)]) == 1
    assert "exists already" in capsys.readouterr().err
    patterns = ["--images", "{name}_image.nii.gz", "--labels", "{name}_labels.nii.gz"]
    other, folder = tmp_path / "other labels.json", str(tmp_path / "ours")
    assert main(["import", "folder", str(pairs), folder, "--propose", str(other), *patterns, "--json"]) == 0
    proposal = json.loads(capsys.readouterr().out)
    assert proposal["table"] == json.loads(other.read_text())
    assert main(shlex.split(proposal["next"])[1:]) == 0
