"""Sets of structure names: what a value of a label map may be, how a set is displayed, what it can be confused with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, arch_of_level, structure_by_name

StructureNames = frozenset[str]
AMBIGUOUS_NAMES = frozenset({"background", "unknown"})
"""A set with one of these does not say of any voxel what it is."""

VERTEBRA_SUFFIX = " vertebra"
"""End of the display name of a body with its arch: "L4 vertebra"."""

_COMBINED_NAMES = {frozenset({"body", "arch"}): "vertebra"}
_KIND_ORDER = ("body", "vertebra", "disc", "sacrum", "canal", "arch")
_KINDS = {s.name: str(s.kind) for s in STRUCTURES}


def own_label_table(kinds: Iterable[Kind] = tuple(Kind)) -> dict[int, tuple[str, ...]]:
    """Return the label table of this package's own values, of all kinds or of some."""
    selected = tuple(kinds)
    return {s.label: (s.name,) for s in STRUCTURES if s.kind in selected}


def name_sets(label_table: Mapping[int, Iterable[str]] | None) -> dict[int, StructureNames]:
    """Return a label table with its names as sets; by default that of this package's own values."""
    return {value: frozenset(names) for value, names in (label_table or own_label_table()).items()}


def labels_with_names(names: Iterable[str]) -> frozenset[int]:
    """Return the labels that a set of names of structures and kinds allows."""
    names = frozenset(names)
    return frozenset(s.label for s in STRUCTURES if s.name in names or s.kind in names or "unknown" in names)


def is_indistinguishable(names: StructureNames, prediction_names: Iterable[StructureNames]) -> bool:
    """Return whether a prediction with values for `prediction_names` cannot tell a set from other structures."""
    labels = labels_with_names(names)
    return any(labels_with_names(each) & labels and not labels_with_names(each) <= labels for each in prediction_names)


def display_name(names: StructureNames) -> str:
    """Name a set: "L4" for a body, "L4 vertebra" for a body with its arch, "vertebra" for all of them."""
    levels = {name.removesuffix(" arch") for name in names}
    if len(names) == 2 and len(levels) == 1 and levels <= set(LEVELS):
        return levels.pop() + VERTEBRA_SUFFIX
    return _COMBINED_NAMES.get(names, "/".join(sorted(names)))


def level_in_name(name: str) -> str:
    """Return the level of a display name: "L4" of "L4", "L4 arch" and "L4 vertebra", "L4-L5" of a disc, else ""."""
    level = name.removesuffix(VERTEBRA_SUFFIX).removesuffix(" arch")
    return level if _KINDS.get(level) in (Kind.BODY, Kind.DISC) else ""


def kind_of_name(name: str) -> str:
    """Return the kind of a display name, "vertebra" for a body with its arch; any other name is its own kind."""
    return "vertebra" if name.endswith(VERTEBRA_SUFFIX) else _KINDS.get(name, name)


def tissue_kinds(name: str) -> frozenset[str]:
    """Return the kinds that a display name consists of: body and arch for a vertebra."""
    kinds = {kind_of_name(part) for part in name.split("/")}
    return frozenset(part for kind in kinds for part in (("body", "arch") if kind == "vertebra" else (kind,)))


def anatomical_sort_key(name: str) -> tuple[int, int, str]:
    """Sort display names by kind, then from head to foot; names that are no structure come last."""
    kind, level = kind_of_name(name), level_in_name(name)
    order = structure_by_name(level).order if level else -1
    return (_KIND_ORDER.index(kind) if kind in _KIND_ORDER else len(_KIND_ORDER), order, name)


def labels_by_name(kind: str) -> dict[str, tuple[int, ...]]:
    """Return the labels of all structures of a kind by display name, from head to foot; kind may be "vertebra"."""
    if kind == "vertebra":
        return {
            level + VERTEBRA_SUFFIX: (structure_by_name(level).label, arch_of_level(level).label) for level in LEVELS
        }
    return {s.name: (s.label,) for s in STRUCTURES if s.kind == kind}


def confusable_structures(names: StructureNames) -> dict[str, tuple[int, ...]] | None:
    """Return the labels of everything that could be predicted in place of a structure, by display name.

    None for tissues, sacrum and canal, which have no levels to confuse.
    """
    kinds = {_KINDS.get(name) for name in names}
    if not names or kinds & {None, Kind.SACRUM, Kind.CANAL}:
        return None
    if kinds == {Kind.BODY, Kind.ARCH} and display_name(names).endswith(VERTEBRA_SUFFIX):
        return labels_by_name("vertebra")
    return labels_by_name(str(kinds.pop())) if len(names) == 1 else None
