"""SNOMED CT codes of the structures, and the list of them for 3D Slicer.

Codes of vertebrae and discs stand in the table of structures (DICOM PS3.16, CID 7603 and 7604), with the meanings that
the standard gives them. A body and posterior elements share their vertebra's code and differ by a modifier; what has no
code of its own (L6 and its discs) is a vertebra or a disc of the lumbar spine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lumbarseg.anatomy import RGB, STRUCTURES, Kind, Structure

CODING_SCHEME = "SCT"
TERMINOLOGY_CONTEXT = "Segmentation category and type - lumbarseg"
"""The name of the list for 3D Slicer."""


@dataclass(frozen=True)
class Code:
    """A concept of SNOMED CT."""

    value: str
    meaning: str


@dataclass(frozen=True)
class StructureCodes:
    """The codes of a segment. type: the structure; modifier: the part of it; region: where, when `type` is general."""

    type: Code
    modifier: Code | None = None
    region: Code | None = None


CATEGORY = Code("123037004", "Anatomical Structure")
_LUMBAR_SPINE = Code("122496007", "Lumbar spine")
_PARTS = {Kind.BODY: Code("3572006", "Vertebral body"), Kind.ARCH: Code("40265002", "Arch of vertebra")}
_VERTEBRA, _DISC = Code("51282000", "Vertebra"), Code("360499006", "Intervertebral disc")
_SINGLE = {Kind.SACRUM: "Sacrum", Kind.CANAL: "Vertebral canal"}


def structure_codes(structure: Structure, whole_vertebra: bool = False) -> StructureCodes:
    """Return the codes of a structure. whole_vertebra: its label includes the posterior elements."""
    part = None if whole_vertebra else _PARTS.get(structure.kind)
    if structure.kind in _SINGLE:
        return StructureCodes(Code(structure.code, _SINGLE[structure.kind]))
    if structure.kind is Kind.DISC:
        disc = Code(structure.code, f"{structure.name.replace('-', '/')} disc")
        return StructureCodes(disc) if structure.code else StructureCodes(_DISC, region=_LUMBAR_SPINE)
    vertebra = Code(structure.code, f"{structure.name.split()[0]} vertebra")
    return StructureCodes(vertebra, part) if structure.code else StructureCodes(_VERTEBRA, part, _LUMBAR_SPINE)


def slicer_terminology() -> dict[str, Any]:
    """Return the structures as a terminology of 3D Slicer, to save as NAME.term.json and drop on Slicer's window."""
    rows: dict[Code, dict[str, Any]] = {}
    for structure in STRUCTURES:
        codes = structure_codes(structure)
        row = rows.setdefault(codes.type, _coloured_code_json(codes.type, structure.colour))
        if codes.modifier:
            row.setdefault("Modifier", []).append(_coloured_code_json(codes.modifier, structure.colour))
    category = {**_code_json(CATEGORY), "showAnatomy": False, "Type": list(rows.values())}
    return {
        "SegmentationCategoryTypeContextName": TERMINOLOGY_CONTEXT,
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/segment-context-schema.json#",
        "SegmentationCodes": {"Category": [category]},
    }


def _code_json(code: Code) -> dict[str, str]:
    return {"CodingSchemeDesignator": CODING_SCHEME, "CodeValue": code.value, "CodeMeaning": code.meaning}


def _coloured_code_json(code: Code, colour: RGB) -> dict[str, Any]:
    return {**_code_json(code), "recommendedDisplayRGBValue": list(colour)}
