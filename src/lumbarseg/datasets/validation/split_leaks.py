"""Whether what is learned from and what is judged by are different people, and exams are there once."""

from __future__ import annotations

from collections.abc import Sequence

from ..dataset import Case
from ..splits import patient_id
from ..splits import patients_in_several_splits as _torn
from .finding import Finding
from .fingerprints import DuplicatePair


def check_patients(datasets: Sequence[Sequence[Case]], display_names: Sequence[Sequence[str]]) -> list[Finding]:
    """Patients in several splits. names: what each case is called in findings.

    Within a dataset one name is one patient. Across datasets it is when both come from one source; numbers are
    compared without leading zeros.
    """
    found = []
    for cases, called in zip(datasets, display_names, strict=True):
        for patient, splits in _torn(cases).items():
            first = next(name for case, name in zip(cases, called, strict=True) if patient_id(case) == patient)
            text = f"patient {patient} is in the splits {' and '.join(splits)}: move all exams of one patient to one"
            found.append(Finding(first, "leak", "error", text))
    return found + _check_across_datasets(datasets, display_names)


def _check_across_datasets(datasets: Sequence[Sequence[Case]], names: Sequence[Sequence[str]]) -> list[Finding]:
    """One patient of one source in different splits of two datasets."""
    seen: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for number, (cases, called) in enumerate(zip(datasets, names, strict=True)):
        for case, name in zip(cases, called, strict=True):
            if case.patient and case.source:
                person = (case.source, case.patient.lstrip("0") or "0")
                seen.setdefault(person, []).append((number, case.split, name))
    found = []
    for (_, patient), places in seen.items():
        number, split, name = places[0]
        other = next((p for p in places if p[0] != number and p[1] != split), None)
        if other:
            text = f"patient {patient} of this source is in {split} here and in {other[1]} as {other[2]}"
            found.append(Finding(name, "leak", "warning", f"{text}; if it is one person, move one"))
    return found


def check_duplicates(
    cases: Sequence[Case], display_names: Sequence[str], duplicate_pairs: Sequence[DuplicatePair]
) -> list[Finding]:
    """Exams that are there twice: a leak when they are in different splits. names: of each case, in findings."""
    found = []
    for twin in duplicate_pairs:
        first, second = cases[twin.first], cases[twin.second]
        text = f"the same exam as {display_names[twin.second]}: {twin.description}"
        if first.split != second.split:
            text += f"; here in {first.split}, there in {second.split}: remove one"
            found.append(Finding(display_names[twin.first], "leak", "error", text))
        else:
            found.append(Finding(display_names[twin.first], "duplicate", "warning", f"{text}; remove one"))
    return found
