"""What the values of a written label map mean: the package's own numbers, or those of another program."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from typing import TYPE_CHECKING

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, arch_of, beside

if TYPE_CHECKING:
    from lumbarseg.files.segnrrd import Segment
    from lumbarseg.volume import Array, Volume

    from .answers import Answer

OWN = "default"
SCHEMES = (OWN, "spider", "totalsegmentator", "spineps", "totalspineseg", "mrspineseg")
"""Schemes that an answer can be written in."""


def encoded(given: Answer) -> Volume:
    """The label map of an answer in the values that were asked for, uint8."""
    if given.wish.scheme == OWN:
        return given.labels
    from lumbarseg.datasets.schemes import encode, scheme
    from lumbarseg.volume import Volume

    return Volume(encode(given.labels.array, scheme(given.wish.scheme)), given.labels.affine)


def table(scheme: str, parts: str) -> list[Structure]:
    """Every value of a scheme with what it means, ordered by value; a vertebra's value has the row of its body."""
    value = _values(scheme)
    drawn = [s for s in STRUCTURES if value(s) and (s.kind is not Kind.ARCH or parts == "apart")]
    rows: dict[int, Structure] = {}
    for structure in drawn:
        rows.setdefault(value(structure), replace(structure, label=value(structure)))
    return [rows[number] for number in sorted(rows)]


def segments(given: Answer) -> list[Segment]:
    """The same with codes for 3D Slicer; levels whose names are uncertain are marked as doubtful."""
    from lumbarseg.files.segnrrd import Segment
    from lumbarseg.terminology import term

    doubtful = {level.name for level in given.found.levels if level.uncertain}
    value, parts = _values(given.wish.scheme), given.wish.parts
    found = []
    for row in table(given.wish.scheme, parts):
        body = row.kind is Kind.BODY
        whole = body and (parts == "whole" or (parts == "apart" and value(arch_of(row.name)) == row.label))
        found.append(Segment(row.label, row.name, row.colour, term(row, whole), bool(beside(row.name) & doubtful)))
    return found


def own_segments(given: Answer) -> list[Segment]:
    """The same in the package's own values, whatever scheme was asked for."""
    return segments(replace(given, wish=replace(given.wish, scheme=OWN)))


def sizes(given: Answer, keys: Container[str]) -> dict[str, dict[str, float]]:
    """What was measured of each structure of the label map, by name, as far as `keys` names it.

    A vertebra drawn in one with its posterior elements has the volume of both.
    """
    found = {row["name"]: {key: row[key] for key in row if key in keys} for row in given.facts["measurements"]}
    if given.wish.parts == "whole":
        for level in LEVELS:
            body, arch = found.get(level), found.pop(arch_of(level).name, None)
            if body and arch:
                found[level] = body | {"volume_ml": round(body["volume_ml"] + arch["volume_ml"], 3)}
    return found


def meanings(labels: Array, scheme: str, parts: str) -> dict[str, str]:
    """Values that a label map will hold and what they mean; labels: uint8 in the package's own values."""
    from lumbarseg.volume import counts

    value, there = _values(scheme), counts(labels)
    present = {value(structure) for structure in STRUCTURES if there[structure.label]}
    return {str(row.label): row.name for row in table(scheme, parts) if row.label in present}


def left_out(labels: Array, scheme: str) -> tuple[str, ...]:
    """Names of structures in a label map for which the scheme has no value, from head to foot."""
    from lumbarseg.volume import counts

    value, there = _values(scheme), counts(labels)
    return tuple(s.name for s in STRUCTURES if there[s.label] and not value(s))


def _values(scheme: str) -> Callable[[Structure], int]:
    """The value of a structure in a scheme, 0 where it has none."""
    if scheme == OWN:
        return lambda structure: structure.label
    from lumbarseg.datasets import schemes

    found = schemes.scheme(scheme)
    numbers = {s.name: schemes.value_of(found, s.name) for s in STRUCTURES}
    return lambda structure: numbers[structure.name]
