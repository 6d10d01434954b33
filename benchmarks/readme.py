"""Put the figures of benchmarks/results into the README, between its two marks: python -m benchmarks.readme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import accuracy, machine, speed

Row = dict[str, Any]
README = Path(__file__).resolve().parent.parent / "README.md"
OPEN, CLOSE = "<!-- figures -->", "<!-- end of figures -->"


def format_tables(accurate: Row, quick: Row) -> str:
    """Both tables, each with its machine and date."""
    return "\n".join(
        [
            f"Accuracy, on exams that the model was never trained on ({machine.describe_machine(accurate['machine'])}; "
            f"model {accurate['model']['digest'][:12]}):",
            "",
            accuracy.targets_table(accurate["targets"]),
            "",
            f"Speed and size ({machine.describe_machine(quick['machine'])}):",
            "",
            speed.table(quick["targets"]),
        ]
    )


def fill_readme(text: str, figures: str) -> str:
    """The README with `figures` between its marks; ValueError when a mark is missing."""
    before, found, rest = text.partition(OPEN)
    _, closed, after = rest.partition(CLOSE)
    if not found or not closed:
        raise ValueError(f"README.md needs the marks {OPEN} and {CLOSE}")
    return f"{before}{OPEN}\n{figures}\n{CLOSE}{after}"


def main() -> None:
    """Fill the README from the results that are there."""
    results = [json.loads(path.read_text()) for path in (accuracy.RESULTS, speed.RESULTS)]
    README.write_text(fill_readme(README.read_text(), format_tables(*results)))
    print(f"{README.name}: figures written")


if __name__ == "__main__":
    main()
