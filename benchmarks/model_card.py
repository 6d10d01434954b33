"""The card of the shipped model as a page, docs/model-card.md: python -m benchmarks.model_card.

Everything in it stands in benchmarks/results/accuracy.json and names.json, and in `benchmarks.card_facts`. Intervals are 95 %
bootstrap intervals over exams, each of another patient but for spider_t2, where slices of one patient go together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import accuracy, card_facts, level_names, machine
from lumbarseg.anatomy import structure_by_name
from lumbarseg.metrics.bootstrap import bootstrap_mean
from lumbarseg.metrics.structure_names import anatomical_sort_key

Row = dict[str, Any]
PAGE = Path(__file__).resolve().parent.parent / "docs" / "model-card.md"

REFERENCE_NOTES = {
    "chu": "whole bodies, drawn with their dark line, rounded towards the sides",
    "siegen": "bodies drawn tight, inside their dark line: what is right elsewhere is too large here",
    "myosegmentum": "bodies drawn with their dark line and one slice further to the sides",
    "discs": "L1-L2 to L4-L5 are 11 to 24 % too large in the copy judged with, L5-S1 is exact",
    "spider_space": "vertebrae whole, body and posterior elements in one, in central slabs of 20 mm",
    "spider_t2": "single slices of unknown pixel size, some stretched in one direction; an empty canal counts as 0",
}

PUBLISHED = (
    ("chu", "body", "Chu et al. 2015, random forest", "0.887", "trained on chu itself, leave-one-out"),
    ("chu", "body", "MONAI Label, CHU, 5 tags", "0.92", "trained on it, names mixed up; a subset of its own judged"),
    ("spider_space", "vertebra", "SPIDER's baseline (IIS)", "0.93", "its hidden test: all contrasts, whole exams"),
    ("spider_space", "vertebra", "SPINEPS", "0.933", "T2 TSE of SPIDER, mean over instances, whole exams"),
    ("spider_space", "disc", "SPIDER's baseline (IIS)", "0.84", "its hidden test: all contrasts, whole exams"),
    ("spider_space", "disc", "nnU-Net on SPIDER", "0.88", "the same hidden test"),
    ("spider_space", "canal", "SPIDER's baseline (IIS)", "0.92", "its hidden test: all contrasts, whole exams"),
    ("discs", "disc", "TotalSegmentator MR", "0.871", "its own test: any MRI of the body, discs as one class"),
    ("siegen", "body", "none known", "", ""),
    ("myosegmentum", "body", "none known", "", ""),
)
"""Set, what of it, whose figure, Dice, and in what that differs. No two rows are of the same exams."""


def values_by_structure(rows: Sequence[Row], key: str = "dice") -> dict[str, tuple[list[float], list[str]]]:
    """Values and patients of each structure."""
    out: dict[str, tuple[list[float], list[str]]] = {}
    for row in rows:
        for name, value in row["structures"].items():
            values, patients = out.setdefault(name, ([], []))
            values.append(value.get(key, 0.0))
            patients.append(row["exam"].partition("_")[0] if "_" in row["exam"][2:] else row["exam"])
    return out


def format_mean(values: Sequence[float], patients: Sequence[str]) -> str:
    """A mean and its interval in words."""
    found = bootstrap_mean(values, patients)
    if found.mean is None:
        return ""
    interval = f" ({found.low:.3f} to {found.high:.3f})" if found.low is not None else ""
    return f"{found.mean:.3f}{interval}"


def by_exam(rows: Sequence[Row], key: str, wanted: Iterable[str] | None = None) -> tuple[list[float], list[str]]:
    """The mean over each exam's structures, and whose it is."""
    chosen = set(wanted) if wanted is not None else None
    values, patients = [], []
    for row in rows:
        found = [v.get(key, 0.0) for name, v in row["structures"].items() if chosen is None or name in chosen]
        if found:
            values.append(accuracy.mean(found))
            patients.append(row["exam"])
    return values, patients


def sets_table(sets: dict[str, list[Row]]) -> list[str]:
    """A row per set, contrast and tissue."""
    lines = [
        "| set | contrast | what | exams | Dice by name | Dice by overlap | volume ratio |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for name, rows in sets.items():
        if name == "negatives":
            continue
        for contrast in dict.fromkeys(row["contrast"] for row in rows):
            some = [row for row in rows if row["contrast"] == contrast]
            for what, wanted in _tissues(some).items():
                cells = [format_mean(*by_exam(some, key, wanted)) for key in ("dice", "overlap")]
                ratio = accuracy.mean(by_exam(some, "overlap_ratio" if what in ("body",) else "ratio", wanted)[0])
                cells[1] = cells[1] if what in ("body", "disc") and name not in ("spider_space", "spider_t2") else ""
                lines.append(f"| {name} | {contrast} | {what} | {len(some)} | {cells[0]} | {cells[1]} | {ratio:.2f} |")
    return lines


def _tissues(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the structures of some exams are: bodies and discs taken together, tissues each by itself."""
    found = dict.fromkeys(name for row in rows for name in row["structures"])
    out: dict[str, list[str]] = {}
    for name in found:
        level = structure_by_name(name).kind if name not in ("vertebra", "disc", "canal", "sacrum") else name
        out.setdefault(str(level), []).append(name)
    return out


def levels_table(sets: dict[str, list[Row]]) -> list[str]:
    """A row per level, a column per set that names levels; each against what covers it, whatever it was called."""
    shown = [name for name in ("chu", "siegen", "myosegmentum", "discs") if name in sets]
    found = {name: values_by_structure(sets[name], "overlap") for name in shown}
    lines = ["| | " + " | ".join(shown) + " |", "|---" + "|--:" * len(shown) + "|"]
    for level in sorted({level for part in found.values() for level in part}, key=anatomical_sort_key):
        cells = [format_mean(*found[name][level]) if level in found[name] else "" for name in shown]
        lines.append(f"| {level} | " + " | ".join(cells) + " |")
    return lines


def published_table(sets: dict[str, list[Row]]) -> list[str]:
    """Our figure beside what others published, with what differs."""
    lines = ["| set | what | ours | published | whose | what differs |", "|---|---|--:|--:|---|---|"]
    for name, what, whose, figure, difference in PUBLISHED:
        if name not in sets:
            continue
        key = "overlap" if name == "myosegmentum" else "dice"
        wanted = _tissues(sets[name]).get(what)
        ours = accuracy.mean(by_exam(sets[name], key, wanted)[0])
        lines.append(f"| {name} | {what} | {ours:.3f} | {figure} | {whose} | {difference} |")
    return lines


def render_page(accurate: Row, trusted: Row) -> str:
    """The whole card."""
    sets = accurate["sets"]
    parts = [
        "# Card of the shipped model",
        "",
        "*Written by `python -m benchmarks.model_card`; every figure of ours is a result of `make benchmark`.* "
        f"Model {accurate['model']['digest'][:12]}, {machine.describe_machine(accurate['machine'])}.",
        "",
        "**For** lumbar MRI, sagittal or nearly isotropic, of adults: research and teaching. **Not** for diagnosis; "
        "not a medical device. Where it fails is shown in [failures.md](failures.md), how it was made in "
        "[model.md](model.md) and [model-ledger.md](model-ledger.md).",
        "",
        "## How right it is",
        "Exams that the model was never trained on, on their own grids, whole volumes. Dice is the mean over exams of "
        "the mean over structures, with its 95 % interval; the volume ratio is found to drawn. By overlap each body is "
        "compared with what covers it, whatever that is called.",
        "",
        *sets_table(sets),
        "",
        "What the references are like, which no model trained elsewhere can know:",
        "",
        *(f"- **{name}**: {habit}." for name, habit in REFERENCE_NOTES.items() if name in sets),
        "",
        "Per level, by overlap:",
        "",
        *levels_table(sets),
        "",
        "## How far its names can be trusted",
        "`python -m benchmarks.level_names`. An exam is right when every structure that its reference names lies under that "
        "name. Below a confidence of 0.75 names are marked uncertain. Crops hold three vertebrae and no sacrum, so "
        "their names are a guess and must be marked. Four and six lumbar vertebrae: the picture alone does not tell; "
        "the count from the sacrum is then off, and is not marked.",
        "",
        level_names.tables(trusted),
        "",
        *(["Wrong and not marked:", "", *(f"- {text}" for text in _shortened(trusted["unmarked"])), ""]),
        "## Beside published figures",
        "No two figures of a row are of the same exams, and references differ (whole vertebrae or bodies alone), so "
        "these say where a figure stands, not who is better.",
        "",
        *published_table(sets),
        "",
        "## Data, recipe, limits",
        *(f"- {text}." for text in card_facts.DATA),
        *(f"- {text}." for text in card_facts.LICENCES),
        *(f"- Made {text}." if index == 0 else f"- {text}." for index, text in enumerate(card_facts.RECIPE)),
        "- Energy was not measured.",
        *(f"- Limit: {text}." for text in card_facts.LIMITS),
        "",
    ]
    return "\n".join(parts)


def _shortened(texts: Sequence[str]) -> list[str]:
    """The exams of wrong names that nothing marked; those of four and six lumbar vertebrae only counted."""
    shown = [text for text in texts if " lumbar " not in text.partition(":")[0] + " "]
    rest = len(texts) - len(shown)
    return [*shown, f"{rest} phantoms with four or six lumbar vertebrae"] if rest else shown or ["none"]


def main() -> None:
    """Write the page from the results that are there."""
    results = [json.loads(path.read_text()) for path in (accuracy.RESULTS, level_names.RESULTS)]
    PAGE.write_text(render_page(*results), encoding="utf-8")
    print(f"{PAGE.name} written")


if __name__ == "__main__":
    main()
