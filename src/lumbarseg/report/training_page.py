"""A training run as a self-contained HTML page: curves, worst validation exams, scores and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lumbarseg.anatomy import STRUCTURES, Kind

from . import html
from .line_chart import Curve, moving_average, render_chart

RunResult = Mapping[str, Any]
"""The contents of a run's result.json."""

_PRIMARY_COLOUR, _SECONDARY_COLOUR = "#4f7fd9", "#2f9e78"
_UNKNOWN_COLOUR = "rgb(128, 128, 128)"
_KIND_TITLES = {Kind.BODY: "vertebral bodies", Kind.DISC: "discs"}
_OTHER_STRUCTURES = "other structures"
_SMOOTHING_WINDOWS = 40  # the loss is averaged over this fraction of a run


@dataclass(frozen=True)
class WorstExam:
    """A validation exam with a low score. level_errors: confused names, "L4 as L5"."""

    exam: str
    dice: float
    level_errors: Sequence[str]
    prediction_jpeg: bytes
    reference_jpeg: bytes


def render_training_page(
    name: str, result: RunResult, history: Sequence[Mapping[str, float]], worst: Sequence[WorstExam] = ()
) -> str:
    """Return the HTML page of a training run.

    Parameters
    ----------
    name : name of the run
    result : contents of result.json
    history : rows of history.csv
    worst : validation exams to show as pictures
    """
    summary = [
        result["preset"],
        " ".join(result["targets"]) or "all annotated structures",
        result["method"],
        result["network"],
        f"initial weights: {result['init']}",
        f"fold {result['fold']}" if result["fold"] else "",
        ", ".join(result["datasets"]),
        "finished" if result["finished"] else "running or stopped",
    ]
    line = " \u00b7 ".join(escape(part) for part in summary if part)
    body = (
        f'<header><h1>{escape(name)}</h1>\n<div class="quiet">{line}</div></header>\n'
        f"{_key_numbers_html(result)}{_charts_html(result, history)}{_structures_html(result)}"
        f"{_worst_exams_html(worst)}{_exams_html(result)}{_settings_html(result)}"
    )
    return html.page(f"{name} - lumbarseg", body, ("report", "training_page"))


def _key_numbers_html(result: RunResult) -> str:
    best, exams = result["best"], result["exams"]
    validated = best.get("exams", ())
    confused = sum(bool(exam["wrong"]) for exam in validated)
    step = f", step {best['step']}" if best else ""
    return html.key_numbers(
        [
            ("mean Dice before training", _format_score(result.get("before", {}).get("score"))),
            (f"best mean Dice{step}", _format_score(best.get("score"))),
            ("exams with confused level names", f"{confused} of {len(validated)}"),
            ("exams for training + validation", f"{exams['train']} + {exams['held_out']}"),
            ("epochs", f"{result['epochs']:.1f}"),
            ("steps", str(result["step"])),
            (f"training time on {result['device']}, {result['precision']}", _format_minutes(result["minutes"])),
        ]
    )


def _format_minutes(minutes: float) -> str:
    if minutes < 90:
        return f"{minutes:.1f} min"
    return f"{minutes // 60:.0f} h {minutes % 60:.0f} min"


def _charts_html(result: RunResult, history: Sequence[Mapping[str, float]]) -> str:
    def points(column: str) -> list[tuple[float, float]]:
        return [(row["step"], row[column]) for row in history if column in row]

    best, loss = result["best"].get("step"), points("loss")
    smooth = moving_average(loss, max(1, len(loss) // _SMOOTHING_WINDOWS))
    loss_curves = [Curve("loss", _PRIMARY_COLOUR, smooth), Curve("", _PRIMARY_COLOUR, loss, faint=True)]
    score = Curve("mean", _PRIMARY_COLOUR, points("score"))
    charts = [
        render_chart("Loss", loss_curves, marked_step=best),
        render_chart("Learning rate", [Curve("rate", _SECONDARY_COLOUR, points("rate"))]),
        render_chart("Mean Dice of validation exams", [score], y_max=1.0, marked_step=best),
    ]
    for kind, names in _structures_by_kind(result).items():
        curves = [Curve(name, html.css_colour(name) or _UNKNOWN_COLOUR, points(name)) for name in names]
        charts.append(render_chart(f"Dice of {kind}", curves, y_max=1.0, marked_step=best))
    note = "Over training steps. The dotted line marks the step saved as best.pt." if best else "Over training steps."
    return f'<h2>Curves</h2>\n<p class="quiet">{note}</p>\n<div class="charts">\n{"".join(charts)}</div>\n'


def _structures_by_kind(result: RunResult) -> dict[str, list[str]]:
    """Return the names of the scored structures, grouped by the title of their kind."""
    titles = {s.name: _KIND_TITLES.get(s.kind, _OTHER_STRUCTURES) for s in STRUCTURES}
    groups: dict[str, list[str]] = {}
    for name in result["last"].get("dice", {}):
        groups.setdefault(titles.get(name.removesuffix(" vertebra"), _OTHER_STRUCTURES), []).append(name)
    return groups


def _structures_html(result: RunResult) -> str:
    before, best, last = (result.get(when, {}).get("dice", {}) for when in ("before", "best", "last"))
    if not last:
        return '<p class="quiet">No scores: there are no validation exams, or none was validated yet.</p>\n'
    rows = [
        (html.coloured_name(name), *(_format_score(dice.get(name)) for dice in (before, best, last)))
        for name in dict.fromkeys((*best, *last))
    ]
    table = html.table(("Dice", "before", "best step", "last validation"), rows, css_class="narrow")
    return f"<h2>Structures</h2>\n{table}"


def _format_score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _worst_exams_html(worst: Sequence[WorstExam]) -> str:
    if not worst:
        return ""
    exam_figures = []
    for exam in worst:
        errors = f", confused: {', '.join(exam.level_errors)}" if exam.level_errors else ""
        pictures = (("prediction", exam.prediction_jpeg), ("reference", exam.reference_jpeg))
        pair = "".join(
            f'<div>{html.image(jpeg, "image/jpeg", f"{exam.exam}, {title}")}<span class="quiet">{title}</span></div>'
            for title, jpeg in pictures
        )
        caption = escape(f"{exam.exam}: Dice {exam.dice:.3f}{errors}")
        exam_figures.append(
            f'<figure class="exam"><figcaption>{caption}</figcaption><div class="pair">{pair}</div></figure>\n'
        )
    return f'<h2>Worst validation exams</h2>\n<div class="exams">\n{"".join(exam_figures)}</div>\n'


def _exams_html(result: RunResult) -> str:
    exams = sorted(result["best"].get("exams", ()), key=lambda exam: exam["dice"])
    if not exams:
        return ""
    rows = [
        (
            escape(exam["exam"]),
            escape(result["datasets"][exam["group"]]),
            _format_score(exam["dice"]),
            escape(", ".join(exam["wrong"])),
        )
        for exam in exams
    ]
    columns = ("exam", "dataset", "Dice", "confused names")
    table = html.table(columns, rows, text=("dataset", "confused names"), css_class="narrow")
    return f"<details open><summary>All {len(exams)} validation exams, best step</summary>\n{table}</details>\n"


def _settings_html(result: RunResult) -> str:
    rows = [(escape(name), escape(_format_setting(value))) for name, value in result["settings"].items()]
    table = html.table(("setting", "value"), rows, text=("value",), css_class="narrow")
    return f"<details><summary>All settings</summary>\n{table}</details>\n"


def _format_setting(value: Any) -> str:
    return (" ".join(map(str, value)) if isinstance(value, list) else str(value)) or "-"
