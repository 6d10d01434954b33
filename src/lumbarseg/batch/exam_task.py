"""Process one exam of a batch, in any thread or process: check whether it is done, read, segment, write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np

import lumbarseg
from lumbarseg.errors import LumbarsegError, ModelError, SegmentError, describe_bug
from lumbarseg.inference import Model
from lumbarseg.io import LoadedExam, read_exam, write_json
from lumbarseg.io.dicom.reader import list_series
from lumbarseg.measurement import locate_measurements, measure_spine
from lumbarseg.report import ReportSource, build_report
from lumbarseg.report.picture import caption, render_picture
from lumbarseg.segmentation import LevelPin, Segmentation, UserLevels, segment, segment_with_clicks
from lumbarseg.volume import Array

from .exam_result import ExamJob, ExamResult, failed_result, successful_result
from .label_encoding import apply_posterior_choice, describe_labels
from .options import DICOM_FORMATS, ExamOptions
from .output_formats import SegmentedExam, write_outputs
from .result_record import REPORT_KEY, ResultRecord, content_digest, read_report, values_digest

R = TypeVar("R")
_NETWORK_LOCK = Lock()
_SAMPLE_SIZE = 20_000  # voxels that are looked at first
_MAX_LABELS = 64
_SAME_STATION_DISTANCE = 50.0  # mm between the centres of two series of one station, at most


@dataclass
class StageTimer:
    """Seconds spent in each stage of one exam; exam_start: reading of the clock when the exam began."""

    seconds: dict[str, float] = field(default_factory=dict)
    exam_start: float = field(default_factory=time.perf_counter)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to that of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class ExamInput:
    """An exam as read.

    content_digest: of its files, "" where that is unknown. may_change_series: the user named no series of the study.
    """

    exam: LoadedExam
    content_digest: str
    timer: StageTimer
    may_change_series: bool = False


@dataclass(frozen=True)
class ExamTask:
    """Segment one exam and write its result. Picklable, so that other processes can do it.

    Attributes
    ----------
    options : of each exam
    model_path, model_digest : the model's file, and the SHA-256 that it must have
    device : what runs the model
    exam_count : how many exams there are: decides which engine is worth its start
    threads : of the engine; 0: one per core
    overwrite : do again what is done and unchanged
    run_id : identifies this batch
    """

    options: ExamOptions
    model_path: Path
    model_digest: str
    device: str = "auto"
    exam_count: int = 1
    threads: int = 0
    overwrite: bool = False
    run_id: str = ""

    def __call__(self, job: ExamJob) -> ExamResult:
        """Do everything, one stage after the other; an error becomes a result."""
        try:
            loaded = self.load(job)
            if isinstance(loaded, ExamResult):
                return loaded
            return self.write(job, *self.segment(loaded))
        except Exception as error:
            return failed_result(job, error)

    @lru_cache(maxsize=1)  # noqa: B019  # one model per process
    def load_model(self) -> tuple[Model, float]:
        """Return the model, loaded once per process, and how many seconds loading took."""
        start = time.perf_counter()
        model = Model.load(self.model_path, self.device, self.exam_count, self.threads)
        if model.card.digest != self.model_digest:
            raise ModelError(f"{self.model_path}: the model was replaced since the batch started; name the same one")
        return model, time.perf_counter() - start

    def _timed_model(self, timer: StageTimer) -> Model:
        """Return the model, whose network runs for one exam at a time, because it uses all cores; time that stage."""
        model, _ = self.load_model()

        def run(windows: Array) -> Array:
            with _NETWORK_LOCK, timer("network"):
                return model.run(windows)

        return replace(model, run=run)

    def load(self, job: ExamJob) -> ExamInput | ExamResult:
        """Read an exam; return its result instead where an earlier run made it and nothing changed since."""
        if job.error:
            return ExamResult(job.name, job.error)
        timer = StageTimer()
        with timer("digest"):
            digest = content_digest(job.path) or ""
            previous = self._previous_result(job, digest)
        if previous:
            return previous
        with timer("read"):
            exam = read_exam(job.path, self.options.volume_index, job.series)
        if _holds_labels(exam.volume.array):
            raise SegmentError(f"{job.path}: a label map, not an exam: it holds few whole numbers; give the image")
        if set(self.options.formats) & set(DICOM_FORMATS):
            from lumbarseg.io.dicom.derived_objects import require_source_images

            require_source_images(exam.path, exam.source_images)
        return ExamInput(exam, digest, timer, job.series is None)

    def segment(self, loaded: ExamInput) -> tuple[ExamInput, Segmentation]:
        """Segment an exam; return the input that was used, and its segmentation.

        Of a DICOM study another series is tried where the first one shows no lumbar spine or no sacrum.
        """
        model = self._timed_model(loaded.timer)
        pins = tuple(LevelPin(*pin) for pin in self.options.pins)
        user_levels = UserLevels(self.options.lowest_level, pins)
        volume, modality = loaded.exam.volume, self.options.modality or loaded.exam.modality
        try:
            with loaded.timer("segment"):
                if self.options.clicks:
                    return loaded, segment_with_clicks(volume, model, self.options.clicks, user_levels, modality)
                segmentation = segment(volume, model, user_levels, modality=modality)
        except SegmentError as error:
            if other := self._segment_another_station(loaded, str(error)):
                return other
            raise
        if "sacrum" not in segmentation.anchor and not self.options.is_user_guided:
            return self._segment_another_station(loaded, "no sacrum found") or (loaded, segmentation)
        return loaded, segmentation

    def _segment_another_station(self, loaded: ExamInput, problem: str) -> tuple[ExamInput, Segmentation] | None:
        """Segment the first other series of a DICOM study, elsewhere in the body, that shows a sacrum."""
        if not loaded.may_change_series or loaded.exam.metadata.get("format") != "DICOM":
            return None
        first, *others = list_series(loaded.exam.path)
        model = self._timed_model(loaded.timer)
        for stack in others:
            if abs(stack.centre[2] - first.centre[2]) < _SAME_STATION_DISTANCE:
                continue
            try:
                exam = read_exam(loaded.exam.path, series=stack.number)
                with loaded.timer("segment"):
                    modality = self.options.modality or exam.modality
                    segmentation = segment(exam.volume, model, modality=modality)
            except LumbarsegError:
                continue
            if "sacrum" in segmentation.anchor:
                note = f"{first.name} was not used: {problem}"
                return replace(loaded, exam=replace(exam, notes=[*exam.notes, note])), segmentation
        return None

    def write(self, job: ExamJob, loaded: ExamInput, segmentation: Segmentation) -> ExamResult:
        """Measure, draw and write; the report last, because it says that all other files are complete."""
        model, _ = self.load_model()
        segmented = describe_segmentation(job.name, loaded.exam, segmentation, model, self.options, loaded.timer)
        report_path = job.output_files["report"]
        files = {name: path for name, path in job.output_files.items() if name != "report"}
        with loaded.timer("write"):
            with suppress(NotADirectoryError):  # the first file will fail with a better message
                report_path.unlink(missing_ok=True)  # it must not describe files of another run
            write_outputs(segmented, loaded.exam, files)
            record = ResultRecord(
                loaded.content_digest,
                self.model_digest,
                values_digest([asdict(self.options), job.series]),
                lumbarseg.__version__,
                {name: digest for name, path in files.items() if (digest := content_digest(path))},
                self.run_id,
            )
            write_json(report_path, segmented.report | {REPORT_KEY: asdict(record)})
        return replace(
            successful_result(job, segmented.report),
            seconds=time.perf_counter() - loaded.timer.exam_start,
            stage_seconds=loaded.timer.seconds,
            text_lines=segmented.text_lines(),
        )

    def _previous_result(self, job: ExamJob, digest: str) -> ExamResult | None:
        """Return the result of an earlier run; None where the exam must be segmented (again)."""
        previous = read_report(job.output_files["report"])
        if not previous or (self.overwrite and previous[1].run != self.run_id):
            return None
        report, record = previous
        modified = record.modified_files(job.output_files)
        options_digest = values_digest([asdict(self.options), job.series])
        matches = record.matches(digest, self.model_digest, options_digest, lumbarseg.__version__)
        if record.missing_files(job.output_files) or not digest or not (matches or modified):
            return None
        kept_notes = [
            f"{path}: was changed since it was written, so it is kept; --overwrite replaces it" for path in modified
        ]
        warnings = [*report["warnings"], *kept_notes]
        lines = [f"warning: {text}" for text in warnings]
        if not kept_notes:
            lines = ["unchanged since it was segmented; --overwrite segments it again", *lines]
        result = successful_result(job, report | {"warnings": warnings})
        return replace(result, skipped=record.run != self.run_id, text_lines=tuple(lines))


def describe_segmentation(
    name: str, exam: LoadedExam, segmentation: Segmentation, model: Model, options: ExamOptions, timer: StageTimer
) -> SegmentedExam:
    """Measure a segmentation, draw its picture at the same time, and build its report; nothing is written."""
    labels, flips = segmentation.labels, segmentation.flips
    with ThreadPoolExecutor(1) as pool:
        measuring = pool.submit(_attempt, timer, "measure", partial(measure_spine, labels, flips))
        measured = measuring.result()[0] if options.draw == "measurements" else None
        lines = locate_measurements(measured) if measured else ()
        footer = caption(segmentation, name.rpartition("/")[2])
        draw = partial(render_picture, exam.volume, labels, segmentation.levels, footer, flips, lines)
        picture, picture_warnings = _attempt(timer, "picture", draw)
        measured, measure_warnings = measuring.result()
    source = ReportSource(name, model.path.stem, model.card.digest, tuple(exam.notes), exam.metadata)
    report = build_report(segmentation, measured.rows if measured else [], source)
    if options.posterior != "separate":
        labels = apply_posterior_choice(labels, options.posterior)
    label_names, left_out = describe_labels(labels.array, options.scheme, options.posterior)
    notes = tuple(note for note in exam.notes if note != exam.metadata.get("taken"))  # which series was read
    warnings = [*notes, *segmentation.warnings, *measure_warnings, *picture_warnings]
    report |= {"scheme": options.scheme, "labels": label_names, "left_out": left_out, "warnings": warnings}
    return SegmentedExam(segmentation, labels, report, picture, options)


def _holds_labels(array: Array) -> bool:
    """Return whether an image looks like a label map: mostly 0, and few whole numbers below 256."""
    sample = np.unique(array.ravel()[:: max(1, array.size // _SAMPLE_SIZE)])
    if not 1 < len(sample) <= _MAX_LABELS or sample[0] != 0 or sample[-1] > 255 or (sample % 1).any():
        return False
    values, counts = np.unique(array, return_counts=True)
    is_mostly_background = counts[0] > array.size / 2
    return bool(is_mostly_background and len(values) <= _MAX_LABELS and values[0] == 0 and not (values % 1).any())


def _attempt(timer: StageTimer, stage: str, function: Callable[[], R]) -> tuple[R | None, tuple[str, ...]]:
    """Call a function; return None and a warning when it fails, so that the segmentation is kept."""
    try:
        with timer(stage):
            return function(), ()
    except Exception as error:
        if os.environ.get("LUMBARSEG_DEBUG"):
            raise
        return None, (f"{stage} failed: {describe_bug(error)}",)
