"""What the web page takes from Python word for word: the table of structures and the numbers of the rooms it mirrors.

So a label, a colour or a threshold is written once; the page's own files hold none.
"""

from __future__ import annotations

import json
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES, LEVELS, STRUCTURES, disc_between
from lumbarseg.inference import ModelCard
from lumbarseg.segmentation import discs_only

_SEGMENT = ("centerline", "disc_planes", "instances", "sacrum", "levels", "discs_only", "orientation", "pipeline")
_OTHERS = ("lumbarseg.io.raw_image", "lumbarseg.inference.predictor", "lumbarseg.measurement", "lumbarseg.preprocessing")
_MIRRORED = (*_OTHERS, *(f"lumbarseg.segmentation.{name}" for name in _SEGMENT))


def tables_script() -> str:
    """The module `table.js`."""
    extra = LEVELS[-1]
    usual, sacrum = str(vars(discs_only)["_DEFAULT_LOWEST"]).split("-")
    values = {
        "structures": [
            {"label": s.label, "name": s.name, "kind": s.kind, "order": s.order, "colour": s.colour, "code": s.code}
            for s in STRUCTURES
        ],
        "levels": LEVELS,
        "classes": CLASSES,
        "counting": {"usual": usual, "extra": extra, "sacral": sacrum, "lordosis": _first_lordosis_level(usual)},
        "constants": {name.rpartition(".")[2]: module_constants(import_module(name)) for name in _MIRRORED},
    }
    assert disc_between(usual, sacrum)
    return f"// Written by lumbarseg from its own tables.\nexport const TABLE = {json.dumps(values)};\n"


def module_constants(room: ModuleType) -> dict[str, Any]:
    """The numbers of a module by name, without the underscore in front of some: {"REACH": 45.0, ...}."""
    found = {}
    for name, value in vars(room).items():
        plain = value.tolist() if isinstance(value, np.ndarray) else value
        if name.isupper() and (_is_numeric(plain) or isinstance(plain, str)):
            found[name.lstrip("_")] = plain
    return found


def card_for_page(model: ModelCard) -> dict[str, Any]:
    """What the page must know of a model."""
    return {
        "spec": model.spec.to_dict(),
        "inputs": model.spec.inputs,
        "classes": model.classes,
        "bias": model.bias,
        "taught": sorted(model.trained_kinds, key=CLASSES.index),
        "painted": sorted(model.output_kinds, key=CLASSES.index),
        "lowest": model.lowest_structure,
        "digest": model.digest,
    }


def _is_numeric(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return bool(value) and all(_is_numeric(part) for part in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _first_lordosis_level(usual: str) -> str:
    """The vertebra from which lordosis is measured: the first of those whose name begins as that of `usual`."""
    return next(level for level in LEVELS if level.startswith(usual[0]))
