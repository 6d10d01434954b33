"""Tables that the browser page takes from Python: the table of structures, and constants of the modules that it ports.

Each label, colour and threshold is written once, in Python; the JavaScript files contain none of them.
"""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import numpy as np

from lumbarseg import preprocessing
from lumbarseg.anatomy import CLASSES, LEVELS, STRUCTURES, disc_between
from lumbarseg.inference import ModelCard, predictor
from lumbarseg.io import raw_image
from lumbarseg.measurement import geometry
from lumbarseg.report.exam_report import MEASUREMENT_TITLES
from lumbarseg.segmentation import centerline, disc_planes, discs_only, instances, levels, orientation, pipeline, sacrum

PORTED_MODULES: tuple[ModuleType, ...] = (
    *(raw_image, preprocessing, predictor, geometry),
    *(centerline, disc_planes, discs_only, instances, levels, orientation, pipeline, sacrum),
)
"""Modules of which the page has a version in JavaScript, which reads their constants."""


def tables_script() -> str:
    """Return the source of the JavaScript module `tables_from_python.js`."""
    lowest, sacral = str(vars(discs_only)["_DEFAULT_LOWEST"]).split("-")
    assert disc_between(lowest, sacral)
    tables = {
        "structures": [
            {"label": s.label, "name": s.name, "kind": s.kind, "order": s.order, "colour": s.colour, "code": s.code}
            for s in STRUCTURES
        ],
        "levels": LEVELS,
        "classes": CLASSES,
        "measurementTitles": MEASUREMENT_TITLES,
        "counting": {
            "defaultLowest": lowest,
            "supernumerary": LEVELS[-1],
            "sacral": sacral,
            "lordosisTop": next(level for level in LEVELS if level.startswith(lowest[0])),
        },
        "constants": {module.__name__.rpartition(".")[2]: module_constants(module) for module in PORTED_MODULES},
    }
    return f"// Written by lumbarseg from its own tables.\nexport const TABLES = {json.dumps(tables)};\n"


def module_constants(module: ModuleType) -> dict[str, Any]:
    """Return the upper-case numbers, sequences of numbers and strings of a module, keyed without leading underscore."""
    constants = {}
    for name, value in vars(module).items():
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        if name.isupper() and (_is_numeric(plain) or isinstance(plain, str)):
            constants[name.lstrip("_")] = plain
    return constants


def card_for_page(card: ModelCard) -> dict[str, Any]:
    """Return the entries of a model card that the page needs, ready for JSON."""
    return {
        "spec": card.spec.to_dict(),
        "inputs": card.spec.inputs,
        "classes": card.classes,
        "bias": card.bias,
        "trainedKinds": sorted(card.trained_kinds, key=CLASSES.index),
        "outputKinds": sorted(card.output_kinds, key=CLASSES.index),
        "lowestStructure": card.lowest_structure,
        "digest": card.digest,
    }


def _is_numeric(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return bool(value) and all(_is_numeric(part) for part in value)
    return isinstance(value, int | float) and not isinstance(value, bool)
