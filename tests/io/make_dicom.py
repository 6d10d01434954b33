"""Write DICOM files as a scanner would export them, from a volume in RAS+ axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from lumbarseg.volume import Array, Volume

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
STUDY = generate_uid(entropy_srcs=["study"])


@dataclass(frozen=True)
class Protocol:
    """How a series describes itself. tags: further DICOM attributes by keyword. study: its UID."""

    description: str = "T2_TSE_SAG"
    number: int = 3
    modality: str = "MR"
    study: str = STUDY
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "NORM")
    tags: dict[str, Any] = field(default_factory=dict)


T2 = Protocol(tags={"EchoTime": 101, "RepetitionTime": 3500, "MagneticFieldStrength": 1.5, "Manufacturer": "MAKER"})
T1 = Protocol("T1_TSE_SAG", 2, tags={"EchoTime": 11, "RepetitionTime": 600})
AXIAL = Protocol("T2_TSE_TRA", 4, tags={"EchoTime": 101, "RepetitionTime": 4200})
LOCALISER = Protocol("localizer", 1, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))


def write_series(folder: Path, volume: Volume, protocol: Protocol = T2, shuffle: int = 0) -> list[Path]:
    """Write one file for each slice of `volume`, whose axes are (column, row, slice); return them in slice order.

    volume.array: (I, J, K) int16 or uint16. shuffle: seed of the file names, which do not show the order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(shuffle).permutation(volume.array.shape[2])
    paths = []
    for index, name in enumerate(names):
        dataset = _slice(volume, index, protocol)
        paths.append(folder / f"{protocol.number:02d}_{name:04d}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _slice(volume: Volume, index: int, protocol: Protocol) -> Dataset:
    affine: Array = _LPS_TO_RAS @ volume.affine
    spacing = volume.grid.spacing
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage if protocol.modality == "CT" else MRImageStorage
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[protocol.study, protocol.description, str(protocol.number)])
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[dataset.SeriesInstanceUID, str(index)])
    dataset.StudyInstanceUID = protocol.study
    dataset.PatientName, dataset.PatientID = "Somebody^Secret", f"ID-{protocol.study[-6:]}"
    dataset.PatientBirthDate, dataset.StudyDate = "19600101", "20200202"
    dataset.Modality, dataset.ImageType = protocol.modality, list(protocol.image_type)
    dataset.SeriesDescription, dataset.SeriesNumber = protocol.description, protocol.number
    dataset.InstanceNumber = index + 1
    pixels = np.ascontiguousarray(volume.array[:, :, index].T)
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(pixels.dtype == np.int16)
    dataset.PixelData = pixels.tobytes()
    dataset.ImageOrientationPatient = _decimals(*affine[:3, 0] / spacing[0], *affine[:3, 1] / spacing[1])
    dataset.ImagePositionPatient = _decimals(*(affine[:3, 3] + index * affine[:3, 2]))
    dataset.PixelSpacing = _decimals(spacing[1], spacing[0])
    dataset.SliceThickness = dataset.SpacingBetweenSlices = f"{spacing[2]:.9f}"[:16]
    for keyword, value in protocol.tags.items():
        setattr(dataset, keyword, value)
    return dataset


def _decimals(*values: float) -> list[str]:
    """Return numbers as decimal strings of at most 16 characters, as the standard requires."""
    return [f"{value:.12f}"[:16] for value in values]


def write_enhanced(path: Path, stacks: Sequence[tuple[Volume, dict[str, Any]]], shuffle: int = 0) -> Path:
    """Write one enhanced MR object of all slices of `stacks`, each with EchoTime, StackID or TimeIndex of its frames.

    The frames are in random order in the file; only the functional groups and the dimensions give their positions.
    """
    frames = [(stack, index) for stack in range(len(stacks)) for index in range(stacks[stack][0].array.shape[2])]
    frames = [frames[at] for at in np.random.default_rng(shuffle).permutation(len(frames))]
    dataset = _slice(stacks[0][0], 0, T2)
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path), str(shuffle)])
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        delattr(dataset, keyword)
    del dataset.SpacingBetweenSlices, dataset.RepetitionTime
    dataset.NumberOfFrames = len(frames)
    dataset.SharedFunctionalGroupsSequence = [_item(MRTimingAndRelatedParametersSequence=[_item(RepetitionTime=3500)])]
    dataset.PerFrameFunctionalGroupsSequence = [_frame(*stacks[stack], stack, index) for stack, index in frames]
    dataset.PixelData = b"".join(stacks[stack][0].array[:, :, index].T.tobytes() for stack, index in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _frame(volume: Volume, attributes: dict[str, Any], stack: int, index: int) -> Dataset:
    plain = _slice(volume, index, T2)
    content = _item(StackID=str(attributes.get("StackID", 1)), DimensionIndexValues=[stack + 1, index + 1])
    if "TimeIndex" in attributes:
        content.TemporalPositionIndex = attributes["TimeIndex"]
    frame = _item(
        PlanePositionSequence=[_item(ImagePositionPatient=plain.ImagePositionPatient)],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=plain.ImageOrientationPatient)],
        PixelMeasuresSequence=[_item(PixelSpacing=plain.PixelSpacing, SliceThickness=plain.SliceThickness)],
        FrameContentSequence=[content],
        PixelValueTransformationSequence=[_item(RescaleSlope=attributes.get("Slope", 1), RescaleIntercept=0)],
    )
    if "EchoTime" in attributes:
        frame.MREchoSequence = [_item(EffectiveEchoTime=attributes["EchoTime"])]
    return frame


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
