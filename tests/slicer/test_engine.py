"""The part of the Slicer module that needs no Slicer, with the real program."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import slicerio
from tests.cli.conftest import ENVIRONMENT, PROGRAM

from lumbarseg.anatomy import LEVELS
from lumbarseg.cli.demo import synthetic_exam as demo_exam
from lumbarseg.errors import ModelError
from lumbarseg.inference import bundled_model_path
from lumbarseg.io import nrrd, read_image
from lumbarseg.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "slicer" / "LumbarSeg"


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """LumbarSegLib.engine as Slicer imports it: with the module's folder on the path."""
    sys.path.insert(0, str(MODULE))
    try:
        yield __import__("LumbarSegLib.engine", fromlist=["engine"])
    finally:
        sys.path.remove(str(MODULE))


def written(volume: Volume, path: Path) -> None:
    """A volume as Slicer saves one."""
    slicerio_nrrd = pytest.importorskip("nrrd")
    to_lps = [-1, -1, 1]
    header = {
        "space": "left-posterior-superior",
        "space directions": volume.affine[:3, :3].T * to_lps,
        "space origin": volume.affine[:3, 3] * to_lps,
        "kinds": ["domain"] * 3,
        "encoding": "raw",
    }
    slicerio_nrrd.write(str(path), volume.array, header)


def started(words: list[str]) -> subprocess.Popen[str]:
    """As slicer.util.launchConsoleProcess starts a program."""
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)


def test_an_exam_of_slicer_is_answered(engine: Any, tmp_path: Path) -> None:
    try:
        bundled_model_path()
    except ModelError as error:
        pytest.skip(str(error))
    written(demo_exam(193).image, engine.exam(tmp_path))
    assert nrrd.is_nrrd(engine.exam(tmp_path).read_bytes())
    told: list[str] = []
    words = engine.command(PROGRAM, tmp_path, engine.Wish(parts="whole"))
    engine.follow(started(words), told.append)
    found = engine.answer(tmp_path)
    assert "L1 L2 L3 L4 L5" in found.summary
    assert any("counted from" in line for line in told)
    segments = {row["name"]: row for row in slicerio.read_segmentation(str(found.segmentation))["segments"]}
    assert segments["L4"]["terminology"]["type"] == ["SCT", "11994002", "L4 vertebra"]
    assert "L4 arch" not in segments
    assert read_image(found.segmentation).grid.same_as(read_image(engine.exam(tmp_path)).grid)
    table = {row[0]: dict(zip(engine.COLUMNS, row, strict=True)) for row in found.rows}
    assert {"L1", "L5", "L4-L5"} <= set(table)
    assert 15 < float(table["L3"]["height middle mm"]) < 45
    assert float(table["L3"]["confidence"]) > 0.5
    assert all(isinstance(cell, str) for row in found.rows for cell in row)


def test_a_refusal_is_the_programs_own_line(engine: Any, tmp_path: Path) -> None:
    engine.exam(tmp_path).write_bytes(b"no exam")
    with pytest.raises(engine.EngineError, match=r"exam\.nrrd: neither NIfTI"):
        engine.follow(started(engine.command(PROGRAM, tmp_path, engine.Wish())), lambda _: None)
    with pytest.raises(engine.EngineError, match=r"wrote no exam\.seg\.nrrd"):
        engine.answer(tmp_path)


def test_a_program_that_dies_or_hangs_is_told(engine: Any) -> None:
    with pytest.raises(engine.EngineError, match="No module named nothing_like_it"):
        engine.follow(started([sys.executable, "-m", "nothing_like_it"]), lambda _: None)
    with pytest.raises(engine.EngineError, match="code 7"):
        engine.follow(started([sys.executable, "-c", "raise SystemExit(7)"]), lambda _: None)
    endless = started([sys.executable, "-uc", "while True: print('still here')"])
    with pytest.raises(engine.EngineError, match="cancelled"):
        engine.follow(endless, lambda _: None, lambda: True)
    assert endless.returncode not in (0, None)


def test_what_is_installed_is_what_was_chosen_or_the_sources(engine: Any, tmp_path: Path) -> None:
    assert engine.source("", MODULE / "LumbarSeg.py") == str(ROOT)
    wheel = tmp_path / "lumbarseg-1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    assert engine.source(f" {wheel} ", MODULE / "LumbarSeg.py") == str(wheel)
    with pytest.raises(engine.EngineError, match="neither a wheel nor a folder"):
        engine.source(str(tmp_path / "none.whl"), MODULE / "LumbarSeg.py")
    with pytest.raises(engine.EngineError, match="choose a wheel"):
        engine.source("", tmp_path / "LumbarSeg" / "LumbarSeg.py")


@pytest.mark.parametrize(("version", "old"), [((3, 9, 10), True), ((3, 11, 0), False), ((3, 12, 10), False)])
def test_an_old_slicer_is_told_so(engine: Any, version: tuple[int, ...], old: bool) -> None:
    assert bool(engine.too_old(version)) == old
    assert not old or "3.9" in engine.too_old(version)


def test_words_are_those_of_the_command(engine: Any, tmp_path: Path) -> None:
    from lumbarseg.cli.main import build_parser

    for lowest in engine.LOWEST:
        for parts in engine.PARTS:
            words = engine.command([], tmp_path, engine.Wish(lowest, parts, " my.onnx "))
            args = build_parser(words[0]).parse_args(words)
            assert args.lowest == (None if lowest == engine.AUTOMATIC else lowest)
            assert (args.whole, args.bodies) == (parts == "whole", parts == "bodies")
            assert args.model == Path("my.onnx")
    assert set(engine.LOWEST[1:]) < set(LEVELS)


def test_uncertain_and_cut_levels_are_to_be_looked_at(engine: Any) -> None:
    levels = [{"name": "L5", "uncertain": True, "confidence": 0.41}]
    measured = [{"name": "L5", "volume_ml": 31.26, "complete": False}, {"name": "sacrum", "volume_ml": None}]
    report = json.loads(json.dumps({"levels": levels, "measurements": measured}))
    assert engine.rows(report) == (
        ("L5", "31.3", "", "", "", "0.41", "cut by the edge, name uncertain"),
        ("sacrum", "", "", "", "", "", ""),
    )


def test_the_module_has_what_slicer_looks_for() -> None:
    tree = ast.parse((MODULE / "LumbarSeg.py").read_text(), feature_version=(3, 9))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert list(classes) == ["LumbarSeg", "LumbarSegWidget", "LumbarSegLogic", "LumbarSegTest"]
    for name, node in classes.items():
        base = node.bases[0]
        assert isinstance(base, ast.Name)
        assert base.id == name.replace("LumbarSeg", "ScriptedLoadableModule")
    ast.parse((MODULE / "LumbarSegLib" / "engine.py").read_text(), feature_version=(3, 9))
