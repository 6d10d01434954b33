"""A phantom and a segmentation that equals its labels."""

from __future__ import annotations

from functools import cache

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.measurement import lumbar_lordosis, measure_structures
from lumbarseg.phantom import Phantom, render_phantom, sample_recipe
from lumbarseg.segmentation import Level, Segmentation


@cache
def phantom() -> Phantom:
    """Return the first phantom that shows L1 to the sacrum."""
    for seed in range(100):
        candidate = render_phantom(sample_recipe(np.random.default_rng([9, seed])))
        if lumbar_lordosis(measure_structures(candidate.labels)) is not None:
            return candidate
    raise AssertionError("no phantom shows the complete lumbar spine")


@cache
def phantom_segmentation(uncertain: tuple[str, ...] = ()) -> Segmentation:
    """Return a segmentation in which the names of these levels are uncertain."""
    labels = phantom().labels
    levels = []
    for row in measure_structures(labels):
        if row.kind is Kind.BODY:
            is_uncertain = row.name in uncertain
            confidence = 0.6 if is_uncertain else 0.97
            reasons = ("counted without an anchor",) if is_uncertain else ()
            levels.append(Level(row.name, confidence, is_uncertain, not row.complete, reasons, (1.04, -20.0, 30.0)))
    warnings = ("names are uncertain",) if uncertain else ()
    return Segmentation(labels, tuple(levels), warnings, anchor="the sacrum", confidence=0.6 if uncertain else 0.97)
