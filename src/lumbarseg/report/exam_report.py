"""The report of one exam as plain values for JSON; picture and page are drawn from the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lumbarseg import __version__
from lumbarseg.anatomy import STRUCTURES
from lumbarseg.measurement import Measurement, lumbar_lordosis
from lumbarseg.volume import Grid

if TYPE_CHECKING:
    from lumbarseg.segmentation import Level, Segmentation

NOTICE = "Not a medical device: made for research and teaching, not for diagnosis."

_KEYS_WITH_UNITS = {
    "volume": "volume_ml",
    "tilt_top": "tilt_top_deg",
    "tilt_bottom": "tilt_bottom_deg",
    **{key: f"{key}_mm" for key in ("anterior", "middle", "posterior", "depth", "canal", "slip")},
}


@dataclass(frozen=True)
class Provenance:
    """What the segmentation itself does not know. file: name of the exam; notes: on how it was read."""

    file: str = ""
    model: str = ""
    model_digest: str = ""
    notes: tuple[str, ...] = ()


def build_report(
    segmentation: Segmentation, measurements: Sequence[Measurement], provenance: Provenance | None = None
) -> dict[str, Any]:
    """Everything about one answered exam; every key that has a unit ends with it."""
    provenance = provenance or Provenance()
    angle = lumbar_lordosis(measurements)
    return {
        "format": "lumbarseg report",
        "version": 1,
        "program": {"name": "lumbarseg", "version": __version__},
        "notice": NOTICE,
        "model": {"name": provenance.model, "digest": provenance.model_digest},
        "exam": {"file": provenance.file, **_geometry_dict(segmentation.labels.grid), "notes": list(provenance.notes)},
        "anchor": segmentation.anchor,
        "confidence": round(float(segmentation.confidence), 3),
        "uncertain": any(level.uncertain for level in segmentation.levels),
        "levels": [_level_dict(level) for level in segmentation.levels],
        "lordosis_l1_s1_deg": angle,
        "measurements": [_measurement_dict(row) for row in measurements],
        "labels": _label_names(measurements),
        "warnings": list(segmentation.warnings),
    }


def _geometry_dict(grid: Grid) -> dict[str, Any]:
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(s, 4) for s in grid.spacing],
        "axes": grid.axis_codes,
        "affine": np.round(grid.affine, 6).tolist(),
    }


def _level_dict(level: Level) -> dict[str, Any]:
    return {
        "name": level.name,
        "confidence": round(float(level.confidence), 3),
        "uncertain": bool(level.uncertain),
        "partial": bool(level.partial),
        "reasons": list(level.reasons),
        "centre_mm": [round(float(c), 1) for c in level.centre],
    }


def _measurement_dict(row: Measurement) -> dict[str, Any]:
    return {_KEYS_WITH_UNITS.get(key, key): value for key, value in row.to_dict().items()}


def _label_names(measurements: Sequence[Measurement]) -> dict[str, str]:
    """Values that the label map holds, and what they mean."""
    present = {row.name for row in measurements}
    return {str(s.label): s.name for s in sorted(STRUCTURES, key=lambda s: s.label) if s.name in present}
