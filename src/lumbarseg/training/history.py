"""What happened in a run, step by step and validation by validation, as a small table beside its checkpoint.

The table is written whole just before each checkpoint; a resumed run drops what is later than the checkpoint that it
goes on from. So no row is ever doubled, and none is missing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lumbarseg.errors import ModelError
from lumbarseg.io import atomic_write
from lumbarseg.metrics.structure_names import anatomical_sort_key

HISTORY_FILE = "history.csv"
RESULT_FILE = "result.json"
"""The table, and what came of a run so far, in its folder."""

LOG_INTERVAL = 20
"""Steps between two rows without a validation."""

_FIXED_COLUMNS = ("step", "seconds", "loss", "rate", "score", "mixed")
"""Columns that are no structure. score: mean Dice of held-out exams; mixed: exams with mixed-up names."""

Row = dict[str, float]


@dataclass
class History:
    """Rows by rising step; those of validations have a score and a Dice for each structure."""

    rows: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, step: int | None = None) -> History:
        """The table of a run up to a step, empty where there is none; ModelError when the file is none of ours."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
        rows = []
        for number, line in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            try:
                row = {name: float(value) for name, value in line.items() if value}
                if "step" not in row:
                    raise ValueError("no step")
            except (TypeError, ValueError, AttributeError) as error:
                raise ModelError(f"{path}: line {number} is no row of a run's history; remove the file") from error
            if step is None or row["step"] <= step:
                rows.append(row)
        return cls(rows)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Enter values at a step; what the last row has of the same step stays."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": float(step)})
        self.rows[-1].update(values)

    def validations(self) -> list[Row]:
        """Rows with a score."""
        return [row for row in self.rows if "score" in row]

    def structure_names(self) -> list[str]:
        """Names of the structures that were scored, by kind and from head to foot."""
        return sorted({name for row in self.rows for name in row} - set(_FIXED_COLUMNS), key=anatomical_sort_key)

    def write(self, path: Path) -> None:
        """As CSV, whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*_FIXED_COLUMNS, *self.structure_names()], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.0f}" if name == "step" else f"{value:.6g}" for name, value in row.items()}
            for row in self.rows
        )
        with atomic_write(path) as file:
            file.write(text.getvalue().encode())


def dice_by_structure(row: Row) -> Row:
    """The Dice of each structure in a row."""
    return {name: value for name, value in row.items() if name not in _FIXED_COLUMNS}


def write_result(path: Path, values: Mapping[str, Any]) -> None:
    """What came of a run so far, as JSON."""
    with atomic_write(path) as file:
        file.write((json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_result(run: Path) -> dict[str, Any]:
    """The result in a run's folder; ModelError when there is none."""
    path = run / RESULT_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: not found; give the folder of a run that was validated or has ended") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    missing = [name for name in ("targets", "settings", "best") if not isinstance(values, dict) or name not in values]
    if missing:
        raise ModelError(f"{path}: no result of a run: it lacks {missing[0]!r}")
    return dict(values)
