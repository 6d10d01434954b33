"""What the values of a written label map mean: the package's own numbers, or those of another program."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import TYPE_CHECKING

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, arch_of_level, name_and_levels

if TYPE_CHECKING:
    from lumbarseg.io.seg_nrrd import Segment
    from lumbarseg.volume import Array, Volume

    from .exam_result import SegmentedExam

DEFAULT_SCHEME = "default"
OUTPUT_SCHEMES = (DEFAULT_SCHEME, "spider", "totalsegmentator", "spineps", "totalspineseg", "mrspineseg")
"""Schemes that an answer can be written in."""


def encode_labels(result: SegmentedExam) -> Volume:
    """The label map of an answer in the values that were asked for, uint8."""
    if result.options.scheme == DEFAULT_SCHEME:
        return result.labels
    from lumbarseg.datasets.schemes import encode_labels, get_scheme
    from lumbarseg.volume import Volume

    return Volume(encode_labels(result.labels.array, get_scheme(result.options.scheme)), result.labels.affine)


def label_table(scheme: str, parts: str) -> list[Structure]:
    """Every value of a scheme with what it means, ordered by value; a vertebra's value has the row of its body."""
    value = _label_lookup(scheme)
    drawn = [s for s in STRUCTURES if value(s) and (s.kind is not Kind.ARCH or parts == "apart")]
    rows: dict[int, Structure] = {}
    for structure in drawn:
        rows.setdefault(value(structure), replace(structure, label=value(structure)))
    return [rows[number] for number in sorted(rows)]


def described_segments(result: SegmentedExam) -> list[Segment]:
    """The same with codes for 3D Slicer; levels whose names are uncertain are marked as doubtful."""
    from lumbarseg.io.seg_nrrd import Segment
    from lumbarseg.terminology import structure_codes

    doubtful = {level.name for level in result.segmentation.levels if level.uncertain}
    value, parts = _label_lookup(result.options.scheme), result.options.parts
    found = []
    for row in label_table(result.options.scheme, parts):
        body = row.kind is Kind.BODY
        whole = body and (parts == "whole" or (parts == "apart" and value(arch_of_level(row.name)) == row.label))
        found.append(
            Segment(
                row.label, row.name, row.colour, structure_codes(row, whole), bool(name_and_levels(row.name) & doubtful)
            )
        )
    return found


def default_scheme_segments(result: SegmentedExam) -> list[Segment]:
    """The same in the package's own values, whatever scheme was asked for."""
    return described_segments(replace(result, options=replace(result.options, scheme=DEFAULT_SCHEME)))


def structure_measurements(result: SegmentedExam, keys: Container[str]) -> dict[str, dict[str, float]]:
    """What was measured of each structure of the label map, by name, as far as `keys` names it.

    A vertebra drawn in one with its posterior elements has the volume of both.
    """
    found = {row["name"]: {key: row[key] for key in row if key in keys} for row in result.report["measurements"]}
    if result.options.parts == "whole":
        for level in LEVELS:
            body, arch = found.get(level), found.pop(arch_of_level(level).name, None)
            if body and arch:
                found[level] = body | {"volume_ml": round(body["volume_ml"] + arch["volume_ml"], 3)}
    return found


def label_names(labels: Array, scheme: str, parts: str) -> dict[str, str]:
    """Values that a label map will hold and what they mean; labels: uint8 in the package's own values."""
    from lumbarseg.volume import count_labels

    value, there = _label_lookup(scheme), count_labels(labels)
    present = {value(structure) for structure in STRUCTURES if there[structure.label]}
    return {str(row.label): row.name for row in label_table(scheme, parts) if row.label in present}


def structures_without_label(labels: Array, scheme: str) -> tuple[str, ...]:
    """Names of structures in a label map for which the scheme has no value, from head to foot."""
    from lumbarseg.volume import count_labels

    value, there = _label_lookup(scheme), count_labels(labels)
    return tuple(s.name for s in STRUCTURES if there[s.label] and not value(s))


def _label_lookup(scheme: str) -> Callable[[Structure], int]:
    """The value of a structure in a scheme, 0 where it has none."""
    if scheme == DEFAULT_SCHEME:
        return lambda structure: structure.label
    from lumbarseg.datasets import schemes

    found = schemes.get_scheme(scheme)
    numbers = {s.name: schemes.value_for_structure(found, s.name) for s in STRUCTURES}
    return lambda structure: numbers[structure.name]
