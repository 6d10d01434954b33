"""A training run as a page that needs nothing but itself: curves, the worst exams, settings, data, time."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lumbarseg.anatomy import STRUCTURES, Kind

from .exam_page import PAGE_CSS
from .line_chart import Curve, moving_average, render_chart

RunResult = Mapping[str, Any]

_EXTRA_CSS = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 8px 28px; }
.charts figure, .exam { position: static; }
figcaption { font-weight: 600; margin: 12px 0 2px; }
.chart { width: 100%; display: block; font: 12px system-ui, sans-serif; fill: var(--quiet); }
.grid { stroke: var(--line); } .mark { stroke: var(--quiet); stroke-dasharray: 3 4; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.faint { fill: none; stroke-width: 1; opacity: 0.3; }
.exams { display: flex; flex-wrap: wrap; gap: 28px; }
.pair { display: flex; gap: 6px; } .pair div { width: 270px; } .pair img { margin-bottom: 2px; }
details { margin: 20px 0; } summary { cursor: pointer; font-weight: 600; }
.narrow { width: auto; min-width: 360px; } .narrow td { white-space: normal; max-width: 640px; }
"""
_PRIMARY_COLOUR, _SECONDARY_COLOUR = "#4f7fd9", "#2f9e78"
_KIND_TITLES = {Kind.BODY: "vertebral bodies", Kind.DISC: "discs"}
_OTHER_STRUCTURES = "other structures"
_SMOOTHING_WINDOWS = 40  # parts of a run, over one of which the loss is averaged


@dataclass(frozen=True)
class WorstExam:
    """An exam that came out badly. found, drawn: JPEGs; wrong: mixed-up names."""

    exam: str
    dice: float
    level_errors: Sequence[str]
    prediction_jpeg: bytes
    reference_jpeg: bytes


def render_training_page(
    name: str, result: RunResult, history: Sequence[Mapping[str, float]], worst: Sequence[WorstExam] = ()
) -> str:
    """The page of one run. result: its result.json; history: the rows of its history.csv; worst: exams to look at."""
    title = escape(name)
    state = "ended" if result["finished"] else "under way, or stopped"
    words = [
        result["preset"],
        " ".join(result["targets"]) or "all that was drawn",
        result["method"],
        result["network"],
        f"begins with {result['init']}",
        f"fold {result['fold']}" if result["fold"] else "",
        ", ".join(result["datasets"]),
        state,
    ]
    told = " \u00b7 ".join(escape(word) for word in words if word)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title} - lumbarseg</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{PAGE_CSS}{_EXTRA_CSS}</style>\n'
        f'</head>\n<body>\n<header><h1>{title}</h1>\n<div class="quiet">{told}</div></header>\n'
        f"{_key_numbers_html(result)}{_charts_html(result, history)}{_structures_html(result)}{_worst_exams_html(worst)}{_exams_html(result)}"
        f"{_settings_html(result)}</body>\n</html>\n"
    )


def _key_numbers_html(result: RunResult) -> str:
    best, exams = result["best"], result["exams"]
    wrong = sum(bool(exam["wrong"]) for exam in best.get("exams", ()))
    figures = [
        (f"{best['score']:.3f}", f"best mean Dice, step {best['step']}")
        if "score" in best
        else ("-", "best mean Dice"),
        (f"{wrong} of {len(best.get('exams', ()))}", "exams with mixed-up names"),
        (f"{exams['train']} + {exams['held_out']}", "exams to learn from + held out"),
        (f"{result['epochs']:.1f}", "epochs"),
        (str(result["step"]), "steps"),
        (_format_minutes(result["minutes"]), f"of work on {result['device']}, {result['precision']}"),
    ]
    cells = "".join(
        f'<div><b>{escape(value)}</b><span class="quiet">{escape(name)}</span></div>' for value, name in figures
    )
    return f'<div class="figures" style="margin-top: 20px">{cells}</div>\n'


def _format_minutes(minutes: float) -> str:
    if minutes < 90:
        return f"{minutes:.1f} min"
    return f"{minutes // 60:.0f} h {minutes % 60:.0f} min"


def _charts_html(result: RunResult, history: Sequence[Mapping[str, float]]) -> str:
    best = result["best"].get("step")
    loss, rate, score = (
        [(row["step"], row[name]) for row in history if name in row] for name in ("loss", "rate", "score")
    )
    smooth = moving_average(loss, max(1, len(loss) // _SMOOTHING_WINDOWS))
    charts = [
        render_chart(
            "Loss",
            [Curve("loss", _PRIMARY_COLOUR, smooth), Curve("", _PRIMARY_COLOUR, loss, faint=True)],
            marked_step=best,
        ),
        render_chart("Learning rate", [Curve("rate", _SECONDARY_COLOUR, rate)]),
        render_chart(
            "Mean Dice of held-out exams", [Curve("mean", _PRIMARY_COLOUR, score)], y_max=1.0, marked_step=best
        ),
    ]
    for kind, names in _structures_by_kind(result).items():
        curves = [
            Curve(name, _css_colour(name), [(row["step"], row[name]) for row in history if name in row])
            for name in names
        ]
        charts.append(render_chart(f"Dice of {kind}", curves, y_max=1.0, marked_step=best))
    note = "Over steps; the dotted line is the moment that is kept as best.pt." if best else "Over steps."
    return f'<h2>Curves</h2>\n<p class="quiet">{note}</p>\n<div class="charts">\n{"".join(charts)}</div>\n'


def _structures_by_kind(result: RunResult) -> dict[str, list[str]]:
    """Scored structures by what kind of thing they are."""
    kinds = {s.name: _KIND_TITLES.get(s.kind, _OTHER_STRUCTURES) for s in STRUCTURES}
    groups: dict[str, list[str]] = {}
    for name in result["last"].get("dice", {}):
        groups.setdefault(kinds.get(name.removesuffix(" vertebra"), _OTHER_STRUCTURES), []).append(name)
    return groups


def _css_colour(name: str) -> str:
    """Of the table of structures; grey for what it does not name."""
    colours = {s.name: s.colour for s in STRUCTURES} | {s.kind.value: s.colour for s in STRUCTURES}
    red, green, blue = colours.get(name.removesuffix(" vertebra"), (128, 128, 128))
    return f"rgb({red},{green},{blue})"


def _structures_html(result: RunResult) -> str:
    best, last = result["best"].get("dice", {}), result["last"].get("dice", {})
    if not last:
        return '<p class="quiet">Nothing was scored: no exam is held out, or none was validated yet.</p>\n'
    rows = "".join(
        f'<tr><td><span class="chip" style="background:{_css_colour(name)}"></span>{escape(name)}</td>'
        f"<td>{_format_score(best.get(name))}</td><td>{_format_score(last.get(name))}</td></tr>\n"
        for name in dict.fromkeys((*best, *last))
    )
    head = "<tr><th>Dice</th><th>best moment</th><th>last validation</th></tr>\n"
    return f'<h2>Structures</h2>\n<table class="narrow">\n{head}{rows}</table>\n'


def _format_score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _worst_exams_html(worst: Sequence[WorstExam]) -> str:
    if not worst:
        return ""
    shown = []
    for one in worst:
        wrong = f", mixed up: {escape(', '.join(one.level_errors))}" if one.level_errors else ""
        pair = "".join(
            f'<div><img alt="{escape(one.exam)}, {word}" src="data:image/jpeg;base64,{b64encode(data).decode()}">'
            f'<span class="quiet">{word}</span></div>'
            for word, data in (("found", one.prediction_jpeg), ("drawn", one.reference_jpeg))
        )
        caption = f"{escape(one.exam)}: Dice {one.dice:.3f}{wrong}"
        shown.append(
            f'<figure class="exam"><figcaption>{caption}</figcaption><div class="pair">{pair}</div></figure>\n'
        )
    return f'<h2>Worst held-out exams</h2>\n<div class="exams">\n{"".join(shown)}</div>\n'


def _exams_html(result: RunResult) -> str:
    exams = sorted(result["best"].get("exams", ()), key=lambda exam: exam["dice"])
    if not exams:
        return ""
    rows = "".join(
        f'<tr><td>{escape(exam["exam"])}</td><td class="text">{escape(result["datasets"][exam["group"]])}</td>'
        f'<td>{exam["dice"]:.3f}</td><td class="text">{escape(", ".join(exam["wrong"]))}</td></tr>\n'
        for exam in exams
    )
    head = '<tr><th>exam</th><th class="text">dataset</th><th>Dice</th><th class="text">mixed-up names</th></tr>\n'
    table = f'<table class="narrow">\n{head}{rows}</table>'
    return f"<details open><summary>All {len(exams)} held-out exams, best moment</summary>\n{table}</details>\n"


def _settings_html(result: RunResult) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="text">{escape(_format_setting(value))}</td></tr>\n'
        for name, value in result["settings"].items()
    )
    return f'<details><summary>All settings</summary>\n<table class="narrow">\n{rows}</table></details>\n'


def _format_setting(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(part) for part in value) or "-"
    return "-" if value == "" else str(value)
