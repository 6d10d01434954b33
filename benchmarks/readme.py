"""Write the results in benchmarks/results into the README, between its two marks: python -m benchmarks.readme."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import accuracy, machine, network_share, speed

Row = dict[str, Any]
README = Path(__file__).resolve().parent.parent / "README.md"
OPEN, CLOSE = "<!-- figures -->", "<!-- end of figures -->"


def format_tables(accuracy_result: Row, speed_result: Row) -> str:
    """Format both tables, each with its machine and date."""
    return "\n".join(
        [
            "Accuracy, on exams that the model was never trained on "
            f"({machine.describe_machine(accuracy_result['machine'])}; "
            f"model {accuracy_result['model']['digest'][:12]}):",
            "",
            accuracy.targets_table(accuracy_result["targets"]),
            "",
            f"Speed and size ({machine.describe_machine(speed_result['machine'])}):",
            "",
            speed.table(speed_result["targets"]),
            "",
            "The same exam, seconds in all and inside the network:",
            "",
            network_share.table(
                [network_share.Share(row["use"], row["total"], row["network"]) for row in speed_result["uses"]]
            ),
        ]
    )


def fill_readme(text: str, tables: str) -> str:
    """Return the README with `tables` between its marks; ValueError if a mark is missing."""
    before, opened, rest = text.partition(OPEN)
    _, closed, after = rest.partition(CLOSE)
    if not opened or not closed:
        raise ValueError(f"README.md needs the marks {OPEN} and {CLOSE}")
    return f"{before}{OPEN}\n{tables}\n{CLOSE}{after}"


def main() -> None:
    """Update the README from the existing results."""
    results = [json.loads(path.read_text()) for path in (accuracy.RESULTS, speed.RESULTS)]
    README.write_text(fill_readme(README.read_text(), format_tables(*results)))
    print(f"{README.name}: figures written")


if __name__ == "__main__":
    main()
