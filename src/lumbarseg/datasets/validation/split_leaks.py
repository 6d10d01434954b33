"""Separation of training and test data: patients in one split only, exams only once."""

from __future__ import annotations

from collections.abc import Sequence

from ..dataset import Case
from ..splits import patient_id, patients_in_several_splits
from . import Finding
from .fingerprints import DuplicatePair


def check_patients(datasets: Sequence[Sequence[Case]]) -> list[Finding]:
    """Report patients in several splits.

    Within a dataset one name is one patient. Across datasets it is when both have the same source; numbers are compared
    without leading zeros.
    """
    findings = []
    for cases in datasets:
        for patient, splits in patients_in_several_splits(cases).items():
            first = next(case.name for case in cases if patient_id(case) == patient)
            text = f"patient {patient} is in the splits {' and '.join(splits)}; put all exams of a patient in one"
            findings.append(Finding(first, "leak", "error", text))
    return findings + _check_across_datasets(datasets)


def _check_across_datasets(datasets: Sequence[Sequence[Case]]) -> list[Finding]:
    """Report patients of one source in different splits of two datasets."""
    exams: dict[tuple[str, str], list[tuple[int, Case]]] = {}
    for number, cases in enumerate(datasets):
        for case in cases:
            if case.patient and case.source:
                exams.setdefault((case.source, case.patient.lstrip("0") or "0"), []).append((number, case))
    findings = []
    for (_, patient), [(number, first), *others] in exams.items():
        other = next((case for n, case in others if n != number and case.split != first.split), None)
        if other:
            text = f"patient {patient} of this source is in {first.split} here and in {other.split} as {other.name}"
            findings.append(Finding(first.name, "leak", "warning", f"{text}; if it is one person, move one"))
    return findings


def check_duplicates(cases: Sequence[Case], duplicate_pairs: Sequence[DuplicatePair]) -> list[Finding]:
    """Report exams that occur twice: a leak when they are in different splits."""
    findings = []
    for pair in duplicate_pairs:
        first, second = cases[pair.first], cases[pair.second]
        text = f"the same exam as {second.name}: {pair.description}"
        if first.split != second.split:
            text += f"; here in {first.split}, there in {second.split}: remove one"
            findings.append(Finding(first.name, "leak", "error", text))
        else:
            findings.append(Finding(first.name, "duplicate", "warning", f"{text}; remove one"))
    return findings
