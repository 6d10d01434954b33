"""Which exams a batch means, and the files that the result of each becomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lumbarseg.errors import LumbarsegError
from lumbarseg.io import exam_name, find_exams
from lumbarseg.io.dicom.web import StudyAddress

from .options import DEFAULT_FORMATS, FORMAT_SUFFIXES


@dataclass(frozen=True)
class ExamJob:
    """An exam to segment and the files of its result, or the reason why it cannot be started.

    Attributes
    ----------
    path : where the exam is read from
    name : what the user calls it: a path, or an address
    output_files : "labels" (NIfTI) or another format, "report" and "picture"
    error : why it cannot be started
    address : the study on a server that `path` was fetched from
    """

    path: Path
    name: str
    output_files: dict[str, Path] = field(default_factory=dict)
    error: str | None = None
    address: StudyAddress | None = None

    def absolute(self) -> ExamJob:
        """Return the job with absolute paths, for a process that works in another folder."""
        files = {name: path.absolute() for name, path in self.output_files.items()}
        return replace(self, path=self.path.absolute(), output_files=files)


def output_paths(folder: Path, stem: str, formats: Iterable[str] = DEFAULT_FORMATS) -> dict[str, Path]:
    """Return the files that a result becomes: "labels" (NIfTI) or other formats by name, "report", "picture"."""
    suffixes = {"labels" if name == "nifti" else name: FORMAT_SUFFIXES[name] for name in formats}
    suffixes |= {"report": "_report.json", "picture": ".png"}
    return {name: folder / f"{stem}{suffix}" for name, suffix in suffixes.items()}


def find_jobs(sources: Sequence[Path | ExamJob], output_dir: Path, formats: Sequence[str]) -> Iterator[ExamJob]:
    """Yield each exam of the sources once; those whose files would replace another's have an error.

    A source that is a job already only gets its output files.
    """
    resolved_paths: set[Path] = set()
    names: dict[str, Path] = {}
    inputs = {path.resolve() for path in sources if isinstance(path, Path)}
    for source in sources:
        if isinstance(source, ExamJob):
            yield replace(source, output_files=output_paths(output_dir, source.path.name, formats))
            continue
        try:
            exams = find_exams([source])
        except LumbarsegError as error:
            yield ExamJob(source, str(source), error=str(error))
            continue
        for exam in exams:
            if exam.resolve() in resolved_paths:
                continue
            resolved_paths.add(exam.resolve())
            stem = exam_name(exam)
            files = output_paths(output_dir, stem, formats)
            other = names.setdefault(stem.casefold(), exam)
            if other != exam:
                problem = (
                    f"its result would replace that of {other}, which has the same name; use another -o or rename it"
                )
            elif inputs & {path.resolve() for path in files.values()}:
                problem = "its result would replace an exam of this batch; use another -o"
            else:
                yield ExamJob(exam, str(exam), files)
                continue
            yield ExamJob(exam, str(exam), error=f"{exam}: {problem}")
