"""The history of a run (history.csv), step by step and validation by validation.

The table is written completely just before each checkpoint; a resumed run drops the rows after the checkpoint that it
continues from. So no row is duplicated, and none is missing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lumbarseg.errors import ModelError
from lumbarseg.io import write_csv
from lumbarseg.metrics.structure_names import anatomical_sort_key

from .run_result import ValidationScores

HISTORY_FILE = "history.csv"
LOG_INTERVAL = 20
"""Steps between two rows without a validation."""

_FIXED_COLUMNS = ("step", "seconds", "loss", "rate", "score", "mixed")
"""Columns that are no structures. score: mean Dice of the validation exams; mixed: exams with wrong level names."""

Row = dict[str, float]


@dataclass
class History:
    """Rows by increasing step; those of validations have a score and the Dice of each structure."""

    rows: list[Row] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, step: int | None = None) -> History:
        """Read the table of a run up to a step, empty if there is no file; raise ModelError if it is no such table."""
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
        """Add values to the row of a step, which may be the last row."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": float(step)})
        self.rows[-1].update(values)

    def add_validation(self, scores: ValidationScores) -> None:
        """Add the scores of a validation to the row of its step."""
        values = {"seconds": scores.seconds, "score": scores.score, "mixed": float(scores.mixed)}
        self.add(scores.step, {**values, **scores.dice})

    def validations(self) -> list[ValidationScores]:
        """Return the scores of each validation, without those of each exam."""
        return [
            ValidationScores(
                step=int(row["step"]),
                seconds=row.get("seconds", 0.0),
                score=row["score"],
                mixed=int(row.get("mixed", 0)),
                dice={name: value for name, value in row.items() if name not in _FIXED_COLUMNS},
            )
            for row in self.rows
            if "score" in row
        ]

    def structure_names(self) -> list[str]:
        """Return the names of the structures that were scored, by kind and from head to foot."""
        return sorted({name for row in self.rows for name in row} - set(_FIXED_COLUMNS), key=anatomical_sort_key)

    def write(self, path: Path) -> None:
        """Write the table as CSV, completely or not at all."""
        rows = (
            {name: f"{value:.0f}" if name == "step" else f"{value:.6g}" for name, value in row.items()}
            for row in self.rows
        )
        write_csv(path, rows, [*_FIXED_COLUMNS, *self.structure_names()])
