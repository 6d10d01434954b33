"""Which exams a call means, and the files that each becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lumbarseg.errors import LumbarsegError

from . import outputs

if TYPE_CHECKING:
    from lumbarseg.files.dicomweb import Address


@dataclass(frozen=True)
class Job:
    """An exam to answer and the files of its answer, or the reason why it cannot be begun.

    source: the study on a server that `path` was fetched from.
    """

    path: Path
    files: dict[str, Path] = field(default_factory=dict)
    refusal: str | None = None
    source: Address | None = None

    @property
    def exam(self) -> str:
        """What it is called: where it lies."""
        return str(self.source or self.path)


def jobs(arguments: Sequence[Path | Job], out: Path, forms: Sequence[str]) -> Iterator[Job]:
    """Every exam that the arguments mean, once; those whose files would meet another's are refused.

    An argument that is a job already is given its files.
    """
    from lumbarseg.files import find_exams, stem

    seen: set[Path] = set()
    taken: dict[str, Path] = {}
    inputs = {path.resolve() for path in arguments if isinstance(path, Path)}
    for argument in arguments:
        if isinstance(argument, Job):
            files = outputs.paths(out, argument.path.name, forms)
            yield argument if argument.refusal else replace(argument, files=files)
            continue
        try:
            exams = find_exams([argument])
        except LumbarsegError as error:
            yield Job(argument, refusal=str(error))
            continue
        for exam in exams:
            if exam.resolve() in seen:
                continue
            seen.add(exam.resolve())
            name = stem(exam)
            files = outputs.paths(out, name, forms)
            other = taken.setdefault(name.casefold(), exam)
            if other != exam:
                reason = (
                    f"{exam}: its answer would replace that of {other}, of the same name; use another -o or rename it"
                )
                yield Job(exam, refusal=reason)
            elif inputs & {path.resolve() for path in files.values()}:
                yield Job(exam, refusal=f"{exam}: its answer would replace an exam of this call; use another -o")
            else:
                yield Job(exam, files)
