"""The part of the Slicer module that does not need Slicer, with the real program."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicerio")

import slicerio
from tests.program import ENVIRONMENT, PROGRAM

from lumbarseg.anatomy import LEVELS
from lumbarseg.batch.demo import synthetic_exam as demo_exam
from lumbarseg.errors import ModelError
from lumbarseg.inference import bundled_model_path
from lumbarseg.io import nrrd as nrrd_format
from lumbarseg.io import read_image
from lumbarseg.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "slicer" / "LumbarSeg"


@pytest.fixture(scope="module")
def command_line() -> Iterator[Any]:
    """LumbarSegLib.command_line as Slicer imports it: with the module's folder on the path."""
    sys.path.insert(0, str(MODULE))
    try:
        yield __import__("LumbarSegLib.command_line", fromlist=["command_line"])
    finally:
        sys.path.remove(str(MODULE))


def write_like_slicer(volume: Volume, path: Path) -> None:
    """Write a volume as Slicer does."""
    import nrrd

    to_lps = [-1, -1, 1]
    header = {
        "space": "left-posterior-superior",
        "space directions": volume.affine[:3, :3].T * to_lps,
        "space origin": volume.affine[:3, 3] * to_lps,
        "kinds": ["domain"] * 3,
        "encoding": "raw",
    }
    nrrd.write(str(path), volume.array, header)


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start a program as slicer.util.launchConsoleProcess does."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)


def test_exam_of_slicer_is_segmented(command_line: Any, tmp_path: Path) -> None:
    try:
        bundled_model_path()
    except ModelError as error:
        pytest.skip(str(error))
    write_like_slicer(demo_exam(193).image, command_line.exam_path(tmp_path))
    assert nrrd_format.is_nrrd(command_line.exam_path(tmp_path).read_bytes())
    messages: list[str] = []
    command = command_line.build_command(PROGRAM, tmp_path, command_line.Options(posterior_elements="with vertebra"))
    command_line.wait_for_process(start(command), messages.append)
    result = command_line.read_result(tmp_path)
    assert "L1 L2 L3 L4 L5" in result.summary
    assert any("counted from" in line for line in messages)
    segments = {row["name"]: row for row in slicerio.read_segmentation(str(result.segmentation))["segments"]}
    assert segments["L4"]["terminology"]["type"] == ["SCT", "11994002", "L4 vertebra"]
    assert "L4 arch" not in segments
    assert read_image(result.segmentation).grid.same_as(read_image(command_line.exam_path(tmp_path)).grid)
    table = {row[0]: dict(zip(command_line.COLUMNS, row, strict=True)) for row in result.rows}
    assert {"L1", "L5", "L4-L5"} <= set(table)
    assert 15 < float(table["L3"]["height middle mm"]) < 45
    assert float(table["L3"]["confidence"]) > 0.5
    assert all(isinstance(cell, str) for row in result.rows for cell in row)


def test_error_is_the_message_of_the_program(command_line: Any, tmp_path: Path) -> None:
    command_line.exam_path(tmp_path).write_bytes(b"no exam")
    with pytest.raises(command_line.CommandError, match=r"exam\.nrrd: neither NIfTI"):
        command_line.wait_for_process(
            start(command_line.build_command(PROGRAM, tmp_path, command_line.Options())), lambda _: None
        )
    with pytest.raises(command_line.CommandError, match=r"wrote no exam\.seg\.nrrd"):
        command_line.read_result(tmp_path)


def test_failed_or_cancelled_program_is_an_error(command_line: Any) -> None:
    with pytest.raises(command_line.CommandError, match="No module named nothing_like_it"):
        command_line.wait_for_process(start([sys.executable, "-m", "nothing_like_it"]), lambda _: None)
    with pytest.raises(command_line.CommandError, match="code 7"):
        command_line.wait_for_process(start([sys.executable, "-c", "raise SystemExit(7)"]), lambda _: None)
    endless = start([sys.executable, "-uc", "while True: print('still here')"])
    with pytest.raises(command_line.CommandError, match="cancelled"):
        command_line.wait_for_process(endless, lambda _: None, lambda: True)
    assert endless.returncode not in (0, None)


def test_package_source(command_line: Any, tmp_path: Path) -> None:
    assert command_line.package_source("", MODULE / "LumbarSeg.py") == str(ROOT)
    wheel = tmp_path / "lumbarseg-1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    assert command_line.package_source(f" {wheel} ", MODULE / "LumbarSeg.py") == str(wheel)
    with pytest.raises(command_line.CommandError, match="neither a wheel nor a folder"):
        command_line.package_source(str(tmp_path / "none.whl"), MODULE / "LumbarSeg.py")
    with pytest.raises(command_line.CommandError, match="choose a wheel"):
        command_line.package_source("", tmp_path / "LumbarSeg" / "LumbarSeg.py")


@pytest.mark.parametrize(("version", "is_too_old"), [((3, 9, 10), True), ((3, 11, 0), False), ((3, 12, 10), False)])
def test_old_python_is_reported(command_line: Any, version: tuple[int, ...], is_too_old: bool) -> None:
    assert bool(command_line.python_version_problem(version)) == is_too_old
    assert not is_too_old or "3.9" in command_line.python_version_problem(version)


def test_command_has_valid_options(command_line: Any, tmp_path: Path) -> None:
    from lumbarseg.cli.main import build_parser

    for lowest in command_line.LOWEST_LEVELS:
        for choice in command_line.POSTERIOR_ELEMENTS:
            command = command_line.build_command([], tmp_path, command_line.Options(lowest, choice, " my.onnx "))
            args = build_parser(command[0]).parse_args(command)
            assert args.lowest == (None if lowest == command_line.AUTOMATIC else lowest)
            values = {"separate": "separate", "with vertebra": "merge", "omitted": "omit"}
            assert args.posterior_elements == values[choice]
            assert args.model == Path("my.onnx")
    assert set(command_line.LOWEST_LEVELS[1:]) < set(LEVELS)


def test_uncertain_and_cut_levels_are_marked_for_review(command_line: Any) -> None:
    levels = [{"name": "L5", "uncertain": True, "confidence": 0.41}]
    measurements = [{"name": "L5", "volume_ml": 31.26, "complete": False}, {"name": "sacrum", "volume_ml": None}]
    report = json.loads(json.dumps({"levels": levels, "measurements": measurements}))
    assert command_line.table_rows(report) == (
        ("L5", "31.3", "", "", "", "0.41", "cut by the edge, name uncertain"),
        ("sacrum", "", "", "", "", "", ""),
    )


def test_module_has_the_classes_that_slicer_expects() -> None:
    tree = ast.parse((MODULE / "LumbarSeg.py").read_text(), feature_version=(3, 9))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert list(classes) == ["LumbarSeg", "LumbarSegWidget", "LumbarSegLogic", "LumbarSegTest"]
    for name, node in classes.items():
        base = node.bases[0]
        assert isinstance(base, ast.Name)
        assert base.id == name.replace("LumbarSeg", "ScriptedLoadableModule")
    ast.parse((MODULE / "LumbarSegLib" / "command_line.py").read_text(), feature_version=(3, 9))
