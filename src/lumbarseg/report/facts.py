"""The report of one exam as plain values for JSON; picture and page are drawn from the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lumbarseg import __version__
from lumbarseg.anatomy import STRUCTURES
from lumbarseg.measure import Measurement, lordosis
from lumbarseg.volume import Grid

if TYPE_CHECKING:
    from lumbarseg.segment import Level, Segmentation

NOTICE = "Not a medical device: made for research and teaching, not for diagnosis."

_UNITS = {
    "volume": "volume_ml",
    "tilt_top": "tilt_top_deg",
    "tilt_bottom": "tilt_bottom_deg",
    **{key: f"{key}_mm" for key in ("anterior", "middle", "posterior", "depth", "canal", "slip")},
}


@dataclass(frozen=True)
class About:
    """What the segmentation itself does not know. file: name of the exam; notes: on how it was read."""

    file: str = ""
    model: str = ""
    digest: str = ""
    notes: tuple[str, ...] = ()


def facts(found: Segmentation, measurements: Sequence[Measurement], about: About | None = None) -> dict[str, Any]:
    """Everything about one answered exam; every key that has a unit ends with it."""
    about = about or About()
    angle = lordosis(measurements)
    return {
        "format": "lumbarseg report",
        "version": 1,
        "program": {"name": "lumbarseg", "version": __version__},
        "notice": NOTICE,
        "model": {"name": about.model, "digest": about.digest},
        "exam": {"file": about.file, **_geometry(found.labels.grid), "notes": list(about.notes)},
        "anchor": found.anchor,
        "confidence": round(float(found.confidence), 3),
        "uncertain": any(level.uncertain for level in found.levels),
        "levels": [_level(level) for level in found.levels],
        "lordosis_l1_s1_deg": angle,
        "measurements": [_measurement(row) for row in measurements],
        "labels": _names(measurements),
        "warnings": list(found.notes),
    }


def _geometry(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 4) for s in grid.spacing],
        "axes": grid.axes,
        "affine": np.round(grid.affine, 6).tolist(),
    }


def _level(level: Level) -> dict[str, Any]:
    return {
        "name": level.name,
        "confidence": round(float(level.confidence), 3),
        "uncertain": bool(level.uncertain),
        "partial": bool(level.partial),
        "reasons": list(level.reasons),
        "centre_mm": [round(float(c), 1) for c in level.centre],
    }


def _measurement(row: Measurement) -> dict[str, Any]:
    return {_UNITS.get(key, key): value for key, value in row.to_dict().items()}


def _names(measurements: Sequence[Measurement]) -> dict[str, str]:
    """Values that the label map holds, and what they mean."""
    present = {row.name for row in measurements}
    return {str(s.label): s.name for s in sorted(STRUCTURES, key=lambda s: s.label) if s.name in present}
