"""Structures from names as people write them: "vertebrae_L1", "disc L1/L2", "IVD_L45", "spinal canal"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, arch_of_level

from .label_table import UNKNOWN

_BACKGROUND_WORDS = {"background", "bg", "none", "clear", "empty"}
_UNKNOWN_WORDS = {"ignore", "ignored", "unknown", "unlabelled", "unlabeled", "void"}
_DISC_WORDS = {"disc", "discs", "disk", "disks", "ivd", "ivds", "intervertebral"}
_BODY_WORDS = {"body", "bodies", "corpus", "corpora", "vb", "vbs"}
_VERTEBRA_WORDS = {"vertebra", "vertebrae", "vertebras", "vert"}
_ARCH_WORDS = {"arch", "arches", "arcus", "posterior"}
_ARCH_PART_WORDS = {
    *("pedicle", "pedicles", "lamina", "laminae", "spinous", "spinosus", "process", "processes", "articular"),
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
    """The meaning of a label's name.

    Attributes
    ----------
    structures : names of structures or kinds
    partial_kind : a kind of which the label is only a part
    is_bare_level : a level alone, which some sources use for the body and others for the complete vertebra
    """

    structures: tuple[str, ...]
    partial_kind: Kind | None = None
    is_bare_level: bool = False


def parse_label_name(text: str) -> ParsedLabelName | None:
    """Return the meaning of a label's name, None where it is unknown."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    plain = _JOINED_WORDS.sub(r"\1 ", " ".join(re.findall(r"[a-z0-9]+", spaced.lower())))
    tokens = set(plain.split())
    if tokens & _BACKGROUND_WORDS:
        return ParsedLabelName((Kind.BACKGROUND.value,))
    if tokens & _UNKNOWN_WORDS:
        return ParsedLabelName((UNKNOWN,))
    levels = _find_levels(plain, tokens)
    if len(levels) > 1:
        is_disc = len(levels) == 2 and not tokens & (_BODY_WORDS | _VERTEBRA_WORDS | _ARCH_WORDS)
        return _parse_disc(*levels) if is_disc else None
    if tokens & _DISC_WORDS:
        return None if levels else ParsedLabelName((Kind.DISC.value,))
    return _parse_vertebra(levels[0], tokens) if levels else _parse_tissue(tokens)


def possible_structures(name: str) -> tuple[str, ...]:
    """Return the structures that a segment of this name may be: of "L4 or L4 arch" both; () for an unknown name."""
    if any(structure.name == name.strip() for structure in STRUCTURES):
        return (name.strip(),)
    parsed = [parse_label_name(part) for part in name.split(" or ")]
    return tuple(dict.fromkeys(s for p in parsed if p for s in p.structures)) if all(parsed) else ()


def _find_levels(text: str, tokens: set[str]) -> list[str]:
    """Return the levels in a text from head to foot, "S1" for the sacrum beside a vertebra."""
    matches = _LEVEL.findall(_SHORT_DISC.sub(r"l\1 l\2", text))
    levels = {f"{_LEVEL_PREFIXES.get(prefix, prefix).upper()}{int(number)}" for prefix, number in matches}
    if len(matches) == 1 and min(levels)[0] == "L" and tokens & {"s", *_SACRUM_WORDS}:
        levels.add("S1")
    return sorted(levels, key=lambda level: ("CTLS".index(level[0]), int(level[1:])))


def _parse_disc(upper: str, lower: str) -> ParsedLabelName | None:
    if upper[0] == "C":
        return ParsedLabelName((Kind.DISC.value,))
    name = f"{upper}-{lower}"
    return ParsedLabelName((name,)) if any(s.name == name for s in STRUCTURES) else None


def _parse_vertebra(level: str, tokens: set[str]) -> ParsedLabelName | None:
    if level[0] == "S":
        return ParsedLabelName((Kind.SACRUM.value,), partial_kind=None if tokens & _SACRUM_WORDS else Kind.SACRUM)
    if level not in LEVELS and level[0] != "C":
        return None
    body, arch = (level, arch_of_level(level).name) if level in LEVELS else (Kind.BODY.value, Kind.ARCH.value)
    if tokens & _BODY_WORDS:
        return ParsedLabelName((body,))
    if tokens & (_ARCH_WORDS | _ARCH_PART_WORDS):
        return ParsedLabelName((arch,), partial_kind=None if tokens & _ARCH_WORDS else Kind.ARCH)
    return ParsedLabelName((body, arch), is_bare_level=not tokens & _VERTEBRA_WORDS)


def _parse_tissue(tokens: set[str]) -> ParsedLabelName | None:
    """Return the meaning of a name without a level."""
    for kind, complete_words, part_words in (
        (Kind.SACRUM, _SACRUM_WORDS, set[str]()),
        (Kind.CANAL, _CANAL_WORDS, _CANAL_PART_WORDS),
        (Kind.ARCH, _ARCH_WORDS, _ARCH_PART_WORDS),
        (Kind.BODY, _BODY_WORDS, set[str]()),
    ):
        if tokens & (complete_words | part_words):
            return ParsedLabelName((kind.value,), partial_kind=None if tokens & complete_words else kind)
    return ParsedLabelName((Kind.BODY.value, Kind.ARCH.value)) if tokens & _VERTEBRA_WORDS else None
