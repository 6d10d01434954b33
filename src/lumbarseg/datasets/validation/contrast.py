"""The contrast that an image shows, from the signals of bodies, the canal and the fat of the back.

Cerebrospinal fluid is bright in T2 and STIR and dark in T1; fat is bright in T1 and T2 and dark in STIR, where marrow
and the back are thus dark compared with the fluid. The limits were set on phantoms, whose tissues lie in published
ranges, with a margin to either side; in between the contrast stays open. T2 and STIR are not distinguished: a coil on
the back makes suppressed fat as bright as fat, and bright fluid makes fat look suppressed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.volume import Array, Volume

from ..dataset import Case
from . import Finding
from .components import LabelRegion

_CONTRAST_PATTERNS = (  # the first that matches; other texts name no contrast that can be checked
    ("STIR", re.compile(r"stir|tirm|fat.?sat|(?<![a-z])(fs|spair|spir)(?![a-z])", re.IGNORECASE)),
    ("T1", re.compile(r"t1", re.IGNORECASE)),
    ("T2", re.compile(r"t2(?!\*)|space", re.IGNORECASE)),
)
_T2_OR_STIR = "T2 or STIR"
_CANAL_BAND = (4.0, 13.0)  # mm behind the bodies
_FAT_BAND = (35.0, 75.0)  # mm behind the bodies: muscle and fat
_MIDLINE_MARGIN = 8.0  # mm to either side of the bodies' middle


@dataclass(frozen=True)
class TissueSignals:
    """Grey values above that of air, relative to the bodies'; nan where they cannot be measured."""

    fluid: float
    fat: float


def contrast_from_text(text: str) -> str:
    """Return T1, T2 or STIR, as a text names it; "" where it names none of them."""
    return next((name for name, pattern in _CONTRAST_PATTERNS if pattern.search(text)), "")


def classify_contrast(signals: TissueSignals | None) -> str:
    """Return T1, or "T2 or STIR", where the signals leave no doubt, else ""."""
    if signals is None or not np.isfinite(signals.fluid) or not np.isfinite(signals.fat):
        return ""
    fluid, fat_to_fluid = signals.fluid, signals.fat / max(signals.fluid, 1e-6)
    if (fluid < 0.8 and fat_to_fluid > 2.5) or (fluid < 1.3 and fat_to_fluid > 4):
        return "T1"
    return _T2_OR_STIR if fluid >= 1.3 and fat_to_fluid <= 2.2 else ""


def check_contrast(case: Case, apparent_contrast: str) -> list[Finding]:
    """Report a case whose image clearly shows another contrast than its field says."""
    stated_contrast = contrast_from_text(case.contrast)
    if not stated_contrast or not apparent_contrast or (stated_contrast == "T1") == (apparent_contrast == "T1"):
        return []
    text = f"the field contrast says {case.contrast}, but the image looks like {apparent_contrast}; correct the field"
    return [Finding(case.name, "contrast", "warning", text)]


def measure_fluid_and_fat(image: Volume, labels: Volume, regions: Sequence[LabelRegion]) -> TissueSignals | None:
    """Measure the signals of an exam in RAS order; None without bodies, or where no canal is in view."""
    bodies_and_discs = [region for region in regions if region.kinds in ({Kind.BODY}, {Kind.DISC})]
    vertebrae = [region for region in regions if region.kinds >= {Kind.BODY, Kind.ARCH}]
    bodies = [region for region in bodies_and_discs if Kind.BODY in region.kinds] or vertebrae
    if len(image.array) == 1 and not any(region.kinds == {Kind.CANAL} for region in regions):
        return None  # a slice beside the canal
    air = float(np.percentile(image.array, 1))
    grey = {region.value: image.array[labels.array == region.value] - air for region in regions}
    body = float(np.median(np.concatenate([grey[region.value] for region in bodies]))) if bodies else np.nan
    if not np.isfinite(body) or body <= 0:
        return None
    canal = [grey[region.value] for region in regions if region.kinds == {Kind.CANAL}]
    edge, middle = _posterior_edge(labels, bodies_and_discs or vertebrae)
    if canal:
        fluid = np.concatenate(canal)
    else:
        fluid = _sample_band(image, edge, middle, _CANAL_BAND) - air if bodies_and_discs else np.zeros(0)
    back = _sample_band(image, edge, middle, _FAT_BAND) - air
    return TissueSignals(
        float(np.median(fluid)) / body if fluid.size > 50 else np.nan,
        float(np.percentile(back, 90)) / body if back.size > 200 else np.nan,
    )


def _posterior_edge(labels: Volume, regions: Sequence[LabelRegion]) -> tuple[Array, Array]:
    """Return the posterior edge of the column and its middle from side to side in each row, mm; nan where empty."""
    mask = np.isin(labels.array, [region.value for region in regions])
    height = mask.shape[2]
    edge, middle = np.full(height, np.nan), np.full(height, np.nan)
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        i, j = np.nonzero(mask[:, :, k])
        edge[k] = np.percentile(j, 3) * labels.grid.spacing[1]
        middle[k] = np.median(i) * labels.grid.spacing[0]
    return edge, middle


def _sample_band(image: Volume, edge: Array, middle: Array, band: tuple[float, float]) -> Array:
    """Return the grey values of a band behind the column, in the slices near its middle."""
    lateral, anterior, _ = image.grid.spacing
    samples = [np.zeros(0, np.float32)]
    for k in np.flatnonzero(np.isfinite(edge)):
        low, high = (max(0, round((edge[k] - distance) / anterior)) for distance in (band[1], band[0]))
        left, right = round((middle[k] - _MIDLINE_MARGIN) / lateral), round((middle[k] + _MIDLINE_MARGIN) / lateral)
        samples.append(image.array[max(0, left) : right + 1, low:high, k].ravel())
    return np.concatenate(samples)
