"""From an exam to its answer: what `segment` and `demo` do with each one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import label_encoding

if TYPE_CHECKING:
    from lumbarseg.clicks import Click
    from lumbarseg.inference import Model
    from lumbarseg.io import LoadedExam
    from lumbarseg.metrics.overlap import StructureScore
    from lumbarseg.segmentation import LevelPin, Segmentation
    from lumbarseg.volume import Volume


class StageTimer:
    """Seconds per stage, summed over exams; stages that run beside each other each count in full."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what happens inside under the name of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class SegmentOptions:
    """What the user said. parts: posterior elements "apart", "whole" (in one with their body) or "bodies" (without).

    clicks: points at which something is, or is not. scheme: whose label values are written.
    """

    lowest_level: str | None = None
    pins: tuple[LevelPin, ...] = ()
    parts: str = "apart"
    clicks: tuple[Click, ...] = ()
    scheme: str = label_encoding.DEFAULT_SCHEME


@dataclass(frozen=True, eq=False)
class SegmentedExam:
    """One answered exam. labels: with parts as asked for, in the package's own values; facts: the report; picture: PNG;
    warnings: to be looked at; wish: what was asked for; left_out: names for which the scheme has no value.
    """

    segmentation: Segmentation
    labels: Volume
    report: dict[str, Any]
    picture_png: bytes
    warnings: tuple[str, ...]
    options: SegmentOptions
    structures_left_out: tuple[str, ...]


def load_model(path: Path | None, device: str, timer: StageTimer, exam_count: int = 1) -> Model:
    """The model that the user named, or the default one, for so many exams; its time in the network is counted."""
    with timer("model"):
        from lumbarseg.inference import Model, default_model_path

        model = Model.load(path or default_model_path(), device, exam_count)
    return with_timing(model, timer)


def with_timing(model: Model, timer: StageTimer) -> Model:
    """The same model, whose time in the network is counted."""

    def compute(windows: Any) -> Any:
        with timer("network"):
            return model.run(windows)

    return replace(model, run=compute)


def preload_modules() -> None:
    """Import what an answer needs, beside the loading of the model and the reading of the first exam."""
    import lumbarseg.measurement
    import lumbarseg.report.picture
    import lumbarseg.segmentation  # noqa: F401


def read_clicks(path: Path | None) -> tuple[Click, ...]:
    """The clicks of a file, none without one."""
    if path is None:
        return ()
    from lumbarseg.clicks import parse_clicks
    from lumbarseg.io.file_access import open_for_reading

    with open_for_reading(path) as stream:
        text = stream.read().decode("utf-8", "replace")
    return parse_clicks(text, str(path))


def segment_exam(exam: LoadedExam, model: Model, options: SegmentOptions, timer: StageTimer) -> Segmentation:
    """What is in an exam."""
    from lumbarseg.segmentation import UserLevels, segment, segment_with_clicks

    with timer("segment"):
        user_levels = UserLevels(options.lowest_level, options.pins)
        if options.clicks:
            return segment_with_clicks(exam.volume, model, options.clicks, user_levels)
        return segment(exam.volume, model, user_levels)


def build_result(
    name: str, exam: LoadedExam, segmentation: Segmentation, model: Model, options: SegmentOptions, timer: StageTimer
) -> SegmentedExam:
    """What was found, measured and drawn; nothing is written."""
    with ThreadPoolExecutor(1) as pool:
        picture = pool.submit(_render_picture, exam, segmentation, timer)
        with timer("measure"):
            from lumbarseg.measurement import measure_structures
            from lumbarseg.report import Provenance, build_report

            about = Provenance(name, model.path.stem, model.card.digest, tuple(exam.notes))
            told = build_report(segmentation, measure_structures(segmentation.labels, segmentation.flips), about)
            told["exam"]["about"] = exam.metadata
    labels = encode_posterior_elements(segmentation.labels, options.parts)
    told |= {
        "scheme": options.scheme,
        "labels": label_encoding.label_names(labels.array, options.scheme, options.parts),
    }
    doubts = tuple(note for note in exam.notes if note != exam.metadata.get("taken"))
    left_out = label_encoding.structures_without_label(labels.array, options.scheme)
    return SegmentedExam(
        segmentation, labels, told, picture.result(), (*doubts, *segmentation.warnings), options, left_out
    )


def _render_picture(exam: LoadedExam, segmentation: Segmentation, timer: StageTimer) -> bytes:
    with timer("picture"):
        from lumbarseg.report.picture import caption, render_picture

        return render_picture(
            exam.volume, segmentation.labels, segmentation.levels, caption(segmentation), segmentation.flips
        )


def encode_posterior_elements(labels: Volume, parts: str) -> Volume:
    """The label map with posterior elements as the user wants them; labels: uint8 in the table's values."""
    import numpy as np

    from lumbarseg.anatomy import LEVELS, arch_of_level, structure_by_name
    from lumbarseg.volume import Volume

    if parts == "apart":
        return labels
    table = np.arange(256, dtype=np.uint8)
    for level in LEVELS:
        table[arch_of_level(level).label] = structure_by_name(level).label if parts == "whole" else 0
    return Volume(table[labels.array], labels.affine)


def result_summary_dict(result: SegmentedExam) -> dict[str, Any]:
    """The short form of an answer, for --json."""
    return report_summary_dict(
        result.report | {"warnings": list(result.warnings), "left_out": list(result.structures_left_out)}
    )


def report_summary_dict(report: dict[str, Any]) -> dict[str, Any]:
    """The short form of a report."""
    return {key: report[key] for key in ("anchor", "confidence", "uncertain", "levels", "warnings", "left_out")}


def format_result_lines(result: SegmentedExam) -> list[str]:
    """The same for a person: names from head to foot, what they were counted from, warnings."""
    names = " ".join(f"{level.name}{'?' if level.uncertain else ''}" for level in result.segmentation.levels)
    about = result.report["exam"]["about"]
    lines = [f"taken: {about['taken']}"] if "taken" in about else []
    if about.get("left_out"):
        lines.append(f"left out: {'; '.join(about['left_out'])}")
    lines += [names, f"counted from: {result.segmentation.anchor}; confidence {result.segmentation.confidence:.2f}"]
    if result.structures_left_out:
        lines.append(
            f"the scheme {result.options.scheme} has no value for {', '.join(result.structures_left_out)}: left out"
        )
    return lines + [f"warning: {text}" for text in result.warnings]


def render_report_page(result: SegmentedExam, scores: Sequence[StructureScore], labels_file: str) -> str:
    """The report as a page for a browser, picture and scores against the truth included."""
    from lumbarseg.report.exam_page import render_exam_page as page_of

    return page_of(result.report, [result.picture_png], [score.to_dict() for score in scores], labels_file)
