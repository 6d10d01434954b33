"""Write docs/model-card.md, the card of the shipped model: python -m benchmarks.model_card.

Its content comes from benchmarks/results/accuracy.json and names.json, and from `benchmarks.card_facts`. Intervals are
95 % bootstrap intervals over exams, one per patient except in spider_t2, where slices of one patient are resampled
together.
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
    "chu": "complete bodies including their dark edge, rounded laterally",
    "siegen": "tight bodies, inside their dark edge: what is correct elsewhere is too large here",
    "myosegmentum": "bodies including their dark edge, and one slice wider laterally",
    "discs": "L1-L2 to L4-L5 are 11 to 24 % too large in the copy used here, L5-S1 is exact",
    "spider_space": "complete vertebrae, body and posterior elements in one label, in central slabs of 20 mm",
    "spider_t2": "single slices of unknown pixel size, some stretched in one direction; an empty canal counts as 0",
}

PUBLISHED = (
    ("chu", "body", "Chu et al. 2015, random forest", "0.887", "trained on chu itself, leave-one-out"),
    ("chu", "body", "MONAI Label, CHU, 5 tags", "0.92", "trained on it, names mixed up; evaluated on a subset of it"),
    (
        "spider_space",
        "vertebra",
        "SPIDER's baseline (IIS)",
        "0.93",
        "its hidden test set: all contrasts, complete exams",
    ),
    ("spider_space", "vertebra", "SPINEPS", "0.933", "T2 TSE of SPIDER, mean over instances, complete exams"),
    ("spider_space", "disc", "SPIDER's baseline (IIS)", "0.84", "its hidden test set: all contrasts, complete exams"),
    ("spider_space", "disc", "nnU-Net on SPIDER", "0.88", "the same hidden test set"),
    ("spider_space", "canal", "SPIDER's baseline (IIS)", "0.92", "its hidden test set: all contrasts, complete exams"),
    ("discs", "disc", "TotalSegmentator MR", "0.871", "its own test set: any MRI of the body, discs as one class"),
    ("siegen", "body", "none known", "", ""),
    ("myosegmentum", "body", "none known", "", ""),
)
"""Set, what of it, whose figure, Dice, and in what that differs. No two rows are of the same exams."""


def values_by_structure(rows: Sequence[Row], key: str = "dice") -> dict[str, tuple[list[float], list[str]]]:
    """Return values and patients of each structure."""
    out: dict[str, tuple[list[float], list[str]]] = {}
    for row in rows:
        for name, value in row["structures"].items():
            values, patients = out.setdefault(name, ([], []))
            values.append(value.get(key, 0.0))
            patients.append(row["exam"].partition("_")[0] if "_" in row["exam"][2:] else row["exam"])
    return out


def format_mean(values: Sequence[float], patients: Sequence[str]) -> str:
    """Format a mean with its interval."""
    estimate = bootstrap_mean(values, patients)
    if estimate.mean is None:
        return ""
    interval = f" ({estimate.low:.3f} to {estimate.high:.3f})" if estimate.low is not None else ""
    return f"{estimate.mean:.3f}{interval}"


def by_exam(rows: Sequence[Row], key: str, names: Iterable[str] | None = None) -> tuple[list[float], list[str]]:
    """Return the mean over the structures of each exam, and its patient."""
    selected = set(names) if names is not None else None
    values, patients = [], []
    for row in rows:
        of_exam = [v.get(key, 0.0) for name, v in row["structures"].items() if selected is None or name in selected]
        if of_exam:
            values.append(accuracy.mean(of_exam))
            patients.append(row["exam"])
    return values, patients


def sets_table(sets: dict[str, list[Row]]) -> list[str]:
    """Return the table of sets, contrasts and tissues."""
    lines = [
        "| set | contrast | structure | exams | Dice by name | Dice by overlap | volume ratio |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for name, rows in sets.items():
        if name == "negatives":
            continue
        for contrast in dict.fromkeys(row["contrast"] for row in rows):
            some = [row for row in rows if row["contrast"] == contrast]
            for what, names in _tissues(some).items():
                cells = [format_mean(*by_exam(some, key, names)) for key in ("dice", "overlap")]
                ratio = accuracy.mean(by_exam(some, "overlap_ratio" if what in ("body",) else "ratio", names)[0])
                cells[1] = cells[1] if what in ("body", "disc") and name not in ("spider_space", "spider_t2") else ""
                lines.append(f"| {name} | {contrast} | {what} | {len(some)} | {cells[0]} | {cells[1]} | {ratio:.2f} |")
    return lines


def _tissues(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Group the structures of some exams: bodies and discs together, tissues by themselves."""
    values = dict.fromkeys(name for row in rows for name in row["structures"])
    out: dict[str, list[str]] = {}
    for name in values:
        level = structure_by_name(name).kind if name not in ("vertebra", "disc", "canal", "sacrum") else name
        out.setdefault(str(level), []).append(name)
    return out


def levels_table(sets: dict[str, list[Row]]) -> list[str]:
    """Return the table of levels by set, each against the structure that covers it."""
    shown = [name for name in ("chu", "siegen", "myosegmentum", "discs") if name in sets]
    values = {name: values_by_structure(sets[name], "overlap") for name in shown}
    lines = ["| | " + " | ".join(shown) + " |", "|---" + "|--:" * len(shown) + "|"]
    for level in sorted({level for part in values.values() for level in part}, key=anatomical_sort_key):
        cells = [format_mean(*values[name][level]) if level in values[name] else "" for name in shown]
        lines.append(f"| {level} | " + " | ".join(cells) + " |")
    return lines


def published_table(sets: dict[str, list[Row]]) -> list[str]:
    """Return the table of our values beside published ones."""
    lines = ["| set | structure | ours | published | method | differences |", "|---|---|--:|--:|---|---|"]
    for name, what, source, published, difference in PUBLISHED:
        if name not in sets:
            continue
        key = "overlap" if name == "myosegmentum" else "dice"
        names = _tissues(sets[name]).get(what)
        our_dice = accuracy.mean(by_exam(sets[name], key, names)[0])
        lines.append(f"| {name} | {what} | {our_dice:.3f} | {published} | {source} | {difference} |")
    return lines


def render_page(accuracy_result: Row, names_result: Row) -> str:
    """Render the card."""
    sets = accuracy_result["sets"]
    parts = [
        "# Model card of the shipped model",
        "",
        "*Written by `python -m benchmarks.model_card`; all of our results come from `make benchmark`.* "
        f"Model {accuracy_result['model']['digest'][:12]}, {machine.describe_machine(accuracy_result['machine'])}.",
        "",
        "**For** lumbar MRI, sagittal or nearly isotropic, of adults: research and teaching. **Not** for diagnosis; "
        "not a medical device. Where it fails is shown in [failures.md](failures.md), how it was made in "
        "[model.md](model.md) and [model-ledger.md](model-ledger.md).",
        "",
        "## Accuracy",
        "Exams that the model was never trained on, complete volumes on their own grids. Dice is the mean over exams "
        'of the mean over structures, with its 95 % interval; the volume ratio is predicted to reference. "By overlap" '
        "compares each body with the predicted one that covers it, whatever its name.",
        "",
        *sets_table(sets),
        "",
        "How the references differ, which a model trained on other data cannot know:",
        "",
        *(f"- **{name}**: {habit}." for name, habit in REFERENCE_NOTES.items() if name in sets),
        "",
        "Per level, by overlap:",
        "",
        *levels_table(sets),
        "",
        "## Reliability of names",
        "`python -m benchmarks.level_names`. An exam is right if every structure that its reference names is predicted "
        "under that name. Below a confidence of 0.75 names are marked uncertain. Crops contain three vertebrae and no "
        "sacrum, so their names are a guess and must be marked. Four or six lumbar vertebrae cannot be recognised in "
        "the image alone; the count from the sacrum is then wrong, and is not marked.",
        "",
        level_names.tables(names_result),
        "",
        *(["Wrong and not marked:", "", *(f"- {text}" for text in _unmarked_lines(names_result["unmarked"])), ""]),
        "## Compared with published results",
        "The results in a row come from different exams and references (complete vertebrae or bodies only), so they "
        "give the order of magnitude, not a ranking.",
        "",
        *published_table(sets),
        "",
        "## Data, recipe, limits",
        *(f"- {text}." for text in card_facts.DATA),
        *(f"- {text}." for text in card_facts.LICENCES),
        *(f"- Made {text}." if index == 0 else f"- {text}." for index, text in enumerate(card_facts.RECIPE)),
        "- Energy use was not measured.",
        *(f"- Limit: {text}." for text in card_facts.LIMITS),
        "",
    ]
    return "\n".join(parts)


def _unmarked_lines(texts: Sequence[str]) -> list[str]:
    """Return the exams with unmarked wrong names; those of four and six lumbar vertebrae are only counted."""
    shown = [text for text in texts if " lumbar " not in text.partition(":")[0] + " "]
    rest = len(texts) - len(shown)
    return [*shown, f"{rest} phantoms with four or six lumbar vertebrae"] if rest else shown or ["none"]


def main() -> None:
    """Write the page from the existing results."""
    results = [json.loads(path.read_text()) for path in (accuracy.RESULTS, level_names.RESULTS)]
    PAGE.write_text(render_page(*results), encoding="utf-8")
    print(f"{PAGE.name} written")


if __name__ == "__main__":
    main()
