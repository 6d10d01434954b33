"""What people call structures: "vertebrae_L1", "disc L1/L2", "IVD_L45", "spinal canal" in names of the table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lumbarseg.anatomy import LEVELS, Kind, arch_of_level
from lumbarseg.anatomy import STRUCTURES as _STRUCTURES

_BACKGROUND_WORDS = {"background", "bg", "none", "clear", "empty"}
_UNKNOWN_WORDS = {"ignore", "ignored", "unknown", "unlabelled", "unlabeled", "void"}
_DISC_WORDS = {"disc", "discs", "disk", "disks", "ivd", "ivds", "intervertebral"}
_BODY_WORDS = {"body", "bodies", "corpus", "corpora", "vb", "vbs"}
_VERTEBRA_WORDS = {"vertebra", "vertebrae", "vertebras", "vert"}
_ARCH_WORDS = {"arch", "arches", "arcus", "posterior"}
_ARCH_PART_WORDS = {
    "pedicle",
    "pedicles",
    "lamina",
    "laminae",
    "spinous",
    "spinosus",
    "process",
    "processes",
    "articular",
}
_SACRUM_WORDS = {"sacrum", "sacral"}
_CANAL_WORDS = {"canal"}
_CANAL_PART_WORDS = {"cord", "thecal", "dural", "csf", "cauda", "medulla"}
_LEVEL_PREFIXES = {"th": "t", "d": "t", "bwk": "t", "lwk": "l"}
_LEVEL = re.compile(r"(?<![a-z])(th|bwk|lwk|[tdlsc])0?(\d{1,2})")
_JOINED_WORDS = re.compile(r"(vertebrae?|vert|dis[ck]s?|ivds?|vb|body|arch)(?=[tdls]\d)")
_SHORT_DISC = re.compile(r"(?<![a-z])l([1-5])[ ]?([2-6])(?!\d)")  # L4/5, L45


@dataclass(frozen=True)
class ParsedLabelName:
    """What a name says. names: of structures or kinds; partly: of a kind that is drawn in part only.

    bare: a level and no more, which one source means as the body and another as the whole vertebra.
    """

    structures: tuple[str, ...]
    partial_kind: Kind | None = None
    is_bare_level: bool = False


def parse_label_name(text: str) -> ParsedLabelName | None:
    """What a label's name means, None where it cannot be told."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    plain = _JOINED_WORDS.sub(r"\1 ", " ".join(re.findall(r"[a-z0-9]+", spaced.lower())))
    words = set(plain.split())
    if words & _BACKGROUND_WORDS:
        return ParsedLabelName((Kind.BACKGROUND.value,))
    if words & _UNKNOWN_WORDS:
        return ParsedLabelName(("unknown",))
    levels = _find_levels(plain, words)
    if len(levels) > 1:
        return (
            _parse_disc(levels)
            if len(levels) == 2 and not words & (_BODY_WORDS | _VERTEBRA_WORDS | _ARCH_WORDS)
            else None
        )
    if words & _DISC_WORDS:
        return None if levels else ParsedLabelName((Kind.DISC.value,))
    return _parse_vertebra(levels[0], words) if levels else _parse_tissue(words)


def _find_levels(text: str, words: set[str]) -> list[str]:
    """Levels from head to foot, "S1" for the sacrum beside a vertebra."""
    found = []
    for prefix, number in _LEVEL.findall(_SHORT_DISC.sub(r"l\1 l\2", text)):
        found.append(f"{_LEVEL_PREFIXES.get(prefix, prefix).upper()}{int(number)}")
    if len(found) == 1 and found[0][0] == "L" and words & {"s", *_SACRUM_WORDS}:
        found.append("S1")
    return sorted(set(found), key=_level_order)


def _level_order(level: str) -> tuple[int, int]:
    return "CTLS".index(level[0]), int(level[1:])


def _parse_disc(levels: list[str]) -> ParsedLabelName | None:
    upper, lower = levels
    if upper[0] == "C":
        return ParsedLabelName((Kind.DISC.value,))
    name = f"{upper}-{lower}"
    return ParsedLabelName((name,)) if any(s.name == name for s in _STRUCTURES) else None


def _parse_vertebra(level: str, words: set[str]) -> ParsedLabelName | None:
    if level[0] == "S":
        return ParsedLabelName((Kind.SACRUM.value,), partial_kind=None if words & _SACRUM_WORDS else Kind.SACRUM)
    body, arch = (level, arch_of_level(level).name) if level in LEVELS else (Kind.BODY.value, Kind.ARCH.value)
    if level not in LEVELS and level[0] != "C":
        return None
    if words & _BODY_WORDS:
        return ParsedLabelName((body,))
    if words & (_ARCH_WORDS | _ARCH_PART_WORDS):
        return ParsedLabelName((arch,), partial_kind=None if words & _ARCH_WORDS else Kind.ARCH)
    return ParsedLabelName((body, arch), is_bare_level=not words & _VERTEBRA_WORDS)


def _parse_tissue(words: set[str]) -> ParsedLabelName | None:
    """A name without a level."""
    for kind, all_of_it, part in (
        (Kind.SACRUM, _SACRUM_WORDS, set[str]()),
        (Kind.CANAL, _CANAL_WORDS, _CANAL_PART_WORDS),
        (Kind.ARCH, _ARCH_WORDS, _ARCH_PART_WORDS),
        (Kind.BODY, _BODY_WORDS, set[str]()),
    ):
        if words & (all_of_it | part):
            return ParsedLabelName((kind.value,), partial_kind=None if words & all_of_it else kind)
    return ParsedLabelName((Kind.BODY.value, Kind.ARCH.value)) if words & _VERTEBRA_WORDS else None
