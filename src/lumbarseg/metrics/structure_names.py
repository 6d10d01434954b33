"""Sets of names: what a value of a label map may be, what such a set is called, and what it could be mixed up with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, arch_of_level, structure_by_name

StructureNames = frozenset[str]
AMBIGUOUS_NAMES = frozenset({"background", "unknown"})
"""A set with one of these says of no voxel what it is."""

VERTEBRA_SUFFIX = " vertebra"
"""Ends the name of a body with its arch: "L4 vertebra"."""

_COMBINED_NAMES = {frozenset({"body", "arch"}): "vertebra"}
_KIND_ORDER = ("body", "vertebra", "disc", "sacrum", "canal", "arch")


def own_label_table(kinds: Iterable[Kind] = tuple(Kind)) -> dict[int, tuple[str, ...]]:
    """The table of a reference that has this package's own values, of some kinds or of all."""
    wanted = tuple(kinds)
    return {s.label: (s.name,) for s in STRUCTURES if s.kind in wanted}


def name_sets(label_table: Mapping[int, Iterable[str]] | None) -> dict[int, StructureNames]:
    """A table with its names as sets; by default this package's own values."""
    return {value: frozenset(names) for value, names in (label_table or own_label_table()).items()}


def labels_with_names(names: Iterable[str]) -> frozenset[int]:
    """Label values that a set of names allows."""
    names = frozenset(names)
    return frozenset(s.label for s in STRUCTURES if s.name in names or s.kind in names or "unknown" in names)


def is_indistinguishable(names: StructureNames, prediction_names: Iterable[StructureNames]) -> bool:
    """Whether a labelling cannot tell `wanted` from something else; meaning: the sets that its own values stand for."""
    labels = labels_with_names(names)
    return any(labels_with_names(each) & labels and not labels_with_names(each) <= labels for each in prediction_names)


def display_name(names: StructureNames) -> str:
    """A set of names in a word: "L4" for a body, "L4 vertebra" for a body with its arch, "vertebra" for the tissue."""
    levels = {name.removesuffix(" arch") for name in names}
    if len(names) == 2 and len(levels) == 1 and levels <= set(LEVELS):
        return levels.pop() + VERTEBRA_SUFFIX
    return _COMBINED_NAMES.get(names, "/".join(sorted(names)))


def level_in_name(name: str) -> str:
    """What stands for the level in a title: "L4" of "L4", "L4 arch" and "L4 vertebra", "L4-L5" of a disc, else ""."""
    level = name.removesuffix(VERTEBRA_SUFFIX).removesuffix(" arch")
    levelled = {s.name for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC)}
    return level if level in levelled else ""


def kind_of_name(name: str) -> str:
    """The kind of what a title names, "vertebra" for a body with its arch; a title of several kinds is its own."""
    if name.endswith(VERTEBRA_SUFFIX):
        return "vertebra"
    known = {s.name: str(s.kind) for s in STRUCTURES}
    return known.get(name, name)


def tissue_kinds(name: str) -> frozenset[str]:
    """Kinds of tissue that a title is made of: body and arch of a vertebra."""
    kinds = {kind_of_name(part) for part in name.split("/")}
    return frozenset(part for kind in kinds for part in (("body", "arch") if kind == "vertebra" else (kind,)))


def anatomical_sort_key(name: str) -> tuple[int, int, str]:
    """Sorts titles by kind, within a kind from head to foot; what this package does not know comes last."""
    kind, level = kind_of_name(name), level_in_name(name)
    order = structure_by_name(level).order if level else -1
    return (_KIND_ORDER.index(kind) if kind in _KIND_ORDER else len(_KIND_ORDER), order, name)


def labels_by_name(kind: str) -> dict[str, tuple[int, ...]]:
    """Everything of one kind that has a name of its own, from head to foot: title to label values.

    kind: "vertebra" for bodies with their arches, else a kind of the table of structures.
    """
    if kind == "vertebra":
        return {
            level + VERTEBRA_SUFFIX: (structure_by_name(level).label, arch_of_level(level).label) for level in LEVELS
        }
    return {s.name: (s.label,) for s in STRUCTURES if s.kind == kind}


def confusable_structures(names: StructureNames) -> dict[str, tuple[int, ...]] | None:
    """What could lie where a structure lies: title to label values; None for tissues, sacrum and canal."""
    parts = structures_named(names)
    kinds = {part.kind for part in parts}
    if len(parts) != len(names) or not parts or kinds & {Kind.SACRUM, Kind.CANAL}:
        return None
    if kinds == {Kind.BODY, Kind.ARCH} and display_name(names).endswith(VERTEBRA_SUFFIX):
        return labels_by_name("vertebra")
    return labels_by_name(parts[0].kind) if len(names) == 1 else None


def structures_named(names: StructureNames) -> list[Structure]:
    """The structures among a set of names."""
    return [s for s in STRUCTURES if s.name in names]
