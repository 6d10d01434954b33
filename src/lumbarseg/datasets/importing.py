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

from . import splits
from .folder import Case, Dataset, checksum, create, enter, store_case
from .importers.raw import Importer, Raw
from .workers import alone, cores, each

_LEAVES = "leads out of the source; put what it leads to there"
_ENTER_EVERY = 5.0  # seconds between two entries of finished cases in dataset.json


@dataclass(frozen=True)
class Imported:
    """What came of an import. added, already: names of cases; refused: name to reason, with what to do."""

    dataset: Dataset
    added: tuple[str, ...]
    already: tuple[str, ...]
    refused: dict[str, str]

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Name to what was met in a case of this import, "trap: detail"."""
        mine = {*self.added, *self.already}
        return {case.name: list(case.warnings) for case in self.dataset.cases() if case.name in mine and case.warnings}

    def traps(self) -> dict[str, list[str]]:
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
    raw: Raw
    split: str
    known: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Outcome:
    """What became of a task: a new case, a reason to refuse it or to stop everything, or nothing to do."""

    name: str
    case: Case | None = None
    refused: str = ""
    stop: str = ""


def import_source(
    importer: Importer,
    source: Path | str,
    target: Path | str,
    jobs: int | None = None,
    seed: int = 0,
    held_out: float = 0.1,
    step: Callable[[str, int], None] | None = None,
) -> Imported:
    """Import what `source` holds into the dataset at `target`, made where it is missing; cases there stay as they are.

    jobs: processes, one per core by default; seed, held_out: of the split "val" by patient, where the source has none
    of its own; step: told the name of each case that is done, and how many there are. DatasetError when the folder is
    of another kind, FileError when the target cannot be written; what is finished by then is kept.
    """
    source, target = Path(source), Path(target)
    splits.check_shares(held_out, 0.0)
    if not source.is_dir():
        raise DatasetError(f"{source}: no folder; give the folder that the download was unpacked to")
    found = importer.find(source)
    with alone(target):
        dataset = _dataset(target, importer)
        raws, refused = _usable(found.raws, dataset, importer, source)
        mine = {raw.name for raw in found.raws} | {name for name, _ in found.refused}
        refused |= {name: _inside(reason, source) for name, reason in found.refused}
        outside = _folders_outside(source) if importer.deep else []
        refused |= dict.fromkeys(outside, f"a folder that is a link and {_LEAVES}")
        added, already, changed = [], [], {}
        outcomes = _outcomes(importer, source, dataset, raws, jobs, seed, held_out)
        with closing(_entered(dataset, mine, refused, outcomes)) as entered:
            for outcome in entered:
                if outcome.case:
                    added.append(outcome.name)
                elif outcome.refused:
                    changed[outcome.name] = outcome.refused
                else:
                    already.append(outcome.name)
                if step:
                    step(outcome.name, len(raws))
        return Imported(Dataset.open(target), tuple(added), tuple(already), dict(sorted((refused | changed).items())))


def _dataset(target: Path, importer: Importer) -> Dataset:
    """The dataset to complete, or a new one; what an interrupted import left half written is removed."""
    if not (target / "dataset.json").exists():
        return create(target, target.resolve().name or importer.name, importer.table)
    dataset = Dataset.open(target)
    if dataset.table != dict(sorted(importer.table.items())):
        raise DatasetError(f"{target}: a dataset with another label table; choose another folder for {importer.name}")
    for part in target.glob("**/.lumbarseg-*.part"):
        part.unlink(missing_ok=True)
    return dataset


def _usable(
    raws: Iterable[Raw], dataset: Dataset, importer: Importer, source: Path
) -> tuple[list[Raw], dict[str, str]]:
    """The cases that may be tried, and why others may not."""
    origins = {case.name: case for case in dataset.everything}
    times = Counter(raw.name for raw in raws)
    good, refused = [], {}
    for raw in raws:
        there = origins.get(raw.name)
        outside = next((file for file in raw.files if not _within(file, source)), None)
        if times[raw.name] > 1:
            twins = " and ".join(str(twin.files[0].relative_to(source)) for twin in raws if twin.name == raw.name)
            refused[raw.name] = f"{twins}: two exams under one name; keep one, or rename it"
        elif outside is not None:
            refused[raw.name] = f"{outside.relative_to(source)}: a link that {_LEAVES}"
        elif there is not None and there.about.get("imported", {}).get("importer") != importer.name:
            refused[raw.name] = "a case of this name is there from another source; choose another folder"
        else:
            good.append(raw)
    return good, refused


def _folders_outside(source: Path) -> list[str]:
    """Folders of the source that are links to elsewhere; no importer looks into them."""
    links = (Path(place, name) for place, folders, _ in os.walk(source) for name in folders)
    return sorted(str(link.relative_to(source)) for link in links if link.is_symlink() and not _within(link, source))


def _within(file: Path, source: Path) -> bool:
    """Whether a file lies in the source when its links are followed."""
    try:
        return file.resolve().is_relative_to(source.resolve())
    except (OSError, RuntimeError):  # links that lead in a circle
        return False


def _outcomes(
    importer: Importer, source: Path, dataset: Dataset, raws: list[Raw], jobs: int | None, seed: int, held_out: float
) -> Iterator[_Outcome]:
    """What becomes of each case, in their order; FileError, after what is on its way, when the target fails."""
    there = {case.name: case for case in dataset.everything}
    patients = {case.patient: case.split for case in dataset.everything if case.patient}
    empty = replace(dataset, everything=(), refused={})
    stop = ""

    def tasks() -> Iterator[_Task]:
        for raw in raws:
            if stop:
                return
            split = (
                raw.split or patients.get(raw.patient) or splits.stable(raw.patient or raw.name, seed, held_out, 0.0)
            )
            known = there[raw.name].about["imported"]["files"] if raw.name in there else None
            yield _Task(importer, source, empty, raw, split, known)

    processes = min(jobs or cores(), len(raws))
    for outcome in each(_do, tasks(), processes) if processes > 1 else map(_do, tasks()):
        stop = stop or outcome.stop
        if not outcome.stop:
            yield outcome
    if stop:
        raise FileError(stop)


def _do(task: _Task) -> _Outcome:
    """Read and store one case, or say why not; in another process."""
    raw, source = task.raw, task.source
    try:
        origin = {file.relative_to(source).as_posix(): checksum(file) for file in raw.files}
        if task.known is not None:
            return _Outcome(raw.name, refused=_changes(task.known, origin))
        read = task.importer.read(raw)
    except (LumbarsegError, OSError, MemoryError) as error:
        return _Outcome(raw.name, refused=_inside(_reason(error), source))
    about = {
        "patient": raw.patient,
        "contrast": raw.contrast,
        "scanner": raw.scanner,
        "split": task.split,
        "licence": task.importer.licence,
        "source": task.importer.citation,
        "warnings": [_inside(text, source) for text in read.warnings],
        **raw.about,
        **read.about,
        "imported": {"importer": task.importer.name, "files": origin},
    }
    if read.table is not None and read.table != task.dataset.table:
        about["table"] = read.table
    try:
        return _Outcome(raw.name, store_case(task.dataset, raw.name, read.image, read.labels, about))
    except FileError as error:
        return _Outcome(raw.name, stop=str(error))
    except LumbarsegError as error:
        return _Outcome(raw.name, refused=_inside(str(error), source))


def _changes(known: dict[str, str], origin: dict[str, str]) -> str:
    """Why a case that is there does not come from these files; "" when it does."""
    changed = sorted(name for name in {*known, *origin} if known.get(name) != origin.get(name))
    if not changed:
        return ""
    return f"{changed[0]}: changed since it was imported; the case was left as it is: import into another folder"


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "not enough memory for this case; run it again with fewer --jobs"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _inside(text: str, source: Path) -> str:
    """The same with files named from the source on, so that it holds wherever the source lies."""
    return text.replace(f"{source}/", "")


def _entered(
    dataset: Dataset, mine: set[str], refused: dict[str, str], outcomes: Iterator[_Outcome]
) -> Generator[_Outcome]:
    """The outcomes, entered in `dataset.json` from time to time and at the end, whatever ends it.

    mine: every name of this source; what was refused under one of them in an earlier import is forgotten.
    """
    there = {case.name for case in dataset.everything}
    known = {name: reason for name, reason in dataset.refused.items() if name not in mine} | refused
    cases: list[Case] = []
    last = time.monotonic()
    try:
        for outcome in outcomes:
            if outcome.case:
                cases.append(outcome.case)
            if outcome.refused and outcome.name not in there:
                known[outcome.name] = outcome.refused
            yield outcome
            if time.monotonic() - last > _ENTER_EVERY:
                enter(dataset.folder, cases, known)
                cases, last = [], time.monotonic()
    finally:
        enter(dataset.folder, cases, known)
