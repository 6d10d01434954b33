"""Routes that check a request with files or commands before MONAI Label's own functions handle it.

They take precedence over its routes and run in threads, so the server answers other requests during a segmentation.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import FileResponse
from monailabel.endpoints import batch_infer, datastore, infer, session, train
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file

from lumbarseg.errors import ServeError
from lumbarseg.inference import Model
from lumbarseg.io import atomic_write, read_labels
from lumbarseg.io.dicom import seg

from .app import LumbarApp
from .datastore import client_errors, read_exam_image, safe_exam_name, validate_tag
from .dicomweb_datastore import DicomwebSeriesDatastore
from .models import AUTOMATIC_MODEL

router = APIRouter()
_log = logging.getLogger(__name__)
_SESSION_ID = re.compile(r"[0-9a-f-]{36}")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_RESERVED_PARAMS = {"image", "model", "session", "description", "save_label", "label_tag"}
_RESERVED_PARAMS |= {"output", "result_write_to_file"}
"""Keys that the address of a request sets, or this server; `params` must not override them."""
_TRAINING_START_LOCK = threading.Lock()
_TRAINING_START_TIMEOUT = 10.0  # seconds until the process of a training exists

Upload = Annotated[UploadFile, File()]
Params = Annotated[str, Form()]


def parse_params(params: str, forbidden: Collection[str] = ()) -> dict[str, Any]:
    """Parse the JSON object in `params`; ServeError for anything else, and for a forbidden key."""
    try:
        values = json.loads(params or "{}")
    except (ValueError, RecursionError) as error:
        raise ServeError(f"params is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ServeError("params must be a JSON object")
    reserved = sorted(set(values) & set(forbidden))
    if reserved:
        raise ServeError(f"params must not contain {reserved[0]!r}")
    return values


def _lumbar_app() -> LumbarApp:
    app: LumbarApp = app_instance()
    return app


@router.post("/infer/{model}")
def segment_exam(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Params = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: infer.ResultType | None = None,
) -> Any:
    """Segment an exam of the datastore, of a session, or one that is sent with the request."""
    options = parse_params(params, _RESERVED_PARAMS)
    app = _lumbar_app()
    app.models.load(model)
    path = ""
    if session_id:
        _check_session(session_id)
    elif file is None:
        if not image:
            raise ServeError("name an exam (image=), a session (session_id=), or send a file", 422)
        path = app.datastore().get_image_uri(image)
    if output == infer.ResultType.dicom_seg:
        return _segment_to_dicom_seg(background_tasks, model, image, options)
    return infer.run_inference(background_tasks, model, path, session_id, params, file, label, output)


def _segment_to_dicom_seg(background_tasks: BackgroundTasks, model: str, image: str, params: dict[str, Any]) -> Any:
    """Segment a series of a DICOM server, as DICOM SEG."""
    app = _lumbar_app()
    store = app.datastore()
    if not isinstance(store, DicomwebSeriesDatastore) or not image:
        raise ServeError("DICOM SEG is only available for series of a DICOMweb server", 422)
    request = {"model": model, "image": image, "restore_label_idx": True, "result_extension": ".nii.gz"}
    result = app.infer({**params, **request})
    path = Path(result["file"])
    seg_path = path.with_name(path.name.removesuffix(".nii.gz") + seg.SUFFIX)
    for temporary in (path, seg_path):
        background_tasks.add_task(remove_file, str(temporary))
    digest, clicks = result["params"]["digest"], result["params"]["clicks"]
    store.write_seg(image, read_labels(path), seg_path, model, digest, guided=bool(clicks))
    return FileResponse(seg_path, media_type="application/dicom", filename=seg_path.name)


@router.post("/batch/infer/{model}")
def segment_batch(
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
) -> Any:
    """Segment every exam of the datastore, or those without a label."""
    _lumbar_app().models.load(model)
    validate_tag(str((params or {}).get("label_tag", "original")))
    return batch_infer.run(model, images, params, run_sync)


@router.put("/datastore/")
@router.put("/datastore/image")
def add_exam(background_tasks: BackgroundTasks, file: Upload, image: str | None = None, params: Params = "{}") -> Any:
    """Add an exam to the datastore, if it can be read."""
    parse_params(params)
    if image:
        safe_exam_name(image)
    return datastore.add_image(background_tasks, image, params, file)


@router.put("/datastore/label")
def add_label(
    background_tasks: BackgroundTasks, label: Upload, image: str, params: Params = "{}", tag: str = "final"
) -> Any:
    """Save an annotator's label of an exam."""
    parse_params(params)
    if validate_tag(tag or "final") == "original":
        raise ServeError("the tag original is reserved for results of models; save the label as final", 403)
    _lumbar_app().datastore().get_image_uri(image)
    return datastore.save_label(background_tasks, image, params, tag, label)


@router.put("/session/")
def create_session(
    background_tasks: BackgroundTasks,
    files: Annotated[list[UploadFile], File()],
    expiry: int = 0,
    uncompress: bool = False,
) -> Any:
    """Keep an exam for an hour without adding it to the datastore."""
    if uncompress:
        raise ServeError("archives are not supported; send the exam as .nii.gz, .nrrd or DICOM files", 415)
    created = session.create_session(background_tasks, False, expiry, files)
    path = Path(created["session_info"]["image"])
    try:
        read_exam_image(path, path.name)
    except ServeError:
        _lumbar_app().sessions().remove_session(created["session_id"])
        raise
    return created


def _check_session(session_id: str) -> None:
    """Raise ServeError when there is no such session."""
    if not _SESSION_ID.fullmatch(session_id) or not _lumbar_app().sessions().get_session(session_id):
        raise ServeError("this session has expired or never existed; send the exam again", 404)


@router.get("/session/{session_id}")
def get_session(session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """Return a session, or its exam."""
    _check_session(session_id)
    return session.get_session(session_id, update_ts, image)


@router.delete("/session/{session_id}")
def delete_session(session_id: str) -> Any:
    """Remove a session and its exam."""
    _check_session(session_id)
    return session.remove_session(session_id)


@router.post("/train/{model}")
def start_training(
    model: str, params: dict[str, Any] | None = None, run_sync: bool = False, enqueue: bool = False
) -> Any:
    """Start training a model on final labels, in a process of its own; 429 while another training runs."""
    app = _lumbar_app()
    app.trainer(model).check(params or {}, app.datastore())
    if run_sync:
        raise ServeError("training takes minutes; start it without run_sync, and query its state with GET /train/", 422)
    options = {key: value for key, value in (params or {}).items() if key != "model"}
    with _TRAINING_START_LOCK:
        task = train.run_model(model, options, False, enqueue)
        response = dict(task)
        end = time.monotonic() + _TRAINING_START_TIMEOUT
        # MONAI Label counts a training as running when its process exists: an earlier request would start another one
        while task["status"] == "SUBMITTED" and not enqueue and time.monotonic() < end:
            time.sleep(0.01)
    return response


@router.post("/train/")
def start_default_training(params: dict[str, Any] | None = None) -> Any:
    """Train the automatic model."""
    return start_training(AUTOMATIC_MODEL, params)


@router.get("/model/info/{model}")
def get_model_info(model: str) -> Any:
    """Return digest and time of a model file."""
    _lumbar_app().models.load(model)
    return _lumbar_app().model_info(model)


@router.get("/model/{model}")
def download_model(model: str) -> Any:
    """Download a model file, for `lumbarseg segment --model`."""
    app = _lumbar_app()
    app.models.load(model)
    return FileResponse(app.models.model_path(model), media_type="application/octet-stream", filename=f"{model}.onnx")


@router.put("/model/{model}")
def upload_model(background_tasks: BackgroundTasks, model: str, file: Upload) -> Any:
    """Add a model: an .onnx file of lumbarseg that loads; pickled weights are never loaded."""
    if not _MODEL_NAME.fullmatch(model):
        raise ServeError(f"{model!r} cannot name a model; use only letters, digits, _, - and .")
    if not str(file.filename or "").lower().endswith(".onnx"):
        raise ServeError("a model is an .onnx file of lumbarseg export; pickled weights are not accepted", 415)
    with tempfile.NamedTemporaryFile(prefix="lumbarseg-", suffix=".onnx", delete=False) as temporary:
        background_tasks.add_task(remove_file, temporary.name)
        temporary.write(file.file.read())
    with client_errors(Path(temporary.name), str(file.filename)):
        loaded = Model.load(temporary.name)
    app = _lumbar_app()
    with atomic_write(app.models.upload_path(model)) as stream:
        stream.write(Path(temporary.name).read_bytes())
    app.reload_models()
    return {"checksum": loaded.card.digest, "model": model}


@router.delete("/model/{model}")
def delete_model(model: str) -> Any:
    """Remove a model of the app's folder, as NAME.removed; the shipped one cannot be removed."""
    app = _lumbar_app()
    path = app.models.upload_path(model) if _MODEL_NAME.fullmatch(model) else None
    if path is None or not path.is_file():
        raise ServeError(f"there is no model {model!r} in the app's folder", 404)
    path.rename(path.with_suffix(".removed"))
    app.reload_models()
    return {}
