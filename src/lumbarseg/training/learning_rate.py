"""How far a run is, and how large its steps are there."""

from __future__ import annotations

import math

from .settings import TrainingSettings


def learning_rate_at(settings: TrainingSettings, step: int, elapsed: float = 0.0) -> float:
    """Learning rate of a step: a linear start, then half a cosine down to `rate_end` of it.

    elapsed: seconds of work; where `minutes` are few, the cosine follows them.
    """
    start = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    wave = 0.5 * (1 + math.cos(math.pi * fraction_done(settings, step, elapsed)))
    return (
        settings.learning_rate
        * start
        * (settings.final_learning_rate_fraction + (1 - settings.final_learning_rate_fraction) * wave)
    )


def fraction_done(settings: TrainingSettings, step: int, elapsed: float) -> float:
    """How much of a run is over, 0..1, by steps or by time, whichever is more."""
    spent = elapsed / (60 * settings.minutes) if settings.minutes else 0.0
    return min(1.0, max(step / settings.steps, spent))
