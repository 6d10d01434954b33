"""Several prepared datasets as one: one label table, patients kept apart, images untouched, labels renumbered.

A case keeps where it came from in `about["combined"]`, so a combination that was interrupted goes on, one that is
repeated changes nothing, and one more dataset is added without writing the cases of the others again.
"""

from __future__ import annotations

import os
import re
import secrets
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
from lumbarseg.volume import Volume

from .folder import Case, Dataset, Table, checksum, create, enter, save, verify, voxels
from .legend import legend
from .select import Selection, chosen
from .splits import Splitting
from .union import common, remap, table_of, values_of
from .workers import alone, cores, each

_ENTER_EVERY = 5.0  # seconds between two entries of finished cases in dataset.json
_UNUSABLE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Settings:
    """How datasets become one. same_patients: equal names of patients mean one person, in whatever dataset.

    copy: images are copied, where otherwise both datasets hold the same file if the disk can do that.
    """

    selection: Selection = field(default_factory=Selection)
    splitting: Splitting = field(default_factory=Splitting)
    same_patients: bool = False
    copy: bool = False


@dataclass(frozen=True)
class Combined:
    """What came of it. added, already: names of cases; refused: name to reason, one line."""

    dataset: Dataset
    added: tuple[str, ...]
    already: tuple[str, ...]
    refused: dict[str, str]


@dataclass(frozen=True)
class _Part:
    """A case of a source, split and chosen. name, patient: in the union; table: there; values: its own to those."""

    source: str
    case: Case
    name: str
    patient: str
    table: Table
    values: dict[int, int]

    @property
    def origin(self) -> dict[str, Any]:
        """What the case's files in the union depend on."""
        values = {str(value): new for value, new in self.values.items() if value != new}
        return {"dataset": self.source, "case": self.case.name, "files": self.case.checksums, "values": values}


@dataclass(frozen=True)
class _Outcome:
    part: _Part
    case: Case | None = None
    refused: str = ""
    stop: str = ""


def combine(
    datasets: Sequence[Dataset],
    target: Path | str,
    settings: Settings | None = None,
    jobs: int | None = None,
    step: Callable[[str, int], None] | None = None,
) -> Combined:
    """Write the union of prepared datasets at `target`, made or completed; the datasets themselves are not touched.

    jobs: processes, one per core by default; step: told the name of each case that is done, and how many there are.
    DatasetError when they cannot be one, FileError when the target cannot be written; what is finished by then is kept.
    """
    target, settings = Path(target), settings or Settings()
    if any(target.resolve() == dataset.folder.resolve() for dataset in datasets):
        raise DatasetError(f"{target}: is one of the datasets to combine; choose another folder")
    held = _split(dict(zip(_keys(datasets), datasets, strict=True)), settings)
    with alone(target):
        before = Dataset.open(target) if (target / "dataset.json").exists() else None
        parts, shared = _parts(held, before, settings)
        there = _there(before, parts, target)
        dataset = _opened(before, target, shared)
        ready = [_finished(part, there[part.name], target) for part in parts if part.name in there]
        enter(target, ready)
        tasks = [part for part in parts if part.name not in there]
        added, refused = [], {}
        for outcome in _entered(dataset.folder, _outcomes(tasks, target, settings.copy, jobs)):
            if outcome.case:
                added.append(outcome.case.name)
            else:
                refused[outcome.part.name] = outcome.refused
            if step:
                step(outcome.part.name, len(tasks))
        return Combined(Dataset.open(target), tuple(added), tuple(case.name for case in ready), refused)


def _keys(datasets: Sequence[Dataset]) -> list[str]:
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


def _split(datasets: Mapping[str, Dataset], settings: Settings) -> dict[str, list[Case]]:
    """The chosen cases of each dataset with their split; of all datasets together where patients may be the same."""
    if settings.same_patients:
        held = _together(datasets, settings.splitting)
    else:
        held = {key: replace(d, everything=tuple(_apart(d, settings.splitting))) for key, d in datasets.items()}
    wanted = chosen(list(held.values()), settings.selection)
    return {key: dataset.cases() for key, dataset in zip(held, wanted, strict=True)}


def _together(datasets: Mapping[str, Dataset], splitting: Splitting) -> dict[str, Dataset]:
    every = [
        replace(case, name=f"{key}/{case.name}") for key, dataset in datasets.items() for case in dataset.everything
    ]
    splits = {case.name: case.split for case in splitting.apply(every)}
    return {
        key: replace(
            dataset,
            everything=tuple(replace(case, split=splits[f"{key}/{case.name}"]) for case in dataset.everything),
        )
        for key, dataset in datasets.items()
    }


def _apart(dataset: Dataset, splitting: Splitting) -> list[Case]:
    try:
        return splitting.apply(dataset.everything)
    except DatasetError as error:
        raise DatasetError(f"{dataset.folder}: {error}") from error


def _parts(held: Mapping[str, list[Case]], before: Dataset | None, settings: Settings) -> tuple[list[_Part], Table]:
    """What the union will hold, and its table."""
    pairs = [(key, case) for key, cases in held.items() for case in cases]
    tables = [case.table for _, case in pairs]
    values = values_of(tables, before.table if before else None)
    shared = common(tables, values)
    names = _names(pairs, before)
    parts = []
    for (key, case), name in zip(pairs, names, strict=True):
        patient = case.patient if settings.same_patients or not case.patient else f"{key}/{case.patient}"
        parts.append(_Part(key, case, name, patient, table_of(case.table, values), remap(case.table, values)))
    return parts, shared


def _names(pairs: Sequence[tuple[str, Case]], before: Dataset | None) -> list[str]:
    """A name for each case: the one it has in the union already, else its own, after its dataset's where that is taken.

    So nothing that is there changes its name because another dataset came.
    """
    there = {_identity(case): case.name for case in before.everything} if before else {}
    times = Counter(case.name for _, case in pairs)
    taken, names = set(there.values()), []
    for key, case in pairs:
        name = there.get((key, case.name))
        if name is None:
            name = case.name
            if times[name] > 1 or name in taken:
                name = f"{_UNUSABLE.sub('-', key).strip('.-_') or 'set'}-{case.name}"[:120]
            if name in taken:
                raise DatasetError(f"{case.image}: no name is left for this case; {name} is taken")
            taken.add(name)
        names.append(name)
    return names


def _identity(case: Case) -> tuple[str, str] | None:
    origin = case.about.get("combined", {})
    return (origin["dataset"], origin["case"]) if {"dataset", "case"} <= set(origin) else None


def _there(before: Dataset | None, parts: Sequence[_Part], target: Path) -> dict[str, Case]:
    """Cases of the union that need not be written again, by name; DatasetError when others are in its folder."""
    wanted = {part.name: part for part in parts}
    held = before.everything if before else ()
    for case in held:
        if case.name not in wanted or _identity(case) != (wanted[case.name].source, wanted[case.name].case.name):
            raise DatasetError(f"{target}: holds {case.name}, which is not in this combination; choose another folder")
    return {case.name: case for case in held if case.about["combined"] == wanted[case.name].origin}


def _opened(before: Dataset | None, target: Path, shared: Table) -> Dataset:
    """The union's dataset.json with its table; cases keep theirs, and what was left half written is removed."""
    for part in target.glob("**/.lumbarseg-*.part"):
        part.unlink(missing_ok=True)
    if before is None:
        return create(target, target.resolve().name or "combined", shared)
    if before.table != shared:
        save(replace(before, table=shared))
    return before


def _outcomes(parts: Sequence[_Part], target: Path, copy: bool, jobs: int | None) -> Iterator[_Outcome]:
    """What becomes of each case, in their order; FileError, after what is on its way, when the target fails."""
    stop = ""

    def tasks() -> Iterator[tuple[_Part, Path, bool]]:
        for part in parts:
            if stop:
                return
            yield part, target, copy

    processes = min(jobs or cores(), len(parts))
    for outcome in each(_do, tasks(), processes) if processes > 1 else map(_do, tasks()):
        stop = stop or outcome.stop
        if not outcome.stop:
            yield outcome
    if stop:
        raise FileError(stop)


def _do(task: tuple[_Part, Path, bool]) -> _Outcome:
    """Write one case, or say why not; in another process."""
    from lumbarseg import files

    part, target, copy = task
    image, labels = (target / folder / f"{part.name}.nii.gz" for folder in ("images", "labels"))
    try:
        verify(part.case)
        drawn = files.read_labels(part.case.labels)
        renumbered = _renumbered(drawn, part)
    except (LumbarsegError, OSError, MemoryError) as error:
        return _Outcome(part, refused=" ".join(str(error).split()) or "not enough memory; use fewer --jobs")
    try:
        files.write_labels(renumbered, labels, legend(part.table))
        _place(part.case.image, image, copy)
    except FileError as error:
        return _Outcome(part, stop=str(error))
    sums = {"image": part.case.checksums["image"], "labels": checksum(labels)}
    made = replace(part.case, checksums=sums, present=voxels(renumbered.array))
    return _Outcome(part, _finished(part, made, target))


def _finished(part: _Part, case: Case, target: Path) -> Case:
    """The union's case, from one that has its checksums and voxels."""
    return replace(
        part.case,
        name=part.name,
        image=target / "images" / f"{part.name}.nii.gz",
        labels=target / "labels" / f"{part.name}.nii.gz",
        table=part.table,
        patient=part.patient,
        checksums=case.checksums,
        present=case.present,
        about={**part.case.about, "combined": part.origin},
    )


def _renumbered(drawn: Volume, part: _Part) -> Volume:
    """Labels with the union's values; DatasetError on a value that the case's table does not explain."""
    strange = sorted(set(voxels(drawn.array)) - set(part.values))
    if strange:
        raise DatasetError(f"{part.case.labels}: holds the value {strange[0]}, which the label table does not explain")
    lookup = np.zeros(256, np.uint8)
    for value, new in part.values.items():
        lookup[value] = new
    return Volume(lookup[drawn.array], drawn.affine)


def _place(source: Path, target: Path, copy: bool) -> None:
    """The same bytes at `target`: the same file under a second name, or a copy where that cannot be."""
    from lumbarseg import files

    if not copy:
        part = target.parent / f".lumbarseg-{secrets.token_hex(6)}.part"
        with suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source.resolve(), part)
            os.replace(part, target)
            part.unlink(missing_ok=True)  # where both were one file already, nothing was moved
            return
        with suppress(OSError):
            part.unlink(missing_ok=True)
    with files.replacing(target) as file, source.open("rb") as stream:
        shutil.copyfileobj(stream, file)


def _entered(folder: Path, outcomes: Iterable[_Outcome]) -> Iterator[_Outcome]:
    """The outcomes, entered in `dataset.json` from time to time and at the end, whatever ends it."""
    cases: list[Case] = []
    refused: dict[str, str] = {}
    last = time.monotonic()
    try:
        for outcome in outcomes:
            if outcome.case:
                cases.append(outcome.case)
            else:
                refused[outcome.part.name] = outcome.refused
            yield outcome
            if time.monotonic() - last > _ENTER_EVERY:
                enter(folder, cases, refused)
                cases, last = [], time.monotonic()
    finally:
        enter(folder, cases, refused)
