"""The report of one exam as plain values for JSON, from which the HTML page is rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

from lumbarseg import __version__
from lumbarseg.anatomy import STRUCTURES, Kind
from lumbarseg.measurement import SPINE, Measurement, lumbar_lordosis, measurement_error
from lumbarseg.segmentation import Segmentation
from lumbarseg.segmentation.prediction import swapped_directions

NOTICE = "Not a medical device: made for research and teaching, not for diagnosis."

UNITS = {"volume": "ml"} | dict.fromkeys(("anterior", "middle", "posterior", "depth"), "mm")
UNITS |= dict.fromkeys(("wedge", "tilt_top", "tilt_bottom", "segmental_lordosis"), "deg") | {
    "canal": "mm",
    "slip": "mm",
}
"""Measurements in the order of the tables, with their units."""
_TITLES = {"tilt_top": "upper tilt", "tilt_bottom": "lower tilt", "segmental_lordosis": "segmental lordosis"}
MEASUREMENT_TITLES = {key: f"{_TITLES.get(key, key)} {'°' if unit == 'deg' else unit}" for key, unit in UNITS.items()}
_VALUE_COLUMNS = (f"{key}_{unit}{end}" for key, unit in UNITS.items() for end in ("", "_sd"))
MEASUREMENT_COLUMNS = ("exam", "name", "kind", "complete", *_VALUE_COLUMNS)
"""Columns of a table of measurements: after each value its error, the standard deviation."""
_FORMAT = {
    "format": "lumbarseg report",
    "version": 1,
    "program": {"name": "lumbarseg", "version": __version__},
    "notice": NOTICE,
}


def report_schema() -> dict[str, Any]:
    """Return the JSON schema of a report."""
    schema: dict[str, Any] = json.loads((resources.files(__package__) / "exam_report.schema.json").read_bytes())
    return schema


@dataclass(frozen=True)
class ReportSource:
    """Where a segmentation comes from.

    file: name of the exam. notes: assumptions made when it was read. metadata: facts about the file.
    """

    file: str = ""
    model: str = ""
    model_digest: str = ""
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def build_report(
    segmentation: Segmentation, measurements: Sequence[Measurement], source: ReportSource | None = None
) -> dict[str, Any]:
    """Return the report of a segmented exam as a dictionary for JSON; keys of values with a unit end with the unit."""
    source, grid = source or ReportSource(), segmentation.labels.grid
    measured = {row.name for row in measurements}
    return _FORMAT | {
        "model": {"name": source.model, "digest": source.model_digest},
        "exam": {
            "file": source.file,
            "shape": list(grid.shape),
            "spacing_mm": [round(s, 4) for s in grid.spacing],
            "axes": grid.axis_codes,
            "affine": np.round(grid.affine, 6).tolist(),
            "notes": list(source.notes),
            "about": dict(source.metadata),
        },
        "anchor": segmentation.anchor,
        "confidence": round(float(segmentation.confidence), 3),
        "uncertain": segmentation.uncertain,
        "swapped_axes": swapped_directions(segmentation.flips),
        "levels": [
            {
                "name": level.name,
                "confidence": round(float(level.confidence), 3),
                "uncertain": bool(level.uncertain),
                "partial": bool(level.partial),
                "reasons": list(level.reasons),
                "centre_mm": [round(float(c), 1) for c in level.centre],
            }
            for level in segmentation.levels
        ],
        "lordosis_l1_s1_deg": lumbar_lordosis(measurements),
        "measurements": [_measurement_dict(row) for row in measurements],
        "measurement_errors": _measurement_errors(),
        "labels": {str(s.label): s.name for s in sorted(STRUCTURES, key=lambda s: s.label) if s.name in measured},
        "warnings": list(segmentation.warnings),
    }


def build_failure_report(file: str, error: str) -> dict[str, Any]:
    """Return the report of an exam without a result: its name, and why."""
    return _FORMAT | {"exam": {"file": file}, "error": error}


def measurement_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the measurements of a report as rows of a table with MEASUREMENT_COLUMNS."""
    errors = report.get("measurement_errors", {})
    return [
        {"exam": report["exam"]["file"], **row}
        | {f"{key}_sd": error for key, error in errors.get(row["kind"], {}).items() if key in row}
        for row in report.get("measurements", ())
    ]


def _measurement_errors() -> dict[str, dict[str, float]]:
    """Return the standard deviation of the error of measurements, {kind: {measurement: SD}}; lordosis under "spine"."""
    keys = [(kind.value, name, f"{name}_{unit}") for kind in Kind for name, unit in UNITS.items()]
    table: dict[str, dict[str, float]] = {}
    for kind, name, key in [*keys, (SPINE, "lordosis", "lordosis_l1_s1_deg")]:
        error = measurement_error(name, kind)
        if error is not None:
            table.setdefault(kind, {})[key] = error
    return table


def _measurement_dict(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement with units in its keys; "not_measured" holds the reason for each that could not be taken."""

    keys = {name: f"{name}_{unit}" for name, unit in UNITS.items()}
    values = {keys.get(name, name): value for name, value in measurement.to_dict().items()}
    if "not_measured" in values:
        values["not_measured"] = {keys[name]: reason for name, reason in values["not_measured"].items()}
    return values
