"""What is done with one exam of a batch, in whatever process: look whether it was done, read, answer, write."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lumbarseg
from lumbarseg.errors import LumbarsegError, ModelError

from . import answers, outputs, say
from .jobs import Job

if TYPE_CHECKING:
    from lumbarseg.files import Exam
    from lumbarseg.model import Model
    from lumbarseg.segment import Segmentation

Row = dict[str, Any]
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Work:
    """What a call wants of each of its exams.

    digest: of the model; exams: how many there are; threads: of the arithmetic, 0 for one per core; volume: which one
    of a 4-D file; again: whether to do what is done; run: a name for this call; series: which one of a DICOM study.
    """

    model: Path
    digest: str
    device: str
    exams: int
    threads: int
    wish: answers.Wish
    volume: int | None
    again: bool
    run: str
    series: str | None = None

    def wanted(self, job: Job) -> str:
        """Digest of everything that was asked for, but for the exam and the model."""
        from lumbarseg.batch.record import text_digest

        return text_digest([asdict(self.wish), sorted(job.files), self.volume, self.series])


@dataclass(frozen=True)
class Outcome:
    """What became of an exam. row: for programs; told: for a person; full: the disk was; stages: seconds of each.

    begun: False for one that was left out, which the caller tells of all those at once.
    """

    row: Row
    told: tuple[str, ...] = ()
    full: bool = False
    stages: dict[str, float] = field(default_factory=dict)
    begun: bool = True


@dataclass(frozen=True, eq=False)
class Read:
    """An exam as read, with the digest of its files, "" where that cannot be told; began: when."""

    exam: Exam
    digest: str
    began: float


def whole(work: Work, job: Job) -> Outcome:
    """All of it, one after the other."""
    clock = answers.Clock()

    def all_of_it() -> Outcome:
        got = read(work, job, clock)
        if isinstance(got, Outcome):
            return got
        model = loaded(work, clock)
        return write(work, job, got, segment(work, job, got, model, clock), model, clock)

    return replace(safely(job, all_of_it), stages=clock.stages)


def safely(job: Job, part: Callable[[], Any]) -> Any:
    """What `part` gives, or the outcome that says how it failed: one exam never stops the others."""
    try:
        return part()
    except (LumbarsegError, OSError, MemoryError) as error:
        return failed(job, say.reason(error), _full(error))
    except Exception as error:
        if os.environ.get("LUMBARSEG_DEBUG"):
            raise
        return failed(job, say.fault(error))


def failed(job: Job, reason: str, full: bool = False) -> Outcome:
    """The outcome of an exam without an answer."""
    reason = reason.replace(str(job.path), job.exam)
    text = reason if job.exam in reason else f"{job.exam}: {reason}"
    return Outcome({"exam": job.exam, "error": text}, full=full)


def lost(job: Job, how: str) -> Outcome:
    """The outcome of an exam on which workers died, or that failed on a cluster."""
    if how.startswith("killed"):
        how = f"the processes that worked on it died ({how}); it may need more memory than there is, try fewer --jobs"
    return failed(job, how)


def read(work: Work, job: Job, clock: answers.Clock) -> Read | Outcome:
    """An exam, or what became of it where it was answered before and nothing changed."""
    from lumbarseg.batch.record import digest
    from lumbarseg.files import read_exam

    if job.refusal:
        return Outcome({"exam": job.exam, "error": job.refusal})
    began = time.monotonic()
    with clock("digest"):
        content = digest(job.path) or ""
        known = _known(work, job, content)
    if known:
        return known
    with clock("read"):
        return Read(read_exam(job.path, work.volume, work.series), content, began)


def segment(work: Work, job: Job, got: Read, model: Model, clock: answers.Clock) -> Segmentation:
    """What is in an exam; what it cannot be written as is refused before."""
    outputs.check(got.exam, job.files)
    return answers.segmented(got.exam, model, work.wish, clock)


def write(work: Work, job: Job, got: Read, found: Segmentation, model: Model, clock: answers.Clock) -> Outcome:
    """The answer, measured and drawn, on disk; its report last: that says what it was made from, so it is there when
    all the rest is.
    """
    from lumbarseg.batch.record import KEY, Record, digest

    given = answers.answer(job.exam, got.exam, found, model, work.wish, clock)
    report = {"report": job.files["report"]}
    others = {name: path for name, path in job.files.items() if name not in report}
    with clock("write"):
        _remove(report["report"])  # whatever it says, it is no longer about these files
        outputs.write(given, got.exam, others)
        digests = {name: content for name, path in others.items() if (content := digest(path))}
        record = Record(
            got.digest,
            work.digest,
            work.wanted(job),
            lumbarseg.__version__,
            digests,
            given.warnings,
            given.left_out,
            work.run,
        )
        given = replace(given, facts=given.facts | {KEY: record.to_dict()})
        outputs.write(given, got.exam, report)
    row = _row(job, answers.summary(given), False) | {"seconds": round(time.monotonic() - got.began, 2)}
    return Outcome(row, tuple(answers.told(given)))


def _remove(path: Path) -> None:
    """No such file any more."""
    from lumbarseg.files.disk import refusal

    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        pass  # whoever writes here next will say so
    except OSError as error:
        raise refusal(path, error, "replaced") from error


@lru_cache(maxsize=1)
def _model(path: Path, digest: str, device: str, exams: int, threads: int) -> Model:
    from lumbarseg.model import Model

    model = Model.load(path, device, exams, threads)
    if model.card.digest != digest:
        raise ModelError(f"{path}: is another model than the one that the batch began with; name the same one")
    return model


def loaded(work: Work, clock: answers.Clock) -> Model:
    """The model of this process, loaded once; its time in the network is counted."""
    with clock("model"):
        model = _model(work.model, work.digest, work.device, work.exams, work.threads)
    return answers.timed(model, clock)


def _known(work: Work, job: Job, content: str) -> Outcome | None:
    """What became of an exam that needs no new answer; None for one that does."""
    from lumbarseg.batch.record import changed
    from lumbarseg.batch.record import read as read_record

    found = read_record(job.files["report"])
    if not found or (work.again and found[1].run != work.run):
        return None
    facts, record = found
    gone, other = changed(record, job.files)
    same = record.made_from(content, work.digest, work.wanted(job), lumbarseg.__version__)
    if gone or (not same and not other) or not content:
        return None
    kept = [f"{path}: was changed since it was written, so it is kept; --again replaces it" for path in other]
    told = facts | {"warnings": [*record.warnings, *kept], "left_out": list(record.left_out)}
    lines = ["unchanged since it was answered; --again answers it anew"] if not kept else []
    return Outcome(
        _row(job, answers.short(told), record.run != work.run),
        (*lines, *(f"warning: {text}" for text in told["warnings"])),
    )


def _row(job: Job, short: Row, skipped: bool) -> Row:
    files = {name: str(path) for name, path in job.files.items()}
    return {"exam": job.exam, "error": None, "skipped": skipped, "files": files, **short}


def _full(error: BaseException) -> bool:
    """Whether a failure means that the disk is full."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL
