"""Tables that the browser page takes from Python: the table of structures, and constants of the modules that it ports.

Each label, colour and threshold is written once, in Python; the JavaScript files contain none of them.
"""

from __future__ import annotations

import json
import re
from types import ModuleType
from typing import Any

import numpy as np

from lumbarseg import clicks, orientation, preprocessing
from lumbarseg.anatomy import CLASSES, LEVELS, STRUCTURES, Kind, disc_between
from lumbarseg.inference import ModelCard, predictor
from lumbarseg.io import raw_image
from lumbarseg.io.dicom import series
from lumbarseg.io.nifti_writer import caret_xml
from lumbarseg.measurement import SPINE, geometry, measurement_error
from lumbarseg.report.exam_page import COLUMN_TITLES, MEASURED_KINDS, SIZE_COLUMNS
from lumbarseg.report.exam_report import MEASUREMENT_COLUMNS, UNITS
from lumbarseg.segmentation import (
    centerline,
    click_overrides,
    disc_planes,
    discs_only,
    instances,
    interactive,
    levels,
    pipeline,
    sacrum,
)

_CARET_END = "</LabelTable>"

PORTED_MODULES: tuple[ModuleType, ...] = (
    *(raw_image, series, clicks, preprocessing, predictor, geometry, interactive, click_overrides),
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
        "measurements": _measurement_tables(),
        "viewerColours": _viewer_colours(),
        "caret": _caret_parts(),
        "counting": {
            "defaultLowest": lowest,
            "supernumerary": LEVELS[-1],
            "sacral": sacral,
            "lordosisTop": next(level for level in LEVELS if level.startswith(lowest[0])),
        },
        "constants": {module.__name__.rpartition(".")[2]: module_constants(module) for module in PORTED_MODULES},
    }
    return f"// Written by lumbarseg from its own tables.\nexport const TABLES = {json.dumps(tables)};\n"


def _measurement_tables() -> dict[str, Any]:
    """Return the measurements with their columns, titles and errors: standard deviations by kind of structure."""
    columns = {name: f"{name}_{unit}" for name, unit in UNITS.items()}
    errors = {kind.value: {name: measurement_error(name, kind.value) for name in UNITS} for kind in Kind}
    return {
        "list": [
            {"name": name, "column": column, "title": COLUMN_TITLES[column], "isSize": column in SIZE_COLUMNS}
            for name, column in columns.items()
        ],
        "kinds": MEASURED_KINDS,
        "columns": MEASUREMENT_COLUMNS,
        "errors": errors,
        "lordosisError": measurement_error("lordosis", SPINE),
    }


def _caret_parts() -> dict[str, Any]:
    """Return the beginning and end of Caret's label table in XML, and the line of each label."""
    head, tail = caret_xml(()).split(_CARET_END)
    labels = {s.label: caret_xml([s]).removeprefix(head).removesuffix(_CARET_END + tail) for s in STRUCTURES}
    return {"head": head, "labels": labels, "tail": _CARET_END + tail}


def _viewer_colours() -> dict[str, list[Any]]:
    """Return the label table in the format of NiiVue: one list per channel, by label, with the background first."""
    rows = [(0, "", (0, 0, 0)), *sorted((s.label, s.name, s.colour) for s in STRUCTURES)]
    channels = {name: [colour[n] for _, _, colour in rows] for n, name in enumerate("RGB")}
    labels = [label for label, _, _ in rows]
    names = [name for _, name, _ in rows]
    return channels | {"A": [255 * (label > 0) for label in labels], "I": labels, "labels": names}


def module_constants(module: ModuleType) -> dict[str, Any]:
    """Return the upper-case constants of a module that JSON can hold, keyed without leading underscore.

    Regular expressions become strings, sets sorted lists; arrays and tuples become lists.
    """
    constants = {name.lstrip("_"): _plain(value) for name, value in vars(module).items() if name.isupper()}
    return {name: value for name, value in constants.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return a constant as numbers, strings, lists and dictionaries of them; None when it is something else."""
    if isinstance(value, np.ndarray | re.Pattern):
        return value.tolist() if isinstance(value, np.ndarray) else value.pattern
    if isinstance(value, dict):
        parts = {key: _plain(part) for key, part in value.items() if isinstance(key, str)}
        return parts if value and len(parts) == len(value) and None not in parts.values() else None
    if isinstance(value, tuple | list | set | frozenset):
        items = [_plain(part) for part in (sorted(value) if isinstance(value, set | frozenset) else value)]
        return items if items and None not in items else None
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


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
