"""`lumbarseg check DATASET ...`: look for faults in prepared datasets; a table, a JSON file and a contact sheet."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lumbarseg.anatomy import Kind, Structure
from lumbarseg.datasets import Case, Dataset
from lumbarseg.datasets.label_table import LabelTable, label_structures
from lumbarseg.datasets.validation import Finding
from lumbarseg.datasets.validation.components import structure_of_row
from lumbarseg.datasets.validation.run_checks import CaseReport, CheckReport, check_datasets
from lumbarseg.errors import printable_line
from lumbarseg.io import atomic_write, write_json
from lumbarseg.report import contact_sheet
from lumbarseg.volume import Volume

from . import console, options

_MAX_NAMES = 6  # cases listed after a note

DESCRIPTION = (
    "Reads every case and reports what is wrong: files that changed, grids, axes against the anatomy, unexplained\n"
    "values, names out of order or left out, holes, specks, traces of interpolation, exams that occur twice (also\n"
    "cropped, scaled, mirrored or compressed), patients in two splits, a contrast that the image contradicts.\n"
    "Several datasets are checked together, so that leaks between them are found. Nothing is changed.\n"
    "\n"
    "error: wrong, training would learn it. warning: look at it. note: good to know.\n"
    "Exit code: 0 no errors and no warnings, 1 an error, 3 warnings only (1 with --strict), 2 wrong usage.\n"
    "\n"
    "Files are written only with -o: check.json, contact.png (contact-2.png, ... beyond 40 cases) and\n"
    "contact.html, into DIR, or into check/ of the first dataset where no DIR is given."
)
EXAMPLE = "lumbarseg check data/khalil data/chu -o report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    options.add_shared_options(
        parser, "--output", metavar="DIR", help="write check.json and contact sheets", nargs="?", const=Path()
    )
    parser.add_argument("--strict", action="store_true", help="warnings are errors: exit code 1")
    options.add_shared_options(parser, "--jobs", "--json")


def run(args: argparse.Namespace) -> int:
    """Check the datasets."""
    datasets = [Dataset.open(folder) for folder in args.datasets]
    with console.progress_bar("cases") as bar:
        report = check_datasets(datasets, args.jobs, bar.advance, render_case if args.output else None)
    folder = args.output if args.output != Path() else args.datasets[0] / "check"
    files = _write_report(folder, report) if args.output else []
    if args.json:
        console.print_json(report.to_dict())
    else:
        _print_report(report)
        for path in files:
            print(f"written: {path}")
    if report.count("error") or (args.strict and report.count("warning")):
        return console.EXIT_ERROR
    return console.EXIT_WARNINGS if report.count("warning") else console.EXIT_OK


def render_case(case: Case, image: Volume, labels: Volume) -> bytes:
    """Return a case's picture for the contact sheet; both volumes in RAS order."""
    return contact_sheet.render_tile_picture(image, labels, contact_sheet_structures(case.label_table))


def contact_sheet_structures(table: LabelTable) -> list[Structure]:
    """Return the structures shown on the contact sheet: with their names for levels, without for kinds."""
    structures = []
    for structure in label_structures(table):
        names = table[structure.label]
        level = structure_of_row(names)
        if "background" not in names and (level or structure.kind is not Kind.BACKGROUND):
            structures.append(replace(structure, name=level.name if level else ""))
    return structures


def _print_report(report: CheckReport) -> None:
    """Print the findings of each case, the notes that several cases share once, then the summary."""
    serious = [finding for finding in report.findings if finding.severity != "note"]
    for name in dict.fromkeys(finding.case for finding in serious):
        print(name or "all cases")
        for finding in serious:
            if finding.case == name:
                print(f"  {finding.severity:7}  {finding.check:12}  {printable_line(finding.text)}")
    for (check, text), names in _group_notes(report.findings).items():
        listed = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        count = f"{len(names)} cases: " if len(names) > 1 else ""
        print(f"note  {check}: {printable_line(text)}" + (f" ({count}{listed})" if names else ""))
    if report.findings:
        print()
    for key, value in {**report.summary(), "result": report.result()}.items():
        print(f"{key:10} {value}")


def _group_notes(findings: tuple[Finding, ...]) -> dict[tuple[str, str], list[str]]:
    """Return the cases of each note, details left out; those are in the JSON file and on the contact sheet."""
    cases: dict[tuple[str, str], list[str]] = {}
    for note in findings:
        if note.severity == "note":
            text = note.text.partition(":")[0] if note.case else note.text
            cases.setdefault((note.check, text), []).extend([note.case] if note.case else [])
    return cases


def _write_report(folder: Path, report: CheckReport) -> list[Path]:
    """Write check.json and the contact sheets, and return their paths."""
    sheet = _contact_sheet(report)
    pages = {"contact.html": contact_sheet.render_html_page(sheet).encode()}
    for number, png in enumerate(contact_sheet.render_png_pages(sheet), start=1):
        pages["contact.png" if number == 1 else f"contact-{number}.png"] = png
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "check.json", report.to_dict())
    for name, content in pages.items():
        with atomic_write(folder / name) as file:
            file.write(content)
    return [folder / name for name in ("check.json", *pages)]


def _contact_sheet(report: CheckReport) -> contact_sheet.ContactSheet:
    names = ", ".join(dataset.folder.resolve().name for dataset in report.datasets)
    common = tuple((finding.severity, finding.text) for finding in report.findings_of(""))
    tiles = tuple(_tile(report, case) for case in report.cases)
    return contact_sheet.ContactSheet(f"{names}: {report.result()}", report.summary(), common, tiles)


def _tile(report: CheckReport, case_report: CaseReport) -> contact_sheet.SheetTile:
    case = case_report.case
    apparent = f"apparently {case_report.apparent_contrast}" if case_report.apparent_contrast else "unknown contrast"
    tags = [case.split, case.contrast or apparent]
    shape, spacing = case.geometry.get("shape"), case.geometry.get("spacing")
    if shape and spacing:
        tags += [" x ".join(map(str, shape)), f"{' x '.join(f'{round(s, 2):g}' for s in spacing)} mm"]
    findings = tuple((f.severity, f"{f.check}: {f.text}") for f in report.findings_of(case.name))
    return contact_sheet.SheetTile(case.name, tuple(tags), findings, case_report.picture)
