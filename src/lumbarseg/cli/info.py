"""`lumbarseg info [THING]`: what a model, an exam or a dataset is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lumbarseg.errors import ModelError, printable_line

from . import console, options

_FIRST_CARD_KEYS = ("name", "data", "licences", "scores", "limits", "made", "sources")
"""What a person asks a card first."""


DESCRIPTION = (
    "Without THING: the card of the model that answers, its data, licences, scores, where it fails, and the\n"
    "devices that --device can be told here.\n"
    "For an exam: how its file is read, and what would be done. For a prepared dataset: what is in it."
)
EXAMPLE = "lumbarseg info exam.nii.gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("thing", nargs="?", type=Path, metavar="THING", help="a model file, an exam or a dataset")
    what.add_argument(
        "--terminology", action="store_true", help="print names, codes and colours as a terminology of 3D Slicer"
    )
    parser.add_argument(
        "--volume", type=options.non_negative_int, metavar="N", help="which volume of a 4-D exam, from 0"
    )
    options.add_series_option(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Find out what the thing is and tell it."""
    thing: Path | None = args.thing
    if args.terminology:
        from lumbarseg.terminology import slicer_terminology

        console.print_json(slicer_terminology())
        return console.EXIT_OK
    if thing is None or thing.suffix.lower() == ".onnx":
        from lumbarseg.inference.engines import available_devices

        facts = model_info(thing) | {"devices": list(available_devices())}
    elif (thing / "dataset.json").is_file():
        facts = dataset_info(thing)
    else:
        facts = exam_info(thing, args.volume, args.series)
    if args.json:
        console.print_json(facts)
    else:
        print("\n".join(_format_lines(facts)))
    return console.EXIT_OK


def model_info(path: Path | None) -> dict[str, Any]:
    """The card of a model file; no engine is started for it."""
    from lumbarseg.inference import default_model_path
    from lumbarseg.inference.model import read_verified_card

    path = path or default_model_path()
    try:
        data = path.read_bytes()
        card = read_verified_card(data)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    head = {"model": str(path), "size": f"{len(data) / 1e6:.1f} MB", "digest": card.digest}
    first = {name: card.details[name] for name in _FIRST_CARD_KEYS if name in card.details}
    made_for = {"classes": list(card.classes), "preparation": card.spec.to_dict(), "bias": list(card.bias)}
    return head | first | made_for | {name: value for name, value in card.details.items() if name not in first}


def dataset_info(folder: Path) -> dict[str, Any]:
    """What a prepared dataset holds."""
    from collections import Counter

    from lumbarseg.datasets import Dataset

    found = Dataset.open(folder)
    cases = found.cases()
    return {
        "dataset": str(folder),
        "name": found.name,
        "cases": len(cases),
        "splits": dict(Counter(case.split for case in cases)),
        "patients": len({case.patient or case.name for case in cases}),
        "contrasts": dict(Counter(case.contrast or "not said" for case in cases)),
        "licences": sorted({case.licence or "not said" for case in cases}),
        "sources": sorted({case.source or "not said" for case in cases}),
        "labels": {str(value): " or ".join(names) for value, names in found.label_table.items()},
        "warnings": [f"{case.name}: {text}" for case in cases for text in case.warnings],
    }


def exam_info(path: Path, volume: int | None, series: str | None = None) -> dict[str, Any]:
    """How an exam is read, and what the network would see of it."""
    from lumbarseg.io import read_exam
    from lumbarseg.preprocessing import PreprocessingSpec, network_grid

    found = read_exam(path, volume, series)
    grid, spec = found.volume.grid, PreprocessingSpec()
    seen = network_grid(grid, spec)
    planes = {"R": "sagittal", "A": "coronal", "S": "axial"}
    thick = max(range(3), key=lambda axis: grid.spacing[axis])
    across = next(world for world in planes if grid.axis_codes[thick] in {"R": "RL", "A": "AP", "S": "SI"}[world])
    even = max(grid.spacing) < 1.3 * min(grid.spacing)
    return {
        "exam": str(path),
        "shape": list(grid.shape),
        "spacing_mm": [round(step, 4) for step in grid.spacing],
        "axes": grid.axis_codes,
        "slices": "as thick as wide" if even else f"{planes[across]}, {grid.spacing[thick]:.2f} mm apart",
        "values": [float(found.volume.array.min()), float(found.volume.array.max())],
        "file": found.metadata,
        "notes": found.notes,
        "network_sees": {
            "slices": seen.shape[0],
            "pixels": list(seen.shape[1:]),
            "spacing_mm": [round(step, 4) for step in seen.spacing],
        },
    }


def _format_lines(values: Any, indent: str = "") -> list[str]:
    """Plain values as readable lines: short lists on one line, long ones and nested things under their name."""
    lines = []
    for name, value in values.items():
        title = f"{indent}{str(name).replace('_', ' ')}:"
        if isinstance(value, dict) and value:
            lines += [title, *_format_lines(value, indent + "  ")]
        elif isinstance(value, list) and any(len(_format_value(part)) > 20 for part in value):
            lines += [title, *(f"{indent}  - {_format_value(part)}" for part in value)]
        else:
            lines.append(f"{title} {_format_value(value) or '-'}")
    return lines


def _format_value(value: Any) -> str:
    """A value in one line, "" for nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format_value(part)}" for name, part in value.items())
    return ", ".join(_format_value(part) for part in value) if isinstance(value, list) else printable_line(value)
