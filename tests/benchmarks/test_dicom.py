"""The round trip through DICOM counts differences."""

from __future__ import annotations

import numpy as np

from benchmarks import dicom
from lumbarseg.anatomy import structure_by_name
from lumbarseg.terminology import structure_codes

NAMES = ("L4", "L4-L5", "L6")


def dcmqi_segment(name: str, number: int) -> dicom.Row:
    """Return a segment as dcmqi describes it."""
    codes = structure_codes(structure_by_name(name))
    parts = (dicom.CATEGORY, codes.type, codes.modifier, codes.region)
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


def test_differences_are_counted() -> None:
    segments = [dcmqi_segment(name, number) for number, name in enumerate(NAMES, 1)]
    numbers = np.array([[[0, 1, 2, 3, 3]]])
    labels = np.array([0, *(structure_by_name(name).label for name in NAMES)], np.uint8)[numbers]
    same = dicom._compared(labels, numbers, segments)
    assert (same["voxels"], same["voxels_that_differ"], same["codes"], same["codes_that_differ"]) == (4, 0, 9, 0)
    assert (same["segments"], same["segments_missing"], same["colours_off_by"]) == (3, 0, 0)
    assert "| 3 | 4 | 0 | 9 | 0 | 0 |" in dicom.table([{"exam": "x", "form": "y", **same}])

    shifted = dicom._compared(labels, np.roll(numbers, 1), segments)
    assert shifted["voxels_that_differ"] == 4
    segments[0]["SegmentedPropertyTypeCodeSequence"]["CodeValue"] = "1"
    del segments[2]["AnatomicRegionSequence"]
    segments[1]["recommendedDisplayRGBValue"] = [0, 0, 0]
    wrong = dicom._compared(labels, numbers, segments)
    assert wrong["codes_that_differ"] == 2
    assert wrong["colours_off_by"] == max(structure_by_name(NAMES[1]).colour)
    assert dicom._compared(labels, numbers * (numbers < 3), segments[:2])["segments_missing"] == 1
