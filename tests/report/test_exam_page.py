"""The page: complete in itself, well formed, nothing unescaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from lumbarseg.measurement import measure_structures
from lumbarseg.metrics.overlap import score_structures
from lumbarseg.report import Provenance, build_report, picture
from lumbarseg.report.exam_page import render_exam_page
from lumbarseg.report.exam_report import NOTICE

from .found import found, phantom

VOID = {"meta", "img", "br"}


class Balance(HTMLParser):
    """Raises where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(file: str = "exam.nii.gz", uncertain: tuple[str, ...] = ()) -> str:
    answer = found(uncertain=uncertain)
    rows = [row.to_dict() for row in score_structures(answer.labels.array, phantom().labels.array)]
    image = picture.render_picture(phantom().image, answer.labels, answer.levels)
    told = build_report(answer, measure_structures(answer.labels), Provenance(file, "shipped", "0123456789abcdef"))
    return render_exam_page(told, [image], rows, "exam_labels.nii.gz")


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    text = shown()
    reader = Balance()
    reader.feed(text)
    assert reader.open == []
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert text.count("data:image/png;base64,") == 1


def test_the_page_tells_levels_sizes_scores_and_how_to_open_the_labels() -> None:
    reader = Balance()
    reader.feed(shown(uncertain=("L1",)))
    words = "\n".join(reader.text)
    for wanted in ("L1", " ?", "L5-S1", "lordosis", "1.000", "exam_labels.nii.gz", "3D Slicer", "0123456789ab"):
        assert wanted in words
    assert "names are uncertain" in words
    assert words.count(NOTICE) == 1


def test_a_file_name_cannot_break_the_page() -> None:
    text = shown(file='<img src=x onerror="1">&.nii')
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
