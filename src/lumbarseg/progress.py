"""The progress bar of every command: a moving line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys

from tqdm import tqdm

_TERMINAL_INTERVAL, _PLAIN_INTERVAL = 0.5, 10.0  # seconds between two updates
_BAR_WITHOUT_TIME_LEFT = "{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}"


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A tqdm bar on standard error that shows nothing before its first interval has passed.

    Parameters
    ----------
    description : what is counted, for example "exams"
    total : how many there are, None where that is not known yet
    initial : how many were done before
    has_time_left : whether the bar estimates the remaining time from the count
    """

    total: int | None
    monitor_interval = 0  # no thread of its own: worker processes are started beside it

    def __init__(
        self, description: str, total: int | None = None, initial: int = 0, has_time_left: bool = True
    ) -> None:
        terminal = sys.stderr.isatty()
        interval = _TERMINAL_INTERVAL if terminal else _PLAIN_INTERVAL
        super().__init__(
            desc=description,
            total=total,
            initial=initial,
            file=sys.stderr if terminal else _PlainLines(),
            mininterval=interval,
            miniters=1,
            delay=interval,
            dynamic_ncols=terminal,
            ncols=None if terminal else 100,
            bar_format=None if has_time_left else _BAR_WITHOUT_TIME_LEFT,
        )

    def advance(self, name: str = "", total: int | None = None) -> None:
        """Count one more, called `name`; `total` counts where no total was given before."""
        self.total = self.total or total
        self.set_postfix_str(name, refresh=False)
        self.update()


class _PlainLines:
    """Standard error without a terminal: each state of the bar becomes a line of its own."""

    def write(self, text: str) -> None:
        """Write what is printable of `text` as one line."""
        if text.strip():
            sys.stderr.write(f"{text.strip()}\n")
            sys.stderr.flush()

    def flush(self) -> None:
        """Do nothing: each line was flushed when it was written."""
