"""MONAI Label inference tasks: segment the exam of a request, with clicks if it has any. torch is not needed.

The last segmentations are cached with their state, so a click only runs the network on its surroundings.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lumbarseg.anatomy import LEVELS, structure_by_name
from lumbarseg.clicks import Click
from lumbarseg.errors import FileError, ServeError
from lumbarseg.inference import Model
from lumbarseg.io import file_fingerprint, seg_nrrd, write_labels
from lumbarseg.segmentation import Segmentation, UserLevels, override_with_clicks, refine_with_clicks, segment
from lumbarseg.volume import Volume

from .clicks import parse_clicks
from .datastore import client_errors, read_exam_image
from .label_values import described_segment, encode_by_position, offered_structures, result_structures
from .models import AUTOMATIC_MODEL, CLICK_MODEL, ModelFolder

_CACHE_SIZE = 4  # exams, about 50 MB each
_AUTO = "auto"
_UNUSED_LABEL = 255  # OHIF takes 0 as the value of another structure, so the background gets a value that never occurs
_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd")


class SegmentationCache:
    """The last segmentations without clicks, by file, model and lowest level."""

    def __init__(self) -> None:
        self._segmentations: OrderedDict[tuple[Any, ...], Segmentation] = OrderedDict()
        self._lock, self._click_lock = threading.Lock(), threading.Lock()

    def segment(self, path: Path, model: Model, lowest: str | None) -> Segmentation:
        """Segment the exam of a file, or return the cached result; ServeError and SegmentError when that fails."""
        with client_errors(path, path.name):
            key = (*file_fingerprint(path), model.card.digest, lowest)
        with self._lock:  # one exam at a time: the network uses all cores
            result = self._segmentations.get(key)
            if result is None:
                image = read_exam_image(path, path.name)
                result = segment(image, model, UserLevels(lowest), keep_state=True)
                self._segmentations[key] = result
                while len(self._segmentations) > _CACHE_SIZE:
                    self._segmentations.popitem(last=False)
            self._segmentations.move_to_end(key)
        return result

    def refine(self, result: Segmentation, model: Model, clicks: Sequence[Click]) -> Segmentation:
        """Apply clicks to a segmentation, with the network if the model was trained with clicks."""
        with self._click_lock:  # one after the other: the network uses all cores, and memory stays flat
            if model.card.spec.clicks is None:
                return override_with_clicks(result, model, clicks)
            return refine_with_clicks(result, model, clicks)


class SegmentationTask(InferTask):
    """Inference with one model. A model for clicks segments without clicks, too."""

    def __init__(self, name: str, models: ModelFolder, cache: SegmentationCache) -> None:
        self.name, self.models, self.cache = name, models, cache
        model = models.load(name)
        self.structure_names = offered_structures(model.card.output_kinds)
        accepts_clicks = name == CLICK_MODEL or (name != AUTOMATIC_MODEL and model.card.spec.clicks is not None)
        labels = {name: position for position, name in enumerate(self.structure_names, start=1)}
        super().__init__(
            type=InferType.DEEPEDIT if accepts_clicks else InferType.SEGMENTATION,
            labels={**labels, "background": _UNUSED_LABEL} if accepts_clicks else labels,
            dimension=3,
            description=_model_description(model, accepts_clicks),
            config={"lowest": [_AUTO, *LEVELS[::-1]]},
        )

    def is_valid(self) -> bool:
        """Return True: the model was loaded."""
        return True

    def get_path(self, validate: bool = True) -> str | None:  # noqa: ARG002
        """Return the path of the model file."""
        path = self.models.model_path(self.name)
        return str(path) if path else None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment an exam; return a temporary label file, which the caller removes, and the result's parameters.

        Keys of the request: image (a path), lowest, clicks under structure names, result_extension and
        restore_label_idx. The values of the file are the positions in label_names, or with restore_label_idx those of
        the package.
        """
        start = time.perf_counter()
        model = self.models.load(self.name)
        result = self.cache.segment(Path(str(request["image"])), model, _requested_lowest(request))
        clicks = parse_clicks(request, self.structure_names, result.labels.grid)
        if clicks:
            result = self.cache.refine(result, model, clicks)
        names = result_structures(result.labels.array, self.structure_names)
        if request.get("restore_label_idx"):
            labels, values = result.labels, {name: structure_by_name(name).label for name in names}
        else:
            labels = Volume(encode_by_position(result.labels.array, names), result.labels.affine)
            values = {name: position for position, name in enumerate(names, start=1)}
        path = _write_temporary_labels(labels, values, str(request.get("result_extension") or ".nii.gz"))
        levels = [{"name": x.name, "confidence": x.confidence, "uncertain": x.uncertain} for x in result.levels]
        return str(path), {
            "levels": levels,
            "anchor": result.anchor,
            "confidence": result.confidence,
            "warnings": list(result.warnings),
            "clicks": len(clicks),
            "digest": model.card.digest,
            "model": self.name,
            "label_names": values,
            "latencies": {"total": round(time.perf_counter() - start, 3)},
        }


def _model_description(model: Model, accepts_clicks: bool) -> str:
    text = "segments the lumbar spine automatically"
    if accepts_clicks and model.card.spec.clicks is not None:
        text += " and follows clicks"
    elif accepts_clicks:
        text += "; it was not trained with clicks, so a click only sets 3 mm around it"
    return f"{model.card.details.get('name', model.path.stem)}: {text}; model {model.card.digest[:12]}"


def _requested_lowest(request: Mapping[str, Any]) -> str | None:
    """Return the name of the lowest complete vertebra; a client may send its list of choices, the chosen one first."""
    value = request.get("lowest")
    value = value[0] if isinstance(value, list) and value else value
    if value in (None, "", _AUTO):
        return None
    if value not in LEVELS:
        raise ServeError(f"lowest: {value!r} is not a vertebra; choose {_AUTO} or one of {', '.join(LEVELS)}", 422)
    return str(value)


def _write_temporary_labels(labels: Volume, label_values: Mapping[str, int], suffix: str) -> Path:
    """Write a label map to a temporary file of the format that a client asks for; label_values: by structure name."""
    if suffix not in _SUFFIXES:
        raise ServeError(f"result_extension: {suffix!r} is not supported; choose one of {', '.join(_SUFFIXES)}", 422)
    structures = [replace(structure_by_name(name), label=value) for name, value in label_values.items()]
    with tempfile.NamedTemporaryFile(prefix="lumbarseg-", suffix=suffix, delete=False) as file:
        path = Path(file.name)
    if suffix.endswith(".nrrd"):
        seg_path = path.with_name(f"{path.name.removesuffix(suffix)}{seg_nrrd.SUFFIX}")
        seg_nrrd.write(labels, [described_segment(structure) for structure in structures], seg_path)
        return seg_path.replace(path)
    try:
        write_labels(labels, path, structures)
    except FileError:
        path.unlink(missing_ok=True)
        raise
    return path
