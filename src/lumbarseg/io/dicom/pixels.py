"""Decode the pixels of DICOM files in any transfer syntax, and explain why they cannot be decoded."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from ..file_access import open_for_reading

_DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"
_MAX_INFLATED_BYTES = 2**30
_CHUNK = 2**20
_PIXEL_DEFAULTS = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
_INSTALL_HINT = "pip install 'lumbarseg[dicom]'"


def decode_frames(path: Path, dataset: Any, frames: Sequence[int]) -> Iterator[Array]:
    """Yield the stored numbers of the frames with these indices, each (rows, columns); `FileError` names `path`.

    Bits that are not part of the number (DICOM PS3.5 8.1) are cleared, and its sign is extended into them.
    """
    from pydicom.pixels.utils import iter_pixels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for pixels in iter_pixels(dataset, indices=frames, correct_unused_bits=False):
                yield _clear_unused_bits(dataset, np.asarray(pixels))
        except Exception as error:  # a damaged file makes pydicom and its decoders raise almost anything
            raise FileError(f"{path}: {_explain_decode_failure(dataset)}") from error


def check_inflated_size(path: Path, stream: BinaryIO) -> None:
    """Raise `FileError` if a deflated file, which is inflated as a whole, expands too far; rewind the stream."""
    head = stream.read(1024)
    start = 132 * (head[128:132] == b"DICM")  # of the length of the file meta information, which is not deflated
    if _DEFLATED_SYNTAX in head and head[start : start + 4] == b"\2\0\0\0":
        stream.seek(start + 12 + int.from_bytes(head[start + 8 : start + 12], "little"))
        inflate, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while (chunk := inflate.unconsumed_tail or stream.read(_CHUNK)) and not inflate.eof:
            try:
                count += len(inflate.decompress(chunk, _CHUNK))
            except zlib.error as error:
                raise FileError(f"{path}: damaged DICOM file; copy or export it again") from error
            if count > _MAX_INFLATED_BYTES:
                raise FileError(f"{path}: a deflated DICOM file that grows above {_MAX_INFLATED_BYTES / 1e9:.1f} GB")
    stream.seek(0)


def read_dataset(path: Path) -> Any:
    """Read a DICOM file as a pydicom data set, pixels not yet decoded; raise `FileError` if it is damaged."""
    import pydicom
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with warnings.catch_warnings(), open_for_reading(path) as stream:
        warnings.simplefilter("ignore")
        check_inflated_size(path, stream)
        try:
            dataset = pydicom.dcmread(stream, force=True)
            syntax = dataset.file_meta.get("TransferSyntaxUID")
        except Exception as error:  # a damaged file makes pydicom raise almost anything
            raise FileError(f"{path}: damaged DICOM file; copy or export it again") from error
    if syntax is None:  # a file from before DICOM files had a preamble
        is_implicit, is_little_endian = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    elif not isinstance(syntax, UID):
        raise FileError(f"{path}: damaged DICOM file: it names no transfer syntax; copy or export it again")
    try:
        _fill_pixel_defaults(dataset)
    except Exception as error:  # reading a damaged value makes pydicom raise almost anything
        raise FileError(f"{path}: damaged DICOM file; copy or export it again") from error
    return dataset


def _fill_pixel_defaults(dataset: Any) -> None:
    """Add the attributes that describe pixels where other software dropped them, with their usual values."""
    for keyword, value in _PIXEL_DEFAULTS.items():
        if dataset.get(keyword) in (None, ""):
            setattr(dataset, keyword, value)
    if not dataset.get("BitsAllocated") and "PixelData" in dataset:
        count = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
        bits = 8 * len(dataset.PixelData) // max(count * int(dataset.SamplesPerPixel), 1)
        if bits in (8, 16, 32) and not dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.BitsAllocated = bits
    if dataset.get("BitsAllocated"):
        dataset.BitsStored = dataset.get("BitsStored") or dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1 if dataset.get("HighBit") is None else dataset.HighBit


def _clear_unused_bits(dataset: Any, pixels: Array) -> Array:
    if pixels.dtype.kind not in "iu" or pixels.ndim != 2:
        return pixels
    width = 8 * pixels.dtype.itemsize
    stored = min(int(dataset.get("BitsStored") or width), width)
    high = int(dataset.get("HighBit", stored - 1))
    if dataset.file_meta.TransferSyntaxUID.is_compressed or not stored - 1 <= high < width:
        high = stored - 1  # decoders put the number into the lowest bits
    return (pixels << (width - 1 - high)) >> (width - stored)


def is_padding(dataset: Any, pixels: Array) -> Any:
    """Return which stored pixels the data set declares to be padding (DICOM PS3.3 C.7.5.1.1.2); False for none."""
    try:
        value = int(dataset.PixelPaddingValue)
        limits = sorted((value, int(dataset.get("PixelPaddingRangeLimit", value))))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False
    return (pixels >= limits[0]) & (pixels <= limits[1])


def _explain_decode_failure(dataset: Any) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return "truncated: it holds no pixels; copy or export it again"
    if not dataset.get("BitsAllocated"):
        return "it has no BitsAllocated, without which its pixels cannot be decoded; export it again"
    if syntax.is_private:
        return private_syntax_message(str(syntax))
    if not syntax.is_transfer_syntax or syntax.is_compressed:
        return _explain_compression_failure(syntax)
    return "its pixels are truncated or damaged; copy or export it again"


def private_syntax_message(syntax: str) -> str:
    """Return the error message for a transfer syntax that is private to a manufacturer."""
    return (
        f"stored in the private transfer syntax {syntax}, which only its manufacturer's programs read; export it from "
        "there as Explicit VR Little Endian"
    )


def _explain_compression_failure(syntax: Any) -> str:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return f"its pixels are compressed as {syntax.name}, which is not supported; export it without compression"
    if any(name.startswith("gdcm") for name in decoder.missing_dependencies):
        return (
            f"its pixels are compressed ({syntax.name}): {_INSTALL_HINT} reads them, or export it without compression"
        )
    if decoder.is_available:
        return f"its pixels ({syntax.name}) are truncated or damaged; copy or export it again"
    return f"its pixels are compressed ({syntax.name}), which is not supported; export it without compression"
