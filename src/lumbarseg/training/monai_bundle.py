"""Export of a run as a MONAI bundle: a folder that `python -m monai.bundle run` runs without this package.

The bundle contains the package's own files that lead from an exam to a class map, with relative imports, so the
computation is the same and written once. MONAI's specification: docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import lumbarseg
from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import FileError
from lumbarseg.inference.card import METADATA_KEY, ModelCard
from lumbarseg.inference.model import Model
from lumbarseg.io import atomic_path
from lumbarseg.preprocessing import PreprocessingSpec

from .checkpoint import Checkpoint, load_mean_checkpoint
from .export import export_model

BUNDLED_FILES = (
    *("errors.py", "anatomy.py", "volume.py", "resampling.py", "clicks.py", "components.py", "fill_values.py"),
    "preprocessing.py",
    *("inference/card.py", "inference/predictor.py", "inference/sliding_window.py"),
    *("training/settings.py", "training/precision.py", "training/networks.py", "training/monai_networks.py"),
    *("training/torch_predictor.py", "training/bundle_inference.py"),
)
"""Files of the package that are copied into the bundle's folder `scripts`."""

_PACKAGE = Path(lumbarseg.__file__).parent
_TEMPLATES = Path(__file__).parent / "bundle_templates"
_PACKAGE_IMPORT = re.compile(r"^( *)from lumbarseg\.(?:\w+\.)*(\w+) import", re.MULTILINE)
_REQUIRED_PACKAGES = ("fire", "nibabel", "pytorch-ignite", "scipy")
_README_KEYS = ("data", "datasets", "sources", "licences", "scores", "limits", "step")
"""Details of the model card that the bundle's README lists."""


def export_bundle(
    checkpoint: Path | Sequence[Path],
    output: Path,
    details: Mapping[str, Any] | None = None,
    bias: Sequence[float] | None = None,
) -> Path:
    """Write a run as a MONAI bundle, a new folder; parameters and ModelError as in `export_model`.

    Raise FileError if `output` exists and is not an empty folder. After an error nothing is left.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileError(f"{output}: exists already; name a new folder, or remove it")
    state = load_mean_checkpoint(checkpoint)
    with atomic_path(output.absolute()) as folder:
        for name in ("configs", "docs", "models", "scripts"):
            (folder / name).mkdir(parents=True)
        model = Model.load(export_model(checkpoint, folder / "models" / "model.onnx", details, bias), "cpu")
        torch.save(state.ema_weights, folder / "models" / "model.pt")
        for name, text in _text_files(state, model.card, output.name).items():
            (folder / name).write_text(text, encoding="utf-8")
    return output


def _text_files(state: Checkpoint, card: ModelCard, name: str) -> dict[str, str]:
    """Return the content of every text file of the bundle."""
    config = json.loads((_TEMPLATES / "inference.json").read_text("utf-8"))
    config["network_def"]["settings"] = state.settings.to_dict()
    return {
        "LICENSE": _license_text(),
        "configs/metadata.json": _to_json(_bundle_metadata(state, card, name)),
        "configs/inference.json": _to_json(config),
        "configs/card.json": card.to_metadata()[METADATA_KEY] + "\n",
        "docs/README.md": _readme_text(card, name),
        "scripts/__init__.py": '"""Files of lumbarseg that lead from an exam to a class map."""\n',
        **{f"scripts/{Path(file).name}": _with_relative_imports(_PACKAGE / file) for file in BUNDLED_FILES},
    }


def _with_relative_imports(path: Path) -> str:
    return _PACKAGE_IMPORT.sub(r"\1from .\2 import", path.read_text("utf-8"))


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=4, ensure_ascii=False) + "\n"


def _bundle_metadata(state: Checkpoint, card: ModelCard, name: str) -> dict[str, Any]:
    """Return the bundle's metadata.json, by MONAI's schema."""
    needed = (*_REQUIRED_PACKAGES, *(("einops",) if state.settings.network == "swinunetr" else ()))
    template = json.loads((_TEMPLATES / "metadata.json").read_text("utf-8"))
    return template | {
        "changelog": {"1.0.0": f"exported by lumbarseg {lumbarseg.__version__} at step {state.step}"},
        "monai_version": _installed_version("monai").partition("+")[0],
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": _installed_version("numpy"),
        "required_packages_version": {package: _installed_version(package) for package in needed},
        "name": name,
        "eval_metrics": dict(card.details.get("scores") or {}),
        "network_data_format": _network_data_format(state.spec, template["network_data_format"]),
    }


def _network_data_format(spec: PreprocessingSpec, template: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes and channels of what the network reads and predicts, with the constants of a template."""
    classes = {str(number): str(kind) for number, kind in enumerate(CLASSES)}
    channels = {str(number): text for number, text in enumerate(_channel_descriptions(spec))}
    sides: list[Any] = [spec.tile] * 2 if spec.tile else [f"{spec.multiple}*n"] * 2
    shape = {"spatial_shape": [spec.depth, *sides] if spec.depth else sides}
    values = {"num_channels": spec.inputs, "value_range": [0, spec.normalisation.limit], "channel_def": channels}
    logits = {"num_channels": len(classes), "channel_def": classes}
    class_map = {"value_range": [0, len(classes) - 1], "channel_def": classes}
    return {
        "inputs": {"image": template["inputs"]["image"] | shape | values},
        "outputs": {"pred": template["outputs"]["pred"] | shape | logits},
        "post_processed_outputs": {"pred": template["post_processed_outputs"]["pred"] | class_map},
    }


def _channel_descriptions(spec: PreprocessingSpec) -> list[str]:
    """Return what each input channel is."""
    if spec.depth:
        return ["a block of slices"]
    slices = [f"slice {n:+d}" if n else "the slice" for n in range(-spec.neighbours, spec.neighbours + 1)]
    return slices + ([f"clicks: {kind}" for kind in CLASSES] if spec.clicks else [])


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "any"


def _license_text() -> str:
    """Return the program's licence, from the installed package or from the sources."""
    try:
        distribution = metadata.distribution("lumbarseg")
        text = distribution.read_text("licenses/LICENSE") or distribution.read_text("LICENSE")
    except metadata.PackageNotFoundError:
        text = None
    in_sources = _PACKAGE.parents[1] / "LICENSE"
    return text or (in_sources.read_text("utf-8") if in_sources.is_file() else "Apache-2.0\n")


def _readme_text(card: ModelCard, name: str) -> str:
    """Return how to use the bundle, and what its weights were trained on."""
    values = {key: card.details[key] for key in _README_KEYS if card.details.get(key)}
    details = "\n".join(f"- {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
    classes = "\n".join(f"| {number} | {kind} |" for number, kind in enumerate(CLASSES))
    template = (_TEMPLATES / "README.md").read_text("utf-8")
    return template.format(name=name, classes=classes, details=details or "- unknown")
