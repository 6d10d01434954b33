"""Options of the server, and the app folder that it runs in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lumbarseg.cli.main import main
from lumbarseg.errors import ServeError
from lumbarseg.server.launcher import APP_MAIN, ServerOptions, create_app_folder

ROOT = Path(__file__).resolve().parents[2]


def test_token_is_required_unless_the_server_is_local(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="protect it with --token"):
        ServerOptions(str(tmp_path), tmp_path / "app", host="0.0.0.0")
    assert not ServerOptions(str(tmp_path), tmp_path / "app", host="0.0.0.0", token="eight-chars").is_local
    with pytest.raises(ServeError, match="at least 8"):
        ServerOptions(str(tmp_path), tmp_path / "app", token="short")


def test_environment_variables_have_absolute_paths(tmp_path: Path) -> None:
    variables = ServerOptions(str(tmp_path / "exams of june"), tmp_path / "my app", port=0).environment_variables()
    assert variables["MONAI_LABEL_STUDIES"] == str(tmp_path / "exams of june")
    assert variables["MONAI_LABEL_APP_DIR"] == str(tmp_path / "my app")
    assert variables["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] == '{"Modality": "MR"}'
    dicomweb = ServerOptions("http://127.0.0.1:8042/dicom-web", tmp_path)
    assert dicomweb.environment_variables()["MONAI_LABEL_STUDIES"] == "http://127.0.0.1:8042/dicom-web"


def test_app_folder_is_created_and_another_app_is_left_alone(tmp_path: Path) -> None:
    create_app_folder(tmp_path / "app")
    assert (tmp_path / "app" / "main.py").read_text() == APP_MAIN == (ROOT / "apps/lumbarseg/main.py").read_text()
    assert (tmp_path / "app" / "model").is_dir()
    (tmp_path / "app" / "main.py").write_text("from lumbarseg.serve.app import LumbarApp")  # before version 0.1
    create_app_folder(tmp_path / "app")
    assert (tmp_path / "app" / "main.py").read_text() == APP_MAIN
    (tmp_path / "radiology").mkdir()
    (tmp_path / "radiology" / "main.py").write_text("class MyApp: ...")
    with pytest.raises(ServeError, match="belongs to another app"):
        create_app_folder(tmp_path / "radiology")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the folder of exams"),
        (["nowhere"], "nowhere: not a folder"),
        ([".", "--host", "0.0.0.0"], "protect it with --token"),
    ],
)
def test_invalid_options_are_one_line(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *arguments]) == 1
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--port", "99999"], 2, "must be at most 65535, not 99999"),
        (["--host", "192.0.2.1", "--token", "eight-chars"], 1, "choose an address of this computer with --host"),
        (["--port", "{used}"], 1, "address already in use; choose another port with --port"),
    ],
)
def test_a_port_that_cannot_be_used_is_an_error_before_anything_is_installed(
    options: list[str], code: int, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        arguments = [option.format(used=used.getsockname()[1]) for option in options]
        assert main(["serve", str(tmp_path), "--env", str(tmp_path / "env"), *arguments]) == code
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "env").exists()
