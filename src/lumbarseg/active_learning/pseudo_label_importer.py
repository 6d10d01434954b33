"""Exams without labels as a source of a prepared dataset, whose labels are those of models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg import __version__
from lumbarseg.anatomy import structure_by_label
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.dataset import LabelTable
from lumbarseg.datasets.importers.chu import corrected_affine
from lumbarseg.datasets.importers.file_pairs import clean_case_name, patients_from_names
from lumbarseg.datasets.importers.importer import Importer, LoadedCase, SourceCase, SourceListing
from lumbarseg.datasets.orientation import estimate_orientation
from lumbarseg.errors import DatasetError, LumbarsegError, ModelError
from lumbarseg.inference import Model
from lumbarseg.io import exam_name, find_exams, read_exam
from lumbarseg.volume import Volume

from .ensemble import model_scopes
from .pseudo_labels import MIN_AGREEMENT, UNKNOWN_LABEL, PseudoLabels, label_exam, label_table

NAME = "pseudo-label"


@dataclass(frozen=True)
class PseudoLabelOptions:
    """How exams are labelled. models: files; lowest: of the lowest whole vertebra, where the user knows it.

    agree: Dice of two models below which a structure is flagged; patient: regular expression that finds the patient in
    an exam's name, the whole name without; licence, citation: of the exams.
    """

    models: tuple[Path, ...]
    lowest: str | None = None
    min_agreement: float = MIN_AGREEMENT
    device: str = "auto"
    patient_pattern: str | None = None
    licence: str = ""
    citation: str = ""

    def provenance(self) -> dict[str, Any]:
        """What the labels depend on, as plain values; equal for equal labels of the same exam."""
        loaded = load_models(self.models, self.device)
        told = []
        for (name, model), duty in zip(loaded.items(), model_scopes(list(loaded), _cards(loaded)), strict=True):
            made_for = list(model.card.targets) or sorted(
                str(kind) for kind in model.card.output_kinds if kind != "background"
            )
            told.append(
                {"model": name, "digest": model.card.digest, "made_for": made_for, "heard_on": sorted(duty.kinds)}
            )
        return {"models": told, "lowest": self.lowest or "", "agree": self.min_agreement}


def _cards(loaded: Mapping[str, Model]) -> list[Any]:
    return [model.card for model in loaded.values()]


@lru_cache(maxsize=2)
def load_models(paths: tuple[Path, ...], device: str) -> dict[str, Model]:
    """Models by what a person calls them: their files' names, or paths where two have the same; loaded once."""
    times = Counter(path.name for path in paths)
    if len(set(paths)) < len(paths):
        raise ModelError(f"{next(path for path in paths if paths.count(path) > 1)}: given twice; give each model once")
    return {(path.name if times[path.name] == 1 else str(path)): Model.load(path, device) for path in paths}


def group_exams_by_folder(exams: Iterable[Path]) -> dict[Path, dict[str, Path]]:
    """Each folder that exams come from with its exams, by the names that their cases will have.

    exams: files and folders, as `find_exams` reads them. An exam whose name another has gets its folder's before it;
    DatasetError when they still have the same.
    """
    groups: dict[Path, dict[Path, None]] = {}
    for path in exams:
        folder = path if path.is_dir() else path.parent
        groups.setdefault(folder, {}).update(dict.fromkeys(find_exams([path])))
    every = dict.fromkeys(exam for group in groups.values() for exam in group)
    times = Counter(clean_case_name(exam_name(exam)) for exam in every)
    names = {
        exam: clean_case_name(exam_name(exam))
        if times[clean_case_name(exam_name(exam))] == 1
        else clean_case_name(f"{exam.resolve().parent.name}_{exam_name(exam)}")
        for exam in every
    }
    for exam, name in names.items():
        twin = next((other for other, called in names.items() if called == name and other != exam), None)
        if twin is not None:
            raise DatasetError(f"{exam} and {twin}: two exams under one name; rename one of them")
    return {folder: {names[exam]: exam for exam in group} for folder, group in groups.items()}


def create_importer(options: PseudoLabelOptions, exams: Mapping[str, Path], target: Path) -> Importer:
    """Of exams that lie in one folder; DatasetError when the target's labels are of other models."""
    facts = options.provenance()
    _check_target(target, facts)
    table = label_table(
        model_scopes(
            list(load_models(options.models, options.device)), _cards(load_models(options.models, options.device))
        )
    )
    told = ", ".join(f"{model['model']} {model['digest'][:12]}" for model in facts["models"])
    citation = f"{options.citation or 'own exams'}; labels by {told}"
    find = partial(_find_cases, exams=dict(exams), patient_pattern=options.patient_pattern)
    return Importer(
        NAME,
        table,
        citation,
        options.licence,
        find,
        partial(_read_case, exams=dict(exams), options=options),
        searches_subfolders=False,
    )


def _check_target(target: Path, provenance: Mapping[str, Any]) -> None:
    if not (target / "dataset.json").exists():
        return
    for case in Dataset.open(target).all_cases:
        before = case.metadata.get("pseudo", {})
        if any(before.get(key) != value for key, value in provenance.items()):
            raise DatasetError(f"{target}: its labels were made by other models or options; choose another folder")


def _find_cases(_: Path, exams: Mapping[str, Path], patient_pattern: str | None) -> SourceListing:
    """The exams that were given; nothing else of the folder is looked at."""
    known, refused = (
        patients_from_names(list(exams), patient_pattern) if patient_pattern else (dict.fromkeys(exams, ""), [])
    )
    raws = []
    for name, who in known.items():
        exam = exams[name]
        files = tuple(sorted(p for p in exam.rglob("*") if p.is_file())) if exam.is_dir() else (exam,)
        raws.append(SourceCase(name, who or name, files, split="train"))
    return SourceListing(tuple(raws), tuple(refused))


def _read_case(raw: SourceCase, exams: Mapping[str, Path], options: PseudoLabelOptions) -> LoadedCase:
    """One exam, labelled; every refusal names it."""
    path = exams[raw.name]
    exam = read_exam(path)
    models = load_models(options.models, options.device)
    try:
        done = label_exam(exam.volume, models, options.lowest, options.min_agreement)
    except LumbarsegError as error:
        raise DatasetError(f"{path}: {error}") from error
    image, labels, warnings = _correct_axes(exam.volume, done)
    engines = sorted({model.engine_name for model in models.values()})
    program = {"program": f"lumbarseg {__version__}", "engines": engines}
    notes = tuple(f"image-header: {path.name}: {note}" for note in exam.notes if note != exam.metadata.get("taken"))
    about = {
        "pseudo": {**options.provenance(), **program, **done.info},
        "review": any(not text.startswith("axis:") for text in warnings),
    }
    return LoadedCase(image, labels, None, (*notes, *warnings), about)


def _correct_axes(image: Volume, pseudo_labels: PseudoLabels) -> tuple[Volume, Volume, tuple[str, ...]]:
    """The exam and its labels with axes that the header has the wrong way round, as the anatomy shows, put right."""
    values = (int(value) for value in np.unique(pseudo_labels.labels.array) if value not in (0, UNKNOWN_LABEL))
    named: LabelTable = {value: (structure_by_label(value).name,) for value in values}
    affine, told = corrected_affine(image.affine, estimate_orientation(image, pseudo_labels.labels, named))
    corrected = [text for text in told if text.startswith("axis:")]
    if not corrected:
        return image, pseudo_labels.labels, pseudo_labels.warnings
    others = [text for text in pseudo_labels.warnings if not text.startswith("axis:")]
    return Volume(image.array, affine), Volume(pseudo_labels.labels.array, affine), (*corrected, *others)
