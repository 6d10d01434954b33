"""How far a run is, for a person: one living line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_EVERY = 30.0  # seconds between plain lines
_LIVELY = 0.5


class Progress:
    """Tells step, loss, speed and remaining time of a run of `total` steps that begins at `first`."""

    def __init__(self, total: int, first: int = 0, out: TextIO | None = None) -> None:
        self.total, self.first = total, first
        self.out = out or sys.stderr
        self.lively = self.out.isatty()
        self.started = time.monotonic()
        self.told = self.started - (0 if not self.lively else _LIVELY)
        self.smooth = 0.0

    def step(self, done: int, loss: float) -> None:
        """After `done` steps; prints when it is time to."""
        count = done - self.first
        self.smooth += (loss - self.smooth) / min(count, 50)
        now = time.monotonic()
        if now - self.told < (_LIVELY if self.lively else _EVERY) and done < self.total:
            return
        self.told = now
        pace = (now - self.started) / count
        line = (
            f"step {done}/{self.total}  loss {self.smooth:.4f}  {1000 * pace:.0f} ms/step  "
            f"{clock(pace * (self.total - done))} left"
        )
        end = "\n" if not self.lively or done == self.total else ""
        print(f"\r{line:<72}" if self.lively else line, end=end, file=self.out, flush=True)

    def note(self, text: str) -> None:
        """A line of its own."""
        print(f"\r{text:<72}" if self.lively else text, file=self.out, flush=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they matter: "2 h 05 min", "3 min 20 s", "12 s"."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
