"""The round trip through DICOM counts what differs."""

from __future__ import annotations

import numpy as np
from benchmarks import dicom

from lumbarseg.anatomy import structure_by_name
from lumbarseg.terminology import structure_codes

NAMES = ("L4", "L4-L5", "L6")


def as_told(name: str, number: int) -> dicom.Row:
    """A segment in dcmqi's words."""
    found = structure_codes(structure_by_name(name))
    parts = (dicom.CATEGORY, found.type, found.modifier, found.region)
    codes = {
        key: {"CodingSchemeDesignator": "SCT", "CodeValue": part.value, "CodeMeaning": part.meaning}
        for key, part in zip(dicom._KEYS, parts, strict=True)
        if part
    }
    return {
        "SegmentLabel": name,
        "labelID": number,
        "recommendedDisplayRGBValue": list(structure_by_name(name).colour),
        **codes,
    }


def test_what_differs_is_counted() -> None:
    told = [as_told(name, number) for number, name in enumerate(NAMES, 1)]
    numbers = np.array([[[0, 1, 2, 3, 3]]])
    labels = np.array([0, *(structure_by_name(name).label for name in NAMES)], np.uint8)[numbers]
    same = dicom._compared(labels, numbers, told)
    assert (same["voxels"], same["voxels_that_differ"], same["codes"], same["codes_that_differ"]) == (4, 0, 9, 0)
    assert (same["segments"], same["segments_missing"], same["colours_off_by"]) == (3, 0, 0)
    assert "| 3 | 4 | 0 | 9 | 0 | 0 |" in dicom.table([{"exam": "x", "form": "y", **same}])

    moved = dicom._compared(labels, np.roll(numbers, 1), told)
    assert moved["voxels_that_differ"] == 4
    told[0]["SegmentedPropertyTypeCodeSequence"]["CodeValue"] = "1"
    del told[2]["AnatomicRegionSequence"]
    told[1]["recommendedDisplayRGBValue"] = [0, 0, 0]
    wrong = dicom._compared(labels, numbers, told)
    assert wrong["codes_that_differ"] == 2
    assert wrong["colours_off_by"] == max(structure_by_name(NAMES[1]).colour)
    assert dicom._compared(labels, numbers * (numbers < 3), told[:2])["segments_missing"] == 1
