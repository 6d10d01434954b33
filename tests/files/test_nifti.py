"""NIfTI: read as nibabel and SimpleITK read it, written so that they read what we meant."""

from __future__ import annotations

import gzip
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.files.itk import ras_affine, ras_array
from tests.grids import AXIS_ORDERS, affine_of, filled, grids

from lumbarseg.anatomy import Kind, by_label, by_name, labels_of
from lumbarseg.errors import FileError, GridError
from lumbarseg.files import nifti, read_exam, read_image, read_labels, write_image, write_labels
from lumbarseg.volume import Grid, Volume

SAGITTAL = affine_of("PIL", (0.6, 0.6, 4.4), (30, 120, 200))


def saved(path: Path, array: np.ndarray, affine: np.ndarray | None, kind: type = nib.Nifti1Image) -> Path:
    nib.save(kind(array, affine), path)
    return path


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_what_is_written_is_read_back_by_us_and_by_nibabel(
    grid: Grid, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("nifti") / "exam.nii.gz"
    image, labels = filled(grid), filled(grid, dtype=np.uint8)

    write_image(image, path)
    again = read_image(path)
    assert again.array.dtype == np.float32
    assert np.array_equal(again.array, image.array)
    assert again.grid.same_as(grid, 1e-4)

    write_labels(labels, path)
    assert np.array_equal(read_labels(path).array, labels.array)
    theirs = nib.load(path)
    assert np.array_equal(np.asanyarray(theirs.dataobj), labels.array)
    assert np.abs(theirs.affine - grid.affine).max() < 1e-4


@pytest.mark.parametrize("axes", AXIS_ORDERS)
def test_sform_and_qform_say_the_same_to_every_reader(axes: str, tmp_path: Path) -> None:
    grid = Grid((7, 5, 3), affine_of(axes, (0.6, 0.7, 4.4), (-80, 30, 500)))
    volume = filled(grid, dtype=np.uint8)
    write_labels(volume, tmp_path / "exam_labels.nii.gz")

    header = nib.load(tmp_path / "exam_labels.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    assert np.abs(header.get_sform() - header.get_qform()).max() < 1e-4
    theirs = SimpleITK.ReadImage(str(tmp_path / "exam_labels.nii.gz"))
    assert np.array_equal(ras_array(theirs), volume.array)
    assert np.abs(ras_affine(theirs) - grid.affine).max() < 1e-3


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
        array[position, 0, 0] = by_name(name).label
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
    assert red == [row["colour"][0] for row in table] == [by_label(row["value"]).colour[0] for row in table]
    assert {row["value"]: row["SCT"] for row in table}[5] == "49668003"


def test_a_table_of_other_meaning_is_not_given_our_names(tmp_path: Path) -> None:
    write_labels(Volume(np.ones((3, 3, 3), np.uint8), np.eye(4)), tmp_path / "a.nii.gz", table=())
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


def test_the_suffix_lies(tmp_path: Path) -> None:
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
    assert exam.about["format"] == ("NIfTI-1" if kind is nib.Nifti1Image else "NIfTI-2")


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


@pytest.mark.parametrize("array", [np.full((3, 3, 3), 0.5), np.full((3, 3, 3), 256), np.full((3, 3, 3), -1)])
def test_grey_values_are_not_labels(array: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", array.astype(np.float32), SAGITTAL)
    with pytest.raises(FileError, match=r"a\.nii\.gz: holds grey values, not labels"):
        read_labels(path)
    with pytest.raises(FileError, match="whole numbers from 0 to 255"):
        write_labels(Volume(array, SAGITTAL), tmp_path / "b.nii.gz")
    assert not (tmp_path / "b.nii.gz").exists()


def set_header(path: Path, **values: object) -> Path:
    """Writes header fields without the checks of a library."""
    content = bytearray(path.read_bytes())
    header = np.frombuffer(bytes(content[:348]), nib.Nifti1Header.template_dtype).copy()
    for name, value in values.items():
        header[name] = value
    content[:348] = header.tobytes()
    path.write_bytes(content)
    return path


def test_sform_goes_before_qform_and_their_disagreement_is_told(tmp_path: Path) -> None:
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


def test_without_orientation_the_place_is_nibabels_and_it_is_told(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.header.set_zooms((4.0, 0.6, 0.7))
    path = tmp_path / "a.nii"
    nib.save(image, path)
    exam = read_exam(path)
    assert np.abs(exam.volume.affine - nib.load(path).affine).max() < 1e-5
    assert "no orientation" in exam.notes[0]


def test_the_published_chu_header_reads_as_it_stands(real: Path) -> None:
    exam = read_exam(real / "chu" / "Img_02.nii.gz")
    assert exam.volume.grid.axes == "RAS"
    assert exam.volume.grid.spacing == pytest.approx((2, 1.25, 1.25))


def test_every_kind_of_real_exam_reads_as_nibabel_reads_it(real: Path) -> None:
    for path in [*sorted(real.glob("*/*.nii.gz"))[::17], *sorted(real.glob("spider_*/t*/*.nii.gz"))[::29]]:
        theirs, exam = nib.load(path), read_exam(path)
        assert np.array_equal(exam.volume.array, theirs.get_fdata(dtype=np.float32)), path
        assert np.abs(exam.volume.affine - theirs.affine).max() < 1e-4, path


@pytest.mark.parametrize("shape", [(12, 14), (12, 14, 1), (1, 12, 14), (12, 1, 14), (12, 14, 3, 1), (12, 14, 3, 1, 1)])
def test_single_slices_and_single_volumes_are_exams(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    exam = read_exam(saved(tmp_path / "a.nii.gz", array, SAGITTAL))
    assert exam.volume.array.shape == (*shape, 1)[:3]
    assert np.array_equal(exam.volume.array.ravel(), array.ravel())
    assert exam.volume.grid.spacing == pytest.approx((0.6, 0.6, 4.4))


def test_a_slice_without_thickness_gets_one_and_a_note(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.zeros((12, 14, 1), np.int16), SAGITTAL)
    header = nib.load(path).header
    set_header(path, sform_code=0, qform_code=1, pixdim=[header["pixdim"][0], 0.6, 0.6, 0, 0, 0, 0, 0])
    exam = read_exam(path)
    assert exam.volume.grid.spacing == pytest.approx((0.6, 0.6, 4.0))
    assert exam.notes == ["one slice without a thickness in its header: 4 mm assumed"]
    direction = exam.volume.affine[:3, 2] / 4
    assert abs(direction @ (SAGITTAL[:3, 2] / 4.4)) == pytest.approx(1, abs=1e-4)


def test_one_volume_of_a_4d_file_is_chosen(tmp_path: Path) -> None:
    array = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6).astype(np.int16)
    path = saved(tmp_path / "a.nii.gz", array, SAGITTAL)
    with pytest.raises(FileError, match=r"a\.nii\.gz: 4-D, 6 volumes; choose one with --volume 0 to 5"):
        read_exam(path)
    with pytest.raises(FileError, match="no volume 6; it holds 6, counted from 0"):
        read_exam(path, volume=6)
    for volume in (0, 3, 5):
        assert np.array_equal(read_exam(path, volume=volume).volume.array, array[..., volume])


def test_five_axes_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", np.zeros((3, 4, 5, 2, 3), np.int16), SAGITTAL)
    with pytest.raises(FileError, match="5-D, several numbers or colours in a voxel; save one"):
        read_exam(path)


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("dtype", "message"), [(RGB, "holds colours, not grey values"), (np.complex64, "holds complex numbers")]
)
def test_colours_and_complex_numbers_are_refused(dtype: np.dtype, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), dtype), SAGITTAL)
    for read in (read_image, read_labels):
        with pytest.raises(FileError, match=rf"a\.nii\.gz: {message}"):
            read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_number(value: float, tmp_path: Path) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[0, :2, 0] = value
    path = saved(tmp_path / "a.nii.gz", array, SAGITTAL)
    with pytest.raises(FileError, match=r"a\.nii\.gz: holds NaN or infinite values in 2 voxels"):
        read_image(path)
    with pytest.raises(FileError, match="holds NaN or infinite values in 2 voxels"):
        read_labels(path)


def test_a_constant_image_is_read(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "a.nii.gz", np.full((3, 4, 5), 7, np.int16), SAGITTAL)).array.min() == 7


@pytest.mark.parametrize("zooms", [(0, 0.6, 0.6), (4, -0.6, 0.6), (4, 0.6, np.nan), (4, 0.6, np.inf)])
@pytest.mark.parametrize("qform_code", [0, 1])
def test_zero_and_negative_spacing_are_refused(zooms: tuple[float, ...], qform_code: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), np.eye(4))
    set_header(path, sform_code=0, qform_code=qform_code, pixdim=[1, *zooms, 0, 0, 0, 0])
    with pytest.raises(GridError, match=r"a\.nii: its spacing is .* mm; every axis needs more than 0"):
        read_exam(path)


def test_a_damaged_qform_does_not_matter_beside_a_sform(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL)
    set_header(path, qform_code=1, quatern_b=3)
    assert read_exam(path).notes == ["its qform is damaged: the sform was used"]
    set_header(path, sform_code=0)
    with pytest.raises(GridError, match=r"a\.nii: its qform is no rotation"):
        read_exam(path)


@pytest.mark.parametrize("row", [[0, 0, 0, 5], [1, 0, 0, 0], [np.nan, 0, 0, 0], [0, np.inf, 0, 0]])
def test_a_singular_affine_is_refused(row: list[float], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), np.eye(4))
    set_header(path, srow_x=[1, 0, 0, 0], srow_y=row, srow_z=[0, 0, 1, 0])
    with pytest.raises(GridError, match=r"a\.nii: the affine is .*; repair its header"):
        read_exam(path)


@pytest.mark.parametrize("spacing", [0.0005, 900.0])
def test_voxels_that_fit_no_person_are_refused(spacing: float, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16), np.diag([spacing, spacing, spacing, 1]))
    with pytest.raises(GridError, match="cannot be an exam of a person"):
        read_exam(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_truncated_files_are_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(filled(Grid((30, 30, 30), SAGITTAL)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileError, match=r"a\.nii.*: truncated.*copy or export it again"):
        read_exam(path)


def test_a_gzip_file_without_its_end_or_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(filled(Grid((30, 30, 30), SAGITTAL)), path)
    content = path.read_bytes()
    path.write_bytes(content[:-6])
    with pytest.raises(FileError, match="truncated"):
        read_exam(path)
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(FileError, match=r"truncated|damaged"):
        read_exam(path)


@pytest.mark.parametrize("packed", [False, True])
def test_claims_of_more_than_the_file_holds_are_refused_before_memory_is_taken(packed: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL)
    for dim, message in (
        ([3, 30000, 30000, 30000, 1, 1, 1, 1], "too large for an exam"),
        ([3, 1000, 1000, 1000, 1, 1, 1, 1], "truncated: its header claims 1000 x 1000 x 1000 voxels, 2,000.0 MB"),
    ):
        set_header(path, dim=dim)
        shown = tmp_path / "b.nii.gz"
        shown.write_bytes(gzip.compress(path.read_bytes()) if packed else path.read_bytes())
        with pytest.raises(FileError, match=rf"b\.nii\.gz: .*{message}"):
            read_exam(shown)


@pytest.mark.parametrize(
    "dim", [[0, 1, 1, 1, 1, 1, 1, 1], [9, 1, 1, 1, 1, 1, 1, 1], [3, 4, 0, 5, 1, 1, 1, 1], [3, 4, -5, 5, 1, 1, 1, 1]]
)
def test_impossible_sizes_are_refused(dim: list[int], tmp_path: Path) -> None:
    path = set_header(saved(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL), dim=dim)
    with pytest.raises(FileError, match=r"a\.nii: its header names"):
        read_exam(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("datatype", 999, "voxel type 999 is unknown"),
        ("datatype", 0, "voxel type 0 is unknown"),
        ("vox_offset", np.nan, "its voxels begin at byte nan"),
        ("magic", b"ni1", "half of a .hdr/.img pair"),
        ("magic", b"", "an Analyze or damaged NIfTI header"),
    ],
)
def test_damaged_headers_are_refused(field: str, value: object, message: str, tmp_path: Path) -> None:
    path = set_header(saved(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL), **{field: value})
    with pytest.raises(FileError, match=rf"a\.nii: .*{message}"):
        read_exam(path)


def test_a_gzip_file_with_something_else_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b"hello " * 200))
    with pytest.raises(FileError, match=r"a\.nii\.gz: no NIfTI file inside"):
        read_exam(path)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 347), value=st.integers(0, 255))
def test_no_byte_of_a_header_makes_anything_but_a_clear_refusal(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.nii"
    if not path.exists() or path.stat().st_size != 352 + 240:
        saved(path, np.arange(120, dtype=np.int16).reshape(4, 5, 6), SAGITTAL)
    content = bytearray(path.read_bytes())
    content[position] = value
    damaged = path.with_name("fuzzed_damaged.nii")
    damaged.write_bytes(content)
    refusal = None
    try:
        read_exam(damaged)
    except (FileError, GridError) as error:
        refusal = str(error)
    assert refusal is None or (refusal.startswith(str(damaged)) and "\n" not in refusal)


def test_inputs_are_not_changed(tmp_path: Path) -> None:
    volume = filled(Grid((4, 5, 6), SAGITTAL), dtype=np.uint8)
    volume.array.setflags(write=False)
    write_image(volume, tmp_path / "a.nii.gz")
    write_labels(volume, tmp_path / "b.nii.gz")
    assert np.array_equal(read_labels(tmp_path / "b.nii.gz").array, volume.array)


@pytest.mark.parametrize("name", ["a.mha", "a", "a.nii.gz.txt"])
def test_other_suffixes_are_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"the name must end in \.nii\.gz or \.nii"):
        write_image(filled(Grid((3, 3, 3), SAGITTAL)), tmp_path / name)


def test_labels_of_the_whole_table_survive(tmp_path: Path) -> None:
    values = [label for kind in Kind for label in labels_of(kind)]
    write_labels(Volume(np.array(values, np.uint8).reshape(1, 1, -1), np.eye(4)), tmp_path / "a.nii.gz")
    table = json.loads(nib.load(tmp_path / "a.nii.gz").header.extensions[1].get_content())["labels"]
    assert sorted(values) == [row["value"] for row in table]
    assert nifti.recognised(gzip.decompress((tmp_path / "a.nii.gz").read_bytes())[:348])
