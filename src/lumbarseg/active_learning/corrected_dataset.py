"""The finished exams of a datastore as a prepared dataset that follows it: what was drawn again is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lumbarseg.datasets import Dataset
from lumbarseg.datasets.dataset import file_checksum, save_dataset
from lumbarseg.datasets.importers.monailabel import make_importer
from lumbarseg.datasets.importing import ImportResult, import_source


def update_corrected_dataset(
    studies: Path,
    target: Path,
    patient: str | None = None,
    jobs: int | None = 1,
    step: Callable[[str, int], None] | None = None,
) -> ImportResult:
    """Bring the dataset at `target` up to date with the final labels of a datastore.

    Cases whose exam or label changed, or is finished no more, are forgotten first; the others are not touched. patient:
    regular expression for whose exam it is; step: told the name of each exam that is done, and how many there are.
    DatasetError as `import_source`.
    """
    source = make_importer(patient=patient)
    if (target / "dataset.json").exists():
        dataset = Dataset.open(target)
        now = {raw.name: raw.files for raw in source.list_cases(studies).cases}
        kept = tuple(case for case in dataset.all_cases if _is_unchanged(case.metadata, now.get(case.name), studies))
        if len(kept) < len(dataset.all_cases):
            save_dataset(replace(dataset, all_cases=kept))
    return import_source(source, studies, target, jobs, val_fraction=0.0, on_case_done=step)


def _is_unchanged(about: dict[str, object], files: tuple[Path, ...] | None, studies: Path) -> bool:
    """Whether a case was made from these files as they are."""
    imported = about.get("imported")
    known = imported.get("files") if isinstance(imported, dict) else None
    if not files or not isinstance(known, dict):
        return False
    return known == {file.relative_to(studies).as_posix(): file_checksum(file) for file in files}
