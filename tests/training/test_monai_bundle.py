"""A run as a MONAI bundle: MONAI accepts and runs it, where the package cannot be imported."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.grids import affine_of

from lumbarseg.anatomy import CLASSES
from lumbarseg.cli.main import main
from lumbarseg.errors import FileError, ModelError
from lumbarseg.inference import Model, predict
from lumbarseg.io import read_image, write_image
from lumbarseg.preprocessing import classes_on_source_grid, preprocess
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.monai_bundle import BUNDLED_FILES, export_bundle
from lumbarseg.volume import Volume

WITHOUT_PACKAGE = """
import importlib.abc, runpy, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "lumbarseg":
            raise ImportError("lumbarseg is blocked")

sys.meta_path.insert(0, Blocked())
sys.path.insert(0, "")
for words in sys.argv[1:]:
    sys.argv = ["monai.bundle", *words.split("|")]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""

TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
}
TEXTS = (
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version"),
    *("task", "description", "authors", "copyright"),
)
RULES = {
    "type": "object",
    "required": [*TEXTS, "required_packages_version", "network_data_format"],
    "properties": {
        **{name: {"type": "string"} for name in TEXTS},
        "required_packages_version": {"type": "object"},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "additionalProperties": {"type": "object", "additionalProperties": TENSOR},
        },
    },
}
"""What MONAI's specification asks of metadata.json, in our words."""


@pytest.fixture(scope="module")
def bundle_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(checkpoint, tmp_path_factory.mktemp("bundle") / "mine", {"licences": ["CC BY 4.0"]})


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exams whose axes are neither the network's nor each other's."""
    folder = tmp_path_factory.mktemp("exams")
    for seed, axes in enumerate(("PIR", "LSA")):
        rng, spacing = np.random.default_rng(seed), (0.9, 1.1, 4.0) if axes == "PIR" else (3.3, 0.8, 0.8)
        shape = (70, 60, 7) if axes == "PIR" else (6, 66, 50)
        image = Volume(rng.normal(300, 80, shape).astype(np.float32), affine_of(axes, spacing, turn=(5, 3, 8)))
        write_image(image, folder / f"{axes}.nii.gz")
    return folder


def run_bundle_commands(bundle: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    """Commands of monai.bundle in a bundle's folder; words separated by |."""
    command = [sys.executable, "-c", WITHOUT_PACKAGE, *commands]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=bundle, env=env)


def test_monai_accepts_and_runs_it_without_the_package(bundle_folder: Path, exams: Path, tmp_path: Path) -> None:
    pytest.importorskip("fire")
    pytest.importorskip("ignite")
    (tmp_path / "schema.json").write_text(json.dumps(RULES))
    files = "--config_file|configs/inference.json"
    done = run_bundle_commands(
        bundle_folder,
        f"verify_metadata|--meta_file|configs/metadata.json|--filepath|{tmp_path / 'schema.json'}",
        f"verify_net_in_out|network_def|--meta_file|configs/metadata.json|{files}",
        f"run|{files}|--dataset_dir|{exams}|--output_dir|{tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "metadata is verified with no error" in done.stderr + done.stdout
    assert "data shape of network is verified with no error" in done.stderr + done.stdout
    model = Model.load(bundle_folder / "models" / "model.onnx", "cpu")
    for name in ("PIR", "LSA"):
        volume = read_image(exams / f"{name}.nii.gz")
        prepared = preprocess(volume, model.card.spec)
        expected = classes_on_source_grid(predict(model, prepared.array), prepared)
        class_map: Any = nib.load(tmp_path / "out" / f"{name}_classes.nii.gz")
        assert class_map.get_data_dtype() == np.uint8
        np.testing.assert_allclose(class_map.affine, volume.affine, atol=1e-4)
        assert np.unique(expected).size > 1
        assert (np.asarray(class_map.dataobj) == expected).mean() > 0.999


def test_it_is_complete(bundle_folder: Path, checkpoint: Path) -> None:
    assert not {"LICENSE", "configs", "docs", "models", "scripts"} ^ {path.name for path in bundle_folder.iterdir()}
    about = json.loads((bundle_folder / "configs" / "metadata.json").read_text())
    assert about["schema"].startswith("https://project-monai.github.io/schema/")
    assert list(about["network_data_format"]["outputs"]["pred"]["channel_def"].values()) == list(CLASSES)
    weights = torch.load(bundle_folder / "models" / "model.pt", weights_only=True)
    average = Checkpoint.load(checkpoint).ema_weights
    assert weights.keys() == average.keys()
    assert all(torch.equal(weights[name], average[name]) for name in average)
    assert "Apache License" in (bundle_folder / "LICENSE").read_text()
    readme = (bundle_folder / "docs" / "README.md").read_text()
    assert readme.startswith("# mine\n")
    assert "CC BY 4.0" in readme


def test_bundled_files_import_only_each_other(bundle_folder: Path) -> None:
    names = {path.stem for path in (bundle_folder / "scripts").glob("*.py")}
    assert len(names) == len(BUNDLED_FILES) + 1
    for path in (bundle_folder / "scripts").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] != "lumbarseg"
                assert not node.level or (node.module or node.names[0].name) in names
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("lumbarseg") for alias in node.names)


def test_a_folder_with_something_in_it_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(FileError, match="exists already"):
        export_bundle(checkpoint, tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


@pytest.mark.parametrize("content", [b"a model", b"", b"PK", b"(lp0\n.", None], ids=str)
def test_a_file_that_is_no_run_is_reported(content: bytes | None, bundle_folder: Path, tmp_path: Path) -> None:
    data = (bundle_folder / "models" / "model.onnx").read_bytes() if content is None else content
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="no checkpoint of a training run"):
        export_bundle(tmp_path / "model.onnx", tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_wrong_arguments_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(tmp_path / "none"), "-o", str(tmp_path / "mine"), "--format", "monai-bundle"]
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "not found" in line
    assert main(["export", str(tmp_path), "-o", str(tmp_path / "mine"), "--format", "zip"]) == 2
    assert "monai-bundle" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
