"""Choose the next exam to annotate: the one with the most uncertain segmentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from lumbarseg.active_learning.uncertainty import rank_exams
from lumbarseg.errors import LumbarsegError

from .models import AUTOMATIC_MODEL, ModelFolder

_TIME_LIMIT = 6.0  # seconds that a person waits for the next exam; other exams are scored with the next requests


class UncertaintyStrategy(Strategy):
    """Rank exams without a final label by uncertainty. Scores are cached in the app's folder."""

    def __init__(self, models: ModelFolder, app: Path) -> None:
        super().__init__("the exam with the most uncertain segmentation")
        self.models, self.cache_path = models, app / "learn" / "uncertainty.json"

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the exam's id, score and reasons; None when all have labels. `request` may name the model."""
        model = self.models.load(str(request.get("model") or AUTOMATIC_MODEL))
        exams: dict[str, Path] = {}
        end = time.monotonic() + _TIME_LIMIT  # exams of a DICOMweb server are downloaded here
        for name in sorted(datastore.get_unlabeled_images()):
            if time.monotonic() > end:
                break
            try:
                exams[name] = Path(datastore.get_image_uri(name))
            except LumbarsegError:
                continue  # removed in the meantime
        ranked = rank_exams(exams, model, cache_path=self.cache_path, time_limit=_TIME_LIMIT)
        if not ranked.names:
            return None
        scores = [{"uncertainty": score.value, "reasons": list(score.reasons)} for score in ranked.scores[:1]]
        return {"id": ranked.names[0], **(scores[0] if scores else {})}
