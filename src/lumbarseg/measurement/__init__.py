"""Measurements of a segmented spine, their errors, and the lines along which they were taken."""

from .error_table import SPINE, measurement_error
from .locate import MeasuredLine, locate_measurements
from .measure import (
    MEASUREMENT_NAMES,
    MeasuredSpine,
    Measurement,
    lumbar_lordosis,
    measure_spine,
    measure_structures,
)

__all__ = [
    "MEASUREMENT_NAMES",
    "SPINE",
    "MeasuredLine",
    "MeasuredSpine",
    "Measurement",
    "locate_measurements",
    "lumbar_lordosis",
    "measure_spine",
    "measure_structures",
    "measurement_error",
]
