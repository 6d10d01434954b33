"""The mean of the weights of several models of one network: python -m benchmarks.average_models OUT MODEL MODEL ...

The models must come from each other (--init), else their mean is no network. OUT has the card of the last one, with the
entries of --about (JSON).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from lumbarseg.inference.model import read_card
from lumbarseg.io import atomic_write
from lumbarseg.training.export import add_card


def average_models(paths: list[Path], details: dict[str, object]) -> bytes:
    """Return a model file with the mean of the weights, and the card of the last model with `details`."""
    models = [onnx.load(path) for path in paths]
    weights = [{part.name: numpy_helper.to_array(part) for part in model.graph.initializer} for model in models]
    for part in models[-1].graph.initializer:
        values = [own[part.name] for own in weights]
        if values[0].dtype.kind == "f":
            mean = np.mean(values, axis=0).astype(values[0].dtype)
            part.CopyFrom(numpy_helper.from_array(mean, part.name))
    card = read_card(paths[-1])
    return add_card(models[-1].SerializeToString(), replace(card, details={**card.details, **details}))


def main() -> None:
    """Write the mean model."""
    parser = argparse.ArgumentParser(prog="benchmarks.average_models", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--about", type=Path, help="JSON for the card")
    args = parser.parse_args()
    details = json.loads(args.about.read_text()) if args.about else {}
    data = average_models(args.models, details)
    with atomic_write(args.out) as file:
        file.write(data)
    print(f"{args.out}: {len(data) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
