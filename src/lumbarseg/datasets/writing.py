"""The loop over cases that writes a dataset, and a lock on its folder."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lumbarseg.errors import DatasetError
from lumbarseg.executors import local_executor

from .dataset import Case, Dataset, add_cases

T = TypeVar("T")

ProgressCallback = Callable[[str, int], Any]
"""Called with the name of each finished case and the number of cases."""

_SAVE_INTERVAL = 5.0  # seconds between two updates of dataset.json


@dataclass(frozen=True)
class CaseResult:
    """What came of one case: the written case, or why there is none.

    Attributes
    ----------
    refused : why the case cannot be used
    changed : why the case that is in the dataset already was left as it is
    """

    name: str
    case: Case | None = None
    refused: str = ""
    changed: str = ""


@dataclass(frozen=True)
class DatasetResult:
    """What was written into a dataset: names of added and unchanged cases; refused: names and reasons."""

    dataset: Dataset
    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    refused: dict[str, str]

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
) -> list[CaseResult]:
    """Run `function` on each task and add the written cases to `dataset.json`, every few seconds and at the end.

    Parameters
    ----------
    folder : of the dataset
    jobs : number of processes, by default one per CPU
    refused : names and reasons of cases that were refused before; those of this run are added

    Raises
    ------
    FileError
        When the dataset cannot be written. The cases that are finished by then are kept, also after Ctrl-C.
    """
    results: list[CaseResult] = []
    unsaved, reasons, saved_at = [], dict(refused or {}), time.monotonic()
    try:
        for result in local_executor(jobs, len(tasks)).map(function, tasks):
            results.append(result)
            unsaved += [result.case] if result.case else []
            reasons |= {result.name: result.refused} if result.refused else {}
            if on_case_done:
                on_case_done(result.name, len(tasks))
            if time.monotonic() - saved_at > _SAVE_INTERVAL:
                add_cases(folder, unsaved, reasons)
                unsaved, saved_at = [], time.monotonic()
    finally:
        add_cases(folder, unsaved, reasons)
    return results


def error_text(error: BaseException) -> str:
    """Return an exception as one line that says what to do."""
    if isinstance(error, MemoryError):
        return "not enough memory for this case; run it again with fewer --jobs"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def remove_partial_files(folder: Path) -> None:
    """Remove the unfinished files that an interrupted program left."""
    for path in folder.glob("**/.lumbarseg-*.part"):
        path.unlink(missing_ok=True)


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Make a folder and lock it; DatasetError while another process has it locked, where the system can tell."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
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
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
