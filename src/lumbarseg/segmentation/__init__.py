"""Segmentation of an exam into named vertebrae and discs."""

from .interactive import override_with_clicks, refine_with_clicks, segment_with_clicks
from .levels import Level, LevelPin, UserLevels
from .pipeline import segment
from .results import Segmentation, SegmentationState

__all__ = [
    "Level",
    "LevelPin",
    "Segmentation",
    "SegmentationState",
    "UserLevels",
    "override_with_clicks",
    "refine_with_clicks",
    "segment",
    "segment_with_clicks",
]
