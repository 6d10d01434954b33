"""The MONAI Label app: models, datastore, strategies, training and scoring."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.random import Random

import lumbarseg
from lumbarseg.errors import LumbarsegError, ServeError

from .datastore import IMAGE_PATTERNS, ExamDatastore, convert_dicom_studies
from .dicomweb_datastore import create_dicomweb_datastore
from .inference_task import SegmentationCache, SegmentationTask
from .models import AUTOMATIC_MODEL, CLICK_MODEL, ModelFolder
from .scoring import DiceScoring
from .strategies import UncertaintyStrategy
from .training_task import TrainingTask

_log = logging.getLogger(__name__)


class LumbarApp(MONAILabelApp):
    """App for the lumbar spine in MRI.

    app_dir: folder of models and training runs; studies: folder of exams, or root address of a DICOMweb server.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.models = ModelFolder(Path(app_dir))
        self.segmentation_cache = SegmentationCache()
        self._model_fingerprints: dict[str, tuple[str, int, int]] = {}
        self._prefetch_executor = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        super().__init__(
            app_dir,
            studies,
            dict(conf or {}),
            name="lumbarseg",
            description=f"lumbarseg {lumbarseg.__version__}: segments the vertebrae and discs of a lumbar MRI by name",
            version=lumbarseg.__version__,
        )

    def init_datastore(self) -> Datastore:
        """Open the folder of exams, after converting its DICOM studies; or connect to a DICOMweb server."""
        if self.studies.startswith(("http://", "https://")):
            return create_dicomweb_datastore(self.studies)
        for message in convert_dicom_studies(Path(self.studies)):
            _log.info(message)
        return ExamDatastore(
            self.studies,
            extensions=IMAGE_PATTERNS,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Create an inference task for every model that loads."""
        return {name: SegmentationTask(name, self.models, self.segmentation_cache) for name in self.models.load_all()}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Create a training task for every model."""
        return {name: TrainingTask(name, Path(self.app_dir)) for name in self._infers}

    def init_strategies(self) -> dict[str, Strategy]:
        """Create the strategies for the next exam."""
        return {"uncertainty": UncertaintyStrategy(self.models, Path(self.app_dir)), "random": Random()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Create the method that scores results against final labels."""
        return {"dice": DiceScoring()}

    def init_batch_infer(self) -> BatchInferTask:
        """Create the task that segments many exams."""
        return BatchSegmentation()

    def info(self) -> dict[str, Any]:
        """Describe the app with the models that are in its folder now."""
        self.reload_models()
        return dict(super().info())

    def reload_models(self) -> None:
        """Update the tasks after models were added, replaced or removed."""
        fingerprints = {name: entry.fingerprint for name, (entry, _) in self.models.load_all().items()}
        if fingerprints != self._model_fingerprints:
            self._model_fingerprints = fingerprints
            self._infers = self.init_infers()
            self._trainers = self.init_trainers()

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment an exam; ServeError when model or exam do not exist, SegmentError without a lumbar spine."""
        self.reload_models()
        model = str(request.get("model") or AUTOMATIC_MODEL)
        self.models.load(model)
        result = dict(super().infer({**request, "model": model}, datastore))
        if model != CLICK_MODEL and not request.get("save_label"):
            self._prefetch_executor.submit(self._prefetch_for_clicks, request, datastore)
        return result

    def _prefetch_for_clicks(self, request: Mapping[str, Any], datastore: Datastore | None) -> None:
        """Segment the exam with the click model, too, so that the first click finds its state in the cache."""
        path = Path(str(request["image"]))
        try:
            if not path.exists():
                path = Path((datastore or self.datastore()).get_image_uri(str(request["image"])))
            self.segmentation_cache.segment(path, self.models.load(CLICK_MODEL), None)
        except LumbarsegError as error:
            _log.info("%s: not prefetched for clicks: %s", path.name, error)

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the next exam to annotate; ServeError for an unknown strategy."""
        strategy = str(request.get("strategy"))
        if strategy not in self._strategies:
            raise ServeError(f"there is no strategy {strategy!r}; choose {' or '.join(self._strategies)}", 404)
        return dict(super().next_sample(request))

    def trainer(self, model: str) -> TrainTask:
        """Return the training task of a model; ServeError when there is no such model."""
        self.reload_models()
        if model not in self._trainers:
            raise ServeError(f"there is no model {model!r} to train; choose one of {', '.join(self._trainers)}", 404)
        return self._trainers[model]


class BatchSegmentation(BatchInferTask):
    """Segment many exams, one after the other; an exam that fails does not stop the others."""

    def __call__(self, request: Mapping[str, Any], datastore: Datastore, infer: Any) -> dict[str, Any]:
        """Segment the exams of a request; return the result or error of each."""

        def infer_or_report(exam_request: Mapping[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                return dict(infer(exam_request, store))
            except (LumbarsegError, OSError, MemoryError) as error:
                _log.warning("%s: %s", exam_request.get("image"), error)
                return {"error": str(error)}

        serial = {"multi_gpu": False, "max_workers": 1}  # MONAI Label divides by the number of GPUs, even by 0
        return dict(super().__call__({**request, **serial}, datastore, infer_or_report))
