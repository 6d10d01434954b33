"""Options of a batch: for each exam, and for all of them. Light to import: the command line reads it first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumbarseg.clicks import Click
    from lumbarseg.io.dicom.web import StudyAddress

POSTERIOR_CHOICES = ("separate", "merge", "omit")
"""Posterior elements of a vertebra: with labels of their own, with the label of their body, or left out."""
DEFAULT_SCHEME = "default"
SCHEMES = (DEFAULT_SCHEME, "spider", "totalsegmentator", "spineps", "totalspineseg", "mrspineseg")
"""Label schemes that label maps can be written in; the default is the package's own."""
DRAW_CHOICES = ("outlines", "measurements")
"""What the picture shows: outlines and names, or also heights, slips and the lordosis."""
FORMAT_SUFFIXES = {
    "nifti": "_labels.nii.gz",
    "seg-nrrd": ".seg.nrrd",
    "itksnap": "_labels.txt",
    "dicom-seg": ".seg.dcm",
    "dicom-labelmap": ".labelmap.dcm",
    "dicom-sr": ".sr.dcm",
    "html": "_report.html",
    "csv": "_measurements.csv",
}
"""Formats of the result, with what follows the exam's name in the file name."""
DEFAULT_FORMATS = ("nifti", "html", "csv")
REQUIRED_FORMATS = {"itksnap": "nifti", "dicom-sr": "dicom-seg"}
"""A format without which another one is of no use."""
DICOM_FORMATS = tuple(name for name in FORMAT_SUFFIXES if name.startswith("dicom"))
"""Formats that refer to the DICOM files of an exam, and that a server takes."""


@dataclass(frozen=True)
class ExamOptions:
    """Options of each exam; another value gives another result.

    Attributes
    ----------
    lowest_level : name of the lowest complete vertebra in view
    pins : vertebrae that the user named: name and point in RAS+ mm
    clicks : points at which a structure is, or is not
    posterior : one of POSTERIOR_CHOICES
    scheme : one of SCHEMES
    formats : names in FORMAT_SUFFIXES
    volume_index : which volume of a 4-D file, from 0
    series : which series of a DICOM study: its number or part of its description
    modality : "mr" for an exam whose values look like CT but are not
    draw : one of DRAW_CHOICES
    """

    lowest_level: str | None = None
    pins: tuple[tuple[str, tuple[float, float, float]], ...] = ()
    clicks: tuple[Click, ...] = ()
    posterior: str = POSTERIOR_CHOICES[0]
    scheme: str = DEFAULT_SCHEME
    formats: tuple[str, ...] = DEFAULT_FORMATS
    volume_index: int | None = None
    series: str | None = None
    modality: str | None = None
    draw: str = DRAW_CHOICES[0]

    @property
    def is_user_guided(self) -> bool:
        """Whether a person named a level or clicked."""
        return bool(self.lowest_level or self.pins or self.clicks)


@dataclass(frozen=True)
class BatchOptions:
    """Options of a batch.

    Attributes
    ----------
    exams : files, folders of exams, studies on a server
    output_dir : folder of the results; None: they are only stored on the server
    exam : options of each exam
    clicks_file : clicks on the only exam
    model : a model file; None: the installed one
    device : what runs the model
    flat : put all results into one folder, instead of folders like those of the exams
    overwrite : do again what is done and unchanged
    jobs : worker processes; None: none but this one
    cluster : address of a dask scheduler
    store : send DICOM objects back to the server that an exam came from
    jsonl, table : files for a line of JSON per exam, and for a CSV table of all
    """

    exams: tuple[Path | StudyAddress, ...]
    output_dir: Path | None
    exam: ExamOptions = field(default_factory=ExamOptions)
    clicks_file: Path | None = None
    model: Path | None = None
    device: str = "auto"
    flat: bool = False
    overwrite: bool = False
    jobs: int | None = None
    cluster: str | None = None
    store: bool = False
    jsonl: Path | None = None
    table: Path | None = None
