"""The index page: what needs a look first, links that work, lazy pictures."""

from __future__ import annotations

import re
from pathlib import Path

from lumbarseg.report.exam_report import NOTICE
from lumbarseg.report.index_page import IndexEntry, is_index, linked_files, render_index

from .parsed_html import ParsedHtml

ENTRIES = [
    IndexEntry("fine.nii", Path("fine_report.html"), Path("fine.png"), levels="L1 L2", confidence=1.0, lowest=0.97),
    IndexEntry("unclear.nii", Path("unclear_report.html"), levels="L1 L2", confidence=1.0, lowest=0.5),
    IndexEntry("faint.nii", Path("faint_report.html"), levels="L1 L2", confidence=0.8, lowest=0.7),
    IndexEntry("swapped.nii", Path("swapped_report.html"), confidence=1.0, lowest=0.9, warnings=("axes corrected",)),
    IndexEntry("cut.nii", Path("cut_report.html"), levels="L1? L2?", uncertain=True, confidence=0.2),
    IndexEntry("in/knee.nii", Path("knee_report.json"), error="in/knee.nii: no lumbar spine found"),
]


def test_what_needs_a_look_stands_first() -> None:
    texts = ParsedHtml(render_index(ENTRIES)).texts
    order = [text for text in texts if text.endswith(".nii")]
    assert order == ["knee.nii", "cut.nii", "swapped.nii", "faint.nii", "unclear.nii", "fine.nii"]
    headings = ("Refused (1)", "Uncertain names (1)", "Warnings (1)", "Low confidence (1)", "No remarks (2)")
    assert [text for text in texts if text in headings] == list(headings)
    assert {"no lumbar spine found", "L1? L2?", "axes corrected", "6 exams"} <= set(texts)
    assert NOTICE in "".join(texts)


def test_pictures_are_loaded_as_one_scrolls() -> None:
    (picture,) = re.findall("<img[^>]*>", render_index(ENTRIES))
    assert 'src="fine.png"' in picture and 'loading="lazy"' in picture


def test_names_can_hold_anything_and_links_lead_to_their_files() -> None:
    escaped_path = Path('a b/#1 & <i>\udcff"%20_report.html')
    page = render_index([IndexEntry("x/<script>.nii", escaped_path), *ENTRIES])
    assert "<script" not in page and "<i>" not in page
    ParsedHtml(page)
    assert escaped_path in linked_files(page)
    assert is_index(page)
    assert not is_index("<html><head><title>my page</title></head></html>")
