"""The presets, and the rows of the project page in benchmarks."""

from __future__ import annotations

import pytest
from benchmarks.project_page import ROWS

from lumbarseg.cli.main import main
from lumbarseg.training.presets import PRESETS
from lumbarseg.training.targets import Targets

DICE = {"khalil-9": 0.23, "khalil-5": 0.51, "khalil-2": 0.52, "chu-5": 0.92, "chu-1": 0.94, "deepedit-9": 0.80}
LABEL_COUNTS = {"vertebrae-55": 5, "discs-4": 4, "two-phase-segmentation": 9, "two-phase-deepedit": 9}


def test_each_row_of_the_project_page_has_its_dice_and_its_labels() -> None:
    assert {name: row.published_dice for name, row in ROWS.items() if row.published_dice is not None} == DICE
    counts = {name: int(name.rpartition("-")[2]) for name in DICE} | LABEL_COUNTS
    assert {name: len(Targets.parse(row.targets).names) for name, row in ROWS.items()} == counts


def test_fine_tuning_is_slower_and_distils() -> None:
    fine, scratch = PRESETS["fine"], PRESETS["few-exams"]
    assert (fine.init, scratch.init) == ("shipped", "none")
    assert fine.settings.distillation_weight > scratch.settings.distillation_weight == 0
    assert fine.settings.learning_rate < scratch.settings.learning_rate
    assert ROWS["chu-5"].train_options("shipped")[:2] == ["--preset", "fine"]
    assert ROWS["chu-5"].train_options("none")[:2] == ["--preset", "few-exams"]


def test_both_phases_use_the_same_validation_exams() -> None:
    first, second = (ROWS[f"two-phase-{method}"] for method in ("segmentation", "deepedit"))
    assert first.targets == second.targets
    assert set(first.options) < set(second.options)
    assert "--fold" in first.options and "deepedit" in second.options


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list-presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert all(preset.description in line for preset, line in zip(PRESETS.values(), lines, strict=True))
