"""Describe a model, a prepared dataset or an exam as plain values for `lumbarseg info`.

Readers of files are imported where they are needed: scipy and nibabel take half a second, which a model's card need not
wait for.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from lumbarseg.inference import default_model_path
from lumbarseg.inference.engines import available_devices
from lumbarseg.inference.model import read_card
from lumbarseg.preprocessing import PreprocessingSpec, network_grid

_FIRST_CARD_KEYS = ("name", "data", "licences", "scores", "limits", "made", "sources")
_PLANES = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}
_MAX_ISOTROPIC_RATIO = 1.3


def describe(path: Path | None, volume_index: int | None = None, series: str | None = None) -> dict[str, Any]:
    """Describe what lies at `path`; the installed model without one."""
    if path is None or path.suffix.lower() == ".onnx":
        return describe_model(path or default_model_path())
    if (path / "dataset.json").is_file():
        return describe_dataset(path)
    return describe_exam(path, volume_index, series)


def describe_model(path: Path) -> dict[str, Any]:
    """Return the card of a model file and the devices of this computer; no engine is started."""
    card = read_card(path)
    first = {name: card.details[name] for name in _FIRST_CARD_KEYS if name in card.details}
    return {
        "model": str(path),
        "size": f"{path.stat().st_size / 1e6:.1f} MB",
        "digest": card.digest,
        **first,
        "classes": list(card.classes),
        "preparation": card.spec.to_dict(),
        "bias": list(card.bias),
        **{name: value for name, value in card.details.items() if name not in first},
        "devices": list(available_devices()),
    }


def describe_dataset(folder: Path) -> dict[str, Any]:
    """Return what a prepared dataset contains."""
    from lumbarseg.datasets import Dataset

    dataset = Dataset.open(folder)
    cases = dataset.cases()
    return {
        "dataset": str(folder),
        "name": dataset.name,
        "cases": len(cases),
        "splits": dict(Counter(case.split for case in cases)),
        "patients": len({case.patient or case.name for case in cases}),
        "contrasts": dict(Counter(case.contrast or "unknown" for case in cases)),
        "licences": sorted({case.licence or "unknown" for case in cases}),
        "sources": sorted({case.source or "unknown" for case in cases}),
        "labels": {str(value): " or ".join(names) for value, names in dataset.label_table.items()},
        "warnings": [f"{case.name}: {text}" for case in cases for text in case.warnings],
    }


def describe_exam(path: Path, volume_index: int | None = None, series: str | None = None) -> dict[str, Any]:
    """Return how an exam is read, and the grid on which the network gets it."""
    from lumbarseg.io import read_exam

    exam = read_exam(path, volume_index, series)
    grid = exam.volume.grid
    network = network_grid(grid, PreprocessingSpec())
    thickest = max(range(3), key=lambda axis: grid.spacing[axis])
    isotropic = max(grid.spacing) < _MAX_ISOTROPIC_RATIO * min(grid.spacing)
    plane = _PLANES[grid.axis_codes[thickest]]
    return {
        "exam": str(path),
        "shape": list(grid.shape),
        "spacing_mm": [round(step, 4) for step in grid.spacing],
        "axes": grid.axis_codes,
        "slices": "isotropic" if isotropic else f"{plane}, {grid.spacing[thickest]:.2f} mm apart",
        "values": [float(exam.volume.array.min()), float(exam.volume.array.max())],
        "file": exam.metadata,
        "notes": exam.notes,
        "network_sees": {
            "slices": network.shape[0],
            "pixels": list(network.shape[1:]),
            "spacing_mm": [round(step, 4) for step in network.spacing],
        },
    }
