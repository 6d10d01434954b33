"""Measurements of a segmented spine."""

from .measure import MEASUREMENT_NAMES, Measurement, lumbar_lordosis, measure_structures

__all__ = ["MEASUREMENT_NAMES", "Measurement", "lumbar_lordosis", "measure_structures"]
