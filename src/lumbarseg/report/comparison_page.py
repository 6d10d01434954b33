"""Training runs side by side as a self-contained HTML page: their scores, their cost, their curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from lumbarseg.training.run_comparison import ComparisonRow, structure_names

from . import html
from .line_chart import Curve, render_chart

_COLOURS = ("#4f7fd9", "#2f9e78", "#c96a2b", "#8f5bc4", "#b8477e", "#5f7a1f", "#3d8fa6", "#8a6d3b")
_HEADER = ("run", "method", "folds", "training exams", "validation exams", "epochs", "minutes")
_SCORES = ("before", "mean Dice", "95 %", "wrong names")
_NOTE = (
    "Scores of the best weights on the validation exams of each run. The weights were selected on the same exams, so "
    "the scores are slightly too good: lumbarseg evaluate scores other exams. The interval resamples patients."
)


def render_comparison_page(
    rows: Sequence[ComparisonRow], histories: Mapping[str, Sequence[Mapping[str, float]]]
) -> str:
    """Return the HTML page of a comparison.

    Parameters
    ----------
    rows : runs, or the folds of one experiment in one row
    histories : by the folder of each run, the rows of its history.csv
    """
    names = structure_names(rows)
    dice = [(escape(row.name), *(_format_score(row.dice.get(name)) for name in names)) for row in rows]
    body = (
        f'<header><h1>Training runs</h1>\n<div class="quiet">{_NOTE}</div></header>\n'
        f'<div class="wide">{html.table((*_HEADER, *_SCORES), [_cells(row) for row in rows], text=("method",))}</div>\n'
        f'<div class="charts">\n{_score_chart(histories)}</div>\n'
    )
    if names:
        body += f'<h2>Dice of each structure</h2>\n<div class="wide">{html.table(("run", *names), dice)}</div>\n'
    return html.page("Training runs - lumbarseg", body, html.stylesheet("report") + html.stylesheet("training_page"))


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    return (
        escape(row.name if row.finished else f"{row.name} (not ended)"),
        row.method,
        str(len(row.folds) or "-"),
        f"{row.training_exams:.0f}",
        str(row.scored_exams),
        f"{row.epochs:.1f}",
        f"{row.minutes:.1f}",
        _format_score(row.before),
        _format_score(row.mean_dice),
        "-" if row.interval is None else "{:.3f} to {:.3f}".format(*row.interval),
        str(row.name_errors),
    )


def _score_chart(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Return the mean Dice of the validation exams of each run, over its steps; step 0 is before training."""
    curves = [
        Curve(name, _COLOURS[number % len(_COLOURS)], [(row["step"], row["score"]) for row in rows if "score" in row])
        for number, (name, rows) in enumerate(histories.items())
    ]
    return render_chart("Mean Dice of validation exams over training steps", curves, y_max=1.0)


def _format_score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
