"""Several prepared datasets as one: one label table, patients kept apart, images untouched, labels renumbered.

A case keeps where it came from in `about["combined"]`, so a combination that was interrupted goes on, one that is
repeated changes nothing, and one more dataset is added without writing the cases of the others again.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.errors import DatasetError, FileError, LumbarsegError
from lumbarseg.executors import local_executor
from lumbarseg.volume import Volume

from .dataset import (
    Case,
    Dataset,
    LabelTable,
    count_voxels,
    create_dataset,
    file_checksum,
    register_cases,
    save_dataset,
    verify_checksums,
)
from .label_structures import label_structures
from .label_table import assign_values, case_label_table, combined_label_table, value_mapping
from .selection import Selection, select_cases
from .splits import SplitSettings
from .workers import exclusive_folder

_SAVE_INTERVAL = 5.0  # seconds between two entries of finished cases in dataset.json
_INVALID_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class CombineSettings:
    """How datasets become one. same_patients: equal names of patients mean one person, in whatever dataset.

    copy: images are copied, where otherwise both datasets hold the same file if the disk can do that.
    """

    selection: Selection = field(default_factory=Selection)
    split_settings: SplitSettings = field(default_factory=SplitSettings)
    same_patients: bool = False
    copy_images: bool = False


@dataclass(frozen=True)
class CombineResult:
    """What came of it. added, already: names of cases; refused: name to reason, one line."""

    dataset: Dataset
    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    refused: dict[str, str]


@dataclass(frozen=True)
class _CombinedCase:
    """A case of a source, split and chosen. name, patient: in the union; table: there; values: its own to those."""

    source: str
    case: Case
    name: str
    patient: str
    label_table: LabelTable
    value_mapping: dict[int, int]

    @property
    def origin(self) -> dict[str, Any]:
        """What the case's files in the union depend on."""
        values = {str(value): new for value, new in self.value_mapping.items() if value != new}
        return {"dataset": self.source, "case": self.case.name, "files": self.case.checksums, "values": values}


@dataclass(frozen=True)
class _CaseResult:
    combined_case: _CombinedCase
    case: Case | None = None
    refused: str = ""
    fatal_error: str = ""


def combine_datasets(
    datasets: Sequence[Dataset],
    target: Path | str,
    settings: CombineSettings | None = None,
    jobs: int | None = None,
    on_case_done: Callable[[str, int], None] | None = None,
) -> CombineResult:
    """Write the union of prepared datasets at `target`, made or completed; the datasets themselves are not touched.

    jobs: processes, one per core by default; step: told the name of each case that is done, and how many there are.
    DatasetError when they cannot be one, FileError when the target cannot be written; what is finished by then is kept.
    """
    target, settings = Path(target), settings or CombineSettings()
    if any(target.resolve() == dataset.folder.resolve() for dataset in datasets):
        raise DatasetError(f"{target}: is one of the datasets to combine; choose another folder")
    held = _split_and_select(dict(zip(_dataset_names(datasets), datasets, strict=True)), settings)
    with exclusive_folder(target):
        before = Dataset.open(target) if (target / "dataset.json").exists() else None
        parts, shared = _plan_cases(held, before, settings)
        there = _reusable_cases(before, parts, target)
        dataset = _open_or_create(before, target, shared)
        ready = [_finished_case(part, there[part.name], target) for part in parts if part.name in there]
        register_cases(target, ready)
        tasks = [part for part in parts if part.name not in there]
        added, refused = [], {}
        for outcome in _save_periodically(dataset.folder, _combine_cases(tasks, target, settings.copy_images, jobs)):
            if outcome.case:
                added.append(outcome.case.name)
            else:
                refused[outcome.combined_case.name] = outcome.refused
            if on_case_done:
                on_case_done(outcome.combined_case.name, len(tasks))
        return CombineResult(Dataset.open(target), tuple(added), tuple(case.name for case in ready), refused)


def _dataset_names(datasets: Sequence[Dataset]) -> list[str]:
    """A name for each dataset: its own; with its folder's parent where two have the same."""
    if not datasets:
        raise DatasetError("no dataset to combine; give at least one folder")
    places = [dataset.folder.resolve() for dataset in datasets]
    for place, times in Counter(places).items():
        if times > 1:
            raise DatasetError(f"{place}: given twice")
    names = Counter(dataset.name for dataset in datasets)
    keys = [
        d.name if names[d.name] == 1 else f"{p.parent.name}-{d.name}" for d, p in zip(datasets, places, strict=True)
    ]
    for key, times in Counter(keys).items():
        if times > 1:
            raise DatasetError(f"{times} datasets are called {key}; change the name in the dataset.json of one")
    return keys


def _split_and_select(datasets: Mapping[str, Dataset], settings: CombineSettings) -> dict[str, list[Case]]:
    """The chosen cases of each dataset with their split; of all datasets together where patients may be the same."""
    if settings.same_patients:
        held = _split_jointly(datasets, settings.split_settings)
    else:
        held = {
            key: replace(d, all_cases=tuple(_split_separately(d, settings.split_settings)))
            for key, d in datasets.items()
        }
    wanted = select_cases(list(held.values()), settings.selection)
    return {key: dataset.cases() for key, dataset in zip(held, wanted, strict=True)}


def _split_jointly(datasets: Mapping[str, Dataset], splitting: SplitSettings) -> dict[str, Dataset]:
    every = [
        replace(case, name=f"{key}/{case.name}") for key, dataset in datasets.items() for case in dataset.all_cases
    ]
    splits = {case.name: case.split for case in splitting.assign(every)}
    return {
        key: replace(
            dataset,
            all_cases=tuple(replace(case, split=splits[f"{key}/{case.name}"]) for case in dataset.all_cases),
        )
        for key, dataset in datasets.items()
    }


def _split_separately(dataset: Dataset, splitting: SplitSettings) -> list[Case]:
    try:
        return splitting.assign(dataset.all_cases)
    except DatasetError as error:
        raise DatasetError(f"{dataset.folder}: {error}") from error


def _plan_cases(
    held: Mapping[str, list[Case]], before: Dataset | None, settings: CombineSettings
) -> tuple[list[_CombinedCase], LabelTable]:
    """What the union will hold, and its table."""
    pairs = [(key, case) for key, cases in held.items() for case in cases]
    tables = [case.label_table for _, case in pairs]
    values = assign_values(tables, before.label_table if before else None)
    shared = combined_label_table(tables, values)
    names = _case_names(pairs, before)
    parts = []
    for (key, case), name in zip(pairs, names, strict=True):
        patient = case.patient if settings.same_patients or not case.patient else f"{key}/{case.patient}"
        parts.append(
            _CombinedCase(
                key,
                case,
                name,
                patient,
                case_label_table(case.label_table, values),
                value_mapping(case.label_table, values),
            )
        )
    return parts, shared


def _case_names(pairs: Sequence[tuple[str, Case]], before: Dataset | None) -> list[str]:
    """A name for each case: the one it has in the union already, else its own, after its dataset's where that is taken.

    So nothing that is there changes its name because another dataset came.
    """
    there = {_origin_of(case): case.name for case in before.all_cases} if before else {}
    times = Counter(case.name for _, case in pairs)
    taken, names = set(there.values()), []
    for key, case in pairs:
        name = there.get((key, case.name))
        if name is None:
            name = case.name
            if times[name] > 1 or name in taken:
                name = f"{_INVALID_CHARACTERS.sub('-', key).strip('.-_') or 'set'}-{case.name}"[:120]
            if name in taken:
                raise DatasetError(f"{case.image}: no name is left for this case; {name} is taken")
            taken.add(name)
        names.append(name)
    return names


def _origin_of(case: Case) -> tuple[str, str] | None:
    origin = case.metadata.get("combined", {})
    return (origin["dataset"], origin["case"]) if {"dataset", "case"} <= set(origin) else None


def _reusable_cases(before: Dataset | None, parts: Sequence[_CombinedCase], target: Path) -> dict[str, Case]:
    """Cases of the union that need not be written again, by name; DatasetError when others are in its folder."""
    wanted = {part.name: part for part in parts}
    held = before.all_cases if before else ()
    for case in held:
        if case.name not in wanted or _origin_of(case) != (wanted[case.name].source, wanted[case.name].case.name):
            raise DatasetError(f"{target}: holds {case.name}, which is not in this combination; choose another folder")
    return {case.name: case for case in held if case.metadata["combined"] == wanted[case.name].origin}


def _open_or_create(before: Dataset | None, target: Path, shared: LabelTable) -> Dataset:
    """The union's dataset.json with its table; cases keep theirs, and what was left half written is removed."""
    for part in target.glob("**/.lumbarseg-*.part"):
        part.unlink(missing_ok=True)
    if before is None:
        return create_dataset(target, target.resolve().name or "combined", shared)
    if before.label_table != shared:
        save_dataset(replace(before, label_table=shared))
    return before


def _combine_cases(parts: Sequence[_CombinedCase], target: Path, copy: bool, jobs: int | None) -> Iterator[_CaseResult]:
    """What becomes of each case, in their order; FileError, after what is on its way, when the target fails."""
    stop = ""

    def tasks() -> Iterator[tuple[_CombinedCase, Path, bool]]:
        for part in parts:
            if stop:
                return
            yield part, target, copy

    for outcome in local_executor(jobs, len(parts)).map(_combine_case, tasks()):
        stop = stop or outcome.fatal_error
        if not outcome.fatal_error:
            yield outcome
    if stop:
        raise FileError(stop)


def _combine_case(task: tuple[_CombinedCase, Path, bool]) -> _CaseResult:
    """Write one case, or say why not; in another process."""
    from lumbarseg import io

    part, target, copy = task
    image, labels = (target / folder / f"{part.name}.nii.gz" for folder in ("images", "labels"))
    try:
        verify_checksums(part.case)
        drawn = io.read_labels(part.case.labels)
        renumbered = _renumbered(drawn, part)
    except (LumbarsegError, OSError, MemoryError) as error:
        return _CaseResult(part, refused=" ".join(str(error).split()) or "not enough memory; use fewer --jobs")
    try:
        io.write_labels(renumbered, labels, label_structures(part.label_table))
        _link_or_copy(part.case.image, image, copy)
    except FileError as error:
        return _CaseResult(part, fatal_error=str(error))
    sums = {"image": part.case.checksums["image"], "labels": file_checksum(labels)}
    made = replace(part.case, checksums=sums, voxel_counts=count_voxels(renumbered.array))
    return _CaseResult(part, _finished_case(part, made, target))


def _finished_case(part: _CombinedCase, case: Case, target: Path) -> Case:
    """The union's case, from one that has its checksums and voxels."""
    return replace(
        part.case,
        name=part.name,
        image=target / "images" / f"{part.name}.nii.gz",
        labels=target / "labels" / f"{part.name}.nii.gz",
        label_table=part.label_table,
        patient=part.patient,
        checksums=case.checksums,
        voxel_counts=case.voxel_counts,
        metadata={**part.case.metadata, "combined": part.origin},
    )


def _renumbered(drawn: Volume, part: _CombinedCase) -> Volume:
    """Labels with the union's values; DatasetError on a value that the case's table does not explain."""
    strange = sorted(set(count_voxels(drawn.array)) - set(part.value_mapping))
    if strange:
        raise DatasetError(f"{part.case.labels}: holds the value {strange[0]}, which the label table does not explain")
    lookup = np.zeros(256, np.uint8)
    for value, new in part.value_mapping.items():
        lookup[value] = new
    return Volume(lookup[drawn.array], drawn.affine)


def _link_or_copy(source: Path, target: Path, copy: bool) -> None:
    """Make `target` a hard link to `source`, or a copy if `copy` is set or links are not possible."""
    from lumbarseg import io

    if not copy:
        with suppress(FileError), io.atomic_path(target) as temporary:
            os.link(source.resolve(), temporary)
            return
    with io.atomic_write(target) as file, source.open("rb") as stream:
        shutil.copyfileobj(stream, file)


def _save_periodically(folder: Path, outcomes: Iterable[_CaseResult]) -> Iterator[_CaseResult]:
    """The outcomes, entered in `dataset.json` from time to time and at the end, whatever ends it."""
    cases: list[Case] = []
    refused: dict[str, str] = {}
    last = time.monotonic()
    try:
        for outcome in outcomes:
            if outcome.case:
                cases.append(outcome.case)
            else:
                refused[outcome.combined_case.name] = outcome.refused
            yield outcome
            if time.monotonic() - last > _SAVE_INTERVAL:
                register_cases(folder, cases, refused)
                cases, last = [], time.monotonic()
    finally:
        register_cases(folder, cases, refused)
