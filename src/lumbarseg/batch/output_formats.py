"""What an answer can be written as: one table, and the files that an exam's answer becomes.

A new form is one row of FORMS: its suffix, the function that writes it, and, where not every exam can be written so,
the one that refuses an exam before it is segmented.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import label_encoding

if TYPE_CHECKING:
    from lumbarseg.io import LoadedExam
    from lumbarseg.io.dicom.derived_objects import Provenance

    from .exam_result import SegmentedExam


def _accept_any(_: LoadedExam) -> None:
    """Every exam can be written so."""


@dataclass(frozen=True)
class OutputFormat:
    """One thing to write. suffix: behind the exam's name; write(given, exam, path): whole or not at all.

    check(exam): LumbarsegError where this exam cannot be written so, asked before it is segmented. given.labels are in
    the package's own values, posterior elements as asked for. exam.path: where the exam was read from. needs: forms
    without which it is of no use; they are written, too.
    """

    suffix: str
    write: Callable[[SegmentedExam, LoadedExam, Path], None]
    check: Callable[[LoadedExam], None] = _accept_any
    requires: tuple[str, ...] = ()


def _write_nifti(given: SegmentedExam, _: LoadedExam, path: Path) -> None:
    from lumbarseg.io import write_labels

    write_labels(
        label_encoding.encode_labels(given), path, label_encoding.label_table(given.options.scheme, given.options.parts)
    )


def _write_seg_nrrd(given: SegmentedExam, _: LoadedExam, path: Path) -> None:
    from lumbarseg.io import seg_nrrd

    seg_nrrd.write(label_encoding.encode_labels(given), label_encoding.described_segments(given), path)


def _write_itksnap(given: SegmentedExam, _: LoadedExam, path: Path) -> None:
    from lumbarseg.io import itk_snap

    rows = label_encoding.label_table(given.options.scheme, given.options.parts)
    itk_snap.write_label_descriptions([(row.label, row.name, row.colour) for row in rows], path)


def _dicom_seg_writer(kind: str) -> Callable[[SegmentedExam, LoadedExam, Path], None]:
    def write(given: SegmentedExam, exam: LoadedExam, path: Path) -> None:
        from lumbarseg.io.dicom import seg

        seg.write(
            given.labels,
            label_encoding.default_scheme_segments(given),
            exam.source_images,
            _software_info(given),
            path,
            kind,
        )

    return write


def _write_dicom_sr(given: SegmentedExam, _: LoadedExam, path: Path) -> None:
    from lumbarseg.io.dicom import seg, sr

    segmentation = path.with_name(path.name.removesuffix(sr.SUFFIX) + seg.SUFFIX)
    sizes = sr.Measurements(
        label_encoding.structure_measurements(given, sr.QUANTITIES), given.report["lordosis_l1_s1_deg"]
    )
    sr.write(sizes, segmentation, _software_info(given), path)


def _check_dicom_source(exam: LoadedExam) -> None:
    from lumbarseg.io.dicom import derived_objects

    derived_objects.require_source_images(exam.path, exam.source_images)


def _software_info(given: SegmentedExam) -> Provenance:
    from lumbarseg.io.dicom.derived_objects import Provenance

    wish, model = given.options, given.report["model"]
    guided = bool(wish.lowest_level or wish.pins or wish.clicks)
    return Provenance(given.report["program"]["version"], model["name"], model["digest"], guided)


def _write_report(given: SegmentedExam, _: LoadedExam, path: Path) -> None:
    from lumbarseg.io import atomic_write

    with atomic_write(path) as file:
        file.write((json.dumps(given.report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _write_picture(given: SegmentedExam, _: LoadedExam, path: Path) -> None:
    from lumbarseg.io import atomic_write

    with atomic_write(path) as file:
        file.write(given.picture_png)


OUTPUT_FORMATS: dict[str, OutputFormat] = {
    "nifti": OutputFormat("_labels.nii.gz", _write_nifti),
    "seg-nrrd": OutputFormat(".seg.nrrd", _write_seg_nrrd),
    "itksnap": OutputFormat("_labels.txt", _write_itksnap, requires=("nifti",)),
    "dicom-seg": OutputFormat(".seg.dcm", _dicom_seg_writer("BINARY"), _check_dicom_source),
    "dicom-labelmap": OutputFormat(".labelmap.dcm", _dicom_seg_writer("LABELMAP"), _check_dicom_source),
    "dicom-sr": OutputFormat(".sr.dcm", _write_dicom_sr, _check_dicom_source, requires=("dicom-seg",)),
}
"""Forms of the label map by name; the first one is written where none is asked for."""
DEFAULT_FORMATS = (next(iter(OUTPUT_FORMATS)),)
_ALWAYS_WRITTEN = {
    "report": OutputFormat("_report.json", _write_report),
    "picture": OutputFormat(".png", _write_picture),
}
_LABELS_ALIAS = {"labels": OUTPUT_FORMATS["nifti"]}  # the name that programs know it by


def parse_formats(text: str) -> tuple[str, ...]:
    """ "nifti,seg-nrrd": names of forms, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in OUTPUT_FORMATS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no form of an answer; choose among {', '.join(OUTPUT_FORMATS)}"
        )
    return names


def requested_formats(args: argparse.Namespace) -> tuple[str, ...]:
    """The forms that a command line asks for."""
    names = [name for names in args.format for name in names]
    names += ["dicom-seg"] if args.store else []
    return (
        tuple(dict.fromkeys(form for name in names for form in (*OUTPUT_FORMATS[name].requires, name)))
        or DEFAULT_FORMATS
    )


def output_paths(folder: Path, stem: str, formats: Iterable[str] = DEFAULT_FORMATS) -> dict[str, Path]:
    """The files that an exam's answer becomes, by what they are: "labels" (NIfTI), other forms, "report", "picture"."""
    named = {"labels" if name == "nifti" else name: OUTPUT_FORMATS[name] for name in formats} | _ALWAYS_WRITTEN
    return {name: folder / f"{stem}{form.suffix}" for name, form in named.items()}


def check_writable(exam: LoadedExam, files: Iterable[str]) -> None:
    """LumbarsegError where an exam cannot be written as one of `files`."""
    for form in _formats_of(files):
        form.check(exam)


def write_outputs(result: SegmentedExam, exam: LoadedExam, files: dict[str, Path]) -> None:
    """Write an answer's files, each whole or not at all."""
    for form, path in zip(_formats_of(files), files.values(), strict=True):
        form.write(result, exam, path)


def _formats_of(files: Iterable[str]) -> Sequence[OutputFormat]:
    table = OUTPUT_FORMATS | _LABELS_ALIAS | _ALWAYS_WRITTEN
    return [table[name] for name in files]
