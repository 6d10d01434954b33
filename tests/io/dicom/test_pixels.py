"""Pixels of DICOM files in every transfer syntax: the stored numbers, as GDCM reads them, or one clear error."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)
from tests.grids import affine_of
from tests.io.itk import ras_array
from tests.io.make_dicom import write_series

from lumbarseg.errors import FileError
from lumbarseg.io import read_exam
from lumbarseg.volume import Array, Volume

SimpleITK = pytest.importorskip("SimpleITK")

gdcm = pytest.importorskip("gdcm")

AFFINE = affine_of("PIR", (0.7, 0.7, 4.0), (10, 20, 30))
SYNTAXES = {
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "RLE": gdcm.TransferSyntax.RLELossless,
}


def smooth(low: int, high: int, dtype: type = np.int16) -> Volume:
    i, j, k = np.indices((32, 28, 6))
    array = low + (high - low) * (np.sin(i / 5) * np.cos(j / 4 + k) + 1) / 2
    return Volume(array.astype(dtype), AFFINE)


def compress_all(folder: Path, syntax: int) -> None:
    """Compress every file of a folder with GDCM."""
    for path in sorted(folder.iterdir()):
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()


def set_in_all(folder: Path, **values: object) -> None:
    """Set values in every file of a folder."""
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def read_with_gdcm(folder: Path) -> Array:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return ras_array(reader.Execute())


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize(("low", "dtype", "bits"), [(0, np.uint16, 12), (0, np.int16, 16), (-900, np.int16, 16)])
def test_lossless_compression_gives_the_same_pixels(
    name: str, low: int, dtype: type, bits: int, tmp_path: Path
) -> None:
    volume = smooth(low, 3000, dtype)
    write_series(tmp_path, volume)
    set_in_all(tmp_path, BitsStored=bits, HighBit=bits - 1)
    compress_all(tmp_path, SYNTAXES[name])
    assert pydicom.dcmread(next(tmp_path.iterdir())).file_meta.TransferSyntaxUID.is_compressed
    array = read_exam(tmp_path).volume.array
    assert np.array_equal(array, volume.array)
    assert np.array_equal(array, read_with_gdcm(tmp_path))


def test_jpeg_baseline_of_eight_bits_is_read(tmp_path: Path) -> None:
    volume = smooth(0, 255, np.uint8)
    write_series(tmp_path, Volume(volume.array.astype(np.uint16), AFFINE))
    for path in sorted(tmp_path.iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.PixelData = dataset.PixelData[::2]
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)
    compress_all(tmp_path, gdcm.TransferSyntax.JPEGBaselineProcess1)
    assert pydicom.dcmread(next(tmp_path.iterdir())).file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    array = read_exam(tmp_path).volume.array
    assert np.abs(array - volume.array).max() <= 8
    assert np.array_equal(array, read_with_gdcm(tmp_path))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("with_preamble", [True, False])
def test_uncompressed_pixels_are_read_in_any_byte_order(syntax: str, with_preamble: bool, tmp_path: Path) -> None:
    volume = smooth(-900, 3000)
    for path in write_series(tmp_path, volume):
        dataset = pydicom.dcmread(path)
        little = syntax != ExplicitVRBigEndian
        if not little:
            dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        fresh = pydicom.Dataset()
        fresh.update(dataset)
        fresh.file_meta = dataset.file_meta
        if with_preamble:
            fresh.preamble = b"\0" * 128
        fresh.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little)
    assert np.array_equal(read_exam(tmp_path).volume.array, volume.array)


def test_unused_bits_are_cleared_and_the_sign_extended(tmp_path: Path) -> None:
    volume = smooth(-900, 1500)
    for path in write_series(tmp_path, volume):
        dataset = pydicom.dcmread(path)
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = (dataset.pixel_array.view(np.uint16) & 0x0FFF | 0x5000).tobytes()  # an overlay above
        dataset.save_as(path)
    assert np.array_equal(read_exam(tmp_path).volume.array, volume.array)


def test_numbers_in_the_upper_bits_are_shifted_down(tmp_path: Path) -> None:
    volume = smooth(0, 4000, np.uint16)
    for path in write_series(tmp_path, volume):
        dataset = pydicom.dcmread(path)
        dataset.BitsStored, dataset.HighBit = 12, 15
        dataset.PixelData = (dataset.pixel_array << 4 | 0x3).tobytes()
        dataset.save_as(path)
    assert np.array_equal(read_exam(tmp_path).volume.array, volume.array)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    volume = smooth(0, 3000, np.uint16)
    write_series(tmp_path, Volume((4095 - volume.array).astype(np.uint16), AFFINE))
    set_in_all(tmp_path, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    array = read_exam(tmp_path).volume.array
    assert np.array_equal(array - array.min(), volume.array.astype(np.float32) - volume.array.min())


@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (-32768, -2000), (5000, 32767), (0, None)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_declared_padding_is_dark(value: int, limit: int | None, photometric: str, tmp_path: Path) -> None:
    volume = smooth(10, 3000)
    array = volume.array.copy()
    array[:4] = value
    write_series(tmp_path, Volume(array, AFFINE))
    set_in_all(tmp_path, PhotometricInterpretation=photometric)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", "SS", value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
        dataset.save_as(path)
    read = read_exam(tmp_path).volume.array
    tissue = volume.array[4:].astype(np.float32)
    expected = tissue.max() + tissue.min() - tissue if photometric == "MONOCHROME1" else tissue
    assert np.array_equal(read[4:], expected)
    assert (read[:4] == expected.min()).all()


def test_a_slope_of_zero_and_a_private_scale_are_ignored(tmp_path: Path) -> None:
    volume = smooth(0, 3000)
    for path in write_series(tmp_path, volume):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0, 0
        block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", 0.003)
        dataset.save_as(path)
    assert np.array_equal(read_exam(tmp_path).volume.array, volume.array)


def test_a_private_transfer_syntax_is_refused_by_its_name(tmp_path: Path) -> None:
    for path in write_series(tmp_path, smooth(0, 3000)):
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"))
    with pytest.raises(FileError, match=r"private transfer syntax 1\.2\.840\.113619\.5\.2, which only its"):
        read_exam(tmp_path)


def test_private_files_that_cannot_even_be_parsed_are_refused_by_name(tmp_path: Path) -> None:
    for path in write_series(tmp_path, smooth(0, 3000)):
        content = path.read_bytes()
        start = content.index(b"\x08\x00\x08\x00CS")
        path.write_bytes(
            content[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0")
            + np.random.default_rng(0).bytes(3000)
        )
    with pytest.raises(FileError, match=r"private transfer syntax 1\.2\.840\.113619\.5\.2"):
        read_exam(tmp_path)


@pytest.mark.parametrize("name", SYNTAXES)
def test_damaged_compressed_pixels_are_refused(name: str, tmp_path: Path) -> None:
    write_series(tmp_path, smooth(0, 3000, np.uint16))
    compress_all(tmp_path, SYNTAXES[name])
    path = sorted(tmp_path.iterdir())[2]
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pydicom.encaps.encapsulate([b"no image" * 9])
    dataset.save_as(path)
    with pytest.raises(FileError, match=rf"{path.name}: its pixels .* are truncated or damaged"):
        read_exam(tmp_path)


def test_without_decoders_the_error_names_the_extra_to_install(tmp_path: Path) -> None:
    write_series(tmp_path, smooth(0, 3000, np.uint16))
    compress_all(tmp_path, gdcm.TransferSyntax.JPEGLSLossless)
    code = (
        "import sys; sys.modules['gdcm'] = sys.modules['jpeg_ls'] = None\n"
        "from lumbarseg.io import read_exam\n"
        f"read_exam({str(tmp_path)!r})"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "are compressed (JPEG-LS Lossless Image Compression): pip install 'lumbarseg[dicom]' reads" in process.stderr


def test_a_deflated_file_that_grows_too_far_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lumbarseg.io.dicom.pixels._MAX_INFLATED_BYTES", 2**22)
    path = write_series(tmp_path, smooth(0, 3000))[0]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content_inflated = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    path.write_bytes(content[:start] + compressor.compress(content_inflated + b"\0" * 2**24) + compressor.flush())
    with pytest.raises(FileError, match=r"a deflated DICOM file that grows above"):
        read_exam(tmp_path)


def test_a_file_of_a_series_without_pixels_is_refused(tmp_path: Path) -> None:
    path = write_series(tmp_path, smooth(0, 3000))[1]
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(path)
    with pytest.raises(FileError, match=rf"{path.name}: truncated: it holds no pixels"):
        read_exam(tmp_path)


@pytest.mark.parametrize("kind", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_a_scanner_slice_is_the_same_in_every_transfer_syntax(kind: str, tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    for name in ("MR_small", f"MR_small_{kind}"):
        (tmp_path / name).mkdir()
        shutil.copy(str(get_testdata_file(f"{name}.dcm", download=False)), tmp_path / name)
    plain, compressed = read_exam(tmp_path / "MR_small"), read_exam(tmp_path / f"MR_small_{kind}")
    assert plain.volume.array.shape == (64, 64, 1) and np.ptp(plain.volume.array) > 100
    assert np.array_equal(compressed.volume.array, plain.volume.array)
    assert np.array_equal(compressed.volume.affine, plain.volume.affine)
