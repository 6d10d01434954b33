"""Check that another program reads every voxel and code of a DICOM Segmentation: python -m benchmarks.dicom.

A phantom is written as scanners export exams, in several orientations and orders of files, and once as one multi-frame
file. `lumbarseg segment` segments each; dcmqi's segimage2itkimage reads the DICOM objects. Its voxels are compared with
the NIfTI label map of the same result by position, its codes and colours with `anatomy.STRUCTURES`.
Writes benchmarks/results/dicom.json; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from tests.io import dcmqi
from tests.io.make_dicom import Protocol, write_enhanced, write_series

from benchmarks import machine
from lumbarseg.anatomy import structure_by_name
from lumbarseg.batch.demo import synthetic_exam as demo_exam
from lumbarseg.io import read_exam, read_labels
from lumbarseg.resampling import reorient
from lumbarseg.terminology import CATEGORY, Code, structure_codes
from lumbarseg.volume import Array, Volume

Row = dict[str, Any]
RESULTS = Path(__file__).resolve().parent / "results" / "dicom.json"
FRAME = generate_uid(entropy_srcs=["frame of reference"])
OUTPUT_FORMATS = {"dicom-seg": ".seg.dcm", "dicom-labelmap": ".labelmap.dcm"}
_KEYS = (  # of dcmqi, in the order of _codes
    "SegmentedPropertyCategoryCodeSequence",
    "SegmentedPropertyTypeCodeSequence",
    "SegmentedPropertyTypeModifierCodeSequence",
    "AnatomicRegionSequence",
)


@dataclass(frozen=True)
class DicomVariant:
    """How the phantom is written.

    axes : directions of columns, rows and slices
    tilt : of the patient, degrees
    """

    name: str
    axes: str
    tilt: float = 0.0
    enhanced: bool = False


DICOM_VARIANTS = (
    DicomVariant("sagittal, right to left", "PIL"),
    DicomVariant("sagittal, left to right", "PIR"),
    DicomVariant("sagittal, mirrored", "AIL"),
    DicomVariant("sagittal, feet up", "PSL"),
    DicomVariant("sagittal, oblique by 17 degrees", "PIL", 17.0),
    DicomVariant("coronal", "LIP"),
    DicomVariant("sagittal, one multi-frame file", "PIL", 5.0, True),
)


def write_dicom(image: Volume, variant: DicomVariant, folder: Path) -> Path:
    """Write the phantom as DICOM, files or frames in random order."""
    reoriented = reorient(image, variant.axes)
    c, s = np.cos(np.deg2rad(variant.tilt)), np.sin(np.deg2rad(variant.tilt))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    volume = Volume(np.rint(reoriented.array).astype(np.int16), turn @ reoriented.affine)
    if not variant.enhanced:
        write_series(folder, volume, Protocol(tags={"FrameOfReferenceUID": FRAME}), shuffle=len(variant.name))
        return folder
    path = write_enhanced(folder / "exam.dcm", [(volume, {"EchoTime": 100.0})], shuffle=1)
    dataset = pydicom.dcmread(path)
    dataset.FrameOfReferenceUID = FRAME
    dataset.save_as(path)
    return folder


def check_output(study: Path, output_format: str, folder: Path) -> Row:
    """Segment a study and compare the output that dcmqi reads with the label map and the codes."""
    out = folder / "out"
    options = [study, "-o", out, "--format", f"nifti,{output_format}", "--json"]
    command = [sys.executable, "-m", "lumbarseg", "segment", *map(str, options)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode not in (0, 3):
        raise SystemExit(process.stderr)
    labels = read_labels(out / f"{study.name}_labels.nii.gz")
    grid = read_exam(study).volume.grid
    if not grid.same_as(labels.grid):
        raise SystemExit(f"{study.name}: the label map does not lie on the exam")
    numbers, segments = dcmqi.read(out / f"{study.name}{OUTPUT_FORMATS[output_format]}", folder / "dcmqi", grid)
    return _compared(labels.array, numbers, segments)


def _compared(labels: Array, numbers: Array, segments: Sequence[Row]) -> Row:
    values = {item["labelID"]: structure_by_name(item["SegmentLabel"]).label for item in segments}
    table = np.zeros(max(values) + 1, np.uint8)
    for number, value in values.items():
        table[number] = value
    codes = [
        (_code(item.get(key)), expected and ("SCT", expected.value, expected.meaning))
        for item in segments
        for key, expected in zip(_KEYS, _codes(item["SegmentLabel"]), strict=True)
    ]
    colours = [
        np.subtract(item["recommendedDisplayRGBValue"], structure_by_name(item["SegmentLabel"]).colour)
        for item in segments
    ]
    return {
        "segments": len(segments),
        "segments_missing": len(set(np.unique(labels)) - {0} - set(values.values())),
        "voxels": int(np.count_nonzero(labels)),
        "voxels_that_differ": int(np.count_nonzero(table[numbers] != labels)),
        "codes": sum(expected is not None for _, expected in codes),
        "codes_that_differ": sum(dcmqi_code != expected for dcmqi_code, expected in codes),
        "colours_off_by": int(np.abs(colours).max()),
    }


def _codes(name: str) -> tuple[Code | None, ...]:
    codes = structure_codes(structure_by_name(name))
    return CATEGORY, codes.type, codes.modifier, codes.region


def _code(item: Row | None) -> tuple[str, ...] | None:
    return item and (item["CodingSchemeDesignator"], item["CodeValue"], item["CodeMeaning"])


def run(ways: Sequence[DicomVariant], forms: Sequence[str]) -> list[Row]:
    """Check each variant in each format."""
    image, rows = demo_exam(193).image, []
    for way in ways:
        with tempfile.TemporaryDirectory() as folder:
            study = write_dicom(image, way, Path(folder) / "study")
            for form in forms:
                row = {"exam": way.name, "form": form, **check_output(study, form, Path(folder) / form)}
                print(table([row]).splitlines()[-1], flush=True)
                rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Format the comparison as a Markdown table."""
    head = ["exam", "written as", "segments", "voxels", "that differ", "codes", "that differ", "colours off by"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- " + "| --: " * 6 + "|"]
    keys = ("exam", "form", "segments", "voxels", "voxels_that_differ", "codes", "codes_that_differ", "colours_off_by")
    return "\n".join([*lines, *(f"| {' | '.join(str(row[key]) for key in keys)} |" for row in rows)])


def main() -> int:
    """Compare, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if dcmqi.find_program() is None:
        raise SystemExit("dcmqi is not installed: pip install dcmqi")
    rows = run(DICOM_VARIANTS, tuple(OUTPUT_FORMATS))
    print(f"\n{table(rows)}\n\n{machine.describe_machine(machine.machine_facts())}")
    args.out.write_text(json.dumps({"machine": machine.machine_facts(), "rows": rows}, indent=2) + "\n")
    wrong = sum(row["voxels_that_differ"] + row["codes_that_differ"] + row["segments_missing"] for row in rows)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
