"""The table of structures: the only place that defines labels, names, colours, codes and the order along the spine.

Labels keep the numbers of the project's first users: 1-5 are the bodies of L1-L5, 6-9 the discs L1-L2 to L4-L5;
everything else has a number above those. Posterior elements are numbered 50 above their body.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lumbarseg.errors import LumbarsegError

RGB = tuple[int, int, int]


class Kind(StrEnum):
    """Kinds of structures; the network predicts kinds, never levels."""

    BACKGROUND = "background"
    BODY = "body"
    DISC = "disc"
    CANAL = "canal"
    SACRUM = "sacrum"
    ARCH = "arch"


CLASSES = tuple(Kind)
"""Channels of the network's output, in order; channel 0 is the background."""


@dataclass(frozen=True)
class Structure:
    """A named structure of the spine.

    Attributes
    ----------
    label : in a label map, uint8
    order : position from head to foot; a disc stands between its two bodies
    code : SNOMED CT identifier (DICOM CID 7603 and 7604), or "" where none exists
    """

    label: int
    name: str
    kind: Kind
    order: int
    colour: RGB
    code: str


# level: (label of its body, colour of its body, SNOMED CT code of the vertebra)
_VERTEBRAE: dict[str, tuple[int, RGB, str]] = {
    "T1": (35, (241, 214, 145), "64864005"),
    "T2": (33, (216, 165, 120), "53733008"),
    "T3": (31, (183, 214, 211), "1626008"),
    "T4": (29, (152, 189, 207), "73071006"),
    "T5": (27, (178, 212, 142), "56401006"),
    "T6": (25, (244, 170, 147), "45296009"),
    "T7": (23, (185, 102, 83), "62487009"),
    "T8": (21, (170, 140, 220), "11068009"),
    "T9": (19, (120, 160, 210), "82687006"),
    "T10": (17, (90, 180, 160), "7610001"),
    "T11": (15, (16, 164, 144), "12989004"),
    "T12": (13, (166, 89, 255), "23215003"),
    "L1": (1, (255, 196, 60), "66794005"),
    "L2": (2, (255, 124, 32), "14293000"),
    "L3": (3, (232, 62, 70), "36470004"),
    "L4": (4, (214, 72, 170), "11994002"),
    "L5": (5, (110, 92, 220), "49668003"),
    "L6": (37, (150, 110, 90), ""),
}

# disc: (label, SNOMED CT code); the name says between which vertebrae it lies
_DISCS: dict[str, tuple[int, str]] = {
    "T1-T2": (36, "40908007"),
    "T2-T3": (34, "6004007"),
    "T3-T4": (32, "2620004"),
    "T4-T5": (30, "82965004"),
    "T5-T6": (28, "72692000"),
    "T6-T7": (26, "74401007"),
    "T7-T8": (24, "28693002"),
    "T8-T9": (22, "9188009"),
    "T9-T10": (20, "113209001"),
    "T10-T11": (18, "34959001"),
    "T11-T12": (16, "1537001"),
    "T12-L1": (14, "76206002"),
    "L1-L2": (6, "80064006"),
    "L2-L3": (7, "67459009"),
    "L3-L4": (8, "62551000"),
    "L4-L5": (9, "84020006"),
    "L5-S1": (10, "715056000"),
    "L5-L6": (38, ""),
    "L6-S1": (39, ""),
    "L4-S1": (40, ""),
}

_ARCH_OFFSET = 50
_DISC_COLOUR: RGB = (111, 197, 131)
_DISC_COLOUR_ALTERNATE: RGB = (73, 160, 190)
_SACRUM_COLOUR: RGB = (163, 140, 140)
_CANAL_COLOUR: RGB = (244, 214, 49)


def _build_structures() -> tuple[Structure, ...]:
    rank = {level: 10 * i for i, level in enumerate(_VERTEBRAE)}
    rank["S1"] = 10 * len(_VERTEBRAE)
    rows = []
    for level, (label, colour, code) in _VERTEBRAE.items():
        rows.append(Structure(label, level, Kind.BODY, rank[level], colour, code))
        dark: RGB = (colour[0] * 2 // 3, colour[1] * 2 // 3, colour[2] * 2 // 3)
        rows.append(Structure(label + _ARCH_OFFSET, f"{level} arch", Kind.ARCH, rank[level] + 1, dark, code))
    for i, (name, (label, code)) in enumerate(_DISCS.items()):
        colour = _DISC_COLOUR if i % 2 else _DISC_COLOUR_ALTERNATE
        rows.append(Structure(label, name, Kind.DISC, rank[name.split("-")[0]] + 5, colour, code))
    rows.append(Structure(11, "sacrum", Kind.SACRUM, rank["S1"], _SACRUM_COLOUR, "54735007"))
    rows.append(Structure(12, "canal", Kind.CANAL, rank["S1"] + 10, _CANAL_COLOUR, "61853006"))
    return tuple(sorted(rows, key=lambda s: (s.order, s.label)))


STRUCTURES: tuple[Structure, ...] = _build_structures()
LEVELS: tuple[str, ...] = tuple(_VERTEBRAE)
"""The names of the vertebrae from head to foot, L6 last."""
LUMBAR_LEVELS: tuple[str, ...] = tuple(level for level in LEVELS if level.startswith("L") and level != "L6")
"""The five regular lumbar vertebrae."""


_BY_LABEL = {structure.label: structure for structure in STRUCTURES}
_BY_NAME = {structure.name: structure for structure in STRUCTURES}


def structure_by_label(label: int) -> Structure:
    """Return the structure with a label; LumbarsegError when the table has none."""
    if label not in _BY_LABEL:
        raise LumbarsegError(f"label {label} is not in the table of structures")
    return _BY_LABEL[label]


def structure_by_name(name: str) -> Structure:
    """Return the structure of a name ("L4", "L4 arch", "L4-L5", "sacrum"); LumbarsegError when the table has none."""
    if name not in _BY_NAME:
        raise LumbarsegError(f"{name!r} is no structure of the table; names look like L4, L4-L5, 'L4 arch' or sacrum")
    return _BY_NAME[name]


def parse_level(text: str) -> str:
    """Return the name of a vertebra in any case as the table has it; LumbarsegError lists the names otherwise."""
    level = text.strip().upper()
    if level not in LEVELS:
        raise LumbarsegError(f"{text!r} is not a vertebra; choose one of {', '.join(LEVELS)}")
    return level


def disc_between(upper: str, lower: str) -> Structure:
    """Return the disc between two neighbouring vertebrae, "S1" meaning the sacrum."""
    return structure_by_name(f"{upper}-{lower}")


def arch_of_level(level: str) -> Structure:
    """Return the posterior elements of a vertebra."""
    return structure_by_name(f"{level} arch")


def name_and_levels(name: str) -> frozenset[str]:
    """Return a structure's name and the levels that it lies at: "L3-L4" with L3 and L4, "L3 arch" with L3."""
    return frozenset({name, *name.split(maxsplit=1)[0].split("-")})


def labels_of_kind(kind: Kind) -> tuple[int, ...]:
    """Return the labels of all structures of one kind, from head to foot."""
    return tuple(s.label for s in STRUCTURES if s.kind is kind)


def levels_upward(lowest: str, count: int) -> list[str]:
    """Return the names of `count` vertebrae upward from `lowest`: levels_upward("L5", 3) is ["L5", "L4", "L3"]."""
    names = list(LEVELS)
    if lowest != "L6":
        names.remove("L6")
    if lowest not in names:
        raise LumbarsegError(f"{lowest!r} is no vertebra; choose one of {', '.join(LEVELS)}")
    upward = names[names.index(lowest) :: -1]
    if count > len(upward):
        raise LumbarsegError(f"{count} vertebrae above and with {lowest} reach past {LEVELS[0]}")
    return upward[:count]


def kinds_from_names(names: Iterable[str]) -> frozenset[Kind]:
    """Return the kinds of a set of structure names or kind names; "unknown" means all kinds."""
    kinds: set[Kind] = set()
    for name in names:
        if name == "unknown":
            kinds.update(CLASSES)
        else:
            kinds.add(Kind(name) if name in CLASSES else structure_by_name(name).kind)
    return frozenset(kinds)
