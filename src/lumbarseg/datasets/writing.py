"""The loop over cases that writes a dataset, and a lock on its folder."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lumbarseg.errors import DatasetError
from lumbarseg.executors import local_executor

from .dataset import Case, Dataset, add_cases

ProgressCallback = Callable[[str, int], Any]
"""Called with the name of each finished case and the number of cases."""

_SAVE_INTERVAL = 5.0  # seconds between two updates of dataset.json


class Task(Protocol):
    """A case to write."""

    @property
    def name(self) -> str:
        """Return the name of the case."""


T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class CaseResult:
    """What came of one case.

    Attributes
    ----------
    case : as the dataset should hold it; None where that does not change
    is_unchanged : the dataset had the case already
    reason : why the case cannot be used, or, if it is unchanged, should be imported anew
    """

    name: str
    case: Case | None = None
    is_unchanged: bool = False
    reason: str = ""


@dataclass(frozen=True)
class DatasetResult:
    """What was written into a dataset: names of added and unchanged cases; refused: names and reasons."""

    dataset: Dataset
    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    refused: dict[str, str]

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Return the importer's warnings, "fault: detail", of each added or unchanged case that has any."""
        names = {*self.added, *self.unchanged}
        return {case.name: list(case.warnings) for case in self.dataset.cases() if case.name in names and case.warnings}

    def cases_by_fault(self) -> dict[str, list[str]]:
        """Return for each known fault the added and unchanged cases that have it."""
        cases: dict[str, list[str]] = {}
        for name, texts in self.warnings.items():
            for fault in sorted({text.partition(":")[0] for text in texts}):
                cases.setdefault(fault, []).append(name)
        return dict(sorted(cases.items()))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "folder": str(self.dataset.folder),
            "cases": dict(Counter(case.split for case in self.dataset.all_cases)),
            "added": list(self.added),
            "unchanged": list(self.unchanged),
            "refused": self.refused,
        }

    def summary(self) -> str:
        """Return one line: "12 cases (10 train, 2 val); 3 added, 9 unchanged, 0 refused"."""
        splits = Counter(case.split for case in self.dataset.all_cases)
        counts = f"{len(self.added)} added, {len(self.unchanged)} unchanged, {len(self.refused)} refused"
        listed = ", ".join(f"{count} {split}" for split, count in splits.items())
        return f"{len(self.dataset.all_cases)} cases ({listed}); {counts}"


def process_cases(
    folder: Path,
    function: Callable[[T], CaseResult],
    tasks: Sequence[T],
    jobs: int | None = None,
    refused: Mapping[str, str] | None = None,
    on_case_done: ProgressCallback | None = None,
) -> DatasetResult:
    """Run `function` on each task and add the written cases to `dataset.json`, every few seconds and at the end.

    Parameters
    ----------
    folder : of the dataset
    jobs : number of processes, by default one per CPU
    refused : names and reasons of cases that were refused before. Those of this run are added, and those in
        `dataset.json` stay there unless a case of the same name is processed

    Raises
    ------
    FileError
        When the dataset cannot be written. The cases that are finished by then are kept, also after Ctrl-C.
    """
    refused = dict(refused or {})
    names = {*refused, *(task.name for task in tasks)}
    recorded = {name: reason for name, reason in Dataset.open(folder).refused.items() if name not in names} | refused
    results: list[CaseResult] = []
    unsaved, saved_at = [], time.monotonic()
    try:
        for result in local_executor(jobs, len(tasks)).map(function, tasks):
            results.append(result)
            unsaved += [result.case] if result.case else []
            recorded |= {result.name: result.reason} if result.reason and not result.is_unchanged else {}
            if on_case_done:
                on_case_done(result.name, len(tasks))
            if time.monotonic() - saved_at > _SAVE_INTERVAL:
                add_cases(folder, unsaved, recorded)
                unsaved, saved_at = [], time.monotonic()
    finally:
        dataset = add_cases(folder, unsaved, recorded)
    refused |= {result.name: result.reason for result in results if result.reason}
    added = tuple(result.name for result in results if not (result.reason or result.is_unchanged))
    unchanged = tuple(result.name for result in results if result.is_unchanged and not result.reason)
    return DatasetResult(dataset, added, unchanged, dict(sorted(refused.items())))


def error_text(error: BaseException) -> str:
    """Return an exception as one line that says what to do."""
    if isinstance(error, MemoryError):
        return "not enough memory for this case; run it again with fewer --jobs"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Make a folder, lock it, and remove the unfinished files that an interrupted program left in it.

    DatasetError while another process has the folder locked, where the system can tell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        _remove_partial_files(folder)
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"{folder}: another program is writing here; wait until it is done") from None
        except OSError:
            pass  # a file system without locks
        _remove_partial_files(folder)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)


def _remove_partial_files(folder: Path) -> None:
    for path in folder.glob("**/.lumbarseg-*.part"):
        path.unlink(missing_ok=True)
