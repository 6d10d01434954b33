"""From an exam to named structures: the main job, top to bottom."""

from __future__ import annotations

from collections.abc import Sequence

from lumbarseg.clicks import Click
from lumbarseg.inference import Predictor
from lumbarseg.volume import Volume

from .interactive import refine_with_clicks
from .levels import LevelPin
from .state import Segmentation, segment_with_state


def segment(
    volume: Volume,
    model: Predictor,
    lowest: str | None = None,
    pins: Sequence[LevelPin] = (),
    clicks: Sequence[Click] = (),
) -> Segmentation:
    """Name the lumbar spine of an exam.

    lowest: the user's name of the lowest whole vertebra; pins: vertebrae that the user named; clicks: what the user
    said is there, or is not. SegmentError when there is no lumbar spine to be seen.
    """
    seen = segment_with_state(volume, model, lowest, pins)
    return refine_with_clicks(seen, model, clicks) if clicks else seen.segmentation
