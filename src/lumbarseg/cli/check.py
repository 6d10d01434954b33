"""`lumbarseg check DATASET ...`: are prepared datasets what they say? A table, a JSON file and a contact sheet."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.anatomy import Structure
    from lumbarseg.datasets import Case, Dataset
    from lumbarseg.datasets.check import Checked
    from lumbarseg.datasets.checks import Finding
    from lumbarseg.datasets.folder import Table
    from lumbarseg.report.sheet import Sheet, Tile
    from lumbarseg.volume import Volume

_FEW = 6  # names told of many


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "check",
        "look for faults in prepared datasets",
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
        "contact.html, into DIR, or into check/ of the first dataset where no DIR is given.",
        "lumbarseg check data/khalil data/chu -o report",
    )
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument(
        "-o", dest="out", nargs="?", type=Path, const=Path(), metavar="DIR", help="write check.json and contact sheets"
    )
    parser.add_argument("--strict", action="store_true", help="warnings are errors: exit code 1")
    parser.add_argument("--jobs", type=options.positive, metavar="J", help="processes (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check them."""
    from lumbarseg.datasets import Dataset
    from lumbarseg.datasets.check import check

    progress: list[say.Progress] = []

    def step(name: str, total: int) -> None:
        if not progress:
            progress.append(say.Progress("cases", total))
        progress[0].step(name)

    datasets = [Dataset.open(folder) for folder in args.datasets]
    checked = check(datasets, args.jobs, step, draw if args.out else None)
    for bar in progress:
        bar.close()
    facts = _facts(datasets, checked)
    written = _write(_folder(args), checked, facts) if args.out else []
    if args.json:
        say.as_json(facts)
    else:
        _tell(checked, facts)
        for path in written:
            print(f"written: {path}")
    if checked.count("error") or (args.strict and checked.count("warning")):
        return say.FAILED
    return say.WARNED if checked.count("warning") else say.DONE


def _folder(args: argparse.Namespace) -> Path:
    out: Path = args.out
    return out if out != Path() else args.datasets[0] / "check"


def draw(case: Case, image: Volume, labels: Volume) -> bytes:
    """A case's picture on the contact sheet; both in RAS order."""
    from lumbarseg.report.sheet import picture

    return picture(image, labels, legend(case.table))


def legend(table: Table) -> list[Structure]:
    """What is drawn of a table's rows, and under which names: a level's own, none for what has only a kind."""
    from dataclasses import replace

    from lumbarseg.anatomy import Kind
    from lumbarseg.datasets.checks.pieces import level_of
    from lumbarseg.datasets.legend import legend as rows_of

    rows = []
    for row in rows_of(table):
        level = level_of(table[row.label])
        if "background" not in table[row.label]:
            rows.append(replace(row, name=level.name if level else ""))
    return [row for row in rows if row.kind is not Kind.BACKGROUND or row.name]


def _facts(datasets: list[Dataset], checked: Checked) -> dict[str, Any]:
    """Everything, for a program to read."""
    from lumbarseg.datasets.splits import patient_of

    cases = [examined.case for examined in checked.cases]
    owned = [(number, patient_of(case)) for number, d in enumerate(datasets) for case in d.everything]
    drawn = Counter(name for examined in checked.cases for name in examined.drawn)
    return {
        "datasets": [str(dataset.folder) for dataset in datasets],
        "cases": len(cases),
        "patients": len(set(owned)),
        "splits": dict(Counter(case.split for case in cases)),
        "contrasts": dict(Counter(case.contrast or "not said" for case in cases)),
        "structures": {name: drawn[name] for name in sorted(drawn, key=_place)},
        "errors": checked.count("error"),
        "warnings": checked.count("warning"),
        "notes": checked.count("note"),
        "findings": [finding.to_dict() for finding in checked.findings],
        "looks_like": {examined.name: examined.shown for examined in checked.cases},
    }


def _place(name: str) -> tuple[int, str]:
    """Kinds first, then structures from head to foot."""
    from lumbarseg.anatomy import Kind, by_name

    return (-1, name) if name in tuple(Kind) else (by_name(name).order, name)


def _summary(facts: dict[str, Any]) -> dict[str, str]:
    """The figures of a dataset, for a person."""
    many = [name for name, count in facts["structures"].items()]
    kinds = [f"{name} in {facts['structures'][name]}" for name in many if name in _kinds()]
    levels = [name for name in many if name not in _kinds() and not name.endswith("arch")]
    told = ", ".join(kinds) or "none"
    return {
        "cases": str(facts["cases"]),
        "patients": str(facts["patients"]),
        "splits": ", ".join(f"{count} {split}" for split, count in facts["splits"].items()),
        "contrasts": ", ".join(f"{count} {contrast}" for contrast, count in facts["contrasts"].items()),
        "drawn": told + (f"; named {', '.join(levels)}" if levels else ""),
    }


def _kinds() -> tuple[str, ...]:
    from lumbarseg.anatomy import Kind

    return tuple(kind.value for kind in Kind)


def _tell(checked: Checked, facts: dict[str, Any]) -> None:
    """Findings case by case, notes that many share once, then the summary."""
    serious = [finding for finding in checked.findings if finding.severity != "note"]
    for name in dict.fromkeys(finding.case for finding in serious):
        print(name or "the whole")
        for finding in serious:
            if finding.case == name:
                print(f"  {finding.severity:7}  {finding.check:12}  {say.line(finding.text)}")
    notes = [finding for finding in checked.findings if finding.severity == "note"]
    for (word, text), names in _shared(notes).items():
        few = ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
        where = f" ({few if len(names) == 1 else f'{len(names)} cases: {few}'})" if names else ""
        print(f"note  {word}: {say.line(text)}{where}")
    if checked.findings:
        print()
    for key, value in _summary(facts).items():
        print(f"{key:10} {value}")
    print(f"{'result':10} {_result(checked)}")


def _result(checked: Checked) -> str:
    errors, warnings = checked.count("error"), checked.count("warning")
    if not errors and not warnings:
        return "clean: no errors, no warnings"
    return ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in ((errors, "error"), (warnings, "warning")))


def _shared(notes: list[Finding]) -> dict[tuple[str, str], list[str]]:
    """Notes that begin alike, to the cases they hold of; details are in the JSON file and on the sheet."""
    held: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        text = note.text.partition(":")[0] if note.case else note.text
        held.setdefault((note.check, text), []).extend([note.case] if note.case else [])
    return held


def _write(folder: Path, checked: Checked, facts: dict[str, Any]) -> list[Path]:
    """check.json and the contact sheets."""
    from lumbarseg.files import replacing
    from lumbarseg.report.sheet import page, pngs

    sheet = _sheet(checked, facts)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"check.json": json.dumps(facts, indent=1, ensure_ascii=False).encode()}
    for number, png in enumerate(pngs(sheet), start=1):
        parts["contact.png" if number == 1 else f"contact-{number}.png"] = png
    parts["contact.html"] = page(sheet).encode()
    for name, content in parts.items():
        with replacing(folder / name) as file:
            file.write(content)
    return [folder / name for name in parts]


def _sheet(checked: Checked, facts: dict[str, Any]) -> Sheet:
    from lumbarseg.report.sheet import Sheet

    names = ", ".join(Path(folder).resolve().name for folder in facts["datasets"])
    common = tuple((f.severity, f.text) for f in checked.of(""))
    tiles = tuple(_tile(checked, i) for i in range(len(checked.cases)))
    return Sheet(f"{names}: {_result(checked).removeprefix('clean: ')}", _summary(facts), common, tiles)


def _tile(checked: Checked, number: int) -> Tile:
    from lumbarseg.report.sheet import Tile

    examined = checked.cases[number]
    case = examined.case
    shape, spacing = case.geometry.get("shape"), case.geometry.get("spacing")
    tags = [case.split, case.contrast or (f"{examined.shown} by its looks" if examined.shown else "contrast not said")]
    if shape and spacing:
        tags += [" x ".join(map(str, shape)), f"{' x '.join(f'{round(s, 2):g}' for s in spacing)} mm"]
    findings = tuple((f.severity, f"{f.check}: {f.text}") for f in checked.of(examined.name))
    return Tile(examined.name, tuple(tags), findings, examined.picture)
