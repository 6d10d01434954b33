"""Label descriptions of ITK-SNAP: eight columns, the last a name in quotation marks."""

from __future__ import annotations

import shlex
from pathlib import Path

from lumbarseg.anatomy import STRUCTURES
from lumbarseg.io import itk_snap


def test_every_value_has_its_name_and_colour(tmp_path: Path) -> None:
    rows = [(s.label, s.name, s.colour) for s in STRUCTURES]
    itk_snap.write_label_descriptions(rows, tmp_path / "labels.txt")
    lines = [shlex.split(line, comments=True) for line in (tmp_path / "labels.txt").read_text().splitlines()]
    clear, *labels = [line for line in lines if line]
    assert clear == ["0", "0", "0", "0", "0", "0", "0", "Clear Label"]
    assert [(int(v), name, (int(r), int(g), int(b))) for v, r, g, b, *_, name in labels] == rows
    assert {tuple(line[4:7]) for line in labels} == {("1", "1", "1")}
