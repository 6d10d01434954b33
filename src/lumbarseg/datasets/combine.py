"""Combination of prepared datasets into one: a common label table, separate patients, renumbered labels.

A case keeps its origin in `metadata["combined"]`, so an interrupted combination continues, a repeated one changes
nothing, and another dataset is added without writing the cases of the others again.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np

from lumbarseg import io
from lumbarseg.errors import DatasetError, FileError, LumbarsegError
from lumbarseg.volume import Volume

from . import writing
from .combined_table import assign_values, case_label_table, combined_label_table, value_mapping
from .dataset import FILE_NAME, Case, Dataset, create_dataset, file_checksum, save_dataset, verify_checksums
from .importers.file_pairs import clean_case_name
from .label_table import LabelTable, count_voxels, label_structures, require_explained
from .selection import Selection, select_cases
from .splits import SplitSettings


@dataclass(frozen=True)
class CombineSettings:
    """How datasets are combined.

    Attributes
    ----------
    same_patients : patients of one name are one person in all datasets
    copy_images : copy images instead of linking to the same file where the disk allows that
    """

    selection: Selection = field(default_factory=Selection)
    split_settings: SplitSettings = field(default_factory=SplitSettings)
    same_patients: bool = False
    copy_images: bool = False


class _Origin(TypedDict):
    """What the files of a combined case depend on: dataset and case, their checksums, and the values that change."""

    dataset: str
    case: str
    files: dict[str, str]
    values: dict[str, int]


@dataclass(frozen=True)
class _CombinedCase:
    """A case of a source dataset with its name, patient and label table in the combined dataset.

    existing: the case of this name that the combined dataset has already.
    """

    source: str
    case: Case
    name: str
    patient: str
    label_table: LabelTable
    value_mapping: dict[int, int]
    existing: Case | None

    @property
    def origin(self) -> _Origin:
        """Return what is kept with the case in the combined dataset."""
        values = {str(value): new for value, new in self.value_mapping.items() if value != new}
        return {"dataset": self.source, "case": self.case.name, "files": self.case.checksums, "values": values}

    def finished(self, target: Path, checksums: dict[str, str], voxel_counts: dict[int, int]) -> Case:
        """Return the case of the combined dataset at `target`."""
        return replace(
            self.case,
            name=self.name,
            image=target / "images" / f"{self.name}.nii.gz",
            labels=target / "labels" / f"{self.name}.nii.gz",
            label_table=self.label_table,
            patient=self.patient,
            checksums=checksums,
            voxel_counts=voxel_counts,
            metadata={**self.case.metadata, "combined": self.origin},
        )


def combine_datasets(
    datasets: Sequence[Dataset],
    target: Path | str,
    settings: CombineSettings | None = None,
    jobs: int | None = None,
    on_case_done: writing.ProgressCallback | None = None,
) -> writing.DatasetResult:
    """Write the union of prepared datasets at `target`, created or extended; the datasets themselves do not change.

    Parameters
    ----------
    jobs : number of processes, by default one per CPU
    on_case_done : called with the name of each finished case and the number of cases

    Raises
    ------
    DatasetError
        When the datasets cannot be combined.
    FileError
        When the target cannot be written; what is finished by then is kept.
    """
    target, settings = Path(target), settings or CombineSettings()
    if any(target.resolve() == dataset.folder.resolve() for dataset in datasets):
        raise DatasetError(f"{target}: is one of the datasets to combine; choose another folder")
    cases = _split_and_select(dict(zip(_unique_dataset_names(datasets), datasets, strict=True)), settings)
    with writing.exclusive_folder(target):
        existing = Dataset.open(target) if (target / FILE_NAME).exists() else None
        planned, label_table = _plan_cases(cases, existing, settings)
        _require_all_planned(existing, planned, target)
        _create_or_update(existing, target, label_table)
        function = partial(_combine_case, target, settings.copy_images)
        return writing.process_cases(target, function, planned, jobs, on_case_done=on_case_done)


def _unique_dataset_names(datasets: Sequence[Dataset]) -> list[str]:
    """Return a unique name for each dataset: its own, or "PARENT-NAME" where two have the same."""
    if not datasets:
        raise DatasetError("no dataset to combine; give at least one folder")
    folders = [dataset.folder.resolve() for dataset in datasets]
    for folder, count in Counter(folders).items():
        if count > 1:
            raise DatasetError(f"{folder}: given twice")
    counts = Counter(dataset.name for dataset in datasets)
    names = [
        dataset.name if counts[dataset.name] == 1 else f"{folder.parent.name}-{dataset.name}"
        for dataset, folder in zip(datasets, folders, strict=True)
    ]
    for name, count in Counter(names).items():
        if count > 1:
            raise DatasetError(f"{count} datasets are called {name}; change the name in the dataset.json of one")
    return names


def _split_and_select(datasets: Mapping[str, Dataset], settings: CombineSettings) -> dict[str, list[Case]]:
    """Return the selected cases of each dataset with their splits."""
    if settings.same_patients:
        split = _split_jointly(datasets, settings.split_settings)
    else:
        split = [_split_separately(dataset, settings.split_settings) for dataset in datasets.values()]
    selected = select_cases(split, settings.selection)
    return {name: dataset.cases() for name, dataset in zip(datasets, selected, strict=True)}


def _split_jointly(datasets: Mapping[str, Dataset], settings: SplitSettings) -> list[Dataset]:
    """Split all datasets together, as patients may be the same."""
    cases = [
        replace(case, name=f"{name}/{case.name}") for name, dataset in datasets.items() for case in dataset.all_cases
    ]
    splits = {case.name: case.split for case in settings.assign(cases)}
    return [
        replace(
            dataset,
            all_cases=tuple(replace(case, split=splits[f"{name}/{case.name}"]) for case in dataset.all_cases),
        )
        for name, dataset in datasets.items()
    ]


def _split_separately(dataset: Dataset, settings: SplitSettings) -> Dataset:
    try:
        return replace(dataset, all_cases=tuple(settings.assign(dataset.all_cases)))
    except DatasetError as error:
        raise DatasetError(f"{dataset.folder}: {error}") from error


def _plan_cases(
    cases: Mapping[str, list[Case]], existing: Dataset | None, settings: CombineSettings
) -> tuple[list[_CombinedCase], LabelTable]:
    """Return the cases that the combined dataset will hold, and its label table."""
    pairs = [(name, case) for name, members in cases.items() for case in members]
    tables = [case.label_table for _, case in pairs]
    values = assign_values(tables, existing.label_table if existing else None)
    existing_cases = {case.name: case for case in existing.all_cases} if existing else {}
    planned = []
    for (source, case), name in zip(pairs, _case_names(pairs, existing), strict=True):
        patient = case.patient if settings.same_patients or not case.patient else f"{source}/{case.patient}"
        table, mapping = case_label_table(case.label_table, values), value_mapping(case.label_table, values)
        planned.append(_CombinedCase(source, case, name, patient, table, mapping, existing_cases.get(name)))
    return planned, combined_label_table(tables, values)


def _case_names(pairs: Sequence[tuple[str, Case]], existing: Dataset | None) -> list[str]:
    """Return a name for each case: the existing one, else its own, after its dataset's name where that is taken.

    No existing case changes its name because a dataset is added.
    """
    existing_names = {_origin_of(case): case.name for case in existing.all_cases} if existing else {}
    counts = Counter(case.name for _, case in pairs)
    taken, names = set(existing_names.values()), []
    for source, case in pairs:
        name = existing_names.get((source, case.name))
        if name is None:
            name = case.name
            if counts[name] > 1 or name in taken:
                name = clean_case_name(f"{source}-{case.name}")
            if name in taken:
                raise DatasetError(f"{case.image}: no name is left for this case; {name} is taken")
            taken.add(name)
        names.append(name)
    return names


def _origin_of(case: Case) -> tuple[str, str] | None:
    """Return the dataset and the case that a combined case comes from."""
    origin = case.metadata.get("combined", {})
    return (origin["dataset"], origin["case"]) if {"dataset", "case"} <= set(origin) else None


def _require_all_planned(existing: Dataset | None, planned: Sequence[_CombinedCase], target: Path) -> None:
    """Raise DatasetError when the combined dataset has a case that is not planned."""
    origins = {case.name: (case.source, case.case.name) for case in planned}
    for case in existing.all_cases if existing else ():
        if case.name not in origins or _origin_of(case) != origins[case.name]:
            raise DatasetError(f"{target}: holds {case.name}, which is not in this combination; choose another folder")


def _create_or_update(existing: Dataset | None, target: Path, label_table: LabelTable) -> None:
    """Create the combined dataset, or update its label table; each case keeps its own table."""
    if existing is None:
        create_dataset(target, target.resolve().name or "combined", label_table)
    elif existing.label_table != label_table:
        save_dataset(replace(existing, label_table=label_table))


def _combine_case(target: Path, copy_images: bool, task: _CombinedCase) -> writing.CaseResult:
    """Write one case, unless the dataset has it already; runs in another process."""
    if task.existing and task.existing.metadata["combined"] == task.origin:
        case = task.finished(target, task.existing.checksums, task.existing.voxel_counts)
        return writing.CaseResult(task.name, case, is_unchanged=True)
    image, labels = (target / folder / f"{task.name}.nii.gz" for folder in ("images", "labels"))
    try:
        verify_checksums(task.case)
        renumbered = _renumbered(io.read_labels(task.case.labels), task)
    except (LumbarsegError, OSError, MemoryError) as error:
        return writing.CaseResult(task.name, reason=writing.error_text(error))
    io.write_labels(renumbered, labels, label_structures(task.label_table))
    _link_or_copy(task.case.image, image, copy_images)
    checksums = {"image": task.case.checksums["image"], "labels": file_checksum(labels)}
    return writing.CaseResult(task.name, task.finished(target, checksums, count_voxels(renumbered.array)))


def _renumbered(labels: Volume, task: _CombinedCase) -> Volume:
    """Return labels with the combined values; DatasetError when the case's table does not explain a value."""
    require_explained(count_voxels(labels.array), task.value_mapping, task.case.labels)
    lookup = np.zeros(256, np.uint8)
    for value, new in task.value_mapping.items():
        lookup[value] = new
    return Volume(lookup[labels.array], labels.affine)


def _link_or_copy(source: Path, target: Path, copy_images: bool) -> None:
    """Put the same bytes at `target`: a second name of the same file, or a copy where that is not possible."""
    if not copy_images:
        with suppress(FileError), io.atomic_path(target) as temporary:
            os.link(source.resolve(), temporary)
            return
    with io.atomic_write(target) as file, source.open("rb") as stream:
        shutil.copyfileobj(stream, file)
