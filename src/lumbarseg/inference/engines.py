"""Inference engines: ONNX Runtime on the CPU or whatever else its build supports, or OpenVINO."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.cpus import inference_threads
from lumbarseg.errors import ModelError
from lumbarseg.volume import Array

Engine = Callable[[Array], Array]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Devices of ONNX Runtime and its names for them."""
DEVICES = ("auto", *PROVIDERS, "openvino")

_PROVIDER_LIBRARIES = {"cuda": "*onnxruntime_providers_cuda.*", "directml": "DirectML.dll"}
_INSTALL_HINTS = {
    "cuda": "pip install onnxruntime-gpu instead of onnxruntime",
    "coreml": "it is part of onnxruntime on a Mac",
    "directml": "pip install onnxruntime-directml instead of onnxruntime, on Windows",
    "openvino": "pip install 'lumbarseg[openvino]'",
}


def available_devices() -> tuple[str, ...]:
    """Return the devices that the installed engines were built for; nothing is loaded, so a driver may be missing."""
    spec = find_spec("onnxruntime")
    folder = Path(spec.origin).parent / "capi" if spec and spec.origin else Path()
    built = [name for name, library in _PROVIDER_LIBRARIES.items() if spec and any(folder.glob(library))]
    built += ["coreml"] if spec and sys.platform == "darwin" else []
    return ("cpu", *sorted(built), *(["openvino"] if find_spec("openvino") else []))


def start_engine(data: bytes, device: str, threads: int) -> tuple[str, Engine]:
    """Start an engine for the bytes of a model file; return its name for reports, and the engine.

    Parameters
    ----------
    device : one of `DEVICES`
    threads : 0 for one per core, or as OMP_NUM_THREADS says

    Raises
    ------
    ModelError
        When the device does not exist, with those that do, or when the engine refuses the model.
    """
    if device not in DEVICES:
        raise ModelError(f"{device!r} is no device; choose one of {', '.join(DEVICES)}")
    if device == "openvino":
        return _start_openvino(data, threads or inference_threads())
    return _start_onnxruntime(data, "cpu" if device == "auto" else device, threads or inference_threads())


def _device_unavailable(device: str) -> ModelError:
    devices = ", ".join(("auto", *available_devices()))
    return ModelError(
        f"--device {device} is not available here ({_INSTALL_HINTS[device]}); available devices: {devices}"
    )


def _start_onnxruntime(data: bytes, device: str, threads: int) -> tuple[str, Engine]:
    import onnxruntime

    provider = PROVIDERS[device]
    if provider not in onnxruntime.get_available_providers():
        raise _device_unavailable(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # threads that wait by spinning take the cores from numpy, other programs and a container's quota: a quarter slower
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device == "directml":
        options.enable_mem_pattern = False  # as its documentation requires
    try:
        providers = list(dict.fromkeys((provider, PROVIDERS["cpu"])))
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # its errors share no class of their own
        raise ModelError(f"onnxruntime {onnxruntime.__version__} refuses it: {first_line(error)}") from error
    if session.get_providers()[0] != provider:  # the build supports it, but a driver or library is missing
        raise _device_unavailable(device)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    _require_one_input_and_output(inputs, outputs)
    name = f"onnxruntime {onnxruntime.__version__}" + (f" {device}" if device != "cpu" else "")
    return name, lambda windows: session.run([outputs[0].name], {inputs[0].name: windows})[0]


def _start_openvino(data: bytes, threads: int) -> tuple[str, Engine]:
    try:
        import openvino
    except ImportError as error:
        raise _device_unavailable("openvino") from error
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}  # its default is bf16
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(data), "CPU", settings)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO refuses it: {first_line(error)}") from error
    _require_one_input_and_output(compiled.inputs, compiled.outputs)
    version = str(openvino.__version__).split("-")[0]
    return f"openvino {version} f32", lambda windows: np.array(compiled([windows])[0])


def _require_one_input_and_output(inputs: Any, outputs: Any) -> None:
    if (len(inputs), len(outputs)) != (1, 1):
        raise ModelError(f"has {len(inputs)} inputs and {len(outputs)} outputs instead of one each")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, at most 200 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
