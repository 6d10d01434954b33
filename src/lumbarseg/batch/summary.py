"""The results of a batch as files: a JSON line per exam as it is done, tables, and the index page of all reports."""

from __future__ import annotations

import errno
import json
from collections import deque
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lumbarseg.errors import FileError
from lumbarseg.io import atomic_write, write_csv
from lumbarseg.io.file_access import to_file_error
from lumbarseg.report.exam_report import MEASUREMENT_COLUMNS, measurement_rows
from lumbarseg.report.index_page import IndexEntry, is_index, linked_files, render_index

from .exam_result import ExamJob, ExamResult

COLUMNS = ("exam", "error", "skipped", "levels", "anchor", "confidence", "uncertain", "warnings", "seconds", "labels")


class JsonLinesWriter:
    """A file that grows by one line of JSON per exam. failure: why it no longer does."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.failure: FileError | None = None

    def write_row(self, row: dict[str, Any]) -> None:
        """Write one line; after the first failure nothing more is written, and the batch goes on."""
        if self.failure:
            return
        data = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
        try:
            if self.stream.write(data) < len(data):
                raise OSError(errno.ENOSPC, "the disk is full")
        except OSError as error:
            self.failure = to_file_error(self.path, error, "written")


@contextmanager
def open_json_lines(path: Path) -> Iterator[JsonLinesWriter]:
    """Open a new file of JSON lines, each written at once; FileError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("wb", buffering=0)
    except OSError as error:
        raise to_file_error(path, error, "written") from error
    with stream:
        yield JsonLinesWriter(path, stream)


def write_table(results: Iterable[ExamResult], path: Path) -> None:
    """Write all results as CSV, one row per exam; levels from head to foot, "?" behind uncertain names."""
    rows = []
    for result in results:
        levels = [level["name"] + "?" * level["uncertain"] for level in result.summary.get("levels", ())]
        labels = result.files.get("labels") or next(iter(result.files.values()), "")
        warnings = "; ".join(result.summary.get("warnings", ()))
        rows.append(result.to_dict() | {"levels": " ".join(levels), "warnings": warnings, "labels": labels})
    write_csv(path, rows, COLUMNS)


def write_overview(
    folder: Path, jobs: Iterable[ExamJob], results: Iterable[ExamResult], formats: Container[str]
) -> tuple[dict[str, str], list[str]]:
    """Write the index page and the table of measurements of all reports in a folder, of this and of earlier runs.

    Reports are found in the folder itself, and below it where this run or the index of an earlier one has any. A folder
    with one report gets neither file.

    Returns
    -------
    the written files, "index" and "measurements"; notes about files of other programs, which are kept
    """
    errors = {result.exam: result.error for result in results if result.error}
    failed = {job.output_files["report"] for job in jobs if job.name in errors and job.output_files}
    folders = {folder, *(job.output_files["report"].parent for job in jobs if job.output_files)}
    targets = {"index": (folder / "index.html", "html"), "measurements": (folder / "measurements.csv", "csv")}
    requested = {name: path for name, (path, form) in targets.items() if form in formats}
    foreign = {name: path for name, path in requested.items() if path.exists() and not _is_overview(path)}
    files = {name: path for name, path in requested.items() if name not in foreign}
    notes = [f"{path}: not written by lumbarseg, so it is kept; choose another -o" for path in foreign.values()]
    if not files:
        return {}, notes
    if "index" in files and files["index"].exists():
        folders |= {folder / path.parent for path in linked_files(files["index"].read_text(encoding="utf-8"))}
    while len(paths := _find_reports(folders) - failed) + len(errors) > 1:
        entries = [IndexEntry(exam, error=error) for exam, error in errors.items()]
        rows = _read_measurements(sorted(paths), folder, entries)
        if "measurements" in files:
            write_csv(files["measurements"], rows, MEASUREMENT_COLUMNS)
        deque(rows, maxlen=0)
        segmented = {entry.exam for entry in entries if not entry.error}
        entries = [
            entry for entry in entries if not entry.error or entry.exam in {*errors} or entry.exam not in segmented
        ]
        if "index" in files:
            with atomic_write(files["index"]) as file:
                file.write(render_index(entries).encode("utf-8", "backslashreplace"))
        if _find_reports(folders) - failed == paths:  # another run may have written its overview in the meantime
            return {name: str(path) for name, path in files.items()}, notes
    return {}, notes


def _find_reports(folders: Iterable[Path]) -> set[Path]:
    return {path for folder in folders for path in folder.glob("*_report.json")}


def _is_overview(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(1000).decode("utf-8", "replace")
    return is_index(head) or head.startswith(",".join(MEASUREMENT_COLUMNS[:4]))


def _read_measurements(paths: Iterable[Path], folder: Path, entries: list[IndexEntry]) -> Iterator[dict[str, Any]]:
    """Yield the measurements of reports, one report in memory at a time; append the row of each to the index."""
    for path in paths:
        with suppress(OSError, ValueError, LookupError, TypeError):  # damaged, or of another program
            report = json.loads(path.read_text(encoding="utf-8"))
            entries.append(IndexEntry.from_report(report, path, folder))
            yield from measurement_rows(report)
