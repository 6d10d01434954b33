"""NIfTI: read as nibabel and SimpleITK read it, and written so that they read the same."""

from __future__ import annotations

import gzip
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from tests.grids import AXIS_ORDERS, affine_of, filled, grids
from tests.io.itk import ras_affine, ras_array
from tests.io.make_nifti import SAGITTAL, save_nifti, set_header

from lumbarseg.anatomy import Kind, labels_of_kind, structure_by_label, structure_by_name
from lumbarseg.errors import FileError
from lumbarseg.io import nifti, read_exam, read_image, read_labels, write_image, write_labels
from lumbarseg.volume import Grid, Volume

SimpleITK = pytest.importorskip("SimpleITK")


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_written_files_are_read_back_by_the_package_and_by_nibabel(
    grid: Grid, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("nifti") / "exam.nii.gz"
    image, labels = filled(grid), filled(grid, dtype=np.uint8)

    write_image(image, path)
    read_back = read_image(path)
    assert read_back.array.dtype == np.float32
    assert np.array_equal(read_back.array, image.array)
    assert read_back.grid.same_as(grid, 1e-4)

    write_labels(labels, path)
    assert np.array_equal(read_labels(path).array, labels.array)
    reference = nib.load(path)
    assert np.array_equal(np.asanyarray(reference.dataobj), labels.array)
    assert np.abs(reference.affine - grid.affine).max() < 1e-4


@pytest.mark.parametrize("axes", AXIS_ORDERS)
def test_sform_and_qform_agree_for_every_reader(axes: str, tmp_path: Path) -> None:
    grid = Grid((7, 5, 3), affine_of(axes, (0.6, 0.7, 4.4), (-80, 30, 500)))
    volume = filled(grid, dtype=np.uint8)
    write_labels(volume, tmp_path / "exam_labels.nii.gz")

    header = nib.load(tmp_path / "exam_labels.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    assert np.abs(header.get_sform() - header.get_qform()).max() < 1e-4
    reference = SimpleITK.ReadImage(str(tmp_path / "exam_labels.nii.gz"))
    assert np.array_equal(ras_array(reference), volume.array)
    assert np.abs(ras_affine(reference) - grid.affine).max() < 1e-3


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_the_qform_of_an_oblique_grid_is_its_sform(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("nifti") / "exam.nii"
    write_image(Volume(np.zeros((500, 500, 2), np.uint8), grid.affine), path)
    header = nib.load(path).header
    assert header["qform_code"] == 1
    difference = (header.get_sform() - header.get_qform())[:3] / [*grid.spacing, 1]
    assert np.abs(difference).max() < 1.5e-3  # what float32 leaves of a quaternion near half a turn


def test_a_sheared_grid_has_a_sform_alone(tmp_path: Path) -> None:
    affine = affine_of("RAS", (4.0, 1.0, 1.0))
    affine[1, 2] = 0.2
    write_image(filled(Grid((5, 30, 30), affine)), tmp_path / "sheared.nii.gz")
    header = nib.load(tmp_path / "sheared.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (1, 0)
    assert read_image(tmp_path / "sheared.nii.gz").grid.same_as(Grid((5, 30, 30), affine), 1e-4)


def test_names_colours_and_codes_are_inside(tmp_path: Path) -> None:
    array = np.zeros((6, 5, 4), np.uint8)
    for position, name in enumerate(("L5", "L4-L5", "sacrum", "L5 arch")):
        array[position, 0, 0] = structure_by_name(name).label
    write_labels(Volume(array, np.eye(4)), tmp_path / "exam_labels.nii.gz")

    header = nib.load(tmp_path / "exam_labels.nii.gz").header
    assert header.get_intent()[0] == "label"
    xml, text = (extension.get_content() for extension in header.extensions)
    rows = list(ElementTree.fromstring(xml).iter("Label"))
    assert {int(row.attrib["Key"]): row.text for row in rows} == {
        5: "L5",
        9: "L4-L5",
        11: "sacrum",
        55: "L5 arch",
    }
    red = [round(float(row.attrib["Red"]) * 255) for row in rows]
    table = json.loads(text)["labels"]
    assert red == [row["colour"][0] for row in table] == [structure_by_label(row["value"]).colour[0] for row in table]
    assert {row["value"]: row["SCT"] for row in table}[5] == "49668003"


def test_without_structures_no_names_are_stored(tmp_path: Path) -> None:
    write_labels(Volume(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "a.nii.gz", structures=())
    assert len(nib.load(tmp_path / "a.nii.gz").header.extensions) == 0


def test_written_files_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    volume = filled(Grid((9, 8, 7), SAGITTAL))
    write_image(volume, tmp_path / "a.nii.gz")
    write_image(volume, tmp_path / "b.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64]
)
def test_every_number_type_is_written(dtype: type, tmp_path: Path) -> None:
    array = np.arange(60).reshape(3, 4, 5).astype(dtype)
    write_image(Volume(array, np.eye(4)), tmp_path / "a.nii.gz")
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").array, array.astype(np.float32))


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    volume = filled(Grid((5, 6, 7), SAGITTAL))
    write_image(volume, tmp_path / "plain.nii")
    write_image(volume, tmp_path / "packed.nii.gz")
    (tmp_path / "plain.nii").rename(tmp_path / "really_plain.nii.gz")
    (tmp_path / "packed.nii.gz").rename(tmp_path / "really_packed.nii")
    for name in ("really_plain.nii.gz", "really_packed.nii"):
        assert np.array_equal(read_image(tmp_path / name).array, volume.array)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_both_versions_byte_orders_and_number_types(kind: type, order: str, code: str, tmp_path: Path) -> None:
    array = np.arange(120).reshape(4, 5, 6).astype(order + code)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    nib.save(kind(array, SAGITTAL, header), tmp_path / "a.nii")
    exam = read_exam(tmp_path / "a.nii")
    assert np.array_equal(exam.volume.array, array)
    assert exam.volume.grid.same_as(Grid((4, 5, 6), SAGITTAL), 1e-4)
    assert exam.metadata["format"] == ("NIfTI-1" if kind is nib.Nifti1Image else "NIfTI-2")


def test_scale_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), SAGITTAL)
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "a.nii")
    assert np.array_equal(
        read_image(tmp_path / "a.nii").array, nib.load(tmp_path / "a.nii").get_fdata(dtype=np.float32)
    )
    assert read_image(tmp_path / "a.nii").array[0, 0, 2] == 11


def test_labels_stored_with_a_scale_are_labels(tmp_path: Path) -> None:
    truth = np.arange(24).reshape(2, 3, 4) % 6
    image = nib.Nifti1Image(np.round(truth / 0.0039215).astype(np.int16), SAGITTAL)
    image.to_filename(tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:116] = np.float32(0.0039215).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert np.array_equal(read_labels(tmp_path / "a.nii").array, truth)


def test_sform_has_priority_and_a_disagreement_is_reported(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), None)
    image.set_sform(SAGITTAL, 1)
    image.set_qform(affine_of("RAS", (0.6, 0.6, 4.4)), 1)
    nib.save(image, tmp_path / "a.nii.gz")
    exam = read_exam(tmp_path / "a.nii.gz")
    assert exam.volume.grid.same_as(Grid((9, 9, 9), SAGITTAL), 1e-4)
    assert len(exam.notes) == 1
    assert exam.notes[0].startswith("sform and qform disagree by up to ")


def test_sform_and_qform_that_agree_need_no_note(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), None)
    image.set_sform(SAGITTAL, 1)
    image.set_qform(SAGITTAL, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_exam(tmp_path / "a.nii.gz").notes == []


@settings(max_examples=40, deadline=None)
@given(grid=grids())
def test_a_qform_alone_is_enough(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> None:
    image = nib.Nifti1Image(np.zeros(grid.shape, np.int16), None)
    image.set_sform(None, 0)
    image.set_qform(grid.affine, 1)
    path = tmp_path_factory.mktemp("qform") / "a.nii"
    nib.save(image, path)
    exam = read_exam(path)
    assert exam.notes == []
    assert np.abs(exam.volume.affine - nib.load(path).affine).max() < 1e-5


def test_without_orientation_nibabels_affine_is_used_and_reported(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.header.set_zooms((4.0, 0.6, 0.7))
    path = tmp_path / "a.nii"
    nib.save(image, path)
    exam = read_exam(path)
    assert np.abs(exam.volume.affine - nib.load(path).affine).max() < 1e-5
    assert "no orientation" in exam.notes[0]


def test_the_published_chu_header_reads_as_it_stands(real: Path) -> None:
    exam = read_exam(real / "chu" / "Img_02.nii.gz")
    assert exam.volume.grid.axis_codes == "RAS"
    assert exam.volume.grid.spacing == pytest.approx((2, 1.25, 1.25))


def test_every_kind_of_real_exam_reads_as_nibabel_reads_it(real: Path) -> None:
    for path in [*sorted(real.glob("*/*.nii.gz"))[::17], *sorted(real.glob("spider_*/t*/*.nii.gz"))[::29]]:
        reference, exam = nib.load(path), read_exam(path)
        assert np.array_equal(exam.volume.array, reference.get_fdata(dtype=np.float32)), path
        assert np.abs(exam.volume.affine - reference.affine).max() < 1e-4, path


@pytest.mark.parametrize("shape", [(12, 14), (12, 14, 1), (1, 12, 14), (12, 1, 14), (12, 14, 3, 1), (12, 14, 3, 1, 1)])
def test_single_slices_and_single_volumes_are_exams(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    exam = read_exam(save_nifti(tmp_path / "a.nii.gz", array, SAGITTAL))
    assert exam.volume.array.shape == (*shape, 1)[:3]
    assert np.array_equal(exam.volume.array.ravel(), array.ravel())
    assert exam.volume.grid.spacing == pytest.approx((0.6, 0.6, 4.4))


def test_a_slice_without_thickness_gets_one_and_a_note(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((12, 14, 1), np.int16), SAGITTAL)
    header = nib.load(path).header
    set_header(path, sform_code=0, qform_code=1, pixdim=[header["pixdim"][0], 0.6, 0.6, 0, 0, 0, 0, 0])
    exam = read_exam(path)
    assert exam.volume.grid.spacing == pytest.approx((0.6, 0.6, 4.0))
    assert exam.notes == ["one slice without a thickness in its header: 4 mm assumed"]
    direction = exam.volume.affine[:3, 2] / 4
    assert abs(direction @ (SAGITTAL[:3, 2] / 4.4)) == pytest.approx(1, abs=1e-4)


def test_one_volume_of_a_4d_file_is_selected(tmp_path: Path) -> None:
    array = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6).astype(np.int16)
    path = save_nifti(tmp_path / "a.nii.gz", array, SAGITTAL)
    with pytest.raises(FileError, match=r"a\.nii\.gz: 4-D, 6 volumes; choose one with --volume 0 to 5"):
        read_exam(path)
    with pytest.raises(FileError, match="no volume 6; it holds 6, counted from 0"):
        read_exam(path, volume_index=6)
    for volume in (0, 3, 5):
        assert np.array_equal(read_exam(path, volume_index=volume).volume.array, array[..., volume])


def test_a_constant_image_is_read(tmp_path: Path) -> None:
    assert read_image(save_nifti(tmp_path / "a.nii.gz", np.full((3, 4, 5), 7, np.int16), SAGITTAL)).array.min() == 7


def test_inputs_are_not_changed(tmp_path: Path) -> None:
    volume = filled(Grid((4, 5, 6), SAGITTAL), dtype=np.uint8)
    volume.array.setflags(write=False)
    write_image(volume, tmp_path / "a.nii.gz")
    write_labels(volume, tmp_path / "b.nii.gz")
    assert np.array_equal(read_labels(tmp_path / "b.nii.gz").array, volume.array)


def test_labels_of_the_whole_table_survive(tmp_path: Path) -> None:
    values = [label for kind in Kind for label in labels_of_kind(kind)]
    write_labels(Volume(np.array(values, np.uint8).reshape(1, 1, -1), np.eye(4)), tmp_path / "a.nii.gz")
    table = json.loads(nib.load(tmp_path / "a.nii.gz").header.extensions[1].get_content())["labels"]
    assert sorted(values) == [row["value"] for row in table]
    assert nifti.is_nifti(gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[:348])
