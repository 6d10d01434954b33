"""Import of a source into a prepared dataset: its cases are listed, then read and written by several processes.

A case keeps the SHA-256 of its source files in `metadata["imported"]`, so an interrupted import continues, and a
repeated one changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lumbarseg.errors import DatasetError, LumbarsegError

from . import splits, writing
from .dataset import FILE_NAME, Dataset, create_dataset, file_checksum, save_dataset, write_case_files
from .importers.importer import Importer, SourceCase

_LEAVES_SOURCE = "leads out of the source; copy its target there"


def import_source(
    importer: Importer,
    source: Path | str,
    target: Path | str,
    jobs: int | None = None,
    seed: int = 0,
    val_fraction: float = 0.1,
    on_case_done: writing.ProgressCallback | None = None,
) -> writing.DatasetResult:
    """Import the cases of a source into the dataset at `target`, created if missing; existing cases stay as they are.

    Parameters
    ----------
    jobs : number of processes, by default one per CPU
    seed, val_fraction : of the split "val" by patient, where the source has no split of its own
    on_case_done : called with the name of each finished case and the number of cases

    Raises
    ------
    DatasetError
        When the folder does not hold such a source.
    FileError
        When the target cannot be written; what is finished by then is kept.
    """
    source, target = Path(source), Path(target)
    splits.check_fractions(val_fraction, 0.0)
    if not source.is_dir():
        raise DatasetError(f"{source}: no folder; give the folder that the download was unpacked to")
    listing = importer.list_cases(source)
    with writing.exclusive_folder(target):
        dataset = _open_or_create(target, importer)
        source_cases, refused = _importable_cases(listing.cases, dataset, importer, source)
        refused |= {name: _relative_to_source(reason, source) for name, reason in listing.refused}
        linked = _linked_folders_outside(source) if importer.searches_subfolders else []
        refused |= dict.fromkeys(linked, f"a folder that is a link and {_LEAVES_SOURCE}")
        tasks = _with_splits(source_cases, dataset, seed, val_fraction)
        imported = {case.name: case.metadata["imported"] for case in dataset.all_cases if "imported" in case.metadata}
        known_files = {name: record["files"] for name, record in imported.items()}
        function = partial(_import_case, importer, source, replace(dataset, all_cases=(), refused={}), known_files)
        return writing.process_cases(target, function, tasks, jobs, refused, on_case_done)


def _open_or_create(target: Path, importer: Importer) -> Dataset:
    """Return the dataset to extend, or a new one."""
    if not (target / FILE_NAME).exists():
        return create_dataset(target, target.resolve().name or importer.name, importer.label_table)
    dataset = Dataset.open(target)
    table = dict(sorted(importer.label_table.items()))
    if dataset.label_table != table and not dataset.all_cases:  # an import that was refused completely
        dataset = replace(dataset, label_table=table, refused={})
        save_dataset(dataset)
    if dataset.label_table != table:
        raise DatasetError(f"{target}: a dataset with another label table; choose another folder for {importer.name}")
    return dataset


def _importable_cases(
    source_cases: Iterable[SourceCase], dataset: Dataset, importer: Importer, source: Path
) -> tuple[list[SourceCase], dict[str, str]]:
    """Return the cases that can be imported, and why others cannot."""
    existing = {case.name: case for case in dataset.all_cases}
    first_files: dict[str, list[str]] = {}
    for case in source_cases:
        first_files.setdefault(case.name, []).append(str(case.files[0].relative_to(source)))
    importable, refused = [], {}
    for case in source_cases:
        outside = next((file for file in case.files if not _is_within(file, source)), None)
        origin = existing[case.name].metadata.get("imported", {}) if case.name in existing else None
        if len(first_files[case.name]) > 1:
            refused[case.name] = f"{' and '.join(first_files[case.name])}: two exams under one name; rename one"
        elif outside is not None:
            refused[case.name] = f"{outside.relative_to(source)}: a link that {_LEAVES_SOURCE}"
        elif origin is not None and origin.get("importer") != importer.name:
            refused[case.name] = "the dataset has a case of this name from another source; choose another folder"
        else:
            importable.append(case)
    return importable, refused


def _linked_folders_outside(source: Path) -> list[str]:
    """Return folders of the source that are links to elsewhere; no importer searches them."""
    links = (Path(parent, name) for parent, folders, _ in os.walk(source) for name in folders)
    return sorted(str(link.relative_to(source)) for link in links if link.is_symlink() and not _is_within(link, source))


def _is_within(file: Path, source: Path) -> bool:
    """Return whether a file lies in the source when its links are followed."""
    try:
        return file.resolve().is_relative_to(source.resolve())
    except (OSError, RuntimeError):  # circular links
        return False


def _with_splits(
    source_cases: Iterable[SourceCase], dataset: Dataset, seed: int, val_fraction: float
) -> list[SourceCase]:
    """Return the cases with their splits; patients that are in the dataset already keep theirs."""
    split_of_patient = {case.patient: case.split for case in dataset.all_cases if case.patient}
    cases = []
    for case in source_cases:
        split = case.split or split_of_patient.get(case.patient)
        split = split or splits.split_from_hash(case.patient or case.name, seed, val_fraction, 0.0)
        cases.append(replace(case, split=split))
    return cases


def _import_case(
    importer: Importer, source: Path, dataset: Dataset, known_files: dict[str, dict[str, str]], case: SourceCase
) -> writing.CaseResult:
    """Read one case and write its files; runs in another process.

    known_files: checksums of the source files of cases that are in the dataset already.
    """
    try:
        checksums = {file.relative_to(source).as_posix(): file_checksum(file) for file in case.files}
        if case.name in known_files:
            reason = _describe_changed_files(known_files[case.name], checksums)
            return writing.CaseResult(case.name, is_unchanged=True, reason=reason)
        loaded = importer.load_case(case)
    except (LumbarsegError, OSError, MemoryError) as error:
        return writing.CaseResult(case.name, reason=_relative_to_source(writing.error_text(error), source))
    metadata: dict[str, Any] = {
        "patient": case.patient,
        "contrast": case.contrast,
        "scanner": case.scanner,
        "split": case.split,
        "licence": importer.licence,
        "source": importer.citation or source.resolve().name,
        "warnings": [_relative_to_source(text, source) for text in loaded.warnings],
        **case.metadata,
        **loaded.metadata,
        "imported": {"importer": importer.name, "files": checksums},
    }
    if loaded.label_table not in (None, dataset.label_table):
        metadata["table"] = loaded.label_table
    try:
        imported_case = write_case_files(dataset, case.name, loaded.image, loaded.labels, metadata)
        return writing.CaseResult(case.name, imported_case)
    except DatasetError as error:
        return writing.CaseResult(case.name, reason=_relative_to_source(str(error), source))


def _describe_changed_files(known_files: dict[str, str], checksums: dict[str, str]) -> str:
    """Return which source file of an existing case has changed; "" when none has."""
    names = {*known_files, *checksums}
    changed = sorted(name for name in names if known_files.get(name) != checksums.get(name))
    if not changed:
        return ""
    return f"{changed[0]}: changed since the import; the case was left unchanged: import into another folder"


def _relative_to_source(text: str, source: Path) -> str:
    """Return a message with file names relative to the source."""
    return text.replace(f"{source}/", "")
