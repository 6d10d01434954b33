"""The finished exams of a datastore as a prepared dataset that follows it: what was drawn again is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lumbarseg.datasets import Dataset
from lumbarseg.datasets.folder import checksum, save
from lumbarseg.datasets.importers.monailabel import importer
from lumbarseg.datasets.importing import Imported, import_source


def corrected(
    studies: Path,
    target: Path,
    patient: str | None = None,
    jobs: int | None = 1,
    step: Callable[[str, int], None] | None = None,
) -> Imported:
    """Bring the dataset at `target` up to date with the final labels of a datastore.

    Cases whose exam or label changed, or is finished no more, are forgotten first; the others are not touched. patient:
    regular expression for whose exam it is; step: told the name of each exam that is done, and how many there are.
    DatasetError as `import_source`.
    """
    source = importer(patient=patient)
    if (target / "dataset.json").exists():
        dataset = Dataset.open(target)
        now = {raw.name: raw.files for raw in source.find(studies).raws}
        kept = tuple(case for case in dataset.everything if _same(case.about, now.get(case.name), studies))
        if len(kept) < len(dataset.everything):
            save(replace(dataset, everything=kept))
    return import_source(source, studies, target, jobs, held_out=0.0, step=step)


def _same(about: dict[str, object], files: tuple[Path, ...] | None, studies: Path) -> bool:
    """Whether a case was made from these files as they are."""
    imported = about.get("imported")
    known = imported.get("files") if isinstance(imported, dict) else None
    if not files or not isinstance(known, dict):
        return False
    return known == {file.relative_to(studies).as_posix(): checksum(file) for file in files}
