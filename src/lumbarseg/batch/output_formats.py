"""Write the label map of one exam in the requested formats, and its picture. Each file is complete or not there.

A new format has a suffix in `options.FORMAT_SUFFIXES` and a function in `_WRITERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.io import LoadedExam, atomic_write, itk_snap, seg_nrrd, write_csv, write_labels
from lumbarseg.report.exam_page import render_exam_page
from lumbarseg.report.exam_report import MEASUREMENT_COLUMNS, measurement_rows
from lumbarseg.segmentation import Segmentation
from lumbarseg.volume import Volume

from .label_encoding import described_segments, encode_labels, label_table, structure_measurements
from .options import DEFAULT_FORMATS, DEFAULT_SCHEME, FORMAT_SUFFIXES, ExamOptions

if TYPE_CHECKING:
    from lumbarseg.io.dicom.derived_objects import Provenance


@dataclass(frozen=True, eq=False)
class SegmentedExam:
    """A segmented exam, ready to be written.

    Attributes
    ----------
    labels : uint8, the package's values, posterior elements as the options say
    report : the JSON report; its "warnings" are what a person should look at
    picture : PNG, None if it could not be drawn
    """

    segmentation: Segmentation
    labels: Volume
    report: dict[str, Any]
    picture: bytes | None
    options: ExamOptions

    @property
    def uncertain_levels(self) -> set[str]:
        """Names of the levels that are uncertain."""
        return {level.name for level in self.segmentation.levels if level.uncertain}

    def text_lines(self) -> tuple[str, ...]:
        """Return the result as text: series, levels from head to foot, anchor, confidence, warnings."""
        about = self.report["exam"]["about"]
        lines = [f"series: {about['taken']}"] if "taken" in about else []
        if about.get("left_out"):
            lines.append(f"other series: {'; '.join(about['left_out'])}")
        lines.append(" ".join(f"{level.name}{'?' * level.uncertain}" for level in self.segmentation.levels))
        lines.append(f"counted from: {self.segmentation.anchor}; confidence {self.segmentation.confidence:.2f}")
        if names := ", ".join(self.report["left_out"]):
            lines.append(f"the scheme {self.options.scheme} has no value for {names}: left out")
        return (*lines, *(f"warning: {text}" for text in self.report["warnings"]))


def output_paths(
    folder: Path, stem: str, formats: Iterable[str] = DEFAULT_FORMATS, series: str | None = None
) -> dict[str, Path]:
    """Return the files that a result becomes: "labels" (NIfTI) or other formats by name, "report", "picture".

    series: the chosen series of a study; its files have names of their own.
    """
    suffixes = {"labels" if name == "nifti" else name: FORMAT_SUFFIXES[name] for name in formats}
    suffixes |= {"report": "_report.json", "picture": ".png"}
    part = f"_series-{re.sub(r'[^0-9A-Za-z.]+', '-', series)}" if series else ""
    return {name: folder / f"{stem}{part}{suffix}" for name, suffix in suffixes.items()}


def write_outputs(segmented: SegmentedExam, exam: LoadedExam, files: Mapping[str, Path]) -> None:
    """Write label maps and picture. files: paths by format; "labels" for NIfTI, "picture"."""
    for name, path in files.items():
        _WRITERS[name](segmented, exam, path)


def _write_nifti(segmented: SegmentedExam, _: LoadedExam, path: Path) -> None:
    options = segmented.options
    labels = segmented.labels
    if options.scheme != DEFAULT_SCHEME:
        labels = encode_labels(labels, options.scheme)
    write_labels(labels, path, label_table(options.scheme, options.posterior))


def _write_picture(segmented: SegmentedExam, _: LoadedExam, path: Path) -> None:
    if segmented.picture is None:
        path.unlink(missing_ok=True)  # not one of an earlier run
        return
    with atomic_write(path) as file:
        file.write(segmented.picture)


def _write_seg_nrrd(segmented: SegmentedExam, _: LoadedExam, path: Path) -> None:
    options = segmented.options
    segments = described_segments(options.scheme, options.posterior, segmented.uncertain_levels)
    seg_nrrd.write(encode_labels(segmented.labels, options.scheme), segments, path)


def _write_itk_snap(segmented: SegmentedExam, _: LoadedExam, path: Path) -> None:
    rows = label_table(segmented.options.scheme, segmented.options.posterior)
    itk_snap.write_label_descriptions([(row.label, row.name, row.colour) for row in rows], path)


def _write_dicom_seg(segmentation_type: str, segmented: SegmentedExam, exam: LoadedExam, path: Path) -> None:
    from lumbarseg.io.dicom import seg  # pydicom's writers, which most results do not need

    segments = described_segments(DEFAULT_SCHEME, segmented.options.posterior, segmented.uncertain_levels)
    seg.write(segmented.labels, segments, exam.source_images, _dicom_provenance(segmented), path, segmentation_type)


def _write_dicom_sr(segmented: SegmentedExam, _: LoadedExam, path: Path) -> None:
    from lumbarseg.io.dicom import seg, sr

    segmentation_path = path.with_name(path.name.removesuffix(sr.SUFFIX) + seg.SUFFIX)
    structures = structure_measurements(segmented.report, segmented.options.posterior, sr.QUANTITIES)
    measurements = sr.Measurements(structures, segmented.report["lordosis_l1_s1_deg"])
    sr.write(measurements, segmentation_path, _dicom_provenance(segmented), path)


def _write_html(segmented: SegmentedExam, _: LoadedExam, path: Path) -> None:
    has_labels = "nifti" in segmented.options.formats
    labels_file = path.name.removesuffix(FORMAT_SUFFIXES["html"]) + FORMAT_SUFFIXES["nifti"] if has_labels else ""
    pictures = [segmented.picture] if segmented.picture else []
    with atomic_write(path) as file:
        file.write(render_exam_page(segmented.report, pictures, (), labels_file).encode("utf-8", "backslashreplace"))


def _write_csv(segmented: SegmentedExam, _: LoadedExam, path: Path) -> None:
    write_csv(path, measurement_rows(segmented.report), MEASUREMENT_COLUMNS)


def _dicom_provenance(segmented: SegmentedExam) -> Provenance:
    from lumbarseg.io.dicom.derived_objects import Provenance

    program, model = segmented.report["program"], segmented.report["model"]
    guided = segmented.options.is_user_guided
    return Provenance(program["version"], model["name"], model["digest"], guided)


_WRITERS: dict[str, Callable[[SegmentedExam, LoadedExam, Path], None]] = {
    "labels": _write_nifti,
    "picture": _write_picture,
    "seg-nrrd": _write_seg_nrrd,
    "itksnap": _write_itk_snap,
    "dicom-seg": partial(_write_dicom_seg, "BINARY"),
    "dicom-labelmap": partial(_write_dicom_seg, "LABELMAP"),
    "dicom-sr": _write_dicom_sr,
    "html": _write_html,
    "csv": _write_csv,
}
