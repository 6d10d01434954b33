"""Datasets checked by the command alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.datasets import small_phantoms

from lumbarseg.anatomy import STRUCTURES, structure_by_name
from lumbarseg.cli.main import main
from lumbarseg.datasets import create_dataset, write_case
from lumbarseg.volume import Volume

TABLE = {0: ("background",), **{s.label: (s.name,) for s in STRUCTURES}}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "clean"
    create_dataset(folder, "clean", TABLE)
    for number, phantom in enumerate(small_phantoms.exams(2)):
        write_case(folder, f"case-{number}", phantom.image, phantom.labels, {"patient": f"p{number}", "contrast": "T2"})
    return folder


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """One good exam, one with a level that is not annotated, one empty."""
    folder = tmp_path / "spoiled"
    create_dataset(folder, "spoiled", TABLE)
    for number, phantom in enumerate(small_phantoms.exams(3)):
        array = phantom.labels.array.copy()
        array[(array == 3) & (number == 1)] = 0
        labels = Volume(array * (number != 2), phantom.labels.affine)
        write_case(folder, f"case-{number}", phantom.image, labels, {"split": "val" if number else "train"})
    return folder


def test_a_clean_set(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(clean), "--jobs", "1", "--strict"]) == 0
    message = capsys.readouterr().out
    assert "result     no errors, no warnings" in message
    assert "contrasts  2 T2" in message and "patients   2" in message
    assert "left and right look alike" in message and "new folder" not in message
    assert not (clean / "check").exists()


def test_faults_are_listed_by_case(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(spoiled), "--jobs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "case-2" and lines[1].split()[:2] == ["error", "empty"]
    assert lines[2] == "case-1" and lines[3].split()[:2] == ["warning", "gap"]
    assert lines[-1] == "result     1 error, 1 warning"
    assert any("import it into a new folder" in line for line in lines)


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_kind_without_a_label_in_any_case(
    is_listed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no fault where the row of 0 says so."""
    phantom = next(iter(small_phantoms.exams(1)))
    canal = structure_by_name("canal").label
    rows = {value: names for value, names in TABLE.items() if value != canal}
    rows[0] = (*TABLE[0], "canal") if is_listed else tuple(name for name in TABLE[0] if name != "canal")
    create_dataset(tmp_path / "set", "set", rows)
    labels = Volume(np.where(phantom.labels.array == canal, 0, phantom.labels.array), phantom.labels.affine)
    write_case(tmp_path / "set", "a", phantom.image, labels, {})
    assert main(["check", str(tmp_path / "set"), "--jobs", "1"]) == (0 if is_listed else 3)
    assert ("no case has a label for canal: is it annotated?" in capsys.readouterr().out) is not is_listed


def test_warnings_alone_have_their_own_exit_code(spoiled: Path) -> None:
    from lumbarseg.datasets import Dataset
    from lumbarseg.datasets.dataset import save_dataset

    dataset = Dataset.open(spoiled)
    save_dataset(type(dataset)(spoiled, "spoiled", dataset.label_table, dataset.all_cases[:2]))
    assert main(["check", str(spoiled), "--jobs", "1"]) == 3
    assert main(["check", str(spoiled), "--jobs", "1", "--strict"]) == 1


def test_json_holds_everything(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(spoiled), "--jobs", "1", "--json"])
    message = json.loads(capsys.readouterr().out)
    assert (message["cases"], message["errors"], message["warnings"]) == (3, 1, 1)
    assert message["splits"] == {"train": 1, "val": 2}
    assert message["structures"]["L3"] == 1 and message["structures"]["L2"] == 2
    kinds = {(f["case"], f["check"], f["severity"]) for f in message["findings"]}
    assert {("case-2", "empty", "error"), ("case-1", "gap", "warning")} <= kinds


def test_contact_sheets_are_saved_in_the_output_folder(spoiled: Path, tmp_path: Path) -> None:
    assert main(["check", str(spoiled), "--jobs", "1", "-o", str(tmp_path / "out")]) == 1
    assert main(["check", str(spoiled), "--jobs", "1", "-o"]) == 1
    names = ["check.json", "contact.html", "contact.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert sorted(path.name for path in (spoiled / "check").iterdir()) == names
    with Image.open(tmp_path / "out" / "contact.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 400
    page = (tmp_path / "out" / "contact.html").read_text()
    assert page.count("<figure>") == 3 and page.count("data:image/jpeg;base64,") == 3
    assert '<li class="error">empty: nothing is labelled' in page
    assert "http" not in page and "<script" not in page


def test_no_dataset_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_ten_exams_of_chu_are_clean(real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "chu", str(real / "chu"), str(tmp_path / "chu"), "--jobs", "2"]) == 0
    capsys.readouterr()
    assert main(["check", str(tmp_path / "chu"), "--jobs", "2", "--json", "--strict"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert (message["cases"], message["errors"], message["warnings"]) == (10, 0, 0)
    assert sum(count for name, count in message["structures"].items() if name != "body") == 70
    assert set(message["looks_like"].values()) <= {"", "T2 or STIR"}
