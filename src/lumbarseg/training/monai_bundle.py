"""A trained run as a MONAI bundle: a folder that `python -m monai.bundle run` understands, without this package.

The bundle carries the package's own files that lead from an exam to a map of classes, imports made relative; so the
arithmetic is the same and written once. MONAI's specification: docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

import io
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

SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
BUNDLED_FILES = (
    *("errors.py", "anatomy.py", "volume.py", "resampling.py", "clicks.py", "preprocessing.py"),
    *("inference/card.py", "inference/predictor.py", "inference/sliding_window.py"),
    *("training/settings.py", "training/networks.py"),
    *("training/monai_networks.py", "training/bundle_inference.py"),
)
"""Files of the package that a bundle carries in its folder `scripts`."""

_ROOT = Path(lumbarseg.__file__).parent
_PACKAGE_IMPORT = re.compile(r"^from lumbarseg\.(?:\w+\.)*(\w+) import", re.MULTILINE)
_REQUIRED_PACKAGES = ("fire", "nibabel", "pytorch-ignite")


def export_bundle(
    checkpoint: Path | Sequence[Path],
    output: Path,
    details: Mapping[str, Any] | None = None,
    bias: Sequence[float] | None = None,
) -> Path:
    """The same as a MONAI bundle, a new folder `out`; checkpoint, about, bias: as in `export`.

    FileError when `out` is there already and not an empty folder, ModelError as in `export`; then nothing is written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileError(f"{output}: there is something already; name a new folder, or remove it")
    run = load_mean_checkpoint(checkpoint)
    with atomic_path(output.absolute()) as folder:
        for name in ("configs", "docs", "models", "scripts"):
            (folder / name).mkdir(parents=True)
        card = Model.load(export_model(checkpoint, folder / "models" / "model.onnx", details, bias), "cpu").card
        _save_weights(run, folder / "models" / "model.pt")
        for name, text in _text_files(run, card, output.name).items():
            (folder / name).write_text(text, encoding="utf-8")
    return output


def _save_weights(run: Checkpoint, path: Path) -> None:
    stream = io.BytesIO()
    torch.save(run.ema_weights, stream)
    path.write_bytes(stream.getvalue())


def _text_files(run: Checkpoint, card: ModelCard, name: str) -> dict[str, str]:
    """Every file of a bundle that is text."""
    scripts = {
        Path(file).name: _PACKAGE_IMPORT.sub(r"from .\1 import", (_ROOT / file).read_text("utf-8"))
        for file in BUNDLED_FILES
    }
    return {
        "LICENSE": _license_text(),
        "configs/metadata.json": _to_json(bundle_metadata(run, card, name)),
        "configs/inference.json": _to_json(inference_config(run)),
        "configs/card.json": card.to_metadata()[METADATA_KEY] + "\n",
        "docs/README.md": _readme_text(card, name),
        "scripts/__init__.py": '"""Files of lumbarseg that lead from an exam to a map of classes."""\n',
        **{f"scripts/{file}": text for file, text in scripts.items()},
    }


def _to_json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=4, ensure_ascii=False) + "\n"


def inference_config(run: Checkpoint) -> dict[str, Any]:
    """The pipeline from a folder of exams to maps of classes, as MONAI reads it."""
    transforms = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "scripts.bundle_inference.Preprocessd", "keys": "image", "spec": "$@card.spec"},
    ]
    saving = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "classes",
        "output_dtype": "$numpy.uint8",
        "resample": False,
        "separate_folder": False,
    }
    return {
        "imports": ["$import glob", "$import os", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii*')))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "card": {"_target_": "scripts.bundle_inference.load_card", "path": "$@bundle_root + '/configs/card.json'"},
        "network_def": {"_target_": "scripts.bundle_inference.load_network", "settings": run.settings.to_dict()},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {"_target_": "scripts.bundle_inference.SliceInferer", "card": "@card"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "scripts.bundle_inference.RestoreClassesd", "keys": "pred", "spec": "$@card.spec"},
                saving,
            ],
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
            "map_location": "@device",
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": ["@checkpointloader"],
        },
        "run": ["$@evaluator.run()"],
    }


def bundle_metadata(run: Checkpoint, card: ModelCard, name: str) -> dict[str, Any]:
    """What a bundle says about itself, by MONAI's schema."""
    import monai
    import numpy

    classes = {str(number): str(kind) for number, kind in enumerate(CLASSES)}
    spec = run.spec
    needed = (*_REQUIRED_PACKAGES, *(("einops",) if run.settings.network == "swinunetr" else ()))
    side: list[Any] = [spec.tile, spec.tile] if spec.tile else [f"{spec.multiple}*n", f"{spec.multiple}*n"]
    shape = [*([spec.depth] if spec.depth else []), *side]
    image = {"type": "image", "modality": "MR", "spatial_shape": shape, "dtype": "float32", "is_patch_data": True}
    top = spec.normalisation.limit
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by lumbarseg {lumbarseg.__version__} at step {run.step}"},
        "monai_version": monai.__version__.partition("+")[0],
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": numpy.__version__,
        "required_packages_version": {package: _installed_version(package) for package in needed},
        "name": name,
        "task": "tissue classes of the lumbar spine in MRI: body, disc, canal, sacrum, arch",
        "description": "A network of lumbarseg; it tells tissues apart. Levels are named by lumbarseg segment.",
        "authors": "trained with lumbarseg",
        "copyright": "program: Apache-2.0; weights: see docs/README.md for the data they were trained on",
        "data_type": "nibabel",
        "intended_use": "research and teaching; not a medical device",
        "eval_metrics": dict(card.details.get("scores") or {}),
        "network_data_format": {
            "inputs": {
                "image": image
                | {"format": "magnitude", "num_channels": spec.inputs, "value_range": [0, top]}
                | {"channel_def": {str(n): text for n, text in enumerate(_channel_descriptions(spec))}}
            },
            "outputs": {
                "pred": image
                | {"format": "labels", "num_channels": len(classes), "value_range": [], "channel_def": classes}
            },
            "post_processed_outputs": {
                "pred": image
                | {"format": "segmentation", "num_channels": 1, "value_range": [0, len(classes) - 1]}
                | {"dtype": "uint8", "spatial_shape": ["*", "*", "*"], "channel_def": classes, "is_patch_data": False}
            },
        },
    }


def _channel_descriptions(spec: PreprocessingSpec) -> list[str]:
    """What each channel is that the network reads."""
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
    """The program's licence, from the installed package or from the sources."""
    try:
        found = metadata.distribution("lumbarseg")
        text = found.read_text("licenses/LICENSE") or found.read_text("LICENSE")
    except metadata.PackageNotFoundError:
        text = None
    beside = _ROOT.parents[1] / "LICENSE"
    return text or (beside.read_text("utf-8") if beside.is_file() else "Apache-2.0\n")


def _readme_text(card: ModelCard, name: str) -> str:
    """How to use a bundle, and where its weights come from."""
    told = [
        f"- {key}: {json.dumps(card.details[key], ensure_ascii=False)}" for key in _README_KEYS if card.details.get(key)
    ]
    classes = "\n".join(f"| {number} | {kind} |" for number, kind in enumerate(CLASSES))
    return _README_TEMPLATE.format(
        name=name, classes=classes, told="\n".join(told) or "- nothing is said", schema=SCHEMA
    )


_README_KEYS = ("data", "datasets", "sources", "licences", "scores", "limits", "step")
_README_TEMPLATE = """\
# {name}

Tissue classes of the lumbar spine in MRI, on the exam's own grid. Not a medical device.

    python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir OUT

in this folder, for the NIfTI files of the folder IMAGES; it writes OUT/NAME_classes.nii.gz:

| value | tissue |
| --- | --- |
{classes}

It needs monai, torch, nibabel, pytorch-ignite and fire (einops for swinunetr), and not lumbarseg:
`scripts/` holds what is needed of it.

The maps say what is vertebra and what is disc. Which one is L4, measurements, the report, clicks, and turning exams
whose header has front and back exchanged are lumbarseg's:

    lumbarseg segment EXAM -o OUT --model models/model.onnx

`models/model.onnx` is the same network with its card; `models/model.pt` are its weights for torch.

    python -m monai.bundle verify_metadata --meta_file configs/metadata.json --filepath schema.json

checks configs/metadata.json. It downloads the schema to schema.json; without network, put a copy of
{schema} there first, and nothing is downloaded.

## What the weights were trained on
{told}
"""
