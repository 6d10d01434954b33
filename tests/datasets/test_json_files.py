from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.datasets.json_files import find_line, with_line_number

TEXT = """{
 "name": "a, b: {c}",
 "labels": {"0": ["background"],
  "300": ["body"]},
 "cases": [
  {"name": "one", "split": "train"},
  {
   "name": "two",
   "split": "valid"
  }
 ]
}
"""


def test_the_line_of_a_value() -> None:
    assert find_line(TEXT, []) == 1
    assert find_line(TEXT, ["labels", "300"]) == 4
    assert find_line(TEXT, ["cases", "1"]) == 7
    assert find_line(TEXT, ["cases", "1", "split"]) == 9
    assert find_line(TEXT, ["cases", "1", "patient"]) == 7
    assert find_line(TEXT, ["gone"]) == 1


def test_a_message_is_put_behind_its_line() -> None:
    assert with_line_number("cases[1]: split: 'valid' is none", TEXT) == "line 9: cases[1]: split: 'valid' is none"
    assert with_line_number("labels: '300' is no voxel value", TEXT) == "line 3: labels: '300' is no voxel value"
    assert with_line_number("no field is named here", TEXT).startswith("line 1: ")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def paths(value: Any, keys: list[str]) -> list[list[str]]:
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [keys, *(path for key, inner in rows for path in paths(inner, [*keys, str(key)]))]


@given(VALUES, st.sampled_from([None, 1]))
def test_the_line_of_every_value_of_any_json(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    lines = text.splitlines() or [""]
    for keys in paths(value, []):
        inner = value
        for key in keys:
            inner = inner[int(key) if isinstance(inner, list) else key]
        first = json.dumps(inner, indent=indent).splitlines()[0]
        assert first in lines[find_line(text, keys) - 1]
