"""Check of prepared datasets: each case on its own, by several processes, then all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from lumbarseg import io
from lumbarseg.anatomy import CLASSES, Kind, kinds_from_names, structure_by_name
from lumbarseg.errors import DatasetError, FileError, LumbarsegError
from lumbarseg.executors import local_executor
from lumbarseg.orientation import estimate_orientation
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from ..dataset import AXES, Case, Dataset, verify_checksums
from ..label_table import count_voxels
from ..selection import annotated_structures
from ..splits import patient_id
from ..writing import ProgressCallback, error_text
from . import SEVERITIES, Finding, contrast, geometry, label_map, level_order, split_leaks
from .components import find_label_regions
from .fingerprints import Fingerprint, compute_fingerprint, find_duplicates

CaseRenderer = Callable[[Case, Volume, Volume], bytes]
"""Returns a picture of a case from image and labels in RAS order; must be picklable."""
_IMPORT_ADVICE = "correct the files of the source and import it into a new folder: existing cases are left as they are"
_KIND_NAMES = {Kind.BODY: "vertebral body", Kind.ARCH: "posterior elements"}
"""Kinds that a message names otherwise than a label table."""


@dataclass(frozen=True, eq=False)
class CaseReport:
    """What the checks found in one case.

    Attributes
    ----------
    case : under its name in findings
    apparent_contrast : of the image, "" when unsure
    annotated : names of annotated structures and kinds
    picture : as `render_case` returned it
    """

    case: Case
    findings: tuple[Finding, ...]
    apparent_contrast: str = ""
    annotated: frozenset[str] = frozenset()
    fingerprint: Fingerprint | None = None
    picture: bytes = b""


@dataclass(frozen=True, eq=False)
class CheckReport:
    """The cases in the order of their datasets, under their names in findings; and all findings, the worst first."""

    datasets: tuple[Dataset, ...]
    cases: tuple[CaseReport, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def findings_of(self, name: str) -> list[Finding]:
        """Return the findings in a case, for "" those about the datasets."""
        return [finding for finding in self.findings if finding.case == name]

    def structure_counts(self) -> dict[str, int]:
        """Return the number of cases with each annotated structure: kinds first, then from head to foot."""
        counts = Counter(name for report in self.cases for name in report.annotated)
        return {name: counts[name] for name in sorted(counts, key=_structure_order)}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        cases = [report.case for report in self.cases]
        patients = {(i, patient_id(case)) for i, dataset in enumerate(self.datasets) for case in dataset.all_cases}
        return {
            "datasets": [str(dataset.folder) for dataset in self.datasets],
            "cases": len(cases),
            "patients": len(patients),
            "splits": dict(Counter(case.split for case in cases)),
            "contrasts": dict(Counter(case.contrast or "not stated" for case in cases)),
            "structures": self.structure_counts(),
            **{f"{severity}s": self.count(severity) for severity in SEVERITIES},
            "findings": [asdict(finding) for finding in self.findings],
            "looks_like": {report.case.name: report.apparent_contrast for report in self.cases},
        }

    def summary(self) -> dict[str, str]:
        """Return the key numbers as text."""
        values, structures = self.to_dict(), self.structure_counts()
        kinds = [f"{name} in {count}" for name, count in structures.items() if name in tuple(Kind)]
        levels = [name for name in structures if name not in tuple(Kind) and not name.endswith(Kind.ARCH)]
        return {
            "cases": str(values["cases"]),
            "patients": str(values["patients"]),
            "splits": ", ".join(f"{count} {split}" for split, count in values["splits"].items()),
            "contrasts": ", ".join(f"{count} {name}" for name, count in values["contrasts"].items()),
            "annotated": (", ".join(kinds) or "none") + (f"; named {', '.join(levels)}" if levels else ""),
        }

    def result(self) -> str:
        """Return "no errors, no warnings" or "1 error, 2 warnings"."""
        counts = [(self.count(severity), severity) for severity in ("error", "warning")]
        if not any(count for count, _ in counts):
            return "no errors, no warnings"
        return ", ".join(f"{count} {severity}{'s' * (count != 1)}" for count, severity in counts)


def _structure_order(name: str) -> tuple[int, str]:
    return (-1, name) if name in tuple(Kind) else (structure_by_name(name).order, name)


def check_datasets(
    datasets: Sequence[Dataset],
    jobs: int | None = None,
    on_case_done: ProgressCallback | None = None,
    render_case: CaseRenderer | None = None,
) -> CheckReport:
    """Check every case, and all cases together; DatasetError when there is none.

    Parameters
    ----------
    jobs : number of processes, by default one per CPU
    on_case_done : called with the name of each finished case and the number of cases
    render_case : makes a picture of each case whose files can be read
    """
    datasets = _with_unique_case_names(datasets)
    cases = [case for dataset in datasets for case in dataset.all_cases]
    if not cases:
        raise DatasetError(f"{', '.join(str(d.folder) for d in datasets)}: holds no case; import something first")
    reports = []
    for report in local_executor(jobs, len(cases)).map(partial(_check_case, render_case=render_case), cases):
        reports.append(report)
        if on_case_done:
            on_case_done(report.case.name, len(cases))
    findings = [finding for report in reports for finding in report.findings]
    if any(finding.severity != "note" for finding in findings):
        findings.append(Finding("", "import", "note", _IMPORT_ADVICE))
    findings += _check_across_cases(datasets, reports)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return CheckReport(tuple(datasets), tuple(reports), tuple(findings))


def _with_unique_case_names(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Return the datasets; where there are several, each case has the name of its dataset before its own."""
    if len(datasets) == 1:
        return list(datasets)
    short = [dataset.folder.resolve().name for dataset in datasets]
    prefixes = short if len(set(short)) == len(short) else [str(dataset.folder) for dataset in datasets]
    return [
        replace(dataset, all_cases=tuple(replace(case, name=f"{prefix}/{case.name}") for case in dataset.all_cases))
        for prefix, dataset in zip(prefixes, datasets, strict=True)
    ]


def _check_case(case: Case, render_case: CaseRenderer | None) -> CaseReport:
    """Check one case; runs in another process."""
    findings = _check_checksums(case)
    try:
        image, labels = _read_volumes(case)
    except (LumbarsegError, OSError, MemoryError) as error:
        unreadable = Finding(case.name, "file", "error", f"cannot be read: {error_text(error)}")
        return CaseReport(case, (*findings, unreadable))
    counts = count_voxels(labels.array)
    annotated = annotated_structures(
        replace(case, voxel_counts=counts) if set(counts) <= set(case.label_table) else case
    )
    findings += geometry.check_grids(case, image.grid, labels.grid)
    image, labels = reorient(image, AXES), reorient(labels, AXES)
    findings += label_map.check_interpolation(case, labels) or label_map.check_values(case, labels)
    has_same_shape, apparent_contrast = image.array.shape == labels.array.shape, ""
    if has_same_shape and not any(finding.check in ("interpolated", "empty") for finding in findings):
        anatomy_findings, apparent_contrast = _check_anatomy(case, image, labels)
        findings += anatomy_findings
    picture = render_case(case, image, labels) if render_case and has_same_shape else b""
    return CaseReport(case, tuple(findings), apparent_contrast, annotated, compute_fingerprint(image), picture)


def _check_anatomy(case: Case, image: Volume, labels: Volume) -> tuple[list[Finding], str]:
    """Return the findings in the labelled structures, and the contrast that the image shows."""
    regions = find_label_regions(labels, case.label_table)
    findings = label_map.check_holes(case, labels, regions) + label_map.check_components(case, labels, regions)
    estimate = estimate_orientation(image, labels, case.label_table)
    order_findings = level_order.check_level_order(case, regions)
    if estimate.superior_inferior < 0 and level_order.is_upside_down(regions):  # one fault: the exam is upside down
        order_findings = []
    elif order_findings and estimate.superior_inferior < 0:  # the names that are evidence of it are wrong themselves
        estimate = replace(estimate, superior_inferior=0)
    findings += order_findings + geometry.check_orientation(case, estimate)
    if estimate.anterior_posterior < 0:  # the region behind the bodies is unknown
        return findings, ""
    apparent_contrast = contrast.classify_contrast(contrast.measure_fluid_and_fat(image, labels, regions))
    return findings + contrast.check_contrast(case, apparent_contrast), apparent_contrast


def _check_checksums(case: Case) -> list[Finding]:
    """Report files that changed since the import."""
    if not case.checksums:
        return [Finding(case.name, "checksum", "note", "dataset.json holds no checksum of this case")]
    try:
        verify_checksums(case)
    except (DatasetError, OSError) as error:
        return [Finding(case.name, "checksum", "error", error_text(error))]
    return []


def _read_volumes(case: Case) -> tuple[Volume, Volume]:
    if case.image == case.labels:
        raise FileError(f"{case.image}: image and labels are one file")
    return io.read_image(case.image), io.read_labels(case.labels)


def _check_across_cases(datasets: Sequence[Dataset], reports: Sequence[CaseReport]) -> list[Finding]:
    """Return the findings that need all cases."""
    findings = split_leaks.check_patients([dataset.all_cases for dataset in datasets])
    readable = [(report.case, report.fingerprint) for report in reports if report.fingerprint]
    pairs = find_duplicates([fingerprint for _, fingerprint in readable])
    findings += split_leaks.check_duplicates([case for case, _ in readable], pairs)
    notes = [
        ("import", f"{dataset.name}: the import refused {len(dataset.refused)} exams; dataset.json holds the reasons")
        for dataset in datasets
        if dataset.refused
    ]
    findings += [finding for dataset in datasets for finding in _check_missing_kinds(dataset)]
    warned = sum(bool(report.case.warnings) for report in reports)
    notes += [("import", f"{warned} cases were imported with warnings; see dataset.json")] if warned else []
    notes += [("orientation", "left and right look alike: no check can tell them apart")]
    return findings + [Finding("", check, "note", text) for check, text in notes]


def _check_missing_kinds(dataset: Dataset) -> list[Finding]:
    """Warn of each kind of structure that no case labels and none lists under 0, where it may be unlabelled."""
    possible: set[Kind] = set()
    for case in dataset.all_cases:
        occurring = {0, *(case.voxel_counts or case.label_table)}
        possible |= kinds_from_names(n for value in occurring for n in case.label_table.get(value, ()))
    texts = (
        f"{dataset.name}: no case has a label for {_KIND_NAMES.get(kind, kind.value)}: is it annotated? "
        f"otherwise list {kind.value!r} under 0 in the label table, and import into a new folder"
        for kind in CLASSES[1:]
        if kind not in possible
    )
    return [Finding("", "missing", "warning", text) for text in texts]
