"""The app that MONAI Label's server runs: our models, datastore, strategies, training and scoring."""

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
    """The lumbar spine in MRI. app_dir: holds models and runs; studies: a folder of exams, or a DICOMweb root."""

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.models = ModelFolder(Path(app_dir))
        self.segmentation_cache = SegmentationCache()
        self._model_fingerprints: tuple[Any, ...] = ()
        self._prefetch_executor = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        super().__init__(
            app_dir,
            studies,
            dict(conf or {}),
            name="lumbarseg",
            description=f"lumbarseg {lumbarseg.__version__}: names the vertebrae and discs of a lumbar MRI",
            version=lumbarseg.__version__,
        )

    def init_datastore(self) -> Datastore:
        """The folder of exams, DICOM studies in it taken in first; or a DICOMweb server."""
        if self.studies.startswith(("http://", "https://")):
            return create_dicomweb_datastore(self.studies)
        for line in convert_dicom_studies(Path(self.studies)):
            _log.info(line)
        return ExamDatastore(
            self.studies,
            extensions=IMAGE_PATTERNS,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Every model that loads."""
        return {name: SegmentationTask(name, self.models, self.segmentation_cache) for name in self.models.load_all()}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Each model can be trained on."""
        return {name: TrainingTask(name, Path(self.app_dir)) for name in self._infers}

    def init_strategies(self) -> dict[str, Strategy]:
        """The most doubtful exam first, or any."""
        return {"doubt": UncertaintyStrategy(self.models, Path(self.app_dir)), "random": Random()}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Answers against the labels of people."""
        return {"dice": DiceScoring()}

    def init_batch_infer(self) -> BatchInferTask:
        """Exams one after the other; one that fails does not stop the rest."""
        return BatchSegmentation()

    def info(self) -> dict[str, Any]:
        """What the app offers, as its folder is now."""
        self.reload_models()
        return dict(super().info())

    def reload_models(self) -> None:
        """Take models that were added, replaced or removed."""
        stamps = tuple((name, offer.fingerprint) for name, (offer, _) in self.models.load_all().items())
        if stamps != self._model_fingerprints:
            self._model_fingerprints = stamps
            self._infers = self.init_infers()
            self._trainers = self.init_trainers()

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """An answer; ServeError for a model or an exam that is not there, SegmentError for no lumbar spine."""
        self.reload_models()
        model = str(request.get("model") or AUTOMATIC_MODEL)
        self.models.load(model)
        result = dict(super().infer({**request, "model": model}, datastore))
        if model != CLICK_MODEL and not request.get("save_label"):
            self._prefetch_executor.submit(self._prefetch_for_clicks, request, datastore)
        return result

    def _prefetch_for_clicks(self, request: Mapping[str, Any], datastore: Datastore | None) -> None:
        """See an exam that was just answered with the model that takes clicks, too: the first click then finds it."""
        path = Path(str(request["image"]))
        try:
            if not path.exists():
                path = Path((datastore or self.datastore()).get_image_uri(str(request["image"])))
            self.segmentation_cache(path, self.models.load(CLICK_MODEL), None)
        except LumbarsegError as error:
            _log.info("%s: not seen ahead of clicks: %s", path.name, error)

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The next exam to annotate; ServeError for an unknown strategy."""
        strategy = str(request.get("strategy"))
        if strategy not in self._strategies:
            raise ServeError(f"there is no strategy {strategy!r}; choose {' or '.join(self._strategies)}", 404)
        return dict(super().next_sample(request))

    def trainer(self, model: str) -> TrainTask:
        """How a model is trained; ServeError when there is none of this name."""
        self.reload_models()
        if model not in self._trainers:
            raise ServeError(f"there is no model {model!r} to train; choose one of {', '.join(self._trainers)}", 404)
        return self._trainers[model]


class BatchSegmentation(BatchInferTask):
    """MONAI Label's own, but for exams that cannot be answered: they are told, and the next one is begun."""

    def __call__(self, request: Mapping[str, Any], datastore: Datastore, infer: Any) -> dict[str, Any]:
        """What became of each exam."""

        def tried(wanted: Mapping[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                return dict(infer(wanted, store))
            except (LumbarsegError, OSError, MemoryError) as error:
                _log.warning("%s: %s", wanted.get("image"), error)
                return {"error": str(error)}

        alone = {"multi_gpu": False, "max_workers": 1}  # its count of GPUs, where there is none, is divided by
        return dict(super().__call__({**request, **alone}, datastore, tried))
