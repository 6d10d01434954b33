"""`lumbarseg check DATASET ...`: are prepared datasets what they say? A table, a JSON file and a contact sheet."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import printable_line

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.anatomy import Structure
    from lumbarseg.datasets import Case, Dataset
    from lumbarseg.datasets.dataset import LabelTable
    from lumbarseg.datasets.validation import Finding
    from lumbarseg.datasets.validation.run_checks import CheckReport
    from lumbarseg.report.contact_sheet import ContactSheet, SheetTile
    from lumbarseg.volume import Volume

_MAX_NAMES = 6  # names told of many


DESCRIPTION = (
    "Reads every case and tells what is wrong: files that changed, grids, axes against the anatomy, values\n"
    "without a meaning, names out of order or left out, holes, specks, traces of interpolation, exams that are\n"
    "there twice (also cut, scaled, mirrored or saved again), patients in two splits, a contrast that the picture\n"
    "denies.\n"
    "Several datasets are checked together, so that leaks between them are found. Nothing is changed.\n"
    "\n"
    "error: wrong, training would learn from it. warning: a person should look. note: good to know.\n"
    "Exit code: 0 no errors and no warnings, 1 an error, 3 warnings only (1 with --strict), 2 wrong usage.\n"
    "\n"
    "Files are written only with -o: check.json, contact.png (contact-2.png, ... beyond 40 cases) and\n"
    "contact.html, into DIR, or into check/ of the first dataset where no DIR is given."
)
EXAMPLE = "lumbarseg check data/khalil data/chu -o report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument(
        "-o", "--output", nargs="?", type=Path, const=Path(), metavar="DIR", help="write check.json and contact sheets"
    )
    parser.add_argument("--strict", action="store_true", help="warnings are errors: exit code 1")
    options.add_jobs_option(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Check them."""
    from lumbarseg.datasets import Dataset
    from lumbarseg.datasets.validation.run_checks import check_datasets

    datasets = [Dataset.open(folder) for folder in args.datasets]
    with console.progress_bar("cases") as bar:
        checked = check_datasets(datasets, args.jobs, bar.advance, render_case if args.output else None)
    facts = _report_dict(datasets, checked)
    written = _write_report(_output_folder(args), checked, facts) if args.output else []
    if args.json:
        console.print_json(facts)
    else:
        _print_report(checked, facts)
        for path in written:
            print(f"written: {path}")
    if checked.count("error") or (args.strict and checked.count("warning")):
        return console.EXIT_ERROR
    return console.EXIT_WARNINGS if checked.count("warning") else console.EXIT_OK


def _output_folder(args: argparse.Namespace) -> Path:
    out: Path = args.output
    return out if out != Path() else args.datasets[0] / "check"


def render_case(case: Case, image: Volume, labels: Volume) -> bytes:
    """A case's picture on the contact sheet; both in RAS order."""
    from lumbarseg.report.contact_sheet import render_tile_picture

    return render_tile_picture(image, labels, contact_sheet_legend(case.label_table))


def contact_sheet_legend(table: LabelTable) -> list[Structure]:
    """What is drawn of a table's rows, and under which names: a level's own, none for what has only a kind."""
    from dataclasses import replace

    from lumbarseg.anatomy import Kind
    from lumbarseg.datasets.label_structures import label_structures as rows_of
    from lumbarseg.datasets.validation.components import structure_of_row

    rows = []
    for row in rows_of(table):
        level = structure_of_row(table[row.label])
        if "background" not in table[row.label]:
            rows.append(replace(row, name=level.name if level else ""))
    return [row for row in rows if row.kind is not Kind.BACKGROUND or row.name]


def _report_dict(datasets: list[Dataset], checked: CheckReport) -> dict[str, Any]:
    """Everything, for a program to read."""
    from lumbarseg.datasets.splits import patient_id

    cases = [examined.case for examined in checked.cases]
    owned = [(number, patient_id(case)) for number, d in enumerate(datasets) for case in d.all_cases]
    drawn = Counter(name for examined in checked.cases for name in examined.annotated)
    return {
        "datasets": [str(dataset.folder) for dataset in datasets],
        "cases": len(cases),
        "patients": len(set(owned)),
        "splits": dict(Counter(case.split for case in cases)),
        "contrasts": dict(Counter(case.contrast or "not said" for case in cases)),
        "structures": {name: drawn[name] for name in sorted(drawn, key=_structure_order)},
        "errors": checked.count("error"),
        "warnings": checked.count("warning"),
        "notes": checked.count("note"),
        "findings": [finding.to_dict() for finding in checked.findings],
        "looks_like": {examined.name: examined.apparent_contrast for examined in checked.cases},
    }


def _structure_order(name: str) -> tuple[int, str]:
    """Kinds first, then structures from head to foot."""
    from lumbarseg.anatomy import Kind, structure_by_name

    return (-1, name) if name in tuple(Kind) else (structure_by_name(name).order, name)


def _summary_lines(facts: dict[str, Any]) -> dict[str, str]:
    """The figures of a dataset, for a person."""
    many = [name for name, count in facts["structures"].items()]
    kinds = [f"{name} in {facts['structures'][name]}" for name in many if name in _kind_names()]
    levels = [name for name in many if name not in _kind_names() and not name.endswith("arch")]
    told = ", ".join(kinds) or "none"
    return {
        "cases": str(facts["cases"]),
        "patients": str(facts["patients"]),
        "splits": ", ".join(f"{count} {split}" for split, count in facts["splits"].items()),
        "contrasts": ", ".join(f"{count} {contrast}" for contrast, count in facts["contrasts"].items()),
        "drawn": told + (f"; named {', '.join(levels)}" if levels else ""),
    }


def _kind_names() -> tuple[str, ...]:
    from lumbarseg.anatomy import Kind

    return tuple(kind.value for kind in Kind)


def _print_report(checked: CheckReport, facts: dict[str, Any]) -> None:
    """Findings case by case, notes that many share once, then the summary."""
    serious = [finding for finding in checked.findings if finding.severity != "note"]
    for name in dict.fromkeys(finding.case for finding in serious):
        print(name or "the whole")
        for finding in serious:
            if finding.case == name:
                print(f"  {finding.severity:7}  {finding.check:12}  {printable_line(finding.text)}")
    notes = [finding for finding in checked.findings if finding.severity == "note"]
    for (word, text), names in _group_notes(notes).items():
        few = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        where = f" ({few if len(names) == 1 else f'{len(names)} cases: {few}'})" if names else ""
        print(f"note  {word}: {printable_line(text)}{where}")
    if checked.findings:
        print()
    for key, value in _summary_lines(facts).items():
        print(f"{key:10} {value}")
    print(f"{'result':10} {_format_result(checked)}")


def _format_result(checked: CheckReport) -> str:
    errors, warnings = checked.count("error"), checked.count("warning")
    if not errors and not warnings:
        return "clean: no errors, no warnings"
    return ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in ((errors, "error"), (warnings, "warning")))


def _group_notes(notes: list[Finding]) -> dict[tuple[str, str], list[str]]:
    """Notes that begin alike, to the cases they hold of; details are in the JSON file and on the sheet."""
    held: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        text = note.text.partition(":")[0] if note.case else note.text
        held.setdefault((note.check, text), []).extend([note.case] if note.case else [])
    return held


def _write_report(folder: Path, checked: CheckReport, facts: dict[str, Any]) -> list[Path]:
    """check.json and the contact sheets."""
    from lumbarseg.io import atomic_write
    from lumbarseg.report.contact_sheet import render_html_page, render_png_pages

    sheet = _contact_sheet(checked, facts)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"check.json": json.dumps(facts, indent=1, ensure_ascii=False).encode()}
    for number, png in enumerate(render_png_pages(sheet), start=1):
        parts["contact.png" if number == 1 else f"contact-{number}.png"] = png
    parts["contact.html"] = render_html_page(sheet).encode()
    for name, content in parts.items():
        with atomic_write(folder / name) as file:
            file.write(content)
    return [folder / name for name in parts]


def _contact_sheet(checked: CheckReport, facts: dict[str, Any]) -> ContactSheet:
    from lumbarseg.report.contact_sheet import ContactSheet

    names = ", ".join(Path(folder).resolve().name for folder in facts["datasets"])
    common = tuple((f.severity, f.text) for f in checked.findings_of(""))
    tiles = tuple(_tile(checked, i) for i in range(len(checked.cases)))
    return ContactSheet(
        f"{names}: {_format_result(checked).removeprefix('clean: ')}", _summary_lines(facts), common, tiles
    )


def _tile(checked: CheckReport, number: int) -> SheetTile:
    from lumbarseg.report.contact_sheet import SheetTile

    examined = checked.cases[number]
    case = examined.case
    shape, spacing = case.geometry.get("shape"), case.geometry.get("spacing")
    tags = [
        case.split,
        case.contrast
        or (f"{examined.apparent_contrast} by its looks" if examined.apparent_contrast else "contrast not said"),
    ]
    if shape and spacing:
        tags += [" x ".join(map(str, shape)), f"{' x '.join(f'{round(s, 2):g}' for s in spacing)} mm"]
    findings = tuple((f.severity, f"{f.check}: {f.text}") for f in checked.findings_of(examined.name))
    return SheetTile(examined.name, tuple(tags), findings, examined.picture)
