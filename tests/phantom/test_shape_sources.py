"""Shapes of real vertebrae: read from meshes and label maps, refused in one line, and placed in phantoms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lumbarseg.anatomy import arch_of_level, structure_by_name
from lumbarseg.errors import FileError
from lumbarseg.io import write_labels
from lumbarseg.phantom import Recipe, render_phantom, sample_recipe
from lumbarseg.phantom.shape_sources import read_mesh_shape, read_shapes
from lumbarseg.volume import Volume

trimesh = pytest.importorskip("trimesh")


def mesh_of_boxes(scale: float = 1.0, centre: tuple[float, float, float] = (0, 0, 0), arch: bool = True) -> Any:
    """A body of 44 x 34 x 28 mm, and a lamina of 30 x 8 x 24 mm that leaves a canal of 16 mm."""
    parts = [trimesh.creation.box((44, 34, 28))]
    if arch:
        lamina = trimesh.creation.box((30, 8, 24))
        lamina.apply_translation((0, -17 - 16 - 4, 0))
        parts.append(lamina)
    mesh = trimesh.util.concatenate(parts)
    mesh.apply_translation(centre)
    mesh.apply_scale(scale)
    return mesh


def library_folder(folder: Path, mesh: Any, name: str = "L3.ply") -> Path:
    path = folder / "person" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh.export(path)
    return path


@pytest.mark.parametrize("name", ["L3.ply", "L3.stl", "L3.obj"])
def test_a_mesh_has_the_dimensions_of_its_vertebra(tmp_path: Path, name: str) -> None:
    shape = read_mesh_shape(library_folder(tmp_path, mesh_of_boxes(), name))
    assert (shape.level, shape.source) == ("L3", "person")
    assert shape.width == pytest.approx(44, abs=2.5)
    assert shape.depth == pytest.approx(34, abs=2.5)
    assert (shape.front_height, shape.back_height) == pytest.approx((28, 28), abs=2.5)
    assert shape.canal_depth == pytest.approx(16, abs=2.5)
    assert shape.sample(*(np.array([v]) for v in (0.0, 0.0, 0.0)))[0] < -10
    assert shape.sample(*(np.array([v]) for v in (0.0, -25.0, 0.0)))[0] > 5


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (lambda: mesh_of_boxes(scale=0.001), "is in metres; scale it by 1000"),
        (lambda: mesh_of_boxes(scale=10), "give it in mm"),
        (lambda: mesh_of_boxes(centre=(0, 60, 0)), "its origin is not the centre of the body"),
        (lambda: mesh_of_boxes(arch=False), "nothing lies behind the body"),
    ],
)
def test_a_mesh_without_a_position_is_refused(tmp_path: Path, mesh: Any, message: str) -> None:
    path = library_folder(tmp_path, mesh())
    with pytest.raises(FileError, match=message) as caught:
        read_shapes(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_open_mesh_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    mesh = mesh_of_boxes()
    mesh.update_faces(np.arange(len(mesh.faces)) > 0)
    with pytest.raises(FileError, match="an open surface; close its holes"):
        read_mesh_shape(library_folder(tmp_path, mesh))
    damaged = tmp_path / "L4.ply"
    damaged.write_bytes(b"ply\nformat nonsense")
    with pytest.raises(FileError, match="cannot be read as a mesh"):
        read_mesh_shape(damaged)


def label_map(tmp_path: Path, values: dict[str, int]) -> Path:
    """L2 and L3 of boxes with their canal, in one label map of 1.5 mm, tilted and away from the origin."""
    angle = np.deg2rad(12)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation * 1.5, (120, -40, 300)
    x, y, z = (c * 1.5 for c in np.meshgrid(np.arange(60), np.arange(70), np.arange(60), indexing="ij"))
    x, y = x - 45, y - 70
    labels = np.zeros(x.shape, np.uint8)
    for name, height in (("vertebrae_L3", 25), ("vertebrae_L2", 63)):
        body = (np.abs(x) < 22) & (np.abs(y) < 17) & (np.abs(z - height) < 14)
        lamina = (np.abs(x) < 15) & (np.abs(y + 37) < 4) & (np.abs(z - height) < 12)
        labels[body | lamina] = values.get(name, 0)
    labels[(x**2 + (y + 25) ** 2 < 36)] = values.get("spinal_cord", 0)
    write_labels(Volume(labels, affine), tmp_path / "one_labels.nii.gz")
    (tmp_path / "labels.json").write_text(json.dumps({str(value): name for name, value in values.items()}))
    return tmp_path


def test_label_maps_give_the_same_shape_in_any_pose(tmp_path: Path) -> None:
    library = read_shapes(label_map(tmp_path, {"vertebrae_L2": 3, "vertebrae_L3": 4, "spinal_cord": 9}))
    assert library.sources == ("one",) and set(library.shapes["one"]) == {"L2", "L3"}
    for shape in library.shapes["one"].values():
        assert shape.width == pytest.approx(44, abs=4)
        assert shape.depth == pytest.approx(34, abs=4)
        assert (shape.front_height, shape.back_height) == pytest.approx((28, 28), abs=3)
    assert library.nearest("one", "T11").level == "L2"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spinal_cord": 9, "liver": 3}, "no vertebra in it; expected vertebrae_L1"),
        ({"vertebrae_L2": 3}, "no spinal_cord in it"),
    ],
)
def test_label_maps_without_vertebrae_or_canal_are_refused(
    tmp_path: Path, values: dict[str, int], message: str
) -> None:
    with pytest.raises(FileError, match=message):
        read_shapes(label_map(tmp_path, values))


@pytest.mark.parametrize("text", ["{bad", '["vertebrae_L1"]', '{"L1": "vertebrae_L1"}'])
def test_a_damaged_table_of_labels_is_refused(tmp_path: Path, text: str) -> None:
    folder = label_map(tmp_path, {"vertebrae_L2": 3, "spinal_cord": 9})
    next(folder.rglob("labels.json")).write_text(text)
    with pytest.raises(FileError, match=r"labels\.json: not a table of labels"):
        read_shapes(folder)


def test_an_unknown_folder_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(FileError, match="no vertebra in it; expected meshes"):
        read_shapes(tmp_path)


def test_a_phantom_with_real_vertebrae_is_the_same_again_and_labels_their_parts(tmp_path: Path) -> None:
    library_folder(tmp_path, mesh_of_boxes())
    library = read_shapes(tmp_path)
    recipe = sample_recipe(np.random.default_rng(6), shape_sources=library.sources)
    repeated = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert repeated == recipe
    phantom = render_phantom(recipe, library)
    assert np.array_equal(phantom.labels.array, render_phantom(repeated, library).labels.array)
    shown = set(np.unique(phantom.labels.array))
    assert {structure_by_name("L3").label, arch_of_level("L3").label} <= shown
    assert phantom.ground_truth["shapes"] == ["person"]
