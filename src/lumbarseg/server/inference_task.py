"""Inference: a request in, an answer by `lumbarseg.segmentation` out, as a file and as words. No torch is needed.

What was seen in the last exams is kept, so that a click asks the network about its surroundings alone.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lumbarseg.anatomy import LEVELS, structure_by_name
from lumbarseg.clicks import Click
from lumbarseg.errors import FileError, ServeError
from lumbarseg.inference import Model
from lumbarseg.io import read_image, seg_nrrd, write_labels
from lumbarseg.segmentation import (
    Segmentation,
    UserLevels,
    override_with_clicks,
    refine_with_clicks,
    segment,
)
from lumbarseg.terminology import structure_codes
from lumbarseg.volume import Volume

from .clicks import parse_clicks
from .label_values import encode_by_position, offered_structures, result_structures
from .models import AUTOMATIC_MODEL, CLICK_MODEL, ModelFolder

_CACHE_SIZE = 4  # exams as they were seen, about 50 MB each
_AUTO = "auto"
_UNUSED_LABEL = 255  # a value that no answer holds; of 0, OHIF makes the place of another structure
_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")


class SegmentationCache:
    """Exams as they were seen without clicks: the last few, by file and model."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Any, ...], Segmentation] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, path: Path, model: Model, lowest: str | None) -> Segmentation:
        """What a model sees in the exam of a file; FileError and SegmentError as `read_image` and `look`."""
        key = (*_file_fingerprint(path), model.card.digest, lowest)
        with self._lock:  # one at a time: the network has all cores already
            seen = self._kept.get(key)
            if seen is None:
                seen = segment(_read_image(path), model, UserLevels(lowest), keep_state=True)
                self._kept[key] = seen
                while len(self._kept) > _CACHE_SIZE:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        return seen


def _read_image(path: Path) -> Volume:
    try:
        return read_image(path)
    except FileError as error:
        _file_fingerprint(path)  # it may have been removed in the meantime
        raise ServeError(str(error).replace(str(path), path.name), 422) from error


def _file_fingerprint(path: Path) -> tuple[str, int, int]:
    try:
        about = path.stat()
    except OSError as error:
        raise ServeError(f"{path.name}: this exam is not there any more; fetch the list again", 404) from error
    return str(path), about.st_mtime_ns, about.st_size


class SegmentationTask(InferTask):
    """One model as MONAI Label asks for it; one that takes clicks answers without them, too."""

    def __init__(self, name: str, models: ModelFolder, cache: SegmentationCache) -> None:
        self.name, self.models, self.cache = name, models, cache
        model = models.load(name)
        self.structure_names = offered_structures(model.card.output_kinds)
        reads = name == CLICK_MODEL or (name != AUTOMATIC_MODEL and model.card.spec.clicks is not None)
        labels = {name: place for place, name in enumerate(self.structure_names, start=1)}
        super().__init__(
            type=InferType.DEEPEDIT if reads else InferType.SEGMENTATION,
            labels={**labels, "background": _UNUSED_LABEL} if reads else labels,
            dimension=3,
            description=_model_description(model, reads),
            config={"lowest": [_AUTO, *LEVELS[::-1]]},
        )

    def is_valid(self) -> bool:
        """It was loaded, so it is a trained model."""
        return True

    def get_path(self, validate: bool = True) -> str | None:  # noqa: ARG002
        """Where the model's file lies."""
        path = self.models.model_path(self.name)
        return str(path) if path else None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The answer as a file in a temporary folder, which the caller removes, and what it says.

        request: image (a path), lowest, clicks under names of structures, result_extension, restore_label_idx. Values
        of the file are places in label_names, or the declared ones with restore_label_idx.
        """
        began = time.perf_counter()
        model = self.models.load(self.name)
        seen = self.cache(Path(str(request["image"])), model, _requested_lowest(request))
        found, told = seen, parse_clicks(request, self.structure_names, seen.labels.grid)
        if told:
            found = (override_with_clicks if model.card.spec.clicks is None else refine_with_clicks)(seen, model, told)
        names = result_structures(found.labels.array, self.structure_names)
        values = {name: place for place, name in enumerate(names, start=1)}
        labels = Volume(encode_by_position(found.labels.array, names), found.labels.affine)
        if request.get("restore_label_idx"):
            labels, values = found.labels, {name: structure_by_name(name).label for name in names}
        path = _write_temporary_labels(labels, values, str(request.get("result_extension") or ".nii.gz"))
        words = _result_params(found, model, told) | {"model": self.name, "label_names": values}
        return str(path), words | {"latencies": {"total": round(time.perf_counter() - began, 3)}}


def _model_description(model: Model, accepts_clicks: bool) -> str:
    name = model.card.details.get("name", model.path.stem)
    does = "answers by itself and follows clicks" if accepts_clicks else "names the lumbar spine by itself"
    if accepts_clicks and model.card.spec.clicks is None:
        does = (
            "answers by itself; a click says what is there and sets 3 mm about it, no network follows it until trained"
        )
    return f"{name}: {does}; model {model.card.digest[:12]}"


def _requested_lowest(request: Mapping[str, Any]) -> str | None:
    """The user's name of the lowest whole vertebra; a client may send its list of choices, the chosen one first."""
    value = request.get("lowest")
    value = value[0] if isinstance(value, list) and value else value
    if value in (None, "", _AUTO):
        return None
    if value not in LEVELS:
        raise ServeError(f"lowest: {value!r} is no vertebra; choose {_AUTO} or one of {', '.join(LEVELS)}", 422)
    return str(value)


def _result_params(segmentation: Segmentation, model: Model, clicks: Sequence[Click]) -> dict[str, Any]:
    """What an answer says beside its voxels."""
    return {
        "levels": [
            {"name": level.name, "confidence": level.confidence, "uncertain": level.uncertain}
            for level in segmentation.levels
        ],
        "anchor": segmentation.anchor,
        "confidence": segmentation.confidence,
        "warnings": list(segmentation.warnings),
        "clicks": len(clicks),
        "digest": model.card.digest,
    }


def _write_temporary_labels(labels: Volume, label_values: Mapping[str, int], suffix: str) -> Path:
    """A label map as a temporary file of the form that a client asks for."""
    if suffix not in _SUFFIXES:
        raise ServeError(f"result_extension: {suffix!r} is not written; choose one of {', '.join(_SUFFIXES)}", 422)
    folder = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile(prefix="lumbarseg-", suffix=suffix, dir=folder, delete=False) as file:
        path = Path(file.name)
    if suffix.endswith(".nrrd"):
        whole = path.with_name(f"{path.name.removesuffix(suffix)}{seg_nrrd.SUFFIX}")
        seg_nrrd.write(labels, _described_segments(label_values), whole)
        return whole.replace(path)
    try:
        write_labels(labels, path, _legend_structures(label_values))
    except FileError:
        path.unlink(missing_ok=True)
        raise
    return path


def _described_segments(label_values: Mapping[str, int]) -> list[seg_nrrd.Segment]:
    rows = [(value, structure_by_name(name)) for name, value in label_values.items()]
    return [seg_nrrd.Segment(value, row.name, row.colour, structure_codes(row)) for value, row in rows]


def _legend_structures(label_values: Mapping[str, int]) -> list[Any]:
    from dataclasses import replace

    return [replace(structure_by_name(name), label=value) for name, value in label_values.items()]
