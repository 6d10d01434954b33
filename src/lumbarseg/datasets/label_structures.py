"""What a label table says, as names and colours for the header of a label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lumbarseg.anatomy import RGB, Kind, Structure, labels_of_kind, structure_by_label, structure_by_name

_GREY: RGB = (128, 128, 128)


def label_structures(label_table: Mapping[int, Sequence[str]]) -> tuple[Structure, ...]:
    """A row for every value but 0: a structure under its name, a set as "L4 or L4 arch" in its first one's colour."""
    return tuple(_label_structure(value, names) for value, names in label_table.items() if value)


def _label_structure(value: int, names: Sequence[str]) -> Structure:
    first = _structure_for_name(names[0])
    alone = len(names) == 1 and first.name == names[0]
    return replace(first, label=value, name=" or ".join(names), code=first.code if alone else "")


def _structure_for_name(name: str) -> Structure:
    """The structure of a name; one that stands for them all where the name is a kind, or nothing known."""
    if name not in tuple(Kind):
        return Structure(0, name, Kind.BACKGROUND, 0, _GREY, "") if name == "unknown" else structure_by_name(name)
    same = labels_of_kind(Kind(name))
    colour = structure_by_label(same[len(same) // 2]).colour if same else _GREY
    return Structure(0, name, Kind(name), 0, colour, "")
