"""Import exams without labels into a prepared dataset, with the pseudo-labels of models, or complete a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg import __version__
from lumbarseg.anatomy import structure_by_label
from lumbarseg.datasets import Case, Dataset, read_case
from lumbarseg.datasets.dataset import FILE_NAME
from lumbarseg.datasets.importers.file_pairs import clean_case_name, patients_from_names
from lumbarseg.datasets.importers.importer import Importer, LoadedCase, SourceCase, SourceListing
from lumbarseg.datasets.importing import import_source
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.datasets.orientation import correct_orientation
from lumbarseg.errors import DatasetError, LumbarsegError, ModelError
from lumbarseg.inference import Model
from lumbarseg.io import exam_name, find_exams, read_exam
from lumbarseg.volume import Volume

from .completion import complete_exam
from .ensemble import model_scopes
from .pseudo_labels import (
    MIN_AGREEMENT,
    UNKNOWN_LABEL,
    PseudoLabelInfo,
    PseudoLabels,
    label_exam,
    label_table_of_models,
)

NAME = "pseudo-label"


@dataclass(frozen=True)
class PseudoLabelOptions:
    """Options of pseudo-labelling.

    models: model files; lowest: name of the lowest complete vertebra of every exam, if known; min_agreement: Dice of
    two models below which a structure is flagged; patient_pattern: regular expression that finds the patient in an
    exam's name, None for the complete name; licence, citation: of the exams.
    """

    models: tuple[Path, ...]
    lowest: str | None = None
    min_agreement: float = MIN_AGREEMENT
    device: str = "auto"
    patient_pattern: str | None = None
    licence: str = ""
    citation: str = ""

    def load_models(self) -> dict[str, Model]:
        """Load the models, once per process, by unique names."""
        return _load_models(self.models, self.device)

    def provenance(self) -> dict[str, Any]:
        """Return what the labels depend on, as JSON values: the same for the same labels of an exam."""
        cards = {name: model.card for name, model in self.load_models().items()}
        models = [
            {
                "model": name,
                "digest": card.digest,
                "made_for": list(card.targets) or sorted(card.output_kinds - {"background"}),
                "heard_on": sorted(scope.kinds),
            }
            for (name, card), scope in zip(cards.items(), model_scopes(cards), strict=True)
        ]
        return {"models": models, "lowest": self.lowest or "", "agree": self.min_agreement}


@lru_cache(maxsize=2)
def _load_models(paths: tuple[Path, ...], device: str) -> dict[str, Model]:
    """Load models by file name, or by path where two have the same file name; ModelError for a path given twice."""
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise ModelError(f"{repeated[0]}: given twice; give each model once")
    counts = Counter(path.name for path in paths)
    return {(path.name if counts[path.name] == 1 else str(path)): Model.load(path, device) for path in paths}


def group_exams_by_folder(paths: Iterable[Path]) -> dict[Path, dict[str, Path]]:
    """Find exams in files and folders; return for each source folder its exams by case name.

    The names of exams that would be the same are prefixed with their folders; DatasetError if that does not help.
    """
    groups: dict[Path, dict[Path, None]] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        groups.setdefault(folder, {}).update(dict.fromkeys(find_exams([path])))
    names = {exam: clean_case_name(exam_name(exam)) for group in groups.values() for exam in group}
    counts = Counter(names.values())
    for exam, name in names.items():
        if counts[name] > 1:
            names[exam] = clean_case_name(f"{exam.resolve().parent.name}_{exam_name(exam)}")
    exams: dict[str, Path] = {}
    for exam, name in names.items():
        if exams.setdefault(name, exam) != exam:
            raise DatasetError(f"{exams[name]} and {exam}: two exams under one name; rename one of them")
    return {folder: {names[exam]: exam for exam in group} for folder, group in groups.items()}


@dataclass(frozen=True)
class PseudoLabelResult:
    """Result of labelling exams.

    cases: all labelled cases; flagged: those to review, the ones with most warnings first; added, unchanged: numbers of
    cases that are new, or were labelled before; refused: exams that could not be labelled, with reasons.
    """

    cases: tuple[Case, ...]
    flagged: tuple[Case, ...]
    added: int
    unchanged: int
    refused: dict[str, str]


def create_pseudo_labels(
    options: PseudoLabelOptions,
    paths: Iterable[Path],
    target: Path,
    jobs: int = 1,
    on_case_done: Callable[[str, int], None] | None = None,
) -> PseudoLabelResult:
    """Label exams with the models of `options`, into the dataset at `target`; a failed exam does not stop the others.

    paths: files and folders of exams, and prepared datasets to complete; on_case_done: called with the name of each
    case and the number of exams.
    """
    sources = _find_sources(options, paths)
    total = sum(len(source.exams) for source in sources.values())
    on_done = on_case_done and (lambda name, _: on_case_done(name, total))
    provenance = options.provenance()
    _check_provenance(target, provenance)
    table = label_table_of_models(model_scopes({name: model.card for name, model in options.load_models().items()}))
    models = ", ".join(f"{model['model']} {model['digest'][:12]}" for model in provenance["models"])
    citation = f"{options.citation or 'own exams'}; labels by {models}"
    results = []
    for folder, source in sources.items():
        find, read = source.list_cases, source.read_case
        importer = Importer(NAME, table, citation, options.licence, find, read, searches_subfolders=False)
        results.append(import_source(importer, folder, target, jobs, val_fraction=0.0, on_case_done=on_done))
    names = {name for result in results for name in (*result.added, *result.unchanged)}
    cases = tuple(case for case in results[-1].dataset.cases() if case.name in names)
    flagged = sorted((case for case in cases if case.metadata.get("review")), key=lambda case: -len(case.warnings))
    added = sum(len(result.added) for result in results)
    refused = {name: reason for result in results for name, reason in result.refused.items()}
    return PseudoLabelResult(cases, tuple(flagged), added, len(names) - added, refused)


def _find_sources(options: PseudoLabelOptions, paths: Iterable[Path]) -> dict[Path, _ExamSource | _DatasetSource]:
    """Return the exams of each folder and the cases of each dataset; DatasetError for a name in two of them."""
    paths = list(paths)
    datasets = [path for path in paths if (path / FILE_NAME).is_file()]
    groups = group_exams_by_folder(path for path in paths if path not in datasets)
    sources: dict[Path, _ExamSource | _DatasetSource] = {f: _ExamSource(options, exams) for f, exams in groups.items()}
    for folder in datasets:
        sources[folder] = _DatasetSource(options, {case.name: case for case in Dataset.open(folder).all_cases})
    counts = Counter(name for source in sources.values() for name in source.exams)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DatasetError(f"{repeated[0]}: two exams under one name; give their folders in two commands")
    return sources


def _check_provenance(target: Path, provenance: Mapping[str, Any]) -> None:
    """Raise DatasetError when the labels of a dataset were made with other models or options."""
    if (target / "dataset.json").exists():
        for case in Dataset.open(target).all_cases:
            stored = case.metadata.get("pseudo", {})
            if any(stored.get(key) != value for key, value in provenance.items()):
                raise DatasetError(f"{target}: its labels were made by other models or options; choose another folder")


@dataclass(frozen=True)
class _ExamSource:
    """The exams of one folder, by case name; picklable."""

    options: PseudoLabelOptions
    exams: dict[str, Path]

    def list_cases(self, _: Path) -> SourceListing:
        """List the exams with their patients."""
        pattern = self.options.patient_pattern
        names = dict.fromkeys(self.exams, "")
        patients, refused = patients_from_names(list(self.exams), pattern) if pattern else (names, [])
        files = {name: _exam_files(self.exams[name]) for name in patients}
        cases = [SourceCase(name, who or name, files[name], split="train") for name, who in patients.items()]
        return SourceListing(tuple(cases), tuple(refused))

    def read_case(self, case: SourceCase) -> LoadedCase:
        """Read and label an exam; DatasetError names the exam."""
        path, options = self.exams[case.name], self.options
        exam = read_exam(path)
        try:
            result = label_exam(exam.volume, options.load_models(), options.lowest, options.min_agreement)
        except LumbarsegError as error:
            raise DatasetError(f"{path}: {error}") from error
        image, labels, warnings = _correct_axes(exam.volume, result)
        notes = tuple(f"image-header: {path.name}: {note}" for note in exam.notes if note != exam.metadata.get("taken"))
        return LoadedCase(image, labels, None, (*notes, *warnings), _metadata(options, result.info, warnings))


@dataclass(frozen=True)
class _DatasetSource:
    """The cases of a prepared dataset, by name; picklable."""

    options: PseudoLabelOptions
    exams: dict[str, Case]

    def list_cases(self, _: Path) -> SourceListing:
        """List the cases as the dataset describes them."""
        listed = [
            SourceCase(name, case.patient, (case.image, case.labels), case.contrast, case.scanner, case.split)
            for name, case in self.exams.items()
        ]
        return SourceListing(tuple(listed))

    def read_case(self, source_case: SourceCase) -> LoadedCase:
        """Read a case and fill what its annotators left open; a case that does not train stays as it is."""
        case, options = self.exams[source_case.name], self.options
        image, labels = read_case(case)
        result = PseudoLabels(labels, case.label_table, (), PseudoLabelInfo())
        if case.split == "train":
            models = options.load_models()
            result = complete_exam(image, labels, case.label_table, models, options.min_agreement)
        origin = {"licence": case.licence, "source": f"{case.source}; open voxels by lumbarseg pseudo-label"}
        metadata = {**case.metadata, **origin, **_metadata(options, result.info, result.warnings)}
        return LoadedCase(image, result.labels, result.label_table, (*case.warnings, *result.warnings), metadata)


def _metadata(options: PseudoLabelOptions, info: PseudoLabelInfo, warnings: Iterable[str]) -> dict[str, Any]:
    """Return the origin of pseudo-labels, and whether a person should review them."""
    engines = sorted({model.engine_name for model in options.load_models().values()})
    program = {"program": f"lumbarseg {__version__}", "engines": engines}
    needs_review = any(not text.startswith("axis:") for text in warnings)
    return {"pseudo": {**options.provenance(), **program, **asdict(info)}, "review": needs_review}


def _exam_files(exam: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in exam.rglob("*") if path.is_file())) if exam.is_dir() else (exam,)


def _correct_axes(image: Volume, result: PseudoLabels) -> tuple[Volume, Volume, tuple[str, ...]]:
    """Correct axes that the header reverses, as the anatomy shows; return exam, labels and all warnings."""
    values = (int(value) for value in np.unique(result.labels.array) if value not in (0, UNKNOWN_LABEL))
    table: LabelTable = {value: (structure_by_label(value).name,) for value in values}
    exam = correct_orientation(image, result.labels, table)
    corrections = [text for text in exam.warnings if text.startswith("axis:")]
    if not corrections:
        return image, result.labels, result.warnings
    others = [text for text in result.warnings if not text.startswith("axis:")]
    return exam.image, exam.labels, (*corrections, *others)
