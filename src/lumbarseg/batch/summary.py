"""The results of a batch as files: one JSON line per exam as it is done, and a table of all of them."""

from __future__ import annotations

import csv
import errno
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lumbarseg.errors import FileError
from lumbarseg.io import atomic_write
from lumbarseg.io.file_access import to_file_error

from .exam_result import ExamResult

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


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write all results as CSV, one row per exam; levels from head to foot, "?" behind uncertain names."""
    _write_csv([_table_row(row) for row in rows], COLUMNS, path)


def write_measurements(results: Iterable[ExamResult], path: Path) -> None:
    """Write the measurements of all exams as one CSV table, one row per exam and structure."""
    rows = []
    for result in results:
        if not result.error:
            report = json.loads(Path(result.files["report"]).read_text(encoding="utf-8"))
            rows += [{"exam": result.exam, **row} for row in report["measurements"]]
    columns = dict.fromkeys(key for row in rows for key in row)
    _write_csv(rows, list(columns) or ["exam"], path)


def _write_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a result's values as text for the cells of a table."""
    levels = " ".join(f"{level['name']}{'?' if level['uncertain'] else ''}" for level in row.get("levels", ()))
    files = row.get("files", {})
    labels = files.get("labels") or next(iter(files.values()), "")
    return row | {"levels": levels, "warnings": "; ".join(row.get("warnings", ())), "labels": labels}
