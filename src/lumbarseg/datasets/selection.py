"""Selection of cases: by annotated structures, contrast, scanner, patient and split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lumbarseg.anatomy import CLASSES, LUMBAR_LEVELS, STRUCTURES, Kind, arch_of_level, kinds_from_names
from lumbarseg.errors import DatasetError, LumbarsegError

from .dataset import SPLITS, Case, Dataset
from .label_table import UNKNOWN
from .schemes import disc_below
from .splits import SplitSettings, patient_id

_UNSPECIFIC_NAMES = {Kind.BACKGROUND.value, UNKNOWN}
_KIND_OF_STRUCTURE = {s.name: s.kind.value for s in STRUCTURES}
_LUMBAR_STRUCTURES = {
    *LUMBAR_LEVELS,
    *(arch_of_level(level).name for level in LUMBAR_LEVELS),
    *map(disc_below, LUMBAR_LEVELS),
    *(str(kind) for kind in CLASSES),
}
"""The structures of a regular lumbar spine, and kinds."""


def annotated_structures(case: Case) -> frozenset[str]:
    """Return the names of annotated structures and their kinds.

    All names of a value count: a complete L4 is "L4", "L4 arch", "body" and "arch". In a case without voxel counts,
    every value of the table is taken to occur.
    """
    values = case.voxel_counts or case.label_table
    names = {name for value in values for name in _names_unless_background(case.label_table[value])}
    return frozenset(names | {_KIND_OF_STRUCTURE[name] for name in names if name in _KIND_OF_STRUCTURE})


def parse_structures_and_kinds(arguments: Iterable[str]) -> tuple[str, ...]:
    """Return the names of structures and kinds in texts, separated by commas or blanks; "L4 arch" is one name.

    DatasetError on a word that is no such name.
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
            raise DatasetError(f"structures: {word!r} cannot be selected; name a structure")
        names.append(word)
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Selection:
    """Conditions that a case must meet; an empty one allows everything.

    Attributes
    ----------
    structures : one of them must be annotated; with `complete`, all of them
    contrasts : as the case states it, without regard to capitals
    scanners : parts of the scanner's name
    complete : without `structures`, all lumbar structures must be annotated that any case of the dataset has
    split : of the dataset: "train", "val" or "test"; None: any
    patients : as the case states it; a case without patient counts under its own name
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
        object.__setattr__(self, "structures", parse_structures_and_kinds(self.structures))

    def apply(self, cases: Iterable[Case]) -> list[Case]:
        """Return the selected cases of one dataset, in their order."""
        cases = list(cases)
        required = set(self.structures)
        if self.complete and not required:
            required = {name for case in cases for name in annotated_structures(case) if name in _LUMBAR_STRUCTURES}
        return [case for case in cases if self._matches_acquisition(case) and self._has_structures(case, required)]

    def _has_structures(self, case: Case, required: set[str]) -> bool:
        if self.complete:
            return required <= annotated_structures(case)
        return not required or bool(required & annotated_structures(case))

    def _matches_acquisition(self, case: Case) -> bool:
        """Return whether a case meets all conditions but those on structures."""
        contrast, scanner = case.contrast.casefold(), case.scanner.casefold()
        return (
            self.split in (None, case.split)
            and (not self.patients or patient_id(case) in self.patients)
            and (not self.contrasts or contrast in [text.casefold() for text in self.contrasts])
            and (not self.scanners or any(text.casefold() in scanner for text in self.scanners))
        )


def select_cases(
    datasets: Sequence[Dataset], selection: Selection, split_settings: SplitSettings | None = None
) -> list[Dataset]:
    """Return the datasets with their selected cases only; DatasetError when no case is left.

    Each dataset is split first and selected from afterwards: so a fold has the same patients whatever is selected, and
    no model is evaluated on patients that it was trained on.
    """
    selected = []
    for dataset in datasets:
        cases = split_settings.assign(dataset.all_cases) if split_settings else dataset.all_cases
        selected.append(replace(dataset, all_cases=tuple(selection.apply(cases))))
    if not any(dataset.all_cases for dataset in selected):
        raise DatasetError(_explain_empty_selection(datasets, selection))
    return selected


def _explain_empty_selection(datasets: Sequence[Dataset], selection: Selection) -> str:
    """Return the first condition that no case meets, and what there is instead."""
    cases = [case for dataset in datasets for case in dataset.all_cases]
    folders = ", ".join(str(dataset.folder) for dataset in datasets)
    for condition, existing in (
        (Selection(contrasts=selection.contrasts), {case.contrast for case in cases}),
        (Selection(scanners=selection.scanners), {case.scanner for case in cases}),
        (Selection(structures=selection.structures), {name for case in cases for name in annotated_structures(case)}),
        (Selection(patients=selection.patients), {patient_id(case) for case in cases}),
    ):
        if cases and not condition.apply(cases):
            conditions = [*condition.contrasts, *condition.scanners, *condition.structures, *condition.patients]
            return f"{folders}: no case with {' or '.join(conditions)}; there are {_format_names(existing)}"
    return f"{folders}: none of {len(cases)} cases is left; select less, or another --split"


def _format_names(names: Iterable[str], limit: int = 12) -> str:
    listed = sorted(name or "(not stated)" for name in names)
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")


def _names_unless_background(names: Iterable[str]) -> set[str]:
    """Return the names of one row of a label table; none if "background" or "unknown" is one of them."""
    names = set(names)
    return set() if names & _UNSPECIFIC_NAMES else names
