"""Whether prepared datasets are what they say: each case on its own, by many processes, then all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lumbarseg.errors import DatasetError, FileError, LumbarsegError
from lumbarseg.executors import local_executor
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from ..dataset import AXES, Case, Dataset, count_voxels, verify_checksums
from ..orientation import estimate_orientation
from ..selection import annotated_structures
from . import SEVERITIES, Finding, components, contrast, fingerprints, geometry, label_map, level_order, split_leaks

CaseRenderer = Callable[[Case, Volume, Volume], bytes]
"""Draws a case, image and labels in RAS order; must be picklable."""


@dataclass(frozen=True, eq=False)
class CaseReport:
    """What one case gave. name: as findings call it; shown: the weighting that the picture shows, "" when unsure."""

    case: Case
    name: str
    findings: tuple[Finding, ...]
    apparent_contrast: str = ""
    annotated: frozenset[str] = frozenset()
    fingerprint: fingerprints.Fingerprint | None = None
    picture: bytes = b""


@dataclass(frozen=True, eq=False)
class CheckReport:
    """cases: all of them in their datasets' order; findings: of cases and of the whole, the worst first."""

    cases: tuple[CaseReport, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """How many findings are so bad."""
        return sum(finding.severity == severity for finding in self.findings)

    def findings_of(self, name: str) -> list[Finding]:
        """What was found in a case, "" for what holds of the whole."""
        return [finding for finding in self.findings if finding.case == name]


def check_datasets(
    datasets: Sequence[Dataset],
    jobs: int | None = None,
    on_case_done: Callable[[str, int], None] | None = None,
    render_case: CaseRenderer | None = None,
) -> CheckReport:
    """Examine every case, and all together. jobs: processes, one per core by default; step: told each case that is
    done, and how many there are; picture: draws each case where both files can be read. DatasetError without a case.
    """
    names = _display_names(datasets)
    cases = [case for dataset in datasets for case in dataset.all_cases]
    if not cases:
        raise DatasetError(f"{', '.join(str(d.folder) for d in datasets)}: holds no case; import something first")
    tasks = list(zip(cases, [name for some in names for name in some], strict=True))
    work = partial(_check_case, render_case=render_case)
    done = []
    for examined in local_executor(jobs, len(cases)).map(work, tasks):
        done.append(examined)
        if on_case_done:
            on_case_done(examined.name, len(cases))
    findings = [finding for examined in done for finding in examined.findings] + _check_across_cases(
        datasets, names, done
    )
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return CheckReport(tuple(done), tuple(findings))


def _display_names(datasets: Sequence[Dataset]) -> list[list[str]]:
    """What each case is called: its name, after that of its dataset where there are several."""
    if len(datasets) == 1:
        return [[case.name for case in datasets[0].all_cases]]
    short = [dataset.folder.resolve().name for dataset in datasets]
    heads = short if len(set(short)) == len(short) else [str(dataset.folder) for dataset in datasets]
    return [[f"{head}/{case.name}" for case in d.all_cases] for head, d in zip(heads, datasets, strict=True)]


def _check_case(task: tuple[Case, str], render_case: CaseRenderer | None) -> CaseReport:
    """One case; in another process."""
    case, name = task
    renamed = replace(case, name=name)
    found = _check_checksums(renamed)
    try:
        image, marks = _read_volumes(case)
    except (LumbarsegError, OSError, MemoryError) as error:
        unread = Finding(name, "file", "error", f"cannot be read: {_error_text(error)}")
        return CaseReport(case, name, (*found, unread))
    drawn = annotated_structures(
        replace(
            case, voxel_counts=count_voxels(marks.array) if _values_are_explained(case, marks) else case.voxel_counts
        )
    )
    shown = ""
    found += geometry.check_grids(renamed, image.grid, marks.grid)
    image, marks = reorient(image, AXES), reorient(marks, AXES)
    found += label_map.check_interpolation(renamed, marks) or label_map.check_values(renamed, marks)
    fits = image.array.shape == marks.array.shape
    if fits and not any(finding.check in ("interpolated", "empty") for finding in found):
        more, shown = _check_anatomy(renamed, image, marks)
        found += more
    drawing = render_case(case, image, marks) if render_case and fits else b""
    return CaseReport(case, name, tuple(found), shown, drawn, fingerprints.compute_fingerprint(image), drawing)


def _check_anatomy(case: Case, image: Volume, marks: Volume) -> tuple[list[Finding], str]:
    """Everything that looks at what is drawn, and the weighting that the picture shows."""
    parts = components.label_regions(marks, case.label_table)
    found = label_map.check_holes(case, marks, parts) + label_map.check_components(case, marks, parts)
    judged, ordered = estimate_orientation(image, marks, case.label_table), level_order.check_level_order(case, parts)
    if judged.superior_inferior < 0 and level_order.is_upside_down(
        parts
    ):  # one fault, not two: the exam stands on its head
        ordered = []
    elif ordered and judged.superior_inferior < 0:  # the names that speak for it are wrong themselves
        judged = replace(judged, superior_inferior=0)
    found += ordered + geometry.check_orientation(case, judged)
    if judged.anterior_posterior < 0:  # what lies behind the bodies cannot be judged
        return found, ""
    shown = contrast.classify_contrast(contrast.measure_signals(image, marks, parts))
    return found + contrast.check_contrast(case, shown), shown


def _check_checksums(case: Case) -> list[Finding]:
    """Whether the files are those that were imported."""
    if not case.checksums:
        return [Finding(case.name, "checksum", "note", "dataset.json holds no checksum of this case")]
    try:
        verify_checksums(case)
    except DatasetError as error:
        return [Finding(case.name, "checksum", "error", str(error))]
    except OSError as error:
        return [Finding(case.name, "checksum", "error", _error_text(error))]
    return []


def _read_volumes(case: Case) -> tuple[Volume, Volume]:
    from lumbarseg import io

    if case.image == case.labels:
        raise FileError(f"{case.image}: image and labels are one file")
    return io.read_image(case.image), io.read_labels(case.labels)


def _values_are_explained(case: Case, marks: Volume) -> bool:
    return set(count_voxels(marks.array)) <= set(case.label_table)


def _check_across_cases(
    datasets: Sequence[Dataset], names: Sequence[Sequence[str]], done: Sequence[CaseReport]
) -> list[Finding]:
    """What only shows when all cases are seen."""
    found = split_leaks.check_patients([dataset.all_cases for dataset in datasets], names)
    printed = [(examined, examined.fingerprint) for examined in done if examined.fingerprint]
    twins = fingerprints.find_duplicates([held for _, held in printed])
    found += split_leaks.check_duplicates([e.case for e, _ in printed], [e.name for e, _ in printed], twins)
    for dataset in datasets:
        if dataset.refused:
            told = f"{dataset.name}: {len(dataset.refused)} exams of the source were refused by the import"
            found.append(Finding("", "import", "note", f"{told}; dataset.json tells why"))
    warned = sum(bool(examined.case.warnings) for examined in done)
    if warned:
        found.append(Finding("", "import", "note", f"{warned} cases were imported with warnings; see dataset.json"))
    found.append(Finding("", "orientation", "note", "left and right look alike: no check can tell them apart"))
    return found


def _error_text(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory for this case; run it again with fewer --jobs"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
