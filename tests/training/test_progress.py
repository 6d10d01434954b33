from __future__ import annotations

import io

import pytest

from lumbarseg.training.progress import Progress, clock


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_a_time_as_a_person_says_it(seconds: float, told: str) -> None:
    assert clock(seconds) == told


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_where_nobody_watches_lines_are_plain_and_few() -> None:
    out = io.StringIO()
    progress = Progress(100, out=out)
    for step in range(1, 101):
        progress.step(step, 2.0)
    assert "\r" not in out.getvalue()
    assert out.getvalue().count("\n") <= 3
    assert "step 100/100  loss 2.0000" in out.getvalue()


def test_on_a_terminal_one_line_lives() -> None:
    out = Terminal()
    progress = Progress(100, 90, out)
    for step in range(91, 101):
        progress.step(step, 1.0)
    assert out.getvalue().startswith("\rstep 91/100")
    assert out.getvalue().count("\n") == 1
