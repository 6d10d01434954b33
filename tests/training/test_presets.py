"""The recipes: every row of the founding page is there, and begins as it says."""

from __future__ import annotations

import pytest

from lumbarseg.cli.main import main
from lumbarseg.training.presets import TABLE
from lumbarseg.training.targets import Targets

PAGE = {"khalil-9": 0.23, "khalil-5": 0.51, "khalil-2": 0.52, "chu-5": 0.92, "chu-1": 0.94, "deepedit-9": 0.80}
TAGS = {"vertebrae-55": 5, "discs-4": 4, "two-phase-segmentation": 9, "two-phase-deepedit": 9}


def test_each_row_of_the_page_has_its_figure_and_its_tags() -> None:
    assert {
        name: preset.project_page_result.dice for name, preset in TABLE.items() if preset.project_page_result
    } == PAGE
    tags = {name: int(name.rpartition("-")[2]) for name in PAGE} | TAGS
    assert {name: len(Targets.parse(TABLE[name].settings.targets).names) for name in tags} == tags


@pytest.mark.parametrize("name", [*PAGE, *TAGS])
def test_a_row_teaches_the_same_from_nothing(name: str) -> None:
    with_weights, without = (TABLE[name].settings_for(start) for start in (True, False))
    assert TABLE[name].init == "shipped"
    assert with_weights.distillation_weight > without.distillation_weight == 0
    assert with_weights.learning_rate < without.learning_rate
    for setting in ("targets", "method", "fold", "seed"):
        assert getattr(with_weights, setting) == getattr(without, setting)


def test_both_phases_hold_out_the_same_exams() -> None:
    first, second = (TABLE[f"two-phase-{method}"].settings for method in ("segmentation", "deepedit"))
    assert (first.method, second.method) == ("segmentation", "deepedit")
    assert first.fold == second.fold != ""
    assert (first.seed, first.targets) == (second.seed, second.targets)


def test_they_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list-presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TABLE)
    assert all(preset.description in line for preset, line in zip(TABLE.values(), lines, strict=True))
