"""From an exam to named structures."""

from .levels import Level, Pin
from .look import Seen, Segmentation, look
from .pipeline import segment
from .refine import by_hand, refine

__all__ = ["Level", "Pin", "Seen", "Segmentation", "by_hand", "look", "refine", "segment"]
