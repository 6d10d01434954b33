"""Codes are those of the standard's own dictionary, and the list for 3D Slicer holds each once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydicom.sr import _cid_dict, _concepts_dict

from lumbarseg.anatomy import STRUCTURES, Kind, Structure, structure_by_name
from lumbarseg.terminology import CATEGORY, CODING_SCHEME, Code, slicer_terminology, structure_codes

STANDARD: Any = _concepts_dict.concepts
LISTED: Any = _cid_dict.cid_concepts
BY_VALUE = {(value, meaning) for codes in STANDARD[CODING_SCHEME].values() for value, (meaning, _) in codes.items()}
LISTS = {Kind.BODY: 7603, Kind.ARCH: 7603, Kind.DISC: 7604}


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.name)
def test_a_structure_has_the_standards_code_and_meaning(structure: Structure) -> None:
    codes = structure_codes(structure)
    if structure.code:
        assert (codes.type.value, codes.type.meaning) in BY_VALUE
        assert codes.type.value == structure.code
        assert codes.region is None
    else:
        assert codes.region is not None
        assert (codes.region.value, codes.region.meaning) in BY_VALUE
    if structure.code and structure.kind in LISTS:
        names = LISTED[LISTS[structure.kind]][CODING_SCHEME]
        assert codes.type.value in {value for name in names for value in STANDARD[CODING_SCHEME][name]}


def test_a_body_is_a_part_of_its_vertebra_and_a_whole_one_is_not() -> None:
    body, arch = structure_codes(structure_by_name("L4")), structure_codes(structure_by_name("L4 arch"))
    assert (
        body.type
        == arch.type
        == structure_codes(structure_by_name("L4"), whole_vertebra=True).type
        == Code("11994002", "L4 vertebra")
    )
    assert body.modifier == Code("3572006", "Vertebral body")
    assert arch.modifier == Code("40265002", "Arch of vertebra")
    assert (arch.modifier.value, arch.modifier.meaning) in BY_VALUE
    assert structure_codes(structure_by_name("L4"), whole_vertebra=True).modifier is None


def test_codes_distinguish_all_structures_but_discs_of_an_l6() -> None:
    same = [s.name for s in STRUCTURES if sum(structure_codes(s) == structure_codes(other) for other in STRUCTURES) > 1]
    assert same == [s.name for s in STRUCTURES if s.kind is Kind.DISC and not s.code]


def test_the_list_for_slicer_has_every_term_once() -> None:
    (category,) = json.loads(json.dumps(slicer_terminology()))["SegmentationCodes"]["Category"]
    assert (category["CodeValue"], category["CodeMeaning"]) == (CATEGORY.value, CATEGORY.meaning)
    listed = [
        (row["CodeValue"], part["CodeValue"], tuple(part["recommendedDisplayRGBValue"]))
        for row in category["Type"]
        for part in row.get("Modifier", [{**row, "CodeValue": ""}])
    ]
    expected = [
        (codes.type.value, codes.modifier.value if codes.modifier else "", s.colour)
        for s, codes in ((s, structure_codes(s)) for s in STRUCTURES)
    ]
    assert len({row[:2] for row in listed}) == len(listed)
    assert set(listed) <= set(expected)
    assert {row[:2] for row in listed} == {row[:2] for row in expected}
