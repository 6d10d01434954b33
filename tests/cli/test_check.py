"""Datasets checked by the command alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.datasets import small_phantoms

from lumbarseg.anatomy import STRUCTURES
from lumbarseg.cli.main import main
from lumbarseg.datasets import create_dataset, write_case
from lumbarseg.volume import Volume

TABLE = {0: ("background",), **{s.label: (s.name,) for s in STRUCTURES}}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "clean"
    create_dataset(folder, "clean", TABLE)
    for number, made in enumerate(small_phantoms.exams(2)):
        write_case(folder, f"case-{number}", made.image, made.labels, {"patient": f"p{number}", "contrast": "T2"})
    return folder


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """One good exam, one with a level that is not drawn, one empty."""
    folder = tmp_path / "spoiled"
    create_dataset(folder, "spoiled", TABLE)
    for number, made in enumerate(small_phantoms.exams(3)):
        array = made.labels.array.copy()
        array[(array == 3) & (number == 1)] = 0
        labels = Volume(array * (number != 2), made.labels.affine)
        write_case(folder, f"case-{number}", made.image, labels, {"split": "val" if number else "train"})
    return folder


def test_a_clean_set(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(clean), "--jobs", "1", "--strict"]) == 0
    told = capsys.readouterr().out
    assert "result     no errors, no warnings" in told
    assert "contrasts  2 T2" in told and "patients   2" in told
    assert "left and right look alike" in told
    assert not (clean / "check").exists()


def test_faults_are_told_by_case(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(spoiled), "--jobs", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "case-2" and lines[1].split()[:2] == ["error", "empty"]
    assert lines[2] == "case-1" and lines[3].split()[:2] == ["warning", "gap"]
    assert lines[-1] == "result     1 error, 1 warning"


def test_warnings_alone_have_their_own_exit_code(spoiled: Path) -> None:
    from lumbarseg.datasets import Dataset
    from lumbarseg.datasets.dataset import save_dataset

    dataset = Dataset.open(spoiled)
    save_dataset(type(dataset)(spoiled, "spoiled", dataset.label_table, dataset.all_cases[:2]))
    assert main(["check", str(spoiled), "--jobs", "1"]) == 3
    assert main(["check", str(spoiled), "--jobs", "1", "--strict"]) == 1


def test_json_holds_everything(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", str(spoiled), "--jobs", "1", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["cases"], told["errors"], told["warnings"]) == (3, 1, 1)
    assert told["splits"] == {"train": 1, "val": 2}
    assert told["structures"]["L3"] == 1 and told["structures"]["L2"] == 2
    kinds = {(f["case"], f["check"], f["severity"]) for f in told["findings"]}
    assert {("case-2", "empty", "error"), ("case-1", "gap", "warning")} <= kinds


def test_contact_sheets_are_written_where_asked(spoiled: Path, tmp_path: Path) -> None:
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
    told = json.loads(capsys.readouterr().out)
    assert (told["cases"], told["errors"], told["warnings"]) == (10, 0, 0)
    assert sum(count for name, count in told["structures"].items() if name != "body") == 70
    assert set(told["looks_like"].values()) <= {"", "T2 or STIR"}
