"""Training runs side by side as a self-contained HTML page: their scores, their cost, their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from . import html
from .line_chart import Curve, render_chart

_COLOURS = ("#4f7fd9", "#2f9e78", "#c96a2b", "#8f5bc4", "#b8477e", "#5f7a1f", "#3d8fa6", "#8a6d3b")
_NOTE = (
    "Scores of the best weights on the validation exams of each run, before and after training. The weights were "
    "selected on the same exams, so the scores are slightly too good: lumbarseg evaluate scores other exams. The "
    "interval resamples patients."
)


def render_comparison_page(
    tables: Sequence[Sequence[Sequence[str]]], histories: Mapping[str, Sequence[Mapping[str, float]]]
) -> str:
    """Return the HTML page of a comparison.

    Parameters
    ----------
    tables : rows of cells, the first of each table its header
    histories : by the name of each run, the rows of its history.csv
    """
    curves = [
        Curve(name, _COLOURS[number % len(_COLOURS)], [(row["step"], row["score"]) for row in rows if "score" in row])
        for number, (name, rows) in enumerate(histories.items())
    ]
    chart = render_chart("Mean Dice of validation exams over training steps", curves, y_max=1.0)
    body = f'<header><h1>Training runs</h1>\n<div class="quiet">{_NOTE}</div></header>\n'
    for header, *rows in tables:
        cells = [[escape(cell) for cell in row] for row in rows]
        body += html.table(header, cells, text=("method",), css_class="cards")
    body += f'<div class="charts">\n{chart}</div>\n'
    return html.page("Training runs - lumbarseg", body, ("report", "training_page"))
