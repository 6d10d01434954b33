"""Which weighting a picture shows, from the signals of bodies, discs, the canal and the fat of the back.

Cerebrospinal fluid is bright in T2 and STIR and dark in T1; fat is bright in T1 and T2 and dark in STIR, where thus
marrow and the back are dark against the fluid. Limits were set on phantoms, whose tissues lie in published ranges, with
room to either side: in between nothing is said. T2 and STIR are not told apart: a coil on the back makes suppressed fat
as bright as fat is, and bright fluid makes fat look suppressed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.volume import Array, Volume

from ..dataset import Case
from .components import LabelRegion
from .finding import Finding

_CONTRAST_PATTERNS = (  # the first that fits; other words claim nothing that could be checked
    ("STIR", re.compile(r"stir|tirm|fat.?sat|(?<![a-z])(fs|spair|spir)(?![a-z])", re.IGNORECASE)),
    ("T1", re.compile(r"t1", re.IGNORECASE)),
    ("T2", re.compile(r"t2(?!\*)|space", re.IGNORECASE)),
)
_T2_OR_STIR = "T2 or STIR"
_CANAL_BAND = (4.0, 13.0)  # mm behind the bodies: the canal
_FAT_BAND = (35.0, 75.0)  # mm behind the bodies: muscle and fat
_MIDLINE_MARGIN = 8.0  # mm to either side of the bodies' middle


@dataclass(frozen=True)
class TissueSignals:
    """Grey values above that of air, as shares of the bodies'; nan where it cannot be seen."""

    fluid: float
    disc: float
    fat: float


def contrast_from_text(text: str) -> str:
    """T1, T2 or STIR, as a case says; "" where it says none of them."""
    return next((name for name, pattern in _CONTRAST_PATTERNS if pattern.search(text)), "")


def classify_contrast(signals: TissueSignals | None) -> str:
    """T1, or "T2 or STIR", where the signals leave no doubt, else ""."""
    if signals is None or not np.isfinite(signals.fluid) or not np.isfinite(signals.fat):
        return ""
    fluid, fat = signals.fluid, signals.fat / max(signals.fluid, 1e-6)
    if (fluid < 0.8 and fat > 2.5) or (fluid < 1.3 and fat > 4):
        return "T1"
    return _T2_OR_STIR if fluid >= 1.3 and fat <= 2.2 else ""


def check_contrast(case: Case, apparent_contrast: str) -> list[Finding]:
    """When a case says one thing and its picture clearly shows another."""
    said = contrast_from_text(case.contrast)
    if not said or not apparent_contrast or (said == "T1") == (apparent_contrast == "T1"):
        return []
    text = f"said to be {case.contrast}, but looks like {apparent_contrast}"
    return [Finding(case.name, "contrast", "warning", f"{text}; put the field contrast right")]


def measure_signals(image: Volume, labels: Volume, regions: Sequence[LabelRegion]) -> TissueSignals | None:
    """Of an exam in RAS order; None without bodies, or where no canal is in view."""
    core = [part for part in regions if part.kinds in ({Kind.BODY}, {Kind.DISC})]
    whole = [part for part in regions if part.kinds >= {Kind.BODY, Kind.ARCH}]
    bodies = [part for part in core if Kind.BODY in part.kinds] or whole
    if len(image.array) == 1 and not any(part.kinds == {Kind.CANAL} for part in regions):
        return None  # a slice beside the canal
    air = float(np.percentile(image.array, 1))
    grey = {part.value: image.array[labels.array == part.value] - air for part in regions}
    body = float(np.median(np.concatenate([grey[part.value] for part in bodies]))) if bodies else np.nan
    if not np.isfinite(body) or body <= 0:
        return None
    discs = [float(np.percentile(grey[part.value], 75)) for part in regions if part.kinds == {Kind.DISC}]
    canal = [grey[part.value] for part in regions if part.kinds == {Kind.CANAL}]
    edge, aside = _posterior_edge(labels, core or whole)
    band = (
        np.concatenate(canal) if canal else _sample_band(image, edge, aside, _CANAL_BAND) - air if core else np.zeros(0)
    )
    back = _sample_band(image, edge, aside, _FAT_BAND) - air
    return TissueSignals(
        float(np.median(band)) / body if band.size > 50 else np.nan,
        float(np.median(discs)) / body if discs else np.nan,
        float(np.percentile(back, 90)) / body if back.size > 200 else np.nan,
    )


def _posterior_edge(labels: Volume, parts: Sequence[LabelRegion]) -> tuple[Array, Array]:
    """The back edge of the column in each row, mm, nan where there is none; and its middle from side to side, mm."""
    values = [part.value for part in parts]
    mask = np.isin(labels.array, values)
    height = mask.shape[2]
    edge, aside = np.full(height, np.nan), np.full(height, np.nan)
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        i, j = np.nonzero(mask[:, :, k])
        edge[k] = np.percentile(j, 3) * labels.grid.spacing[1]
        aside[k] = np.median(i) * labels.grid.spacing[0]
    return edge, aside


def _sample_band(image: Volume, edge: Array, aside: Array, band: tuple[float, float]) -> Array:
    """Grey values of a band behind the column, of the slices near its middle."""
    side, ahead, _ = image.grid.spacing
    found = [np.zeros(0, np.float32)]
    for k in np.flatnonzero(np.isfinite(edge)):
        low, high = (max(0, round((edge[k] - distance) / ahead)) for distance in (band[1], band[0]))
        left, right = round((aside[k] - _MIDLINE_MARGIN) / side), round((aside[k] + _MIDLINE_MARGIN) / side)
        found.append(image.array[max(0, left) : right + 1, low:high, k].ravel())
    return np.concatenate(found)
