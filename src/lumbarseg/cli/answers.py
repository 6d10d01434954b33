"""From an exam to its answer: what `segment` and `demo` do with each one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import values

if TYPE_CHECKING:
    from lumbarseg.clicks import Click
    from lumbarseg.files import Exam
    from lumbarseg.model import Model
    from lumbarseg.score import Score
    from lumbarseg.segment import Pin, Segmentation
    from lumbarseg.volume import Volume


class Clock:
    """Seconds per stage, summed over exams; stages that run beside each other each count in full."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what happens inside under the name of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages[stage] = self.stages.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Wish:
    """What the user said. parts: posterior elements "apart", "whole" (in one with their body) or "bodies" (without).

    clicks: points at which something is, or is not. scheme: whose label values are written.
    """

    lowest: str | None = None
    pins: tuple[Pin, ...] = ()
    parts: str = "apart"
    clicks: tuple[Click, ...] = ()
    scheme: str = values.OWN


@dataclass(frozen=True, eq=False)
class Answer:
    """One answered exam. labels: with parts as asked for, in the package's own values; facts: the report; picture: PNG;
    warnings: to be looked at; wish: what was asked for; left_out: names for which the scheme has no value.
    """

    found: Segmentation
    labels: Volume
    facts: dict[str, Any]
    picture: bytes
    warnings: tuple[str, ...]
    wish: Wish
    left_out: tuple[str, ...]


def load(path: Path | None, device: str, clock: Clock, exams: int = 1) -> Model:
    """The model that the user named, or the default one, for so many exams; its time in the network is counted."""
    with clock("model"):
        from lumbarseg.model import Model, default

        model = Model.load(path or default(), device, exams)
    return timed(model, clock)


def timed(model: Model, clock: Clock) -> Model:
    """The same model, whose time in the network is counted."""

    def compute(windows: Any) -> Any:
        with clock("network"):
            return model.compute(windows)

    return replace(model, compute=compute)


def warm() -> None:
    """Import what an answer needs, beside the loading of the model and the reading of the first exam."""
    import lumbarseg.measure
    import lumbarseg.report.png
    import lumbarseg.segment  # noqa: F401


def clicks(path: Path | None) -> tuple[Click, ...]:
    """The clicks of a file, none without one."""
    if path is None:
        return ()
    from lumbarseg.clicks import parse
    from lumbarseg.files.disk import reading

    with reading(path) as stream:
        text = stream.read().decode("utf-8", "replace")
    return parse(text, str(path))


def segmented(exam: Exam, model: Model, wish: Wish, clock: Clock) -> Segmentation:
    """What is in an exam."""
    from lumbarseg.segment import segment

    with clock("segment"):
        return segment(exam.volume, model, wish.lowest, wish.pins, wish.clicks)


def answer(name: str, exam: Exam, found: Segmentation, model: Model, wish: Wish, clock: Clock) -> Answer:
    """What was found, measured and drawn; nothing is written."""
    with ThreadPoolExecutor(1) as pool:
        picture = pool.submit(_picture, exam, found, clock)
        with clock("measure"):
            from lumbarseg.measure import measure
            from lumbarseg.report import About, facts

            about = About(name, model.path.stem, model.card.digest, tuple(exam.notes))
            told = facts(found, measure(found.labels), about)
            told["exam"]["about"] = exam.about
    labels = parted(found.labels, wish.parts)
    told |= {"scheme": wish.scheme, "labels": values.meanings(labels.array, wish.scheme, wish.parts)}
    doubts = tuple(note for note in exam.notes if note != exam.about.get("taken"))
    left_out = values.left_out(labels.array, wish.scheme)
    return Answer(found, labels, told, picture.result(), (*doubts, *found.notes), wish, left_out)


def _picture(exam: Exam, found: Segmentation, clock: Clock) -> bytes:
    with clock("picture"):
        from lumbarseg.report.png import caption, draw

        return draw(exam.volume, found.labels, found.levels, caption(found))


def parted(labels: Volume, parts: str) -> Volume:
    """The label map with posterior elements as the user wants them; labels: uint8 in the table's values."""
    import numpy as np

    from lumbarseg.anatomy import LEVELS, arch_of, by_name
    from lumbarseg.volume import Volume

    if parts == "apart":
        return labels
    table = np.arange(256, dtype=np.uint8)
    for level in LEVELS:
        table[arch_of(level).label] = by_name(level).label if parts == "whole" else 0
    return Volume(table[labels.array], labels.affine)


def summary(given: Answer) -> dict[str, Any]:
    """The short form of an answer, for --json."""
    return short(given.facts | {"warnings": list(given.warnings), "left_out": list(given.left_out)})


def short(facts: dict[str, Any]) -> dict[str, Any]:
    """The short form of a report."""
    return {key: facts[key] for key in ("anchor", "confidence", "uncertain", "levels", "warnings", "left_out")}


def told(given: Answer) -> list[str]:
    """The same for a person: names from head to foot, what they were counted from, warnings."""
    names = " ".join(f"{level.name}{'?' if level.uncertain else ''}" for level in given.found.levels)
    about = given.facts["exam"]["about"]
    lines = [f"taken: {about['taken']}"] if "taken" in about else []
    if about.get("left_out"):
        lines.append(f"left out: {'; '.join(about['left_out'])}")
    lines += [names, f"counted from: {given.found.anchor}; confidence {given.found.confidence:.2f}"]
    if given.left_out:
        lines.append(f"the scheme {given.wish.scheme} has no value for {', '.join(given.left_out)}: left out")
    return lines + [f"warning: {text}" for text in given.warnings]


def page(given: Answer, scores: Sequence[Score], labels_file: str) -> str:
    """The report as a page for a browser, picture and scores against the truth included."""
    from lumbarseg.report.html import page as page_of

    return page_of(given.facts, [given.picture], [score.to_dict() for score in scores], labels_file)
