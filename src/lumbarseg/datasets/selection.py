"""Which cases of a dataset are wanted: by what is annotated in them, how and where they were acquired, and split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lumbarseg.anatomy import CLASSES, LUMBAR_LEVELS, STRUCTURES, Kind, arch_of_level, disc_between, kinds_from_names
from lumbarseg.errors import DatasetError, LumbarsegError

from .dataset import SPLITS, Case, Dataset
from .splits import SplitSettings, patient_id

_UNSPECIFIC_NAMES = {Kind.BACKGROUND.value, "unknown"}
_KIND_OF_STRUCTURE = {s.name: s.kind.value for s in STRUCTURES}
_LUMBAR_STRUCTURES = {
    *LUMBAR_LEVELS,
    *(arch_of_level(level).name for level in LUMBAR_LEVELS),
    *(disc_between(*pair).name for pair in zip(LUMBAR_LEVELS, (*LUMBAR_LEVELS[1:], "S1"), strict=True)),
    *(str(kind) for kind in CLASSES),
}
"""What a regular lumbar spine has, and kinds."""


def annotated_structures(case: Case) -> frozenset[str]:
    """What is drawn in a case: names of structures, and their kinds.

    A part of a set counts, since it is drawn within it: a whole L4 is "L4", "L4 arch", "body" and "arch". In a case
    that was written without its field `present`, every value of the table is taken to occur.
    """
    values = case.voxel_counts or case.label_table
    drawn = {name for value in values for name in _foreground_names(case.label_table[value])}
    return frozenset(drawn | {_KIND_OF_STRUCTURE[name] for name in drawn if name in _KIND_OF_STRUCTURE})


def parse_structure_names(arguments: Iterable[str]) -> tuple[str, ...]:
    """Names of structures and kinds from words parted by commas or blanks; "L4 arch" is one name.

    DatasetError on a word that is neither, or that names nothing to see.
    """
    names: list[str] = []
    for word in " ".join(arguments).replace(",", " ").split():
        if word == Kind.ARCH and names and f"{names[-1]} {word}" in _KIND_OF_STRUCTURE:
            names[-1] = f"{names[-1]} {word}"
            continue
        try:
            kinds_from_names([word])
        except LumbarsegError as error:
            raise DatasetError(f"structures: {error}, or a kind: {', '.join(list(Kind)[1:])}") from error
        if word in _UNSPECIFIC_NAMES:
            raise DatasetError(f"structures: {word!r} is nothing to look for; name a structure")
        names.append(word)
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Selection:
    """What a case must be to be wanted; whatever is left empty allows everything.

    structures: one of them must be annotated, all of them for `complete`. complete without structures: everything
    lumbar that any case of the dataset shows. contrasts: as the case says, capitals aside. scanners: parts of the
    scanner's name. patients: as the case says; a case that says nothing goes by its name.
    """

    structures: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    scanners: tuple[str, ...] = ()
    complete: bool = False
    split: str | None = None
    patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.split not in (None, *SPLITS):
            raise DatasetError(f"{self.split!r} is no split; choose one of {', '.join(SPLITS)}")
        object.__setattr__(self, "structures", parse_structure_names(self.structures))

    def apply(self, cases: Iterable[Case]) -> list[Case]:
        """The wanted cases of one dataset, in their order."""
        held = list(cases)
        wanted = set(self.structures)
        if self.complete and not wanted:
            wanted = {name for case in held for name in annotated_structures(case) if name in _LUMBAR_STRUCTURES}
        return [case for case in held if self._matches_acquisition(case) and self._has_structures(case, wanted)]

    def _has_structures(self, case: Case, required: set[str]) -> bool:
        if self.complete:
            return required <= annotated_structures(case)
        return not required or bool(required & annotated_structures(case))

    def _matches_acquisition(self, case: Case) -> bool:
        """Everything but what is annotated."""
        contrast, scanner = case.contrast.casefold(), case.scanner.casefold()
        return (
            self.split in (None, case.split)
            and (not self.patients or patient_id(case) in self.patients)
            and (not self.contrasts or contrast in [text.casefold() for text in self.contrasts])
            and (not self.scanners or any(text.casefold() in scanner for text in self.scanners))
        )


def select_cases(
    datasets: Sequence[Dataset], selection: Selection, splitting: SplitSettings | None = None
) -> list[Dataset]:
    """The datasets with their wanted cases alone; DatasetError when not one is left.

    Each dataset is split first, whole, and selected from afterwards: so a fold's patients are the same ones whatever
    is selected, and a model is never judged on patients that it was trained on.
    """
    out = []
    for dataset in datasets:
        cases = splitting.assign(dataset.all_cases) if splitting else dataset.all_cases
        out.append(replace(dataset, all_cases=tuple(selection.apply(cases))))
    if not any(dataset.all_cases for dataset in out):
        raise DatasetError(_explain_empty_selection(datasets, selection))
    return out


def _explain_empty_selection(datasets: Sequence[Dataset], selection: Selection) -> str:
    """Why nothing is left: the first demand that no case meets, and what there is instead."""
    cases = [case for dataset in datasets for case in dataset.all_cases]
    where = ", ".join(str(dataset.folder) for dataset in datasets)
    for alone, there in (
        (Selection(contrasts=selection.contrasts), {case.contrast for case in cases}),
        (Selection(scanners=selection.scanners), {case.scanner for case in cases}),
        (Selection(structures=selection.structures), {name for case in cases for name in annotated_structures(case)}),
        (Selection(patients=selection.patients), {patient_id(case) for case in cases}),
    ):
        if cases and not alone.apply(cases):
            asked = [*alone.contrasts, *alone.scanners, *alone.structures, *alone.patients]
            return f"{where}: no case with {' or '.join(asked)}; there are {_format_names(there)}"
    return f"{where}: no case is left of {len(cases)}; select less, or another --split"


def _format_names(names: Iterable[str], limit: int = 12) -> str:
    told = sorted(name or "(not said)" for name in names)
    return ", ".join(told[:limit]) + (f" and {len(told) - limit} more" if len(told) > limit else "")


def _foreground_names(names: Iterable[str]) -> set[str]:
    """What a row of a label table names, nothing where it may be background or anything."""
    row = set(names)
    return set() if row & _UNSPECIFIC_NAMES else row
