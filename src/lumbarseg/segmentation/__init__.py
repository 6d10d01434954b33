"""From an exam to named structures."""

from .interactive import override_with_clicks, refine_with_clicks
from .levels import Level, LevelPin
from .pipeline import segment
from .state import Segmentation, SegmentationState, segment_with_state

__all__ = [
    "Level",
    "LevelPin",
    "Segmentation",
    "SegmentationState",
    "override_with_clicks",
    "refine_with_clicks",
    "segment",
    "segment_with_state",
]
