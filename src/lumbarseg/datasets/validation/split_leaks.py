"""Separation of training and test data: patients in one split only, exams only once."""

from __future__ import annotations

from collections.abc import Sequence

from ..dataset import Case
from ..splits import patient_id, patients_in_several_splits
from .finding import Finding
from .fingerprints import DuplicatePair


def check_patients(datasets: Sequence[Sequence[Case]], display_names: Sequence[Sequence[str]]) -> list[Finding]:
    """Report patients in several splits.

    Within a dataset one name is one patient. Across datasets it is when both have the same source; numbers are compared
    without leading zeros. display_names: of each case, for findings.
    """
    findings = []
    for cases, names in zip(datasets, display_names, strict=True):
        for patient, splits in patients_in_several_splits(cases).items():
            first = next(name for case, name in zip(cases, names, strict=True) if patient_id(case) == patient)
            text = f"patient {patient} is in the splits {' and '.join(splits)}; put all exams of a patient in one"
            findings.append(Finding(first, "leak", "error", text))
    return findings + _check_across_datasets(datasets, display_names)


def _check_across_datasets(datasets: Sequence[Sequence[Case]], display_names: Sequence[Sequence[str]]) -> list[Finding]:
    """Report patients of one source in different splits of two datasets."""
    exams: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for number, (cases, names) in enumerate(zip(datasets, display_names, strict=True)):
        for case, name in zip(cases, names, strict=True):
            if case.patient and case.source:
                person = (case.source, case.patient.lstrip("0") or "0")
                exams.setdefault(person, []).append((number, case.split, name))
    findings = []
    for (_, patient), [(number, split, name), *others] in exams.items():
        other = next((exam for exam in others if exam[0] != number and exam[1] != split), None)
        if other:
            text = f"patient {patient} of this source is in {split} here and in {other[1]} as {other[2]}"
            findings.append(Finding(name, "leak", "warning", f"{text}; if it is one person, move one"))
    return findings


def check_duplicates(
    cases: Sequence[Case], display_names: Sequence[str], duplicate_pairs: Sequence[DuplicatePair]
) -> list[Finding]:
    """Report exams that occur twice: a leak when they are in different splits."""
    findings = []
    for pair in duplicate_pairs:
        first, second = cases[pair.first], cases[pair.second]
        name = display_names[pair.first]
        text = f"the same exam as {display_names[pair.second]}: {pair.description}"
        if first.split != second.split:
            text += f"; here in {first.split}, there in {second.split}: remove one"
            findings.append(Finding(name, "leak", "error", text))
        else:
            findings.append(Finding(name, "duplicate", "warning", f"{text}; remove one"))
    return findings
