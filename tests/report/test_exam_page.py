"""The exam page is self-contained, well formed and escaped."""

from __future__ import annotations

import re

from lumbarseg.measurement import measure_structures
from lumbarseg.metrics.overlap import score_structures
from lumbarseg.report import ReportSource, build_report, picture
from lumbarseg.report.exam_page import render_exam_page
from lumbarseg.report.exam_report import NOTICE

from .parsed_html import ParsedHtml
from .segmented_phantom import phantom, phantom_segmentation


def exam_page(file: str = "exam.nii.gz", uncertain: tuple[str, ...] = ()) -> str:
    segmentation = phantom_segmentation(uncertain=uncertain)
    rows = [row.to_dict() for row in score_structures(segmentation.labels.array, phantom().labels.array)]
    image = picture.render_picture(phantom().image, segmentation.labels, segmentation.levels)
    report = build_report(
        segmentation, measure_structures(segmentation.labels), ReportSource(file, "shipped", "0123456789abcdef")
    )
    return render_exam_page(report, [image], rows, "exam_labels.nii.gz")


def test_the_page_is_well_formed_and_self_contained() -> None:
    text = exam_page()
    ParsedHtml(text)
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert text.count("data:image/png;base64,") == 1


def test_the_page_contains_levels_measurements_scores_and_instructions() -> None:
    text = "\n".join(ParsedHtml(exam_page(uncertain=("L1",))).texts)
    for expected in ("L1", " ?", "L5-S1", "lordosis", "1.000", "exam_labels.nii.gz", "3D Slicer", "0123456789ab"):
        assert expected in text
    assert "names are uncertain" in text
    assert text.count(NOTICE) == 1


def test_a_file_name_cannot_break_the_page() -> None:
    text = exam_page(file='<img src=x onerror="1">&.nii')
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
