"""Keep a prepared dataset up to date with the corrected labels of a MONAI Label datastore."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lumbarseg.datasets import Case, Dataset
from lumbarseg.datasets.dataset import file_checksum, save_dataset
from lumbarseg.datasets.importers.monailabel import make_importer
from lumbarseg.datasets.importing import import_source
from lumbarseg.datasets.writing import DatasetResult


def update_corrected_dataset(
    studies: Path,
    target: Path,
    patient_pattern: str | None = None,
    jobs: int | None = 1,
    on_case_done: Callable[[str, int], None] | None = None,
) -> DatasetResult:
    """Import the final labels of a datastore into the dataset at `target`, again where they have changed.

    Cases whose exam or label changed or disappeared are removed first; unchanged cases are not touched.

    Parameters
    ----------
    studies : folder that MONAI Label serves
    patient_pattern : regular expression that finds the patient in an exam's name
    on_case_done : called with the name of each imported case and their total number

    Raises
    ------
    DatasetError : as `import_source`.
    """
    importer = make_importer(patient=patient_pattern)
    if (target / "dataset.json").exists():
        dataset = Dataset.open(target)
        sources = {source.name: source.files for source in importer.list_cases(studies).cases}
        unchanged = tuple(case for case in dataset.all_cases if _is_unchanged(case, sources.get(case.name), studies))
        if len(unchanged) < len(dataset.all_cases):
            save_dataset(replace(dataset, all_cases=unchanged))
    return import_source(importer, studies, target, jobs, val_fraction=0.0, on_case_done=on_case_done)


def _is_unchanged(case: Case, files: tuple[Path, ...] | None, studies: Path) -> bool:
    """Compare the checksums of a case's source files with those stored at its import."""
    imported = case.metadata.get("imported", {}).get("files")
    return bool(files) and imported == {f.relative_to(studies).as_posix(): file_checksum(f) for f in files or ()}
