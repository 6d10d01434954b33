"""The report and the index in a browser: nothing is cut off on a screen, a phone or paper."""

from __future__ import annotations

import re
import subprocess
from html import escape
from pathlib import Path

import pytest

from benchmarks import browser
from lumbarseg.report.comparison_page import render_comparison_page

from .test_exam_page import exam_page
from .test_index_page import ENTRIES, render_index

_MEASURE = """
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const wide = [page.documentElement, ...page.querySelectorAll(".wide, table")];
  document.title = "cut off: " + wide.map((e) => e.scrollWidth - e.clientWidth).filter((excess) => excess > 1).length;
});
</script>
"""


def comparison_page() -> str:
    """Return a comparison of eight runs, with the columns of `lumbarseg compare`."""
    runs = [f"fine-tuned-from-shipped-{number}" for number in range(8)]
    columns = ("run", "method", "folds", "targets", "exams", "validation", "epochs", "minutes", "before", "mean Dice")
    scores = [[*columns, "95 %", "wrong names"], *([run, "planar", *"12345678", "0.71 to 0.94", "3"] for run in runs)]
    scores[1][0] += "_with_a_long_name_without_any_space"
    dice = [["Dice", *runs], ["L5-S1 disc", *["0.912"] * len(runs)]]
    history = [{"step": 1.0, "score": 0.5}, {"step": 2.0, "score": 0.8}]
    return render_comparison_page([scores, dice], dict.fromkeys(runs, history))


def run_chromium(*options: str, page: Path) -> str:
    program = browser.chromium()
    if program is None:
        pytest.skip("Chromium is not installed, in which the pages are shown")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("name", ["report", "index", "comparison"])
def test_all_columns_are_visible(name: str, width: int, tmp_path: Path) -> None:
    pages = {
        "report": lambda: exam_page(uncertain=("L1",)),
        "index": lambda: render_index(ENTRIES),
        "comparison": comparison_page,
    }
    text = pages[name]()
    frame = f'<iframe style="width:{width}px;height:900px" srcdoc="{escape(text)}"></iframe>'
    (tmp_path / "page.html").write_text(f"<!doctype html><title></title>{_MEASURE}{frame}", encoding="utf-8")
    document = run_chromium("--virtual-time-budget=5000", "--dump-dom", page=tmp_path / "page.html")
    assert "<title>cut off: 0</title>" in document


def test_a_report_prints_on_one_page(tmp_path: Path) -> None:
    text = re.sub("<h2>Comparison.*?</table>", "", exam_page(), flags=re.DOTALL)  # which only the demo has
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    run_chromium(f"--print-to-pdf={tmp_path / 'page.pdf'}", page=tmp_path / "page.html")
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes())) == 1
