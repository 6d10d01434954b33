"""What commands print: errors and warnings of one line each, JSON, progress; and the exit codes."""

from __future__ import annotations

import io
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


def print_text(text: str) -> None:
    """Print text; nothing more is printed, and no work is stopped, after the reader of a pipe is gone (`| head`)."""
    print_status()
    try:
        print(text, flush=True)
    except BrokenPipeError:
        discard_stdout()


def print_json(value: Any) -> None:
    """Print plain values as JSON."""
    print_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_status(text: str = "") -> None:
    """Show on a terminal what is being done, until the next line is printed; remove what stands there otherwise."""
    if sys.stderr and sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{printable_line(text)}")
        sys.stderr.flush()


def use_safe_encoding() -> None:
    """Let names that the console cannot show, or that are no valid text, be printed with escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Discard further output: nobody reads it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def progress_bar(description: str, total: int | None = None) -> ProgressBar:
    """Return a progress bar to use in a `with` statement; `bar.advance(name)` counts one more."""
    from lumbarseg.progress import ProgressBar  # tqdm: 40 ms that most commands need not wait for

    return ProgressBar(description, total)


def _print_stderr(text: str) -> None:
    print_status()
    print(text, file=sys.stderr, flush=True)
