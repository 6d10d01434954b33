"""The report of one exam as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from . import html
from .exam_report import MEASUREMENT_TITLES, UNITS

Report = Mapping[str, Any]
"""A report as built by `build_report`."""

MEASUREMENT_NOTE = (
    "Measured in the sagittal plane of the exam nearest to the middle of each structure. A tilt is positive if the "
    "endplate faces anteriorly, a wedge if it is open anteriorly, a slip if the vertebra is displaced anteriorly "
    "against the one below."
)
ERROR_NOTE = (
    "± is the standard deviation against measurements on human label maps; docs/measurements.md defines each value."
)

CONFIDENCE_NOTE = (
    "Confidence, from 0 to 1, is about the names, not the outlines: how reliable the count of the vertebrae is; for a "
    "vertebra also how clearly it is seen. Below 0.75 names are marked with a question mark. It is not a probability."
)

_VIEWER_INSTRUCTIONS = (
    '<section class="instructions"><h2>Open the label map</h2>\n<p><code>{}</code> has the grid of the exam and '
    "contains names and colours. In 3D Slicer: drop exam and label map on the window and load the latter as "
    "Segmentation. In ITK-SNAP: File, Open Main Image, then Segmentation, Open Segmentation.</p></section>\n"
)
COLUMN_TITLES = {f"{key}_{UNITS[key]}": title.replace(" °", "\u00a0°") for key, title in MEASUREMENT_TITLES.items()}
SIZE_COLUMNS = {"volume_ml", "anterior_mm", "middle_mm", "posterior_mm", "depth_mm", "canal_mm"}
_SCORE_COLUMNS = {"dice": "Dice", "ratio": "volume ratio", "found_as": "found as"}
MEASURED_KINDS = ("body", "disc")


def render_exam_page(
    report: Report, pictures: Sequence[bytes], scores: Sequence[Mapping[str, Any]] = (), labels_file: str = ""
) -> str:
    """Return the HTML page of one exam.

    Parameters
    ----------
    report : dictionary from `build_report`
    pictures : PNG files, shown one below the other
    scores : scores of each structure against a reference segmentation, `StructureScore.to_dict()`
    labels_file : name of the label map, for the instructions to open it; empty for none
    """
    folder, _, name = (report["exam"]["file"] or "exam").rpartition("/")
    images = (html.image(png, "image/png", "Mid-sagittal view with outlines and names") for png in pictures)
    program, model = report["program"], report["model"]
    versions = f"{program['name']} {program['version']}"
    if model["digest"]:
        versions += f" · model {model['name']} {model['digest'][:12]}"
    instructions = _VIEWER_INSTRUCTIONS.format(escape(labels_file)) if labels_file else ""
    body = (
        f'<header><h1>{escape(name)}</h1>\n<div class="quiet">{escape(folder)}<br>{_geometry_line(report)}</div>\n'
        f'<div class="notice">{escape(report["notice"])}</div></header>\n'
        f'<div class="columns">\n<figure>{"".join(images)}</figure>\n<main>\n{_levels_html(report)}</main>\n</div>\n'
        f"{_measurements_html(report)}{_scores_html(scores) if scores else ''}{instructions}"
        f"<footer>{escape(versions)}</footer>\n"
    )
    return html.page(f"{name} - lumbarseg", body)


def _geometry_line(report: Report) -> str:
    exam = report["exam"]
    shape = " × ".join(str(n) for n in exam["shape"])
    spacing = " × ".join(f"{s:.3g}" for s in exam["spacing_mm"])
    notes = "".join(f" · {escape(note)}" for note in exam["notes"] if note not in report["warnings"])
    return f"{shape} voxels of {spacing} mm, axes {escape(exam['axes'])}{notes}"


def _levels_html(report: Report) -> str:
    """Return warnings, key numbers and the table of levels; reasons that all levels have are written once."""
    levels = report["levels"]
    first, *others = [level["reasons"] for level in levels] or [[]]
    shared = [reason for reason in first if all(reason in reasons for reasons in others)]
    numbers = [("vertebrae named", str(len(levels))), ("confidence", f"{report['confidence']:.2f}")]
    if report["lordosis_l1_s1_deg"] is not None:
        error = report["measurement_errors"].get("spine", {}).get("lordosis_l1_s1_deg")
        numbers.append(
            ("lordosis L1-S1", f"{report['lordosis_l1_s1_deg']:.0f}°" + (f" ± {error:.0f}°" if error else ""))
        )
    rows = []
    for level in levels:
        reasons = [reason for reason in level["reasons"] if reason not in shared]
        remarks = ["uncertain"] * level["uncertain"] + ["partly in view"] * level["partial"] + reasons
        name = html.coloured_name(level["name"]) + (" ?" if level["uncertain"] else "")
        centre = ", ".join(f"{c:.0f}" for c in level["centre_mm"])
        rows.append((name, f"{level['confidence']:.2f}", centre, escape("; ".join(remarks))))
    columns = ("vertebra", "confidence", "centre, RAS+ mm", "remarks")
    warnings = "".join(f'<div class="warning">{escape(text)}</div>\n' for text in report["warnings"])
    anchor = f"<p>Names from: {escape('; '.join([report['anchor'], *shared]))}.</p>\n"
    note = f'<p class="quiet">{CONFIDENCE_NOTE}</p>\n'
    table = _section("Levels", html.table(columns, rows, text=("remarks",)))
    return f"{warnings}{html.key_numbers(numbers)}{anchor}{note}{table}"


def _measurements_html(report: Report) -> str:
    """Return a table of sizes and one of angles and slips."""
    rows = [row for row in report["measurements"] if row["kind"] in MEASURED_KINDS]
    if not rows:
        return ""
    sections = []
    for title, is_size in (("Sizes", True), ("Angles and slips", False)):
        keys = [key for key in COLUMN_TITLES if (key in SIZE_COLUMNS) == is_size and any(key in row for row in rows)]
        cells = []
        for row in rows:
            errors = report["measurement_errors"].get(row["kind"], {})
            values = [_value_html(row[key], errors.get(key)) if key in row else "" for key in keys]
            if any(values):
                cells.append((html.coloured_name(row["name"]) + ("" if row["complete"] else " (cut off)"), *values))
        table = html.table(("", *(COLUMN_TITLES[key] for key in keys)), cells)
        sections.append(f"<section>{_section(title, table)}</section>\n")
    return (
        f'<div class="measurements">{"".join(sections)}</div>\n<p class="quiet">{MEASUREMENT_NOTE} {ERROR_NOTE}</p>\n'
    )


def _value_html(value: float, error: float | None) -> str:
    number = f"{round(value, 1) + 0.0:.1f}"  # 0.0 instead of -0.0
    return number if error is None else f"{number} <small>±{error:.1f}</small>"


def _scores_html(scores: Sequence[Mapping[str, Any]]) -> str:
    values = [[row.get(key, "") for key in _SCORE_COLUMNS] for row in scores]
    cells = [[f"{value:.3f}" if isinstance(value, float) else escape(str(value)) for value in row] for row in values]
    rows = [(html.coloured_name(score["name"]), *row) for score, row in zip(scores, cells, strict=True)]
    return _section("Comparison with the reference", html.table(("", *_SCORE_COLUMNS.values()), rows))


def _section(title: str, table: str) -> str:
    return f'<h2>{title}</h2>\n<div class="wide">{table}</div>\n'
