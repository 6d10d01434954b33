"""From a source to a prepared dataset: cases are found, then read and stored by many processes, each on its own.

The parent enters finished cases in `dataset.json` every few seconds. A case keeps the SHA-256 of the files it was made
from, in `about["imported"]`: so an import that was interrupted goes on, and one that is repeated changes nothing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lumbarseg.errors import DatasetError, FileError, LumbarsegError
from lumbarseg.executors import local_executor

from . import splits
from .dataset import Case, Dataset, create_dataset, file_checksum, register_cases, write_case_files
from .importers.importer import Importer, SourceCase
from .workers import exclusive_folder

_LEAVES_SOURCE = "leads out of the source; put what it leads to there"
_SAVE_INTERVAL = 5.0  # seconds between two entries of finished cases in dataset.json


@dataclass(frozen=True)
class ImportResult:
    """What came of an import. added, already: names of cases; refused: name to reason, with what to do."""

    dataset: Dataset
    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    refused: dict[str, str]

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Name to what was met in a case of this import, "trap: detail"."""
        mine = {*self.added, *self.unchanged}
        return {case.name: list(case.warnings) for case in self.dataset.cases() if case.name in mine and case.warnings}

    def cases_by_fault(self) -> dict[str, list[str]]:
        """Trap to the cases of this import in which it was met."""
        met: dict[str, list[str]] = {}
        for name, texts in self.warnings.items():
            for trap in sorted({text.partition(":")[0] for text in texts}):
                met.setdefault(trap, []).append(name)
        return dict(sorted(met.items()))


@dataclass(frozen=True)
class _Task:
    """One case to do. dataset: without its cases; known: what the case that is there already was imported from."""

    importer: Importer
    source: Path
    dataset: Dataset
    source_case: SourceCase
    split: str
    known_files: dict[str, Any] | None = None


@dataclass(frozen=True)
class _CaseResult:
    """What became of a task: a new case, a reason to refuse it or to stop everything, or nothing to do."""

    name: str
    case: Case | None = None
    refused: str = ""
    fatal_error: str = ""


def import_source(
    importer: Importer,
    source: Path | str,
    target: Path | str,
    jobs: int | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    on_case_done: Callable[[str, int], None] | None = None,
) -> ImportResult:
    """Import what `source` holds into the dataset at `target`, made where it is missing; cases there stay as they are.

    jobs: processes, one per core by default; seed, held_out: of the split "val" by patient, where the source has none
    of its own; step: told the name of each case that is done, and how many there are. DatasetError when the folder is
    of another kind, FileError when the target cannot be written; what is finished by then is kept.
    """
    source, target = Path(source), Path(target)
    splits.check_fractions(val_fraction, 0.0)
    if not source.is_dir():
        raise DatasetError(f"{source}: no folder; give the folder that the download was unpacked to")
    found = importer.list_cases(source)
    with exclusive_folder(target):
        dataset = _open_or_create(target, importer)
        raws, refused = _importable_cases(found.cases, dataset, importer, source)
        mine = {raw.name for raw in found.cases} | {name for name, _ in found.refused}
        refused |= {name: _relative_to_source(reason, source) for name, reason in found.refused}
        outside = _linked_folders_outside(source) if importer.searches_subfolders else []
        refused |= dict.fromkeys(outside, f"a folder that is a link and {_LEAVES_SOURCE}")
        added, already, changed = [], [], {}
        outcomes = _import_cases(importer, source, dataset, raws, jobs, seed, val_fraction)
        with closing(_save_periodically(dataset, mine, refused, outcomes)) as entered:
            for outcome in entered:
                if outcome.case:
                    added.append(outcome.name)
                elif outcome.refused:
                    changed[outcome.name] = outcome.refused
                else:
                    already.append(outcome.name)
                if on_case_done:
                    on_case_done(outcome.name, len(raws))
        return ImportResult(
            Dataset.open(target), tuple(added), tuple(already), dict(sorted((refused | changed).items()))
        )


def _open_or_create(target: Path, importer: Importer) -> Dataset:
    """The dataset to complete, or a new one; what an interrupted import left half written is removed."""
    if not (target / "dataset.json").exists():
        return create_dataset(target, target.resolve().name or importer.name, importer.label_table)
    dataset = Dataset.open(target)
    if dataset.label_table != dict(sorted(importer.label_table.items())):
        raise DatasetError(f"{target}: a dataset with another label table; choose another folder for {importer.name}")
    for part in target.glob("**/.lumbarseg-*.part"):
        part.unlink(missing_ok=True)
    return dataset


def _importable_cases(
    source_cases: Iterable[SourceCase], dataset: Dataset, importer: Importer, source: Path
) -> tuple[list[SourceCase], dict[str, str]]:
    """The cases that may be tried, and why others may not."""
    origins = {case.name: case for case in dataset.all_cases}
    times = Counter(raw.name for raw in source_cases)
    good, refused = [], {}
    for raw in source_cases:
        there = origins.get(raw.name)
        outside = next((file for file in raw.files if not _is_within(file, source)), None)
        if times[raw.name] > 1:
            twins = " and ".join(
                str(twin.files[0].relative_to(source)) for twin in source_cases if twin.name == raw.name
            )
            refused[raw.name] = f"{twins}: two exams under one name; keep one, or rename it"
        elif outside is not None:
            refused[raw.name] = f"{outside.relative_to(source)}: a link that {_LEAVES_SOURCE}"
        elif there is not None and there.metadata.get("imported", {}).get("importer") != importer.name:
            refused[raw.name] = "a case of this name is there from another source; choose another folder"
        else:
            good.append(raw)
    return good, refused


def _linked_folders_outside(source: Path) -> list[str]:
    """Folders of the source that are links to elsewhere; no importer looks into them."""
    links = (Path(place, name) for place, folders, _ in os.walk(source) for name in folders)
    return sorted(str(link.relative_to(source)) for link in links if link.is_symlink() and not _is_within(link, source))


def _is_within(file: Path, source: Path) -> bool:
    """Whether a file lies in the source when its links are followed."""
    try:
        return file.resolve().is_relative_to(source.resolve())
    except (OSError, RuntimeError):  # links that lead in a circle
        return False


def _import_cases(
    importer: Importer,
    source: Path,
    dataset: Dataset,
    source_cases: list[SourceCase],
    jobs: int | None,
    seed: int,
    val_fraction: float,
) -> Iterator[_CaseResult]:
    """What becomes of each case, in their order; FileError, after what is on its way, when the target fails."""
    there = {case.name: case for case in dataset.all_cases}
    patients = {case.patient: case.split for case in dataset.all_cases if case.patient}
    empty = replace(dataset, all_cases=(), refused={})
    stop = ""

    def tasks() -> Iterator[_Task]:
        for raw in source_cases:
            if stop:
                return
            split = (
                raw.split
                or patients.get(raw.patient)
                or splits.split_from_hash(raw.patient or raw.name, seed, val_fraction, 0.0)
            )
            known = there[raw.name].metadata["imported"]["files"] if raw.name in there else None
            yield _Task(importer, source, empty, raw, split, known)

    for outcome in local_executor(jobs, len(source_cases)).map(_import_case, tasks()):
        stop = stop or outcome.fatal_error
        if not outcome.fatal_error:
            yield outcome
    if stop:
        raise FileError(stop)


def _import_case(task: _Task) -> _CaseResult:
    """Read and store one case, or say why not; in another process."""
    raw, source = task.source_case, task.source
    try:
        origin = {file.relative_to(source).as_posix(): file_checksum(file) for file in raw.files}
        if task.known_files is not None:
            return _CaseResult(raw.name, refused=_describe_changed_files(task.known_files, origin))
        read = task.importer.load_case(raw)
    except (LumbarsegError, OSError, MemoryError) as error:
        return _CaseResult(raw.name, refused=_relative_to_source(_error_text(error), source))
    about = {
        "patient": raw.patient,
        "contrast": raw.contrast,
        "scanner": raw.scanner,
        "split": task.split,
        "licence": task.importer.licence,
        "source": task.importer.citation,
        "warnings": [_relative_to_source(text, source) for text in read.warnings],
        **raw.metadata,
        **read.metadata,
        "imported": {"importer": task.importer.name, "files": origin},
    }
    if read.label_table is not None and read.label_table != task.dataset.label_table:
        about["table"] = read.label_table
    try:
        return _CaseResult(raw.name, write_case_files(task.dataset, raw.name, read.image, read.labels, about))
    except FileError as error:
        return _CaseResult(raw.name, fatal_error=str(error))
    except LumbarsegError as error:
        return _CaseResult(raw.name, refused=_relative_to_source(str(error), source))


def _describe_changed_files(known_files: dict[str, str], origin: dict[str, str]) -> str:
    """Why a case that is there does not come from these files; "" when it does."""
    changed = sorted(name for name in {*known_files, *origin} if known_files.get(name) != origin.get(name))
    if not changed:
        return ""
    return f"{changed[0]}: changed since it was imported; the case was left as it is: import into another folder"


def _error_text(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory for this case; run it again with fewer --jobs"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _relative_to_source(text: str, source: Path) -> str:
    """The same with files named from the source on, so that it holds wherever the source lies."""
    return text.replace(f"{source}/", "")


def _save_periodically(
    dataset: Dataset, source_names: set[str], refused: dict[str, str], outcomes: Iterator[_CaseResult]
) -> Generator[_CaseResult]:
    """The outcomes, entered in `dataset.json` from time to time and at the end, whatever ends it.

    mine: every name of this source; what was refused under one of them in an earlier import is forgotten.
    """
    there = {case.name for case in dataset.all_cases}
    known = {name: reason for name, reason in dataset.refused.items() if name not in source_names} | refused
    cases: list[Case] = []
    last = time.monotonic()
    try:
        for outcome in outcomes:
            if outcome.case:
                cases.append(outcome.case)
            if outcome.refused and outcome.name not in there:
                known[outcome.name] = outcome.refused
            yield outcome
            if time.monotonic() - last > _SAVE_INTERVAL:
                register_cases(dataset.folder, cases, known)
                cases, last = [], time.monotonic()
    finally:
        register_cases(dataset.folder, cases, known)
