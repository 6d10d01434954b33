"""Which exams a call means, and the files that each becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lumbarseg.errors import LumbarsegError

from . import output_formats

if TYPE_CHECKING:
    from lumbarseg.io.dicom.web import StudyAddress


@dataclass(frozen=True)
class ExamJob:
    """An exam to answer and the files of its answer, or the reason why it cannot be begun.

    source: the study on a server that `path` was fetched from.
    """

    path: Path
    output_files: dict[str, Path] = field(default_factory=dict)
    error: str | None = None
    address: StudyAddress | None = None

    @property
    def display_name(self) -> str:
        """What it is called: where it lies."""
        return str(self.address or self.path)


def find_jobs(arguments: Sequence[Path | ExamJob], output_dir: Path, formats: Sequence[str]) -> Iterator[ExamJob]:
    """Every exam that the arguments mean, once; those whose files would meet another's are refused.

    An argument that is a job already is given its files.
    """
    from lumbarseg.io import exam_name, find_exams

    seen: set[Path] = set()
    taken: dict[str, Path] = {}
    inputs = {path.resolve() for path in arguments if isinstance(path, Path)}
    for argument in arguments:
        if isinstance(argument, ExamJob):
            files = output_formats.output_paths(output_dir, argument.path.name, formats)
            yield argument if argument.error else replace(argument, output_files=files)
            continue
        try:
            exams = find_exams([argument])
        except LumbarsegError as error:
            yield ExamJob(argument, error=str(error))
            continue
        for exam in exams:
            if exam.resolve() in seen:
                continue
            seen.add(exam.resolve())
            name = exam_name(exam)
            files = output_formats.output_paths(output_dir, name, formats)
            other = taken.setdefault(name.casefold(), exam)
            if other != exam:
                reason = (
                    f"{exam}: its answer would replace that of {other}, of the same name; use another -o or rename it"
                )
                yield ExamJob(exam, error=reason)
            elif inputs & {path.resolve() for path in files.values()}:
                yield ExamJob(exam, error=f"{exam}: its answer would replace an exam of this call; use another -o")
            else:
                yield ExamJob(exam, files)
