"""Which exam to annotate next: the one about which the model is least certain."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.strategy import Strategy

from lumbarseg.errors import LumbarsegError

from .answers import Looks
from .models import SPINE, Models

_log = logging.getLogger(__name__)
_PATIENCE = 8.0  # seconds that a person waits for the next exam; exams not looked at by then wait for their turn


class Doubt(Strategy):
    """Exams without a person's label, by the confidence of the answer that they have or would get."""

    def __init__(self, models: Models, looks: Looks) -> None:
        super().__init__("the exam whose answer is least certain")
        self.models, self.looks = models, looks
        self._known: dict[tuple[str, str], float] = {}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """The exam's id, None when all have labels; `request` may name the model."""
        waiting = sorted(datastore.get_unlabeled_images())
        if not waiting:
            return None
        model = self.models.load(str(request.get("model") or SPINE))
        end = time.monotonic() + _PATIENCE
        for name in waiting:
            if (name, model.card.digest) in self._known:
                continue
            if time.monotonic() > end:
                break
            self._known[name, model.card.digest] = self._confidence(name, datastore, model)
        digest = model.card.digest
        known = [name for name in waiting if (name, digest) in self._known]
        chosen = min(known or waiting, key=lambda name: (self._known.get((name, digest), 0.0), name))
        return {"id": chosen, "confidence": self._known.get((chosen, digest))}

    def _confidence(self, name: str, datastore: Datastore, model: Any) -> float:
        """Of the answer that is stored, else of a new one; 0 for an exam that cannot be answered."""
        told = datastore.get_label_info(name, DefaultLabelTag.ORIGINAL.value).get("params", {})
        if told.get("digest") == model.card.digest and isinstance(told.get("confidence"), float):
            return float(told["confidence"])
        try:
            return self.looks(Path(datastore.get_image_uri(name)), model, None).answer.confidence
        except LumbarsegError as error:
            _log.info("%s: %s", name, error)
            return 0.0
