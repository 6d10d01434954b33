"""Write the table of label values into docs/anatomy.md: python scripts/table.py."""

from __future__ import annotations

from pathlib import Path

from lumbarseg.anatomy import STRUCTURES, Kind

PAGE = Path(__file__).resolve().parent.parent / "docs" / "anatomy.md"
OPEN, CLOSE = "<!-- table -->", "<!-- end of table -->"


def rows() -> str:
    """Return the structures without posterior elements, from head to foot, as a Markdown table."""
    lines = ["| value | structure | kind | SNOMED CT |", "|--:|---|---|---|"]
    shown = [s for s in STRUCTURES if s.kind is not Kind.ARCH]
    lines += [f"| {s.label} | {s.name} | {s.kind} | {s.code or '-'} |" for s in shown]
    return "\n".join(lines)


def filled(text: str) -> str:
    """Return the page with the table between its marks."""
    before, _, rest = text.partition(OPEN)
    return f"{before}{OPEN}\n{rows()}\n{CLOSE}{rest.partition(CLOSE)[2]}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
