"""The values in which a label map is written: the package's own numbers, or those of another program."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, arch_of_level, name_and_levels, structure_by_name
from lumbarseg.io.seg_nrrd import Segment
from lumbarseg.terminology import structure_codes
from lumbarseg.volume import Array, Volume, count_labels

from .options import DEFAULT_SCHEME


def apply_posterior_choice(labels: Volume, posterior: str) -> Volume:
    """Return a label map (uint8, the package's values) with posterior elements kept, merged into bodies or left out."""
    if posterior == "separate":
        return labels
    lookup = np.arange(256, dtype=np.uint8)
    for level in LEVELS:
        lookup[arch_of_level(level).label] = structure_by_name(level).label if posterior == "merge" else 0
    return Volume(lookup[labels.array], labels.affine)


@cache
def scheme_values(scheme: str) -> dict[str, int]:
    """Return the value of each structure in a scheme, by name; 0 where the scheme has none."""
    if scheme == DEFAULT_SCHEME:
        return {structure.name: structure.label for structure in STRUCTURES}
    from lumbarseg.datasets import schemes  # tables that most results need not wait for

    table = schemes.get_scheme(scheme)
    return {structure.name: schemes.value_for_structure(table, structure.name) for structure in STRUCTURES}


def encode_labels(labels: Volume, scheme: str) -> Volume:
    """Return a label map (uint8, the package's values) in the values of a scheme."""
    if scheme == DEFAULT_SCHEME:
        return labels
    lookup = np.zeros(256, np.uint8)
    for structure in STRUCTURES:
        lookup[structure.label] = scheme_values(scheme)[structure.name]
    return Volume(lookup[labels.array], labels.affine)


def label_table(scheme: str, posterior: str) -> list[Structure]:
    """Return each value of a scheme with its structure, by value; a vertebra's value has the structure of its body."""
    rows: dict[int, Structure] = {}
    for structure in STRUCTURES:
        value = scheme_values(scheme)[structure.name]
        if value and (structure.kind is not Kind.ARCH or posterior == "separate"):
            rows.setdefault(value, replace(structure, label=value))
    return [rows[value] for value in sorted(rows)]


def describe_labels(labels: Array, scheme: str, posterior: str) -> tuple[dict[str, str], list[str]]:
    """Return the values that a label map (uint8, the package's values) will hold in a scheme, with their names.

    The second result are the structures in it for which the scheme has no value.
    """
    counts, values = count_labels(labels), scheme_values(scheme)
    present = [structure.name for structure in STRUCTURES if counts[structure.label]]
    present_values = {values[name] for name in present}
    names = {str(row.label): row.name for row in label_table(scheme, posterior) if row.label in present_values}
    return names, [name for name in present if not values[name]]


def described_segments(scheme: str, posterior: str, uncertain_levels: Iterable[str]) -> list[Segment]:
    """Return each value of a scheme with colour and codes for 3D Slicer and DICOM; uncertain names are marked."""
    values = scheme_values(scheme)
    segments = []
    for row in label_table(scheme, posterior):
        is_body = row.kind is Kind.BODY
        shared = posterior == "separate" and is_body and values[arch_of_level(row.name).name] == row.label
        codes = structure_codes(row, is_body and (posterior == "merge" or shared))
        is_uncertain = not name_and_levels(row.name).isdisjoint(uncertain_levels)
        segments.append(Segment(row.label, row.name, row.colour, codes, is_uncertain))
    return segments


def structure_measurements(
    report: Mapping[str, Any], posterior: str, keys: Container[str]
) -> dict[str, dict[str, float]]:
    """Return the measurements of a report by structure, as far as `keys` names them.

    A vertebra merged with its posterior elements has the volume of both.
    """
    measurements = {row["name"]: {key: row[key] for key in row if key in keys} for row in report["measurements"]}
    if posterior == "merge":
        for level in LEVELS:
            body, arch = measurements.get(level), measurements.pop(arch_of_level(level).name, None)
            if body and arch:
                measurements[level] = body | {"volume_ml": round(body["volume_ml"] + arch["volume_ml"], 3)}
    return measurements
