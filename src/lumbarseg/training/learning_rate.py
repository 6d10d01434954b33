"""The learning rate schedule."""

from __future__ import annotations

import math

from .settings import TrainingSettings


def learning_rate_at(settings: TrainingSettings, step: int, elapsed_seconds: float = 0.0) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine.

    Where the time limit `minutes` is reached before the last step, the cosine ends with the time.
    """
    warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * fraction_done(settings, step, elapsed_seconds)))
    final = settings.final_learning_rate_fraction
    return settings.learning_rate * warmup * (final + (1 - final) * cosine)


def fraction_done(settings: TrainingSettings, step: int, elapsed_seconds: float) -> float:
    """Return the fraction of a run that is over, 0..1: by steps or by time, whichever is larger."""
    by_time = elapsed_seconds / (60 * settings.minutes) if settings.minutes else 0.0
    return min(1.0, max(step / settings.steps, by_time))
