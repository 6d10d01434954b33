from __future__ import annotations

import json

from benchmarks import offline, readme


def test_the_docs_contain_the_measured_figures() -> None:
    text = offline.PAGE.read_text()
    assert readme.fill_readme(text, "x").count("\nx\n") == 1
    assert readme.fill_readme(text, offline.format_results(json.loads(offline.RESULTS.read_text()))) == text
