"""What the server is told, and the folder it runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from lumbarseg.cli.main import main
from lumbarseg.errors import ServeError
from lumbarseg.server.launcher import APP_MAIN, ServerOptions, create_app_folder

ROOT = Path(__file__).resolve().parents[2]


def test_beyond_this_computer_a_token_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="give it a --token"):
        ServerOptions(str(tmp_path), tmp_path / "app", host="0.0.0.0")
    assert not ServerOptions(str(tmp_path), tmp_path / "app", host="0.0.0.0", token="eight-chars").is_local
    with pytest.raises(ServeError, match="at least 8"):
        ServerOptions(str(tmp_path), tmp_path / "app", token="short")


def test_the_server_is_told_absolute_paths_and_nothing_is_fetched(tmp_path: Path) -> None:
    told = ServerOptions(str(tmp_path / "exams of june"), tmp_path / "my app", port=0).environment_variables()
    assert told["MONAI_LABEL_STUDIES"] == str(tmp_path / "exams of june")
    assert told["MONAI_LABEL_APP_DIR"] == str(tmp_path / "my app")
    assert told["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] == '{"Modality": "MR"}'
    assert (
        ServerOptions("http://127.0.0.1:8042/dicom-web", tmp_path)
        .environment_variables()["MONAI_LABEL_STUDIES"]
        .startswith("http")
    )


def test_an_app_folder_is_laid_once_and_another_apps_is_left_alone(tmp_path: Path) -> None:
    create_app_folder(tmp_path / "app")
    assert (tmp_path / "app" / "main.py").read_text() == APP_MAIN == (ROOT / "apps/lumbarseg/main.py").read_text()
    assert (tmp_path / "app" / "model").is_dir()
    (tmp_path / "radiology").mkdir()
    (tmp_path / "radiology" / "main.py").write_text("class MyApp: ...")
    with pytest.raises(ServeError, match="another app's"):
        create_app_folder(tmp_path / "radiology")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "name the folder of exams"),
        (["nowhere"], "nowhere: no folder"),
        ([".", "--host", "0.0.0.0"], "give it a --token"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *words]) == 1
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
