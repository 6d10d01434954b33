"""What commands print: errors and warnings of one line each, JSON, progress; and the exit codes."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import printable_line

if TYPE_CHECKING:
    from lumbarseg.progress import ProgressBar

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_WARNINGS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def print_error(text: object) -> int:
    """Print an error as one line on standard error; return the exit code of errors."""
    _print_stderr(f"lumbarseg: error: {printable_line(text)}")
    return EXIT_ERROR


def print_warning(text: object) -> None:
    """Print a warning as one line on standard error."""
    _print_stderr(f"lumbarseg: warning: {printable_line(text)}")


def print_note(text: object) -> None:
    """Print what is good to know as one line on standard error."""
    _print_stderr(f"lumbarseg: note: {printable_line(text)}")


def print_json(value: Any) -> None:
    """Print plain values as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def discard_stdout() -> None:
    """Discard further output: the reader of the pipe is gone (`| head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress_bar(description: str, total: int | None = None) -> ProgressBar:
    """Return a progress bar to use in a `with` statement; `bar.advance(name)` counts one more."""
    from lumbarseg.progress import ProgressBar  # tqdm: 40 ms that most commands need not wait for

    return ProgressBar(description, total)


def _print_stderr(text: str) -> None:
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # a progress bar may stand there
    print(clear + text, file=sys.stderr, flush=True)
