from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.datasets.lines import line_of, located

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


def test_the_line_of_a_value_is_found() -> None:
    assert line_of(TEXT, []) == 1
    assert line_of(TEXT, ["labels", "300"]) == 4
    assert line_of(TEXT, ["cases", "1"]) == 7
    assert line_of(TEXT, ["cases", "1", "split"]) == 9
    assert line_of(TEXT, ["cases", "1", "patient"]) == 7
    assert line_of(TEXT, ["gone"]) == 1


def test_a_message_is_put_behind_its_line() -> None:
    assert located("cases[1]: split: 'valid' is none", TEXT) == "line 9: cases[1]: split: 'valid' is none"
    assert located("labels: '300' is no voxel value", TEXT) == "line 3: labels: '300' is no voxel value"
    assert located("no field is named here", TEXT).startswith("line 1: ")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def paths(value: Any, keys: list[str]) -> list[list[str]]:
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [keys, *(path for key, inner in rows for path in paths(inner, [*keys, str(key)]))]


@given(VALUES, st.sampled_from([None, 1]))
def test_every_value_of_any_json_is_found_where_it_begins(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    lines = text.splitlines() or [""]
    for keys in paths(value, []):
        inner = value
        for key in keys:
            inner = inner[int(key) if isinstance(inner, list) else key]
        first = json.dumps(inner, indent=indent).splitlines()[0]
        assert first in lines[line_of(text, keys) - 1]
