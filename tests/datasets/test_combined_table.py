from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.anatomy import CLASSES, STRUCTURES
from lumbarseg.datasets.combined_table import (
    assign_values,
    case_label_table,
    combined_label_table,
    normalize_names,
    value_mapping,
)
from lumbarseg.datasets.label_table import LabelTable, parse_label_table
from lumbarseg.errors import DatasetError

NAMES = st.sampled_from([*(s.name for s in STRUCTURES), *(str(kind) for kind in CLASSES), "unknown"])
ROWS = st.lists(NAMES, min_size=1, max_size=4).map(tuple)
TABLES = st.builds(lambda rest, rows: {0: rest, **rows}, ROWS, st.dictionaries(st.integers(1, 255), ROWS, max_size=8))


def test_structures_keep_their_labels_and_sets_have_rows_of_their_own() -> None:
    table: LabelTable = {
        0: ("background",),
        1: ("L4",),
        2: ("L4 arch",),
        3: ("arch", "body"),
        4: ("L4 arch", "L4"),
        5: ("canal",),
        6: ("unknown", "disc"),
        7: ("L6-S1", "L5-S1"),
        8: ("disc",),
    }
    values = assign_values([table])
    assert values == {
        ("L4",): 4,
        ("L4 arch",): 54,
        ("body", "arch"): 150 + 2 + 32,
        ("L4", "L4 arch"): 104,
        ("canal",): 12,
        ("unknown",): 255,
        ("L5-S1", "L6-S1"): 214,
        ("disc",): 154,
    }
    assert value_mapping(table, values) == {0: 0, 1: 4, 2: 54, 3: 184, 4: 104, 5: 12, 6: 255, 7: 214, 8: 154}


@given(st.lists(TABLES, min_size=1, max_size=4))
def test_every_value_means_the_same_before_and_after(tables: list[LabelTable]) -> None:
    values = assign_values(tables)
    shared = combined_label_table(tables, values)
    assert parse_label_table({str(v): names for v, names in shared.items()}, "here") == dict(sorted(shared.items()))
    assert len(set(values.values())) == len(values)
    for table in tables:
        new, mine = value_mapping(table, values), case_label_table(table, values)
        assert {value: normalize_names(names) for value, names in table.items()} == {v: mine[new[v]] for v in table}


@given(st.lists(TABLES, min_size=2, max_size=4))
def test_values_stay_when_a_dataset_is_added(tables: list[LabelTable]) -> None:
    first = assign_values(tables[:1])
    grown = assign_values(tables, combined_label_table(tables[:1], first))
    assert first.items() <= grown.items()
    assert len(set(grown.values())) == len(grown)


def test_a_case_has_the_rows_that_its_source_could_draw() -> None:
    annotated: LabelTable = {0: ("background",), 1: ("body",), 2: ("disc",)}
    unannotated: LabelTable = {0: ("disc", "background"), 7: ("body",)}
    values = assign_values([annotated, unannotated])
    assert combined_label_table([annotated, annotated, unannotated], values) == {
        0: ("background",),
        152: ("body",),
        154: ("disc",),
    }
    assert case_label_table(annotated, values) == {0: ("background",), 152: ("body",), 154: ("disc",)}
    assert case_label_table(unannotated, values) == {0: ("background", "disc"), 152: ("body",)}


def test_more_sets_than_values_are_refused() -> None:
    names = [s.name for s in STRUCTURES]
    tables = [{0: ("background",), 1: (a, b)} for i, a in enumerate(names[:20]) for b in names[i + 1 : 20]]
    with pytest.raises(DatasetError, match="more than there are free values"):
        assign_values(tables)
