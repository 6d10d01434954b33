"""What a batch came to: one JSON line an exam as it comes, and a table of all of them."""

from __future__ import annotations

import csv
import errno
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lumbarseg.errors import FileError
from lumbarseg.io import atomic_write
from lumbarseg.io.file_access import to_file_error

Row = dict[str, Any]
COLUMNS = ("exam", "error", "skipped", "levels", "anchor", "confidence", "uncertain", "warnings", "seconds", "labels")


class JsonLinesWriter:
    """A file that grows by one line of JSON per exam; failure: why it does so no more, None while it does."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.failure: FileError | None = None

    def write_row(self, row: Row) -> None:
        """One more exam; where the disk takes no more, no line is written again and the batch goes on."""
        if self.failure:
            return
        data = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            if self.stream.write(data) < len(data):
                raise OSError(errno.ENOSPC, "the disk is full")
        except OSError as error:
            self.failure = to_file_error(self.path, error, "written")


@contextmanager
def open_json_lines(path: Path) -> Iterator[JsonLinesWriter]:
    """A new file of JSON lines, each written as it comes; FileError when it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("wb", buffering=0)
    except OSError as error:
        raise to_file_error(path, error, "written") from error
    with stream:
        yield JsonLinesWriter(path, stream)


def write_table(rows: Sequence[Row], path: Path) -> None:
    """The batch as CSV, one row an exam, whole or not at all; levels from head to foot, "?" behind uncertain names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_table_row(row) for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def _table_row(row: Row) -> Row:
    """A row's values as text that fits a cell."""
    levels = " ".join(f"{level['name']}{'?' if level['uncertain'] else ''}" for level in row.get("levels", ()))
    files = row.get("files", {})
    labels = files.get("labels") or next(iter(files.values()), "")
    return row | {"levels": levels, "warnings": "; ".join(row.get("warnings", ())), "labels": labels}
