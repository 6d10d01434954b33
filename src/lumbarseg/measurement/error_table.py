"""Errors of the measurements, from `python -m benchmarks.measurements`."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

SPINE = "spine"
"""Kind of what is measured across the spine: the total lordosis."""


def measurement_error(name: str, kind: str) -> float | None:
    """Return the standard deviation of a measurement, in its own unit; None where it is not known.

    It is that of the difference to the same measurement on a human label map, or of T1 and T2 of the same patient where
    there is no such map (docs/measurements.md).

    Parameters
    ----------
    name : an attribute of `Measurement`, or "lordosis"
    kind : of the structure, or `SPINE`
    """
    error = _error_table()["standard_deviation"].get(kind, {}).get(name)
    return None if error is None else float(error)


@cache
def _error_table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((resources.files(__package__) / "errors.json").read_text(encoding="utf-8"))
    return table
