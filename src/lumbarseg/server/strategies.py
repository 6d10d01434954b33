"""Which exam to annotate next: the one about whose answer there is most doubt, as `lumbarseg.active_learning` orders them."""

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

_TIME_LIMIT = 6.0  # seconds that a person waits for the next exam; those not looked at by then wait for their turn


class UncertaintyStrategy(Strategy):
    """Exams without a person's label, by how doubtful the model's answer is, and why. Doubts are kept in the app."""

    def __init__(self, models: ModelFolder, app: Path) -> None:
        super().__init__("the exam whose answer is most doubtful")
        self.models, self.cache_path = models, app / "learn" / "doubts.json"

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The exam's id and the reasons, None when all have labels; `request` may name the model."""
        model = self.models.load(str(request.get("model") or AUTOMATIC_MODEL))
        exams: dict[str, Path] = {}
        end = time.monotonic() + _TIME_LIMIT  # of a DICOMweb server, each exam is fetched first
        for name in sorted(datastore.get_unlabeled_images()):
            if time.monotonic() > end:
                break
            try:
                exams[name] = Path(datastore.get_image_uri(name))
            except LumbarsegError:
                continue  # removed in the meantime
        found = rank_exams(exams, model, cache_path=self.cache_path, time_limit=_TIME_LIMIT)
        if not found.names:
            return None
        first = found.scores[0] if found.scores else None
        told = {"doubt": first.value, "reasons": list(first.reasons)} if first else {}
        return {"id": found.names[0], **told}
