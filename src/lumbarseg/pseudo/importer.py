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
from lumbarseg.anatomy import by_label
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.anatomy_axes import facing
from lumbarseg.datasets.folder import Table
from lumbarseg.datasets.importers.chu import turned
from lumbarseg.datasets.importers.pairs import clean, patients
from lumbarseg.datasets.importers.raw import Found, Importer, Raw, Read
from lumbarseg.errors import DatasetError, LumbarsegError, ModelError
from lumbarseg.files import find_exams, read_exam, stem
from lumbarseg.model import Model
from lumbarseg.volume import Volume

from .label import AGREE, UNKNOWN, Labelled, label, table_of
from .voices import duties

NAME = "pseudo-label"


@dataclass(frozen=True)
class Wish:
    """How exams are labelled. models: files; lowest: of the lowest whole vertebra, where the user knows it.

    agree: Dice of two models below which a structure is flagged; patient: regular expression that finds the patient in
    an exam's name, the whole name without; licence, citation: of the exams.
    """

    models: tuple[Path, ...]
    lowest: str | None = None
    agree: float = AGREE
    device: str = "auto"
    patient: str | None = None
    licence: str = ""
    citation: str = ""

    def facts(self) -> dict[str, Any]:
        """What the labels depend on, as plain values; equal for equal labels of the same exam."""
        loaded = loaded_models(self.models, self.device)
        told = []
        for (name, model), duty in zip(loaded.items(), duties(list(loaded), _cards(loaded)), strict=True):
            made_for = list(model.card.targets) or sorted(
                str(kind) for kind in model.card.painted if kind != "background"
            )
            told.append(
                {"model": name, "digest": model.card.digest, "made_for": made_for, "heard_on": sorted(duty.kinds)}
            )
        return {"models": told, "lowest": self.lowest or "", "agree": self.agree}


def _cards(loaded: Mapping[str, Model]) -> list[Any]:
    return [model.card for model in loaded.values()]


@lru_cache(maxsize=2)
def loaded_models(paths: tuple[Path, ...], device: str) -> dict[str, Model]:
    """Models by what a person calls them: their files' names, or paths where two have the same; loaded once."""
    times = Counter(path.name for path in paths)
    if len(set(paths)) < len(paths):
        raise ModelError(f"{next(path for path in paths if paths.count(path) > 1)}: given twice; give each model once")
    return {(path.name if times[path.name] == 1 else str(path)): Model.load(path, device) for path in paths}


def sources(exams: Iterable[Path]) -> dict[Path, dict[str, Path]]:
    """Each folder that exams come from with its exams, by the names that their cases will have.

    exams: files and folders, as `find_exams` reads them. An exam whose name another has gets its folder's before it;
    DatasetError when they still have the same.
    """
    groups: dict[Path, dict[Path, None]] = {}
    for path in exams:
        folder = path if path.is_dir() else path.parent
        groups.setdefault(folder, {}).update(dict.fromkeys(find_exams([path])))
    every = dict.fromkeys(exam for group in groups.values() for exam in group)
    times = Counter(clean(stem(exam)) for exam in every)
    names = {
        exam: clean(stem(exam))
        if times[clean(stem(exam))] == 1
        else clean(f"{exam.resolve().parent.name}_{stem(exam)}")
        for exam in every
    }
    for exam, name in names.items():
        twin = next((other for other, called in names.items() if called == name and other != exam), None)
        if twin is not None:
            raise DatasetError(f"{exam} and {twin}: two exams under one name; rename one of them")
    return {folder: {names[exam]: exam for exam in group} for folder, group in groups.items()}


def importer(wish: Wish, exams: Mapping[str, Path], target: Path) -> Importer:
    """Of exams that lie in one folder; DatasetError when the target's labels are of other models."""
    facts = wish.facts()
    _check_target(target, facts)
    table = table_of(
        duties(list(loaded_models(wish.models, wish.device)), _cards(loaded_models(wish.models, wish.device)))
    )
    told = ", ".join(f"{model['model']} {model['digest'][:12]}" for model in facts["models"])
    citation = f"{wish.citation or 'own exams'}; labels by {told}"
    find = partial(_find, exams=dict(exams), patient=wish.patient)
    return Importer(NAME, table, citation, wish.licence, find, partial(_read, exams=dict(exams), wish=wish), deep=False)


def _check_target(target: Path, facts: Mapping[str, Any]) -> None:
    if not (target / "dataset.json").exists():
        return
    for case in Dataset.open(target).everything:
        before = case.about.get("pseudo", {})
        if any(before.get(key) != value for key, value in facts.items()):
            raise DatasetError(f"{target}: its labels were made by other models or options; choose another folder")


def _find(_: Path, exams: Mapping[str, Path], patient: str | None) -> Found:
    """The exams that were given; nothing else of the folder is looked at."""
    known, refused = patients(list(exams), patient) if patient else (dict.fromkeys(exams, ""), [])
    raws = []
    for name, who in known.items():
        exam = exams[name]
        files = tuple(sorted(p for p in exam.rglob("*") if p.is_file())) if exam.is_dir() else (exam,)
        raws.append(Raw(name, who or name, files, split="train"))
    return Found(tuple(raws), tuple(refused))


def _read(raw: Raw, exams: Mapping[str, Path], wish: Wish) -> Read:
    """One exam, labelled; every refusal names it."""
    path = exams[raw.name]
    exam = read_exam(path)
    models = loaded_models(wish.models, wish.device)
    try:
        done = label(exam.volume, models, wish.lowest, wish.agree)
    except LumbarsegError as error:
        raise DatasetError(f"{path}: {error}") from error
    image, labels, warnings = _put_right(exam.volume, done)
    engines = sorted({model.engine for model in models.values()})
    program = {"program": f"lumbarseg {__version__}", "engines": engines}
    notes = tuple(f"image-header: {path.name}: {note}" for note in exam.notes if note != exam.about.get("taken"))
    about = {
        "pseudo": {**wish.facts(), **program, **done.facts},
        "review": any(not text.startswith("axis:") for text in warnings),
    }
    return Read(image, labels, None, (*notes, *warnings), about)


def _put_right(image: Volume, done: Labelled) -> tuple[Volume, Volume, tuple[str, ...]]:
    """The exam and its labels with axes that the header has the wrong way round, as the anatomy shows, put right."""
    values = (int(value) for value in np.unique(done.labels.array) if value not in (0, UNKNOWN))
    named: Table = {value: (by_label(value).name,) for value in values}
    affine, told = turned(image.affine, facing(image, done.labels, named))
    corrected = [text for text in told if text.startswith("axis:")]
    if not corrected:
        return image, done.labels, done.warnings
    others = [text for text in done.warnings if not text.startswith("axis:")]
    return Volume(image.array, affine), Volume(done.labels.array, affine), (*corrected, *others)
