"""Whether prepared datasets are what they say: each case on its own, by many processes, then all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lumbarseg.errors import DatasetError, FileError, LumbarsegError
from lumbarseg.resample import reorient
from lumbarseg.volume import Volume

from .anatomy_axes import facing
from .checks import SEVERITIES, Finding, contrast, geometry, labels, leaks, order, pieces, prints
from .folder import AXES, Case, Dataset, verify, voxels
from .select import annotated
from .workers import cores, each

Picture = Callable[[Case, Volume, Volume], bytes]
"""Draws a case, image and labels in RAS order; must be picklable."""


@dataclass(frozen=True, eq=False)
class Examined:
    """What one case gave. name: as findings call it; shown: the weighting that the picture shows, "" when unsure."""

    case: Case
    name: str
    findings: tuple[Finding, ...]
    shown: str = ""
    drawn: frozenset[str] = frozenset()
    fingerprint: prints.Print | None = None
    picture: bytes = b""


@dataclass(frozen=True, eq=False)
class Checked:
    """cases: all of them in their datasets' order; findings: of cases and of the whole, the worst first."""

    cases: tuple[Examined, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """How many findings are so bad."""
        return sum(finding.severity == severity for finding in self.findings)

    def of(self, name: str) -> list[Finding]:
        """What was found in a case, "" for what holds of the whole."""
        return [finding for finding in self.findings if finding.case == name]


def check(
    datasets: Sequence[Dataset],
    jobs: int | None = None,
    step: Callable[[str, int], None] | None = None,
    picture: Picture | None = None,
) -> Checked:
    """Examine every case, and all together. jobs: processes, one per core by default; step: told each case that is
    done, and how many there are; picture: draws each case where both files can be read. DatasetError without a case.
    """
    names = _names(datasets)
    cases = [case for dataset in datasets for case in dataset.everything]
    if not cases:
        raise DatasetError(f"{', '.join(str(d.folder) for d in datasets)}: holds no case; import something first")
    tasks = list(zip(cases, [name for some in names for name in some], strict=True))
    work = partial(_examine, picture=picture)
    processes = min(jobs or cores(), len(cases))
    done = []
    for examined in each(work, tasks, processes) if processes > 1 else map(work, tasks):
        done.append(examined)
        if step:
            step(examined.name, len(cases))
    findings = [finding for examined in done for finding in examined.findings] + _together(datasets, names, done)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Checked(tuple(done), tuple(findings))


def _names(datasets: Sequence[Dataset]) -> list[list[str]]:
    """What each case is called: its name, after that of its dataset where there are several."""
    if len(datasets) == 1:
        return [[case.name for case in datasets[0].everything]]
    short = [dataset.folder.resolve().name for dataset in datasets]
    heads = short if len(set(short)) == len(short) else [str(dataset.folder) for dataset in datasets]
    return [[f"{head}/{case.name}" for case in d.everything] for head, d in zip(heads, datasets, strict=True)]


def _examine(task: tuple[Case, str], picture: Picture | None) -> Examined:
    """One case; in another process."""
    case, name = task
    renamed = replace(case, name=name)
    found = _files(renamed)
    try:
        image, marks = _volumes(case)
    except (LumbarsegError, OSError, MemoryError) as error:
        unread = Finding(name, "file", "error", f"cannot be read: {_reason(error)}")
        return Examined(case, name, (*found, unread))
    drawn = annotated(replace(case, present=voxels(marks.array) if _explained(case, marks) else case.present))
    shown = ""
    found += geometry.grids(renamed, image.grid, marks.grid)
    image, marks = reorient(image, AXES), reorient(marks, AXES)
    found += labels.interpolated(renamed, marks) or labels.values(renamed, marks)
    fits = image.array.shape == marks.array.shape
    if fits and not any(finding.check in ("interpolated", "empty") for finding in found):
        more, shown = _anatomy(renamed, image, marks)
        found += more
    drawing = picture(case, image, marks) if picture and fits else b""
    return Examined(case, name, tuple(found), shown, drawn, prints.fingerprint(image), drawing)


def _anatomy(case: Case, image: Volume, marks: Volume) -> tuple[list[Finding], str]:
    """Everything that looks at what is drawn, and the weighting that the picture shows."""
    parts = pieces.parts_of(marks, case.table)
    found = labels.holes(case, marks, parts) + labels.places(case, marks, parts)
    judged, ordered = facing(image, marks, case.table), order.order(case, parts)
    if judged.up_down < 0 and order.upside_down(parts):  # one fault, not two: the exam stands on its head
        ordered = []
    elif ordered and judged.up_down < 0:  # the names that speak for it are wrong themselves
        judged = replace(judged, up_down=0)
    found += ordered + geometry.orientation(case, judged)
    if judged.front_back < 0:  # what lies behind the bodies cannot be judged
        return found, ""
    shown = contrast.guess(contrast.signals(image, marks, parts))
    return found + contrast.contradiction(case, shown), shown


def _files(case: Case) -> list[Finding]:
    """Whether the files are those that were imported."""
    if not case.checksums:
        return [Finding(case.name, "checksum", "note", "dataset.json holds no checksum of this case")]
    try:
        verify(case)
    except DatasetError as error:
        return [Finding(case.name, "checksum", "error", str(error))]
    except OSError as error:
        return [Finding(case.name, "checksum", "error", _reason(error))]
    return []


def _volumes(case: Case) -> tuple[Volume, Volume]:
    from lumbarseg import files

    if case.image == case.labels:
        raise FileError(f"{case.image}: image and labels are one file")
    return files.read_image(case.image), files.read_labels(case.labels)


def _explained(case: Case, marks: Volume) -> bool:
    return set(voxels(marks.array)) <= set(case.table)


def _together(datasets: Sequence[Dataset], names: Sequence[Sequence[str]], done: Sequence[Examined]) -> list[Finding]:
    """What only shows when all cases are seen."""
    found = leaks.patients([dataset.everything for dataset in datasets], names)
    printed = [(examined, examined.fingerprint) for examined in done if examined.fingerprint]
    twins = prints.twins([held for _, held in printed])
    found += leaks.duplicates([e.case for e, _ in printed], [e.name for e, _ in printed], twins)
    for dataset in datasets:
        if dataset.refused:
            told = f"{dataset.name}: {len(dataset.refused)} exams of the source were refused by the import"
            found.append(Finding("", "import", "note", f"{told}; dataset.json tells why"))
    warned = sum(bool(examined.case.warnings) for examined in done)
    if warned:
        found.append(Finding("", "import", "note", f"{warned} cases were imported with warnings; see dataset.json"))
    found.append(Finding("", "orientation", "note", "left and right look alike: no check can tell them apart"))
    return found


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory for this case; run it again with fewer --jobs"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
