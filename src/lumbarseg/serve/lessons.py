"""What a training request does: labels of people to a prepared dataset, a run on it, and a model that is not worse."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, by_label
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.folder import Case, create, read_case, write_case
from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.files import read_image, read_labels, replacing
from lumbarseg.model import Model
from lumbarseg.score import dice
from lumbarseg.segment import segment
from lumbarseg.volume import Array

_FINAL = DefaultLabelTag.FINAL.value
_EVERY = 4  # every so many exams one is held out
_TOLERANCE = 0.005  # of a mean Dice: what counts as not worse


def prepared(datastore: Datastore, folder: Path) -> Dataset:
    """Every exam with a person's label as a prepared dataset in a new folder.

    A tissue that a label does not show anywhere is unknown there, not absent.
    """
    names = sorted(datastore.get_labeled_images())
    table = {0: (Kind.BACKGROUND.value,), **{s.label: (s.name,) for s in STRUCTURES}}
    create(folder, "corrected labels", table)
    for number, name in enumerate(names):
        image = read_image(datastore.get_image_uri(name))
        labels = read_labels(datastore.get_label_uri(name, _FINAL))
        info = datastore.get_label_info(name, _FINAL)
        about = {
            "split": "val" if len(names) >= _EVERY and number % _EVERY == _EVERY - 1 else "train",
            "source": "monailabel",
            "table": {**{str(value): list(row) for value, row in table.items()}, "0": _unseen(labels.array)},
            "annotator": str(info.get("client_id", "")),
            "saved": info.get("ts"),
        }
        write_case(folder, _case_name(name), image, labels, about)
    return Dataset.open(folder)


def _unseen(labels: Array) -> list[str]:
    """What the unlabelled voxels of a label map may be."""
    drawn = {by_label(int(value)).kind for value in np.unique(labels) if value}
    return [Kind.BACKGROUND.value, *(kind.value for kind in CLASSES if kind not in {*drawn, Kind.BACKGROUND})]


def _case_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-") or "exam"


def learnt(run: Path, weights: Path, options: Mapping[str, Any], target: Path) -> dict[str, Any]:
    """Train on the dataset of a run's folder, begun with `weights` or gone on with, and publish at `target`.

    Gives what became of it: "published", or "worse" with the scores of both.
    """
    from lumbarseg.train.checkpoint import NAME
    from lumbarseg.train.chosen import chosen
    from lumbarseg.train.export import export, moment
    from lumbarseg.train.loop import train

    dataset = Dataset.open(run / "data")
    settings = _settings(weights, options)
    resume = (run / NAME).is_file()
    train(settings, chosen(settings, [dataset]), run, resume, None if resume else weights)
    candidate = export(moment(run), run / "candidate.onnx")
    held_out = dataset.cases("val") or dataset.cases("train")
    before, after = (mean_dice(Model.load(path), held_out) for path in (weights, candidate))
    better = after >= before - _TOLERANCE
    if better:
        published(candidate, target)
    return {"state": "published" if better else "worse", "before": before, "after": after, "exams": len(held_out)}


def _settings(weights: Path, options: Mapping[str, Any]) -> Any:
    """Those of the preset fine, of the network that is gone on with."""
    from lumbarseg.train.presets import TABLE
    from lumbarseg.train.weights import Start

    start = Start.of(weights)
    changes: dict[str, Any] = {"minutes": options["minutes"]}
    if options["steps"]:
        changes |= {"steps": options["steps"], "minutes": 0.0}
    return replace(
        TABLE["fine"].begun(True),
        network=start.network,
        channels=start.channels,
        depth=start.spec.depth,
        method="segmentation" if start.spec.clicks is None else "deepedit",
        **changes,
    )


def mean_dice(model: Model, cases: list[Case]) -> float:
    """Mean Dice by name over exams and the structures that their references hold; an exam without answer counts 0."""
    scores = []
    for case in cases:
        image, truth = read_case(case)
        drawn = [int(value) for value in np.unique(truth.array) if value]
        try:
            found = segment(image, model).labels.array
        except LumbarsegError:
            found = np.zeros_like(truth.array)
        scores += [dice(found == value, truth.array == value) for value in drawn]
    return round(float(np.mean(scores)), 4) if scores else 0.0


def published(candidate: Path, target: Path) -> None:
    """Put a model in its place; the one before is kept beside it."""
    if not candidate.is_file():
        raise ServeError(f"{candidate}: the trained model is not there", 500)
    if target.is_file():
        shutil.copy2(target, target.with_suffix(".before"))
    with replacing(target) as file:
        file.write(candidate.read_bytes())
