"""What a command tells a person: one line for an error, one for a warning, progress on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_WARNINGS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def printable_line(text: object) -> str:
    """`text` as one printable line."""
    joined = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in joined)


def describe_error(error: BaseException) -> str:
    """Why something failed, for a person: the file where one is known, and what the system said."""
    if isinstance(error, MemoryError):
        return "not enough memory for this; close other programs or use a smaller exam"
    if isinstance(error, OSError) and error.strerror:
        return printable_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return printable_line(error)


def describe_bug(error: Exception) -> str:
    """What is told of an error that nobody foresaw."""
    return (
        f"a fault of this program: {type(error).__name__}: {error}; "
        "please report it with what LUMBARSEG_DEBUG=1 in the environment prints"
    )


def print_error(text: object) -> int:
    """Tell an error; the exit code that goes with it."""
    print(f"lumbarseg: error: {printable_line(text)}", file=sys.stderr, flush=True)
    return EXIT_ERROR


def print_warning(text: object) -> None:
    """Tell something a person should look at."""
    print(f"lumbarseg: warning: {printable_line(text)}", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print plain values for a program to read."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def discard_stdout() -> None:
    """Nobody reads the output any more (`| head`): stop writing without a complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """Counts work done of `total` pieces on standard error: one line that moves on a terminal, plain lines elsewhere.

    Elsewhere a line is written at most every `pause` seconds, and at the end.
    """

    def __init__(self, what: str, total: int, pause: float = 10.0) -> None:
        self.what, self.total, self.pause = what, total, pause
        self.done = 0
        self.start = self.told = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def step(self, name: str = "") -> None:
        """One more piece is done."""
        self.done += 1
        now = time.monotonic()
        if not self.terminal and self.done < self.total and now - self.told < self.pause:
            return
        self.told = now
        left = (now - self.start) / self.done * (self.total - self.done)
        text = printable_line(f"{self.what} {self.done}/{self.total}, {format_duration(left)} left {name}".rstrip())
        print(
            f"\r\x1b[K{text}" if self.terminal else text, end="" if self.terminal else "\n", file=sys.stderr, flush=True
        )

    def close(self) -> None:
        """End the moving line."""
        if self.terminal and self.done:
            print(file=sys.stderr, flush=True)


def format_duration(seconds: float) -> str:
    """Seconds for a person: "8 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
