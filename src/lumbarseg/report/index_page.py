"""The index of a folder of reports as an HTML page: what needs a look stands first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from . import html
from .exam_report import NOTICE

LOW_CONFIDENCE = 0.9
"""Below this confidence of the count an exam is listed before the rest."""
_GROUPS = ("refused", "uncertain names", "warnings", "low confidence", "no remarks")
_COLUMNS = ("", "exam", "vertebrae", "confidence", "lordosis L1-S1", "look at")
_GENERATOR = '<meta name="generator" content="lumbarseg index">'


@dataclass(frozen=True)
class IndexEntry:
    """A row of the index.

    Attributes
    ----------
    exam : what the user calls it
    page, picture : its HTML report (JSON, if it was refused) and picture, relative to the folder of the index
    error : why it has no result
    levels : vertebrae from head to foot, "?" behind uncertain names
    uncertain : whether its names are uncertain
    confidence, lowest : of the count, and the lowest of its complete vertebrae, 0 to 1
    lordosis : L1-S1, degrees
    warnings : what a person should look at
    """

    exam: str
    page: Path | None = None
    picture: Path | None = None
    error: str = ""
    levels: str = ""
    uncertain: bool = False
    confidence: float = 0.0
    lowest: float = 0.0
    lordosis: float | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_report(cls, report: dict[str, Any], path: Path, folder: Path) -> IndexEntry:
        """Return the row of a report that was read from `path`, in the index of `folder`."""
        exam = report["exam"]["file"]
        if "error" in report:
            return cls(exam, path.relative_to(folder), error=report["error"])
        stem = path.name.removesuffix("_report.json")
        files = [path.with_name(stem + suffix) for suffix in ("_report.html", ".png")]
        page, picture = (file.relative_to(folder) if file.is_file() else None for file in files)
        levels = report["levels"]
        return cls(
            exam,
            page,
            picture,
            levels=" ".join(level["name"] + "?" * level["uncertain"] for level in levels),
            uncertain=report["uncertain"],
            confidence=report["confidence"],
            lowest=min((level["confidence"] for level in levels if not level["partial"]), default=0.0),
            lordosis=report["lordosis_l1_s1_deg"],
            warnings=tuple(report["warnings"]),
        )

    @property
    def group(self) -> int:
        """Position in the list of groups, from what needs a look most."""
        needs = (self.error, self.uncertain, self.warnings, self.confidence < LOW_CONFIDENCE, True)
        return next(index for index, need in enumerate(needs) if need)

    def sort_key(self) -> tuple[int, float, float, str]:
        """Return the order of the rows: by group, the least certain first."""
        return self.group, self.confidence, self.lowest, self.exam


def render_index(entries: Iterable[IndexEntry]) -> str:
    """Return the HTML page that lists exams in groups; pictures are loaded when they come into view."""
    groups = [
        (index, list(rows)) for index, rows in groupby(sorted(entries, key=IndexEntry.sort_key), attrgetter("group"))
    ]
    links = (f'<a href="#g{index}"><b>{len(rows)}</b> {_GROUPS[index]}</a>' for index, rows in groups)
    count = sum(len(rows) for _, rows in groups)
    sections = (
        f'<h2 id="g{index}">{_GROUPS[index].capitalize()} ({len(rows)})</h2>\n'
        f"{html.table(_COLUMNS, map(_cells, rows), ('exam', 'vertebrae', 'look at'), 'index')}"
        for index, rows in groups
    )
    body = (
        f'<header><h1>{count} exams</h1>\n<div class="quiet">What needs a look stands first; in each group the least '
        f'certain exam. {NOTICE}</div></header>\n<nav class="key-numbers">{"".join(links)}</nav>\n{"".join(sections)}'
    )
    return html.page(f"{count} exams - lumbarseg", body, head=_GENERATOR)


def is_index(text: str) -> bool:
    """Return whether a page was rendered by `render_index`."""
    return _GENERATOR in text


def linked_files(text: str) -> list[Path]:
    """Return the files that an index links, relative to its folder."""
    return [Path(os.fsdecode(unquote_to_bytes(address))) for address in re.findall(r'<a href="([^"#]+)"', text)]


def _cells(entry: IndexEntry) -> list[str]:
    picture = f'<img src="{_address(entry.picture)}" alt="" loading="lazy" decoding="async">' if entry.picture else ""
    folder, _, name = entry.exam.rpartition("/")
    title = escape(name)
    if target := entry.page or entry.picture:
        picture, title = (content and f'<a href="{_address(target)}">{content}</a>' for content in (picture, title))
    title += f'<span class="quiet">{escape(folder)}</span>'
    if entry.error:
        return [picture, title, "", "", "", escape(entry.error.removeprefix(f"{entry.exam}: "))]
    lordosis = "" if entry.lordosis is None else f"{entry.lordosis:.0f}°"
    confidence = f'{entry.confidence:.2f}<span class="quiet">lowest level {entry.lowest:.2f}</span>'
    return [picture, title, escape(entry.levels), confidence, lordosis, "<br>".join(map(escape, entry.warnings))]


def _address(path: Path) -> str:
    """Return a relative path as an address; names that are no valid text keep their bytes."""
    return quote(os.fsencode(path.as_posix()))
