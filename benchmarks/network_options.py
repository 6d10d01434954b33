"""Options of the network's engine side by side: python -m benchmarks.network_options [EXAM ...].

Each row is one way to run the model: threads, spinning, graph optimisation, memory, 8-bit integers. All take turns in
each round, so that another program on the machine slows all of them alike; the time is the shortest of the rounds. The
classes are compared with those of the first row, voxel for voxel and as mean Dice of the classes. Exams are files, or
one phantom; the first one is also what the 8-bit network is calibrated on, so give more than one. 8 bits need onnx:
pip install onnx.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks import machine, speed
from lumbarseg.cpus import available_cpus
from lumbarseg.inference import ModelCard, bundled_model_path
from lumbarseg.inference.model import read_verified_card
from lumbarseg.inference.predictor import SLICES_PER_BATCH
from lumbarseg.io import read_image
from lumbarseg.preprocessing import extract_windows, preprocess
from lumbarseg.volume import Array, Volume

_BASIC = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
_CALIBRATION_BATCHES = 4


@dataclass
class Variant:
    """One way to run the network.

    Attributes
    ----------
    options : attributes of onnxruntime's SessionOptions
    entries : its configuration entries
    load_seconds, seconds : to start the engine, and the shortest time for all windows
    classes : most probable class of each voxel
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    entries: Mapping[str, str] = field(default_factory=dict)
    load_seconds: float = 0.0
    seconds: float = np.inf
    classes: list[Array] = field(default_factory=list)

    def start(self, model: bytes) -> Callable[[Array], Array]:
        """Start an engine for the bytes of a model; return what runs it."""
        start = time.perf_counter()
        options = onnxruntime.SessionOptions()
        values = {"intra_op_num_threads": available_cpus(), "inter_op_num_threads": 1, "log_severity_level": 3}
        for name, value in {**values, **self.options}.items():
            setattr(options, name, value)
        for name, text in self.entries.items():
            options.add_session_config_entry(name, text)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.load_seconds = time.perf_counter() - start
        name = session.get_inputs()[0].name
        return lambda windows: np.asarray(session.run(None, {name: windows})[0])


def variants() -> Iterator[Variant]:
    """Yield the variants that need no other file; the first one is what the others are compared with."""
    yield Variant("one thread per core, spinning (onnxruntime's default)")
    yield Variant("no spinning", entries={"session.intra_op.allow_spinning": "0"})
    yield Variant("one thread", {"intra_op_num_threads": 1})
    yield Variant("twice the threads", {"intra_op_num_threads": 2 * available_cpus()})
    yield Variant("basic graph optimisation", {"graph_optimization_level": _BASIC})
    yield Variant("no memory arena", {"enable_cpu_mem_arena": False, "enable_mem_pattern": False})
    yield Variant("denormal numbers are 0", entries={"session.set_denormal_as_zero": "1"})


def quantised_model(model: bytes, batches: list[Array], folder: Path) -> bytes:
    """Return the model with weights and activations of 8 bits, calibrated on batches of windows."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        """Gives the batches one after the other."""

        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, Array] | None:
            """Return the next batch; None after the last."""
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    source, prepared, target = folder / "model.onnx", folder / "prepared.onnx", folder / "int8.onnx"
    source.write_bytes(model)
    name = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name
    quantization.shape_inference.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(prepared, target, Reader(), per_channel=True)
    return target.read_bytes()


def window_batches(volume: Volume, card: ModelCard) -> list[Array]:
    """Return the network's input for each few slices of an exam."""
    array = preprocess(volume, card.spec).array
    starts = range(0, len(array), SLICES_PER_BATCH)
    slices = [list(range(start, min(start + SLICES_PER_BATCH, len(array)))) for start in starts]
    return [extract_windows(array, card.spec, slices=part) for part in slices]


def mean_dice(classes: list[Array], reference: list[Array], count: int) -> float:
    """Return the mean Dice of the classes but background, over all voxels."""
    scores = []
    for number in range(1, count):
        pairs = [(part == number, other == number) for part, other in zip(classes, reference, strict=True)]
        size = sum(int(a.sum() + b.sum()) for a, b in pairs)
        scores += [2 * sum(int((a & b).sum()) for a, b in pairs) / size] if size else []
    return float(np.mean(scores))


def measure(model: bytes, batches: list[Array], rounds: int) -> list[Variant]:
    """Time all variants in turn, and note their classes."""
    started = [(variant, variant.start(model)) for variant in variants()]
    with tempfile.TemporaryDirectory() as folder:
        middle = len(batches) // 4
        try:
            int8 = quantised_model(model, batches[middle : middle + _CALIBRATION_BATCHES], Path(folder))
        except ImportError as error:
            print(f"without 8 bits: {error}")
        else:
            variant = Variant("8-bit integers, static quantisation")
            started.append((variant, variant.start(int8)))
    for _ in range(rounds):
        for variant, run in started:
            start = time.perf_counter()
            variant.classes = [run(batch).argmax(1).astype(np.uint8) for batch in batches]
            variant.seconds = min(variant.seconds, time.perf_counter() - start)
    return [variant for variant, _ in started]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.network_options", description=__doc__)
    parser.add_argument("exams", nargs="*", type=Path, help="exams (default: a phantom)")
    parser.add_argument("--model", type=Path, help="model file (default: that of the package)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model = (args.model or bundled_model_path()).read_bytes()
    card = read_verified_card(model)
    volumes = [read_image(path) for path in args.exams] or [speed.routine_exam()]
    batches = [batch for volume in volumes for batch in window_batches(volume, card)]
    rows = measure(model, batches, args.rounds)
    facts = machine.machine_facts()
    print(f"{machine.describe_machine(facts)}\n")
    print("| engine | start, s | all slices, s | ratio | voxels changed | Dice with the first |")
    print("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        changed = np.mean([(a != b).mean() for a, b in zip(row.classes, rows[0].classes, strict=True)])
        dice = mean_dice(row.classes, rows[0].classes, len(card.classes))
        ratio = row.seconds / rows[0].seconds
        print(f"| {row.name} | {row.load_seconds:.2f} | {row.seconds:.2f} | {ratio:.2f} | {changed:.4%} | {dice:.4f} |")


if __name__ == "__main__":
    main()
