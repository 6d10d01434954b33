"""The command line: help, exit codes, and one line for every error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lumbarseg import __version__
from lumbarseg.cli import info
from lumbarseg.cli.main import build_parser, main

COMMANDS = (
    *("segment", "demo", "info", "phantom", "import", "check", "combine"),
    *("train", "compare", "evaluate", "export", "pseudo-label", "learn", "next"),
    *("pack", "page", "serve"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"example:\n  lumbarseg {command} " in capsys.readouterr().out.replace(
        "lumbarseg demo\n", "lumbarseg demo \n"
    )


def test_the_help_page_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    assert {line.split()[0] for line in output.splitlines() if line.startswith("    ") and line[4] != " "} == set(
        COMMANDS
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lumbarseg {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see lumbarseg --help"),
        (["--verison"], "unknown argument --verison; did you mean --version?; see lumbarseg --help"),
        (["sgment"], "did you mean segment?"),
        (["segment"], "the following arguments are required: EXAM; see lumbarseg segment --help"),
        (["segment", "x.nii.gz"], "-o DIR is missing"),
        (["segment", "x.nii", "-o", "o", "--overwite"], "unknown argument --overwite; did you mean --overwrite?"),
        (["segment", "x.nii", "-o", "o", "--scheme", "Spinps"], "did you mean spineps?"),
        (["segment", "x.nii", "-o", "o", "--posterior-elements", "none"], "choose from separate, merge, omit"),
        (["segment", "x.nii", "-o", "o", "--format", "dcm"], "'dcm' is not a format; choose from nifti"),
        (["segment", "x.nii", "-o", "o", "--lowest", "L9"], "choose one of"),
        (["segment", "https://pacs/studies/1.2", "-o", "o"], "write dicomweb:https://pacs/studies/1.2"),
        (["segment", "https://example.org/exam.nii.gz", "-o", "o"], "download it first"),
        (["import", "foldr", "a", "b"], "did you mean folder?"),
        (["import", "chu", "a", "b", "--json", "--sed", "3"], "did you mean --seed?"),
    ],
)
def test_wrong_usage_is_one_line_with_a_suggestion(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lumbarseg: error: ")
    assert message in line


def test_a_file_without_permission_is_one_line_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "run", _Raise(PermissionError(13, "Permission denied", "exam.nii.gz")))
    assert main(["info", "exam.nii.gz"]) == 1
    assert capsys.readouterr().err == "lumbarseg: error: exam.nii.gz: no permission; change it, or work on a copy\n"


def test_levels_formats_and_schemes_are_case_insensitive() -> None:
    options = ["--lowest", "l5", "--pin", "t12@1,2,3", "--format", "NIfTI", "--scheme", "SPIDER", "--device", "CPU"]
    args = build_parser("segment").parse_args(["segment", "x.nii", "-o", "o", *options])
    assert (args.lowest, args.pin, args.format) == ("L5", [("T12", (1.0, 2.0, 3.0))], ["nifti"])
    assert (args.scheme, args.device) == ("spider", "cpu")


def test_a_misspelt_shipped_model_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(tmp_path), "-o", str(tmp_path), "--model", "shiped"]) == 1
    assert "write shipped for the model of the package" in capsys.readouterr().err


class _Raise:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, args: object) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "output"),
    [
        (ValueError("odd"), 1, "a fault of this program: ValueError: odd"),
        (MemoryError(), 1, "not enough memory"),
        (OSError(28, "No space left on device", "out/x.json"), 1, "out/x.json: the disk is full; make room"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1, "this command needs torch: pip install"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_is_one_line(
    error: BaseException, code: int, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LUMBARSEG_DEBUG", raising=False)
    monkeypatch.setattr(info, "run", _Raise(error))
    assert main(["info"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lumbarseg: error: {output}")


def test_debug_mode_raises_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMBARSEG_DEBUG", "1")
    monkeypatch.setattr(info, "run", _Raise(ValueError("odd")))
    with pytest.raises(ValueError, match="odd"):
        main(["info"])


def test_a_closed_pipe_is_not_an_error() -> None:
    path = os.pathsep.join([str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")])
    command = f"'{sys.executable}' -m lumbarseg info | true"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert result.stderr == ""


def test_the_parser_has_these_commands() -> None:
    output = build_parser().format_help()
    assert sum(line.startswith("    ") and not line.startswith("     ") for line in output.splitlines()) == len(
        COMMANDS
    )
