"""Datasets combined, selected from and folded by the commands alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from tests import sets

from lumbarseg.cli import evaluate, options
from lumbarseg.cli.main import build_parser, main
from lumbarseg.datasets import Dataset, create_dataset, write_case
from lumbarseg.datasets.selection import Selection

LEVELS = {0: ("background",), 1: ("L1",), 2: ("L2",), 3: ("L4 arch",)}


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    create_dataset(tmp_path / "levels", "levels", LEVELS)
    for i, contrast in enumerate(("T1", "T2", "T2", "STIR")):
        facts = {"patient": f"p{i}", "contrast": contrast, "scanner": "Siemens Avanto"}
        write_case(tmp_path / "levels", f"exam-{i}", *sets.exam(i, values=4), facts)
    return [str(sets.write(tmp_path / "kinds", train=3, val=1).folder), str(tmp_path / "levels")]


def test_two_datasets_become_one(two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["combine", *two, "-o", str(tmp_path / "all"), "--jobs", "1"]
    assert main(arguments) == 0
    assert "8 cases (7 train, 1 val); 8 added, 0 unchanged, 0 refused" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert message["cases"] == {"train": 7, "val": 1}
    assert (message["added"], len(message["unchanged"])) == ([], 8)
    assert message["labels"]["54"] == ["L4 arch"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--contrast", "T2", "STIR"], ["exam-1", "exam-2", "exam-3"]),
        (["--structures", "L1 L2", "L4 arch", "--complete"], ["exam-0", "exam-1", "exam-2", "exam-3"]),
        (["--scanner", "siemens", "--patient", "p1", "p3"], ["exam-1", "exam-3"]),
        (["--split", "val"], ["case-3"]),
    ],
)
def test_a_part_is_taken(arguments: list[str], names: list[str], two: list[str], tmp_path: Path) -> None:
    assert main(["combine", *two, "-o", str(tmp_path / "part"), "--jobs", "1", *arguments]) == 0
    assert [case.name for case in Dataset.open(tmp_path / "part").cases()] == names


def test_every_patient_is_validated_in_one_fold(two: list[str], tmp_path: Path) -> None:
    held = []
    for k in (1, 2):
        out = tmp_path / f"fold{k}"
        assert main(["combine", *two, "-o", str(out), "--jobs", "1", "--fold", f"{k}/2", "--seed", "3"]) == 0
        held += [case.patient for case in Dataset.open(out).cases("val")]
    assert sorted(held) == [f"{name}/p{i}" for name in ("kinds", "levels") for i in range(4)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contrast", "PD"], "no case with PD; there are (not stated), STIR, T1, T2"),
        (["--structures", "L9"], "'L9' is no structure"),
        (["--fold", "1/9"], "there are only 4 patients"),
        (["--seed", "1", "--val", "0.6", "--test", "0.6"], "below 1 together"),
    ],
)
def test_impossible_requests_are_refused_with_one_line(
    arguments: list[str], message: str, two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["combine", *two, "-o", str(tmp_path / "none"), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "none").exists()


def test_a_broken_case_is_left_out_with_a_warning(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Dataset.open(two[0]).cases()[0].labels
    broken.write_bytes(b"")
    assert main(["combine", *two, "-o", str(tmp_path / "all"), "--jobs", "1"]) == 3
    assert f"case-0: refused: {broken}: changed" in capsys.readouterr().err
    assert len(Dataset.open(tmp_path / "all").cases()) == 7


def test_evaluate_takes_the_same_words(two: list[str]) -> None:
    def names(*arguments: str) -> list[tuple[str, str]]:
        args = build_parser("evaluate").parse_args(["evaluate", "shipped", *two, *arguments])
        return [
            (dataset, case.name) for dataset, case in evaluate._select_cases(args, [Path(folder) for folder in two])
        ]

    assert len(names()) == 8
    assert names("--contrast", "STIR") == [("levels", "exam-3")]
    assert names("--structures", "canal", "--split", "val") == [("kinds", "case-3")]
    held = [names("--fold", f"{k}/4", "--split", "val", "--seed", "2") for k in (1, 2, 3, 4)]
    assert [len(fold) for fold in held] == [2, 2, 2, 2]
    assert sorted(case for fold in held for case in fold) == sorted(names())


@pytest.mark.parametrize("text", ["", "1", "0/5", "6/5", "1/1", "a/b", "1/5/2", "-1/5"])
def test_a_fold_is_written_k_of_n(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write K/N"):
        options.parse_fold(text)


def test_words_become_a_selection() -> None:
    words_of = argparse.ArgumentParser()
    options.add_selection_options(words_of)
    arguments = "--structures L1 L2 --complete --contrast T2 STIR --scanner GE --patient p1 --split val --fold 2/5"
    args = words_of.parse_args(arguments.split())
    assert args.fold == (2, 5)
    assert options.selection_from_args(args) == Selection(("L1", "L2"), ("T2", "STIR"), ("GE",), True, "val", ("p1",))
    assert options.selection_from_args(words_of.parse_args([])) == Selection()
