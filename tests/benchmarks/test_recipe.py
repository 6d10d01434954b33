"""`make model`: its commands exist with these options, and the card says how the model was made."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from benchmarks.card_facts import recipe_facts
from tests.architecture import ROOT

from lumbarseg.cli.main import build_parser
from lumbarseg.datasets.dataset import create_dataset


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_every_command_of_the_recipe_can_be_parsed(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("DATA", "RUN", "SHAPES", "TEST")}
    (folders["SHAPES"] / "one").mkdir(parents=True)
    (folders["TEST"]).mkdir()
    (folders["TEST"] / "package.stamp").touch()
    options = [f"{name}={folder}" for name, folder in folders.items()]
    make = ["make", "-n", "-o", str(folders["TEST"] / "package.stamp"), "model", *options, "STEPS=30", "EXAMS=2"]
    printed = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    program = f"{folders['TEST']}/bin/lumbarseg "
    commands = [line[line.index(program) :] for line in printed.replace("\\\n", "").splitlines() if program in line]
    assert {shlex.split(command)[1] for command in commands} == {
        *("phantom", "import", "train", "export", "pseudo-label", "info")
    }
    for command in commands:
        arguments = shlex.split(command.replace("||", ";").partition(";")[0].replace("$set", "spider_t2"))[1:]
        assert build_parser(arguments[0]).parse_args(arguments)


def test_the_card_has_command_commit_and_the_settings_of_each_run(tmp_path: Path) -> None:
    settings = {"seed": 3, "steps": 20, "learning_rate": 1e-3, "sampling_weights": [1.0], "batch_size": 2}
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "settings.json").write_text(json.dumps({**settings, "crop_size": 96, "channels": [8, 12]}))
    dataset = create_dataset(tmp_path / "mine", "mine", {0: ("background",), 1: ("L1",)})
    facts = recipe_facts("make model STEPS=20", [tmp_path / "second"], [dataset.folder])
    assert facts["command"] == "make model STEPS=20"
    assert facts["commit"]
    assert facts["runs"]["second"]["seed"] == 3
    assert facts["data"] == ["mine: 0 exams; no source stated"]
    assert "scores" not in facts
