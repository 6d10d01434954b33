"""From an exam to named structures."""

from .levels import Level, Pin
from .pipeline import Segmentation, segment

__all__ = ["Level", "Pin", "Segmentation", "segment"]
