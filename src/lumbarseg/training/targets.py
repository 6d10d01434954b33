"""The targets of a run: the structures that it is scored, stopped and exported by, and the tissues it trains for them.

The network separates tissues, not levels: level names are counted along the spine afterwards. So a run for L1 and L2
trains bodies, and whatever else counting needs, and is scored on L1 and L2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from lumbarseg.anatomy import CLASSES, LUMBAR_LEVELS, STRUCTURES, Kind, kinds_from_names
from lumbarseg.datasets.dataset import Case, Dataset
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.errors import DatasetError, LumbarsegError

StructureNames = tuple[str, ...]
_DISCS = tuple(f"{upper}-{lower}" for upper, lower in pairwise(LUMBAR_LEVELS))
_STRUCTURE_NAMES = frozenset(s.name for s in STRUCTURES)

KEYWORDS: dict[str, StructureNames] = {
    "tissues": tuple(str(kind) for kind in CLASSES[1:]),
    "levels": tuple(s.name for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC)),
    "vertebrae": LUMBAR_LEVELS,
    "discs": _DISCS,
    "all": (*LUMBAR_LEVELS, *_DISCS),
    "spine": (Kind.BODY.value,),
}
"""Names for sets of structures; a kind, as in "spine", is all of its structures as one."""

_LEVEL_KINDS = frozenset({Kind.BODY, Kind.DISC, Kind.SACRUM})
_ALL_TISSUES = frozenset(CLASSES) - {Kind.BACKGROUND}


@dataclass(frozen=True)
class Targets:
    """Names of structures and kinds, as in label tables; none means everything that the datasets annotate."""

    names: StructureNames = ()

    @classmethod
    def parse(cls, keywords: Iterable[str]) -> Targets:
        """Parse keywords and names ("all", "L1 L2", "L4-L5"); raise DatasetError for a word that is neither."""
        names: list[str] = []
        for word in _split_words(keywords):
            if word in KEYWORDS:
                names += KEYWORDS[word]
                continue
            try:
                kinds_from_names([word])
            except LumbarsegError as error:
                raise DatasetError(f"targets: {error}; keywords are {', '.join(KEYWORDS)}") from error
            if word in (Kind.BACKGROUND, "unknown"):
                raise DatasetError(f"targets: {word!r} cannot be segmented; name a structure")
            names.append(word)
        return cls(tuple(dict.fromkeys(names)))

    @property
    def kinds(self) -> frozenset[Kind]:
        """Return the tissues of the structures; all tissues when there are no names."""
        return kinds_from_names(self.names) if self.names else _ALL_TISSUES

    def trained_kinds(self, tables: Iterable[LabelTable]) -> frozenset[Kind]:
        """Return the tissues that a run on datasets with these label tables trains, without the background.

        These are the tissues of the targets and those that level names are counted by, as far as they are annotated; a
        label that stands for one of several tissues (a whole vertebra) adds all of them.
        """
        annotated = _annotated_kind_sets(tables) - {frozenset(CLASSES)}
        kinds_of_model = (self.kinds | _LEVEL_KINDS) & frozenset().union(*annotated)
        return frozenset(kinds_of_model.union(*(kinds for kinds in annotated if kinds & kinds_of_model)))

    def with_annotated_arches(self, tables: Iterable[LabelTable]) -> Targets:
        """Add the posterior elements of the target bodies, where a dataset annotates both as one."""
        kind_sets = _annotated_kind_sets(tables)
        if not any({Kind.BODY, Kind.ARCH} <= kinds < frozenset(CLASSES) for kinds in kind_sets):
            return self
        arches = {s.name: f"{s.name} arch" for s in STRUCTURES if s.kind is Kind.BODY} | {"body": "arch"}
        return Targets(tuple(dict.fromkeys((*self.names, *(arches[n] for n in self.names if n in arches)))))

    def annotated_in(self, case: Case) -> StructureNames:
        """Return the targets that are annotated in a case, by their own name or as a tissue."""
        table, foreground = case.label_table, foreground_rows(case.label_table)
        annotated = [set(names) for value, names in foreground.items() if value in (case.voxel_counts or table)]
        unannotated = {name for value, names in table.items() if value not in foreground for name in names}
        unannotated -= {"unknown"}

        def is_annotated(name: str) -> bool:
            (kind,) = kinds_from_names([name])
            names = {name, kind.value} if name != kind else {name, *(s.name for s in STRUCTURES if s.kind is kind)}
            return not {name, kind.value} & unannotated and any(row & names for row in annotated)

        return tuple(name for name in self.names if is_annotated(name))

    def usable_cases(self, cases: Iterable[Case]) -> list[Case]:
        """Return the cases in which at least one target is annotated."""
        return [case for case in cases if not self.names or self.annotated_in(case)]

    def select_datasets(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Return the datasets with their usable cases; raise DatasetError if no training case annotates a target."""
        selected = [replace(d, all_cases=tuple(self.usable_cases(d.all_cases))) for d in datasets]
        annotated = {
            name for dataset in selected for case in dataset.cases("train") for name in self.annotated_in(case)
        }
        missing = [name for name in self.names if name not in annotated]
        if missing and (not annotated or not self._allows_missing):
            folders = ", ".join(str(dataset.folder) for dataset in datasets)
            raise DatasetError(f"{folders}: no training case annotates {' or '.join(missing)}; see --targets")
        return selected

    @property
    def _allows_missing(self) -> bool:
        """Return whether the targets are one of the keywords that mean "as far as annotated"."""
        return self.names in (KEYWORDS["tissues"], KEYWORDS["levels"])

    def scoring_tables(self, table: LabelTable) -> tuple[LabelTable, LabelTable]:
        """Return the rows of a case's label table to score by name, and those to score by kind.

        Rows of other structures are left out, and those of the background as well, except beside a target.
        """
        if not self.names:
            return table, {}
        kinds = {name for name in self.names if name in tuple(Kind)}
        structure_names = {name for name in self.names if name not in kinds or name in _STRUCTURE_NAMES}
        foreground = foreground_rows(table)
        background = {value: names for value, names in table.items() if value not in foreground}
        by_name, by_kind = {}, {}
        for value, names in foreground.items():
            row = set(names)
            if row & (structure_names | {str(kind) for kind in kinds_from_names(structure_names)}):
                by_name[value] = names
            elif row & kinds or {str(kind) for kind in kinds_from_names(names)} & kinds:
                by_kind[value] = tuple(sorted(kinds_from_names(names)))
        return {**background, **by_name} if by_name else {}, {**background, **by_kind} if by_kind else {}


def foreground_rows(table: LabelTable) -> LabelTable:
    """Return the rows of a label table that are neither background nor unknown."""
    return {value: names for value, names in table.items() if not {"background", "unknown"} & set(names)}


def restrict_to_trained(
    allowed: frozenset[Kind], trained_kinds: frozenset[Kind], known_kinds: frozenset[Kind]
) -> frozenset[Kind]:
    """Return what a set of classes still means in a run that trains only some of them.

    A class that is not trained is not separated from the background: either may be any class that the network knows,
    which are the trained ones, background, and what its initial weights knew.
    """
    untrained = frozenset(CLASSES) - trained_kinds
    restricted = (allowed & trained_kinds) | (untrained & known_kinds if allowed & untrained else frozenset())
    return frozenset(CLASSES) if restricted == known_kinds else restricted


def _annotated_kind_sets(tables: Iterable[LabelTable]) -> set[frozenset[Kind]]:
    return {kinds_from_names(names) for table in tables for names in foreground_rows(table).values()}


def _split_words(keywords: Iterable[str]) -> list[str]:
    """Split at commas and spaces; "L4 arch" is one word."""
    split: list[str] = []
    for word in " ".join(keywords).replace(",", " ").split():
        if word == "arch" and split and f"{split[-1]} arch" in _STRUCTURE_NAMES:
            split[-1] = f"{split[-1]} arch"
        else:
            split.append(word)
    return split
