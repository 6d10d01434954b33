"""What people call structures: "vertebrae_L1", "disc L1/L2", "IVD_L45", "spinal canal" in names of the table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lumbarseg.anatomy import LEVELS, Kind, arch_of
from lumbarseg.anatomy import STRUCTURES as _STRUCTURES

_NOTHING = {"background", "bg", "none", "clear", "empty"}
_ANYTHING = {"ignore", "ignored", "unknown", "unlabelled", "unlabeled", "void"}
_DISC = {"disc", "discs", "disk", "disks", "ivd", "ivds", "intervertebral"}
_BODY = {"body", "bodies", "corpus", "corpora", "vb", "vbs"}
_WHOLE = {"vertebra", "vertebrae", "vertebras", "vert"}
_ARCH = {"arch", "arches", "arcus", "posterior"}
_ARCH_PART = {"pedicle", "pedicles", "lamina", "laminae", "spinous", "spinosus", "process", "processes", "articular"}
_SACRUM = {"sacrum", "sacral"}
_CANAL = {"canal"}
_CANAL_PART = {"cord", "thecal", "dural", "csf", "cauda", "medulla"}
_PREFIXES = {"th": "t", "d": "t", "bwk": "t", "lwk": "l"}
_LEVEL = re.compile(r"(?<![a-z])(th|bwk|lwk|[tdlsc])0?(\d{1,2})")
_JOINED = re.compile(r"(vertebrae?|vert|dis[ck]s?|ivds?|vb|body|arch)(?=[tdls]\d)")
_SHORT = re.compile(r"(?<![a-z])l([1-5])[ ]?([2-6])(?!\d)")  # L4/5, L45


@dataclass(frozen=True)
class Meaning:
    """What a name says. names: of structures or kinds; partly: of a kind that is drawn in part only.

    bare: a level and no more, which one source means as the body and another as the whole vertebra.
    """

    names: tuple[str, ...]
    partly: Kind | None = None
    bare: bool = False


def read_name(text: str) -> Meaning | None:
    """What a label's name means, None where it cannot be told."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    plain = _JOINED.sub(r"\1 ", " ".join(re.findall(r"[a-z0-9]+", spaced.lower())))
    words = set(plain.split())
    if words & _NOTHING:
        return Meaning((Kind.BACKGROUND.value,))
    if words & _ANYTHING:
        return Meaning(("unknown",))
    levels = _levels(plain, words)
    if len(levels) > 1:
        return _disc(levels) if len(levels) == 2 and not words & (_BODY | _WHOLE | _ARCH) else None
    if words & _DISC:
        return None if levels else Meaning((Kind.DISC.value,))
    return _vertebra(levels[0], words) if levels else _tissue(words)


def _levels(plain: str, words: set[str]) -> list[str]:
    """Levels from head to foot, "S1" for the sacrum beside a vertebra."""
    found = []
    for prefix, number in _LEVEL.findall(_SHORT.sub(r"l\1 l\2", plain)):
        found.append(f"{_PREFIXES.get(prefix, prefix).upper()}{int(number)}")
    if len(found) == 1 and found[0][0] == "L" and words & {"s", *_SACRUM}:
        found.append("S1")
    return sorted(set(found), key=_place)


def _place(level: str) -> tuple[int, int]:
    return "CTLS".index(level[0]), int(level[1:])


def _disc(levels: list[str]) -> Meaning | None:
    upper, lower = levels
    if upper[0] == "C":
        return Meaning((Kind.DISC.value,))
    name = f"{upper}-{lower}"
    return Meaning((name,)) if any(s.name == name for s in _STRUCTURES) else None


def _vertebra(level: str, words: set[str]) -> Meaning | None:
    if level[0] == "S":
        return Meaning((Kind.SACRUM.value,), partly=None if words & _SACRUM else Kind.SACRUM)
    body, arch = (level, arch_of(level).name) if level in LEVELS else (Kind.BODY.value, Kind.ARCH.value)
    if level not in LEVELS and level[0] != "C":
        return None
    if words & _BODY:
        return Meaning((body,))
    if words & (_ARCH | _ARCH_PART):
        return Meaning((arch,), partly=None if words & _ARCH else Kind.ARCH)
    return Meaning((body, arch), bare=not words & _WHOLE)


def _tissue(words: set[str]) -> Meaning | None:
    """A name without a level."""
    for kind, all_of_it, part in (
        (Kind.SACRUM, _SACRUM, set[str]()),
        (Kind.CANAL, _CANAL, _CANAL_PART),
        (Kind.ARCH, _ARCH, _ARCH_PART),
        (Kind.BODY, _BODY, set[str]()),
    ):
        if words & (all_of_it | part):
            return Meaning((kind.value,), partly=None if words & all_of_it else kind)
    return Meaning((Kind.BODY.value, Kind.ARCH.value)) if words & _WHOLE else None
