"""From an exam to named structures: the main job, top to bottom."""

from __future__ import annotations

from collections.abc import Sequence

from lumbarseg.clicks import Click
from lumbarseg.model import Answers
from lumbarseg.volume import Volume

from .levels import Pin
from .look import Segmentation, look
from .refine import refine


def segment(
    volume: Volume,
    model: Answers,
    lowest: str | None = None,
    pins: Sequence[Pin] = (),
    clicks: Sequence[Click] = (),
) -> Segmentation:
    """Name the lumbar spine of an exam.

    lowest: the user's name of the lowest whole vertebra; pins: vertebrae that the user named; clicks: what the user
    said is there, or is not. SegmentError when there is no lumbar spine to be seen.
    """
    seen = look(volume, model, lowest, pins)
    return refine(seen, model, clicks) if clicks else seen.answer
