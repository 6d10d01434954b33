"""What a run is for: the structures it is scored, stopped and exported by, and the tissues it is taught for them.

The network tells tissues apart and never levels: names are counted along the column afterwards. So a run for L1 and L2
is taught bodies, and whatever else the count needs, and is scored on L1 and L2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lumbarseg.anatomy import CLASSES, LUMBAR_LEVELS, STRUCTURES, Kind, kinds_from_names
from lumbarseg.datasets.dataset import Case, Dataset
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.errors import DatasetError, LumbarsegError

StructureNames = tuple[str, ...]
_BODIES = LUMBAR_LEVELS
_DISCS = tuple(f"{upper}-{lower}" for upper, lower in pairwise(LUMBAR_LEVELS))

KEYWORDS: dict[str, StructureNames] = {
    "tissues": tuple(str(kind) for kind in CLASSES[1:]),
    "levels": tuple(s.name for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC)),
    "vertebrae": _BODIES,
    "discs": _DISCS,
    "all": (*_BODIES, *_DISCS),
    "spine": (Kind.BODY.value,),
}
"""Words for sets of structures; a kind, as in "spine", is all of its structures as one."""

_LEVEL_KINDS = frozenset({Kind.BODY, Kind.DISC, Kind.SACRUM})
_ALL_TISSUES = frozenset(CLASSES) - {Kind.BACKGROUND}


@dataclass(frozen=True)
class Targets:
    """names: structures and kinds, as in label tables; none means everything that the data annotate."""

    names: StructureNames = ()

    @classmethod
    def parse(cls, words: Iterable[str]) -> Targets:
        """From keywords and names ("all", "L1 L2", "L4-L5"); DatasetError on a word that is neither."""
        names: list[str] = []
        for word in _split_words(words):
            if word in KEYWORDS:
                names += KEYWORDS[word]
                continue
            try:
                kinds_from_names([word])
            except LumbarsegError as error:
                raise DatasetError(f"targets: {error}; keywords are {', '.join(KEYWORDS)}") from error
            if word in (Kind.BACKGROUND, "unknown"):
                raise DatasetError(f"targets: {word!r} cannot be looked for; name a structure")
            names.append(word)
        return cls(tuple(dict.fromkeys(names)))

    @property
    def kinds(self) -> frozenset[Kind]:
        """Tissues that the structures are made of; all of them when everything is wanted."""
        return kinds_from_names(self.names) if self.names else _ALL_TISSUES

    def trained_kinds(self, tables: Iterable[LabelTable]) -> frozenset[Kind]:
        """Tissues that a run on data with these tables learns, background not among them.

        Those of the targets and those that names are counted by, as far as somebody drew them; a label that means one
        of several tissues (a whole vertebra) brings all of them.
        """
        drawn = {kinds_from_names(names) for table in tables for names in foreground_rows(table).values()} - {
            frozenset(CLASSES)
        }
        found = (self.kinds | _LEVEL_KINDS) & frozenset().union(*drawn)
        return frozenset(found.union(*(kinds for kinds in drawn if kinds & found)))

    def with_annotated_arches(self, tables: Iterable[LabelTable]) -> Targets:
        """With the posterior elements of the wanted bodies, where somebody drew both as one."""
        drawn = [kinds_from_names(names) for table in tables for names in foreground_rows(table).values()]
        if not any({Kind.BODY, Kind.ARCH} <= kinds < frozenset(CLASSES) for kinds in drawn):
            return self
        arches = {s.name: f"{s.name} arch" for s in STRUCTURES if s.kind is Kind.BODY} | {"body": "arch"}
        return Targets(tuple(dict.fromkeys((*self.names, *(arches[n] for n in self.names if n in arches)))))

    def annotated_in(self, case: Case) -> StructureNames:
        """Those of the targets that were drawn in a case, by their own name or as a tissue."""
        table, rows = case.label_table, foreground_rows(case.label_table)
        drawn = [set(names) for value, names in rows.items() if value in (case.voxel_counts or table)]
        undrawn = {name for value, names in table.items() if value not in rows for name in names}
        undrawn -= {"unknown"}

        def there(name: str) -> bool:
            (kind,) = kinds_from_names([name])
            own = {name, kind.value} if name != kind else {name, *(s.name for s in STRUCTURES if s.kind is kind)}
            return not {name, kind.value} & undrawn and any(names & own for names in drawn)

        return tuple(name for name in self.names if there(name))

    def usable_cases(self, cases: Iterable[Case]) -> list[Case]:
        """The cases that can teach at least one target."""
        return [case for case in cases if not self.names or self.annotated_in(case)]

    def select_datasets(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """The datasets with their usable cases alone; DatasetError when a target is drawn in no training case."""
        out = [Dataset(d.folder, d.name, d.label_table, tuple(self.usable_cases(d.all_cases))) for d in datasets]
        known = {name for dataset in out for case in dataset.cases("train") for name in self.annotated_in(case)}
        missing = [name for name in self.names if name not in known]
        if missing and (not known or not self._allows_missing):
            where = ", ".join(str(dataset.folder) for dataset in datasets)
            raise DatasetError(f"{where}: no training case in which {' or '.join(missing)} was drawn; see --targets")
        return out

    @property
    def _allows_missing(self) -> bool:
        """Whether the targets are one of the keywords that mean "as far as there is any"."""
        return self.names in (KEYWORDS["tissues"], KEYWORDS["levels"])

    def scoring_tables(self, table: LabelTable) -> tuple[LabelTable, LabelTable]:
        """A case's table as `score` needs it: rows scored by name, and the same with kinds for names.

        What is no target is left out, and so is background, unless it may be a target.
        """
        kinds = {name for name in self.names if name in tuple(Kind)}
        named = {name for name in self.names if name not in kinds or any(s.name == name for s in STRUCTURES)}
        if not self.names:
            return table, {}
        behind = {value: names for value, names in table.items() if value not in foreground_rows(table)}
        by_name, by_kind = {}, {}
        for value, names in foreground_rows(table).items():
            own = set(names)
            if own & (named | {str(kind) for kind in kinds_from_names(named)}):
                by_name[value] = names
            elif own & kinds or {str(kind) for kind in kinds_from_names(names)} & kinds:
                by_kind[value] = tuple(sorted(kinds_from_names(names)))
        return {**behind, **by_name} if by_name else {}, {**behind, **by_kind} if by_kind else {}


def foreground_rows(table: LabelTable) -> LabelTable:
    """The rows of a table that say what something is: neither background nor unknown."""
    return {value: names for value, names in table.items() if not {"background", "unknown"} & set(names)}


def restrict_to_trained(
    allowed: frozenset[Kind], trained_kinds: frozenset[Kind], known_kinds: frozenset[Kind]
) -> frozenset[Kind]:
    """What a set of classes still says in a run that is taught some of them.

    A class that is not taught is no different from background: either may be any of those that are alive, which are
    the taught ones, background, and what the network knew before.
    """
    rest = frozenset(CLASSES) - trained_kinds
    inside = (allowed & trained_kinds) | (rest & known_kinds if allowed & rest else frozenset())
    return frozenset(CLASSES) if inside == known_kinds else inside


def _split_words(words: Iterable[str]) -> list[str]:
    """Words separated by commas or spaces; "L4 arch" is one word."""
    out: list[str] = []
    for word in " ".join(words).replace(",", " ").split():
        if word == "arch" and out and f"{out[-1]} arch" in {s.name for s in STRUCTURES}:
            out[-1] = f"{out[-1]} arch"
        else:
            out.append(word)
    return out
