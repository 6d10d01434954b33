"""One exam as a page that needs nothing but itself: no script, no font, no file beside it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lumbarseg.anatomy import STRUCTURES

Report = Mapping[str, Any]

PAGE_CSS = """
:root { color-scheme: light dark; --ink: #1b1f27; --quiet: #667085; --line: #e3e6ec; --paper: #ffffff; --card: #f6f7f9;
  --warn: #8a4b00; --warn-paper: #fff4e0; }
@media (prefers-color-scheme: dark) { :root { --ink: #eceef2; --quiet: #9aa2b1; --line: #2c313b; --paper: #0e1014;
  --card: #171a20; --warn: #ffcf8a; --warn-paper: #33260f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 32px 28px 48px; max-width: 1360px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 24px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 28px 0 8px; }
.quiet, caption { color: var(--quiet); }
.columns { display: grid; grid-template-columns: minmax(320px, 560px) minmax(0, 1fr); gap: 32px; margin-top: 20px; }
@media (max-width: 900px) { .columns { grid-template-columns: 1fr; } }
figure { margin: 0; position: sticky; top: 20px; align-self: start; }
img { width: 100%; border-radius: 8px; display: block; margin-bottom: 12px; }
.figures { display: flex; flex-wrap: wrap; gap: 12px; }
.figures div { background: var(--card); border-radius: 8px; padding: 10px 16px; min-width: 120px; }
.figures b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 500; color: var(--quiet); vertical-align: bottom; }
th:first-child, td:first-child, .text { text-align: left; }
td.text { white-space: normal; }
.chip { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px; }
.warning { background: var(--warn-paper); color: var(--warn); border-radius: 8px; padding: 10px 16px; margin: 8px 0; }
code { background: var(--card); border-radius: 4px; padding: 1px 5px; font-size: 13px; }
footer { margin-top: 36px; padding-top: 12px; border-top: 1px solid var(--line); font-size: 13px; color: var(--quiet); }
"""

MEASUREMENT_NOTE = (
    "In the sagittal plane of the exam nearest to the middle of each structure. A tilt is positive when the "
    "endplate faces forward, a slip when the vertebra stands forward of the one below."
)
"""How sizes were measured, for who reads a table of them."""

_SIZE_COLUMNS = {
    "volume_ml": "volume ml",
    "anterior_mm": "anterior mm",
    "middle_mm": "middle mm",
    "posterior_mm": "posterior mm",
    "depth_mm": "depth mm",
    "tilt_top_deg": "upper tilt °",
    "tilt_bottom_deg": "lower tilt °",
    "canal_mm": "canal mm",
    "slip_mm": "slip mm",
}
_SCORE_COLUMNS = {"dice": "Dice", "ratio": "volume ratio", "found_as": "found as"}
_SIZED_KINDS = ("body", "disc")


def render_exam_page(
    report: Report, pictures: Sequence[bytes], scores: Sequence[Mapping[str, Any]] = (), labels_file: str = ""
) -> str:
    """The page of one exam. facts: of `report.facts`; pictures: PNGs, shown one below the other.

    scores: against a known truth, `Score.to_dict()` of each structure; labels_file: name of the label map beside it.
    """
    exam = report["exam"]
    title = escape(exam["file"] or "exam")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title} - lumbarseg</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{PAGE_CSS}</style>\n'
        "</head>\n<body>\n"
        f'<header><h1>{title}</h1>\n<div class="quiet">{_geometry_line(exam)}</div></header>\n'
        f'<div class="columns">\n<figure>{"".join(_picture_html(p) for p in pictures)}</figure>\n<main>\n'
        f"{_warnings_html(report)}{_key_numbers_html(report)}{_levels_html(report)}{_measurements_html(report)}{_scores_html(scores)}"
        f"{_viewer_instructions_html(labels_file)}</main>\n</div>\n{_footer_html(report)}</body>\n</html>\n"
    )


def _geometry_line(exam: Report) -> str:
    shape = " × ".join(str(n) for n in exam["shape"])
    spacing = " × ".join(f"{s:.3g}" for s in exam["spacing_mm"])
    notes = "".join(f" · {escape(note)}" for note in exam["notes"])
    return f"{shape} voxels of {spacing} mm, axes {escape(exam['axes'])}{notes}"


def _picture_html(png: bytes) -> str:
    data = b64encode(png).decode()
    return f'<img alt="Mid-sagittal view with outlines and names" src="data:image/png;base64,{data}">'


def _warnings_html(facts: Report) -> str:
    return "".join(f'<div class="warning">{escape(text)}</div>\n' for text in facts["warnings"])


def _key_numbers_html(facts: Report) -> str:
    angle = facts["lordosis_l1_s1_deg"]
    figures = [("vertebrae named", str(len(facts["levels"]))), ("confidence", f"{facts['confidence']:.2f}")]
    if angle is not None:
        figures.append(("lordosis L1-S1", f"{angle:.0f}°"))
    cells = "".join(f'<div><b>{value}</b><span class="quiet">{name}</span></div>' for name, value in figures)
    return f'<div class="figures">{cells}</div>\n<p class="quiet">Names from: {escape(facts["anchor"])}.</p>\n'


def _levels_html(facts: Report) -> str:
    rows = []
    for level in facts["levels"]:
        doubts = ["uncertain"] * level["uncertain"] + ["partly in view"] * level["partial"] + level["reasons"]
        centre = ", ".join(f"{c:.0f}" for c in level["centre_mm"])
        name = _coloured_name_html(level["name"]) + (" ?" if level["uncertain"] else "")
        rows.append(
            f"<tr><td>{name}</td><td>{level['confidence']:.2f}</td>"
            f'<td>{centre}</td><td class="text">{escape("; ".join(doubts))}</td></tr>\n'
        )
    head = '<tr><th>vertebra</th><th>confidence</th><th>centre, RAS+ mm</th><th class="text">remarks</th></tr>\n'
    return f'<h2>Levels</h2>\n<div class="wide"><table>\n{head}{"".join(rows)}</table></div>\n'


def _measurements_html(facts: Report) -> str:
    rows = [row for row in facts["measurements"] if row["kind"] in _SIZED_KINDS]
    if not rows:
        return ""
    shown = [key for key in _SIZE_COLUMNS if any(key in row for row in rows)]
    head = "<tr><th></th>" + "".join(f"<th>{_SIZE_COLUMNS[key]}</th>" for key in shown) + "</tr>\n"
    body = ""
    for row in rows:
        cells = "".join(f"<td>{f'{row[key]:.1f}' if key in row else ''}</td>" for key in shown)
        body += (
            f"<tr><td>{_coloured_name_html(row['name'])}{'' if row['complete'] else ' (cut off)'}</td>{cells}</tr>\n"
        )
    return f'<h2>Sizes</h2>\n<div class="wide"><table>\n{head}{body}</table></div>\n<p class="quiet">{MEASUREMENT_NOTE}</p>\n'


def _scores_html(scores: Sequence[Mapping[str, Any]]) -> str:
    if not scores:
        return ""
    head = "<tr><th></th>" + "".join(f"<th>{name}</th>" for name in _SCORE_COLUMNS.values()) + "</tr>\n"
    body = ""
    for row in scores:
        cells = (row.get(key, "") for key in _SCORE_COLUMNS)
        told = "".join(f"<td>{f'{v:.3f}' if isinstance(v, float) else escape(str(v))}</td>" for v in cells)
        body += f"<tr><td>{_coloured_name_html(row['name'])}</td>{told}</tr>\n"
    return f'<h2>Against the known truth</h2>\n<div class="wide"><table>\n{head}{body}</table></div>\n'


def _viewer_instructions_html(labels_file: str) -> str:
    if not labels_file:
        return ""
    return (
        f"<h2>Open the label map</h2>\n<p><code>{escape(labels_file)}</code> lies on the exam's own grid, names and "
        "colours inside. In 3D Slicer: drop the exam and the label map on the window and load the latter as "
        "Segmentation. In ITK-SNAP: File, Open Main Image, then Segmentation, Open Segmentation.</p>\n"
    )


def _footer_html(facts: Report) -> str:
    program, model = facts["program"], facts["model"]
    made = f"{program['name']} {program['version']}"
    if model["digest"]:
        made += f" · model {model['name']} {model['digest'][:12]}"
    return f"<footer>{escape(made)}<br>{escape(facts['notice'])}</footer>\n"


def _coloured_name_html(name: str) -> str:
    """A structure's name with its colour, where the table has one."""
    colours = {s.name: s.colour for s in STRUCTURES}
    if name.removesuffix(" vertebra") not in colours:
        return escape(name)
    red, green, blue = colours[name.removesuffix(" vertebra")]
    return f'<span class="chip" style="background:rgb({red},{green},{blue})"></span>{escape(name)}'
