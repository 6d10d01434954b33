"""Which exams a call means, and the files that each becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lumbarseg.errors import LumbarsegError

from . import outputs


@dataclass(frozen=True)
class Job:
    """An exam to answer and the files of its answer, or the reason why it cannot be begun."""

    path: Path
    files: dict[str, Path] = field(default_factory=dict)
    refusal: str | None = None


def jobs(arguments: Sequence[Path], out: Path, forms: Sequence[str]) -> Iterator[Job]:
    """Every exam that the arguments mean, once; those whose files would meet another's are refused."""
    from lumbarseg.files import find_exams, stem

    seen: set[Path] = set()
    taken: dict[str, Path] = {}
    inputs = {path.resolve() for path in arguments}
    for argument in arguments:
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
