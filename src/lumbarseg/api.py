"""Segment an exam in one line of Python: read, segment, measure, draw, save."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from lumbarseg.anatomy import parse_level
from lumbarseg.batch.exam_task import StageTimer, describe_segmentation
from lumbarseg.batch.options import DRAW_CHOICES, FORMAT_SUFFIXES, ExamOptions
from lumbarseg.batch.output_formats import SegmentedExam, write_outputs
from lumbarseg.clicks import Click
from lumbarseg.errors import FileError, LumbarsegError
from lumbarseg.inference import Model, default_model_path
from lumbarseg.io import LoadedExam, read_exam, write_json
from lumbarseg.measurement import Measurement, measure_structures
from lumbarseg.segmentation import Level, LevelPin, Segmentation, UserLevels, segment_with_clicks
from lumbarseg.segmentation import segment as segment_volume
from lumbarseg.volume import Volume

_SAVE_SUFFIXES = {
    **{suffix: name for name, suffix in FORMAT_SUFFIXES.items() if name in ("seg-nrrd", "dicom-seg", "dicom-labelmap")},
    ".nii.gz": "labels",
    ".nii": "labels",
    ".png": "picture",
    ".html": "html",
    ".csv": "csv",
    ".json": "report",
}
"""What `SegmentedSpine.save` writes, by the end of the file name."""


@dataclass(frozen=True, eq=False)
class SegmentedSpine:
    """The segmented spine of an exam.

    Attributes
    ----------
    exam : the exam as it was read
    segmentation : labels, levels, warnings, anchor and confidence, as the pipeline returns them
    model : the model that segmented it
    options : names and clicks that the user gave
    """

    exam: LoadedExam
    segmentation: Segmentation
    model: Model
    options: ExamOptions

    @property
    def labels(self) -> Volume:
        """Label map on the exam's own grid, (I, J, K) uint8 values of `lumbarseg.anatomy.STRUCTURES`."""
        return self.segmentation.labels

    @property
    def levels(self) -> tuple[Level, ...]:
        """Vertebrae from head to foot, with confidence."""
        return self.segmentation.levels

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should check."""
        return tuple(self.report["warnings"])

    @cached_property
    def measurements(self) -> dict[str, Measurement]:
        """Measurements in mm, ml and degrees, by the name of the structure."""
        return {row.name: row for row in measure_structures(self.labels, self.segmentation.flips)}

    @property
    def report(self) -> dict[str, Any]:
        """The report that `lumbarseg segment` writes as JSON."""
        return self._described.report

    def figure(self, draw: str = DRAW_CHOICES[0]) -> Image.Image:
        """Draw the middle slices with the named structures.

        Parameters
        ----------
        draw : "outlines" for these and names, "measurements" for heights, slips and lordosis too
        """
        if draw not in DRAW_CHOICES:
            raise LumbarsegError(f"{draw!r} cannot be drawn; choose one of {', '.join(DRAW_CHOICES)}")
        described = self._described if draw == self.options.draw else self._describe(replace(self.options, draw=draw))
        picture = described.picture
        if picture is None:
            raise LumbarsegError(f"no picture: {'; '.join(self.warnings)}")
        return Image.open(io.BytesIO(picture))

    def save(self, path: Path | str) -> Path:
        """Write the label map, the picture, the report or the measurements; the end of the file name decides.

        Label maps end in .nii.gz, .nii, .seg.nrrd, .seg.dcm or .labelmap.dcm (of DICOM exams), the picture in .png, the
        report in .html or .json and the measurements in .csv.

        Raises
        ------
        FileError
            When the name ends differently, or the file cannot be written.
        """
        path = Path(path)
        name = next((_SAVE_SUFFIXES[end] for end in _SAVE_SUFFIXES if path.name.lower().endswith(end)), None)
        if name is None:
            raise FileError(f"{path}: cannot be written: the name must end in one of {', '.join(_SAVE_SUFFIXES)}")
        if name == "report":
            write_json(path, self.report)
        else:
            write_outputs(self._described, self.exam, {name: path})
        return path

    @cached_property
    def _described(self) -> SegmentedExam:
        return self._describe(self.options)

    def _describe(self, options: ExamOptions) -> SegmentedExam:
        name = self.exam.path.name
        return describe_segmentation(name, self.exam, self.segmentation, self.model, options, StageTimer())


def segment(
    exam: Path | str | Volume,
    model: Model | Path | str | None = None,
    *,
    lowest: str | None = None,
    pins: Sequence[tuple[str, tuple[float, float, float]]] = (),
    clicks: Sequence[Click] = (),
    series: str | None = None,
    volume_index: int | None = None,
) -> SegmentedSpine:
    """Segment the lumbar spine of an exam.

    Parameters
    ----------
    exam : a file, a folder of DICOM files or a ZIP; or a volume
    model : a model, or its file; None for the installed one. Load it once (`Model.load`) to segment many exams
    lowest : name of the lowest complete vertebra in view, upper or lower case
    pins : vertebrae that the user knows: name and a point in it, RAS+ mm
    clicks : points at which a structure is, or is not
    series : which series of a DICOM study: its number, or part of its description
    volume_index : which volume of a 4-D file, from 0

    Raises
    ------
    LumbarsegError
        When the exam cannot be read, shows no lumbar spine, or a level name does not exist.

    Examples
    --------
    >>> import lumbarseg
    >>> spine = lumbarseg.segment("exam.nii.gz")  # doctest: +SKIP
    >>> spine.save("exam.seg.nrrd")  # doctest: +SKIP
    >>> spine.measurements["L4-L5"].middle  # doctest: +SKIP
    """
    lowest = parse_level(lowest) if lowest else None
    named_pins = tuple(LevelPin(parse_level(name), point) for name, point in pins)
    options = ExamOptions(lowest, tuple((pin.name, pin.point) for pin in named_pins), tuple(clicks))
    if isinstance(exam, Volume):
        loaded = LoadedExam(exam, [], {}, Path("volume"))
    else:
        loaded = read_exam(exam, volume_index, series)
    if not isinstance(model, Model):
        model = Model.load(model or default_model_path())
    levels = UserLevels(lowest, named_pins)
    if clicks:
        segmentation = segment_with_clicks(loaded.volume, model, clicks, levels)
    else:
        segmentation = segment_volume(loaded.volume, model, levels)
    return SegmentedSpine(loaded, segmentation, model, options)
